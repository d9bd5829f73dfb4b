//! One worker per pod.
pub mod crash;
pub mod plan;
