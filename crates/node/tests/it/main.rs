//! The node agent against the fake runtime on a paused clock: minutes of a pod's life in milliseconds.

#![allow(clippy::unwrap_used)] // a test may

mod api;
mod lab;

mod ends;
mod restarts;
mod starts;
