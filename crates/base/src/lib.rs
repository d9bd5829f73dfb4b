//! Clock, randomness, ids, back-off and supervised tasks: what every other crate may lean on.
//!
//! This crate knows nothing of Kubernetes. It is the only place that reads the system clock or the operating system's
//! randomness, and the only one that spawns tasks, so that a whole cluster can run on a paused clock with one seed.

pub mod backoff;
pub mod clock;
pub mod file_watch;
pub mod random;
pub mod task;

pub use backoff::Backoff;
pub use clock::{Clock, Timestamp};
pub use file_watch::FileWatch;
pub use random::Random;
pub use task::TaskGroup;
