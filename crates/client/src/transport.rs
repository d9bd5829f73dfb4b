//! The way a call takes: the one trait behind [`crate::Client`].

use std::future::Future;
use std::pin::Pin;

use api::{Call, Reply, WatchEvent};
use bytes::Bytes;

use crate::Error;

pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub type BoxStream<T> = Pin<Box<dyn futures_core::Stream<Item = T> + Send>>;

/// Carries calls to the API server. Implementations authenticate as one caller; authorization is the server's.
pub trait Transport: Send + Sync + 'static {
    /// Any verb but watch.
    fn call(&self, call: Call) -> BoxFuture<Result<Reply, Error>>;
    /// A watch: the stream ends when the server ends it; an `Error` event comes last.
    fn watch(&self, call: Call) -> BoxFuture<Result<BoxStream<WatchEvent>, Error>>;
    /// A document that describes the API, `/apis` for example, in the media type `accept`.
    fn document(&self, path: &'static str, accept: &'static str) -> BoxFuture<Result<Bytes, Error>>;
}
