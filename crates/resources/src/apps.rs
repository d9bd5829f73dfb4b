//! `apps`.

pub mod controller_revision;
pub mod deployment;
pub mod replica_set;
pub mod workload;
