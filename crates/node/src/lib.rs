//! The node agent: runs the pods bound to one node through a container runtime, and says what became of them.
//!
//! This crate never decides where a pod runs, and reaches the API only as a client. Decisions are pure functions
//! (`pod_worker::plan`, `status`, `config`); actors around them do what was decided.

pub mod amount;
pub mod cgroup;
pub mod config;
pub mod events;
pub mod image;
pub mod inbox;
pub mod labels;
pub mod objects;
pub mod pod;
pub mod pod_worker;
pub mod state;
pub mod status;
pub mod token;
pub mod volume;
