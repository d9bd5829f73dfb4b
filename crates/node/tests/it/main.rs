//! The node agent against the fake runtime on a paused clock: minutes of a pod's life in milliseconds.

mod api;
mod lab;

mod ends;
mod restarts;
mod starts;
