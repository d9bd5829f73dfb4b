//! The container runtime seen from above: sandboxes, containers and images over CRI v1, a private containerd when none
//! is given, the pause image, and a fake for simulation.
//!
//! This crate knows no pods: what is run and when is the node agent's decision. It never touches cgroups, namespaces
//! or networks itself.

mod containerd;
mod error;
mod import;

pub mod archive;
pub mod client;
pub mod conformance;
pub mod events;
pub mod fake;
pub mod pause;
pub mod private;
pub mod reference;
pub mod runtime;

pub use client::Client;
pub use error::{Error, Result};
pub use events::{EventKind, EventStream, RuntimeEvent};
pub use fake::Fake;
pub use runtime::Runtime;

/// The messages of CRI v1 (`k8s.io/cri-api/pkg/apis/runtime/v1`), named as `prost` names them.
#[allow(clippy::all, missing_docs)]
pub mod v1 {
    include!("generated/v1.rs");
}
