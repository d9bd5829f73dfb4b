//! The controllers: each watches objects and makes the world match them. One file per controller; the harness does
//! the queueing, back-off, writing, events and metrics.
//!
//! A controller reaches objects only through the API, under its own identity. This crate never reads a clock: the
//! time is handed to `plan`.

pub mod harness;

pub use harness::{AnyController, Context, Controller, Erased, Plan, Read, Step, View, Write};

/// Every controller.
pub static ALL: &[&dyn AnyController] = &[];
