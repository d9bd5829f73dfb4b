//! Assigns pods to nodes.
//!
//! One pod at a time is taken from the [`queue`], tried against an immutable [`snapshot`] by the [`plugins`]
//! (filter, then score), assumed to be where it was put, and bound; binding is the only side effect, and happens
//! while the next pod is already being looked at. Upstream: pkg/scheduler.

pub mod cycle;
pub mod framework;
pub mod plugins;
pub mod pod;
pub mod queue;
pub mod service;
pub mod snapshot;

pub use framework::{ClusterEvent, Plugin, Reason};
pub use plugins::ALL;
pub use service::{Options, run};
