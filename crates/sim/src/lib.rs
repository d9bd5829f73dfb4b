//! The whole cluster in one thread on a paused clock, for tests: API server, controllers, scheduler and node agents
//! over a fake container runtime, and the runner of the specs in `spec/`.
//!
//! A simulation opens no socket, starts no process and never waits for real time. Names and delays are drawn from one
//! seed; which of several things that are due at one instant goes first is not under it yet.

pub mod catalogue;
pub mod cluster;
pub mod kubectl;
pub mod spec;

pub use cluster::{Cluster, Options, block_on};
