//! What the runtime is told of a pod and its containers: pure functions from the spec to CRI messages.

pub mod container;
pub mod dns;
pub mod env;
pub mod expand;
pub mod field;
pub mod hosts;
pub mod linux;
pub mod sandbox;
pub mod security;
pub mod service_env;

/// Why a container cannot be configured; shown as `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl ConfigError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}
