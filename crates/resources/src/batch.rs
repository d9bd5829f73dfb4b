//! `batch`.

pub mod job;
