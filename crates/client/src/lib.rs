//! How components talk to the API: one trait over two transports (HTTPS, or the API server's own pipeline in the
//! same process), shared reflectors, a work queue, an event recorder and leader election.
//!
//! This crate never looks at the store and never decides anything: what it hands out is what the API said.

pub mod client;
pub mod discovery;
pub mod error;
pub mod follow;
pub mod https;
pub mod leader;
pub mod queue;
pub mod recorder;
pub mod reflector;
pub mod transport;
pub mod wire;

pub use bytes::Bytes;
pub use client::{Client, ListOptions};
pub use discovery::{Discovered, Served};
pub use error::Error;
pub use follow::{Sink, follow};
pub use queue::WorkQueue;
pub use recorder::Recorder;
pub use reflector::{Change, Index, Reflector, Reflectors, Subscription};
pub use transport::{BoxFuture, BoxStream, Transport};
