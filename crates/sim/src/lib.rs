//! The whole cluster in one thread on a paused clock, for tests: API server, controllers, scheduler and node agents
//! over a fake container runtime, and the runner of the specs in `spec/`.
//!
//! A simulation opens no socket, starts no process and never waits for real time; with the same seed it draws the same
//! names and delays.

pub mod catalogue;
pub mod cluster;
pub mod kubectl;
pub mod spec;

pub use cluster::{Cluster, Options, block_on};
