//! The node agent: runs the pods bound to one node through a container runtime, and says what became of them.
//!
//! This crate never decides where a pod runs, and reaches the API only as a client. Decisions are pure functions
//! (`pod_worker::plan`, `status`, `config`); actors around them do what was decided.

mod amount;
mod cgroup;
mod cleanup;
mod config;
mod events;
mod hook;
mod http;
mod image;
mod inbox;
mod labels;
mod log_rotation;
mod logs;
mod node;
mod objects;
mod observe;
mod pod;
mod pod_certificates;
mod pod_source;
mod pod_worker;
mod probe;
mod resize;
mod runtime_events;
mod spdy;
mod status;
mod status_writer;
mod streaming;
mod token;
mod trust_bundles;
mod volume;
mod websocket;

mod admission;
mod agent;
pub mod certificate;
pub mod network;
pub mod pods;
pub mod run;
pub mod server;
pub mod state;

pub use cleanup::cleanup;
pub use network::Network;
pub use pods::Pods;
pub use run::{Error, Handle, Options, run};
