//! What the node agent asks of the pods' network, whoever makes it.

use std::sync::Arc;

use api::core::v1::Pod;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// The condition of a Node that says whether NetworkPolicies hold there. It is not one of upstream's, whose network
/// plugins do not say.
pub const CONDITION: &str = "NetworkPolicyEnforced";

/// The network of the node's pods.
pub trait Network: Send + Sync + 'static {
    /// Returns once what isolates the pod at these addresses is in effect, so that its containers may begin; at once if
    /// nothing does. Bounded.
    ///
    /// # Errors
    /// Why it is not in effect. Retryable.
    fn admit(&self, pod: Arc<Pod>, ips: Vec<String>) -> BoxFuture<'static, Result<(), String>>;

    /// The pod's network has been taken away: nothing has to isolate it any more. Until then it stays isolated,
    /// whatever the API says of it.
    fn release(&self, pod: &Pod);

    /// What the node says of network policies, as a condition of its own.
    fn enforcement(&self) -> watch::Receiver<Enforcement>;
}

/// Whether NetworkPolicies hold on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforcement {
    /// `None`: it is not known yet.
    pub whole: Option<bool>,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}
