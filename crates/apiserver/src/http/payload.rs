//! The body of a response: nothing, bytes, or chunks that are made as the client takes them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::{Instant, Sleep};

use crate::audit::Trail;

/// A body that must have ended by a time: after it, the answer breaks off.
pub struct Timed {
    body: Incoming,
    until: Pin<Box<Sleep>>,
    _trail: Option<Arc<Trail>>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A response's body.
pub enum Payload {
    Bytes(Bytes),
    /// Chunks made on demand; nothing is buffered beyond the one under way.
    Chunks(Box<dyn Iterator<Item = Bytes> + Send>),
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
    /// Passed on from another server; recorded as over when it is dropped.
    Incoming(Incoming, #[expect(dead_code, reason = "held until the body is sent")] Option<Arc<Trail>>),
    /// The same, within a time.
    Timed(Box<Timed>),
}

impl Payload {
    pub fn empty() -> Self {
        Self::Bytes(Bytes::new())
    }

    /// The same; its length is noted when it is sent, or given up.
    pub fn measured(self, sizes: Histogram) -> Self {
        match self {
            Self::Bytes(bytes) => {
                sizes.observe(bytes.len() as f64);
                Self::Bytes(bytes)
            }
            Self::Chunks(chunks) => Self::Chunks(Box::new(Measured { chunks, bytes: 0, sizes })),
            other => other,
        }
    }

    /// Another server's body, until a time; recorded as over when it is dropped.
    pub fn timed(body: Incoming, until: Instant, trail: Option<Arc<Trail>>) -> Self {
        Self::Timed(Box::new(Timed { body, until: Box::pin(tokio::time::sleep_until(until)), _trail: trail }))
    }
}

/// Chunks whose length is counted.
struct Measured {
    chunks: Box<dyn Iterator<Item = Bytes> + Send>,
    bytes: u64,
    sizes: Histogram,
}

impl Iterator for Measured {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.next()?;
        self.bytes += chunk.len() as u64;
        Some(chunk)
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let bytes = self.bytes as f64;
        self.sizes.observe(bytes);
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Chunks(chunks) => Poll::Ready(chunks.next().map(|chunk| Ok(Frame::data(chunk)))),
            Self::Stream(stream) => stream.as_mut().poll_next(cx).map(|next| next.map(|chunk| Ok(Frame::data(chunk)))),
            Self::Incoming(incoming, _) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            Self::Timed(timed) => match Pin::new(&mut timed.body).poll_frame(cx) {
                Poll::Pending if timed.until.as_mut().poll(cx).is_ready() => {
                    Poll::Ready(Some(Err("the other server did not finish in time".into())))
                }
                polled => polled.map_err(Into::into),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Incoming(incoming, _) => incoming.is_end_stream(),
            Self::Timed(timed) => timed.body.is_end_stream(),
            Self::Chunks(_) | Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(incoming, _) => incoming.size_hint(),
            Self::Timed(timed) => timed.body.size_hint(),
            Self::Chunks(_) | Self::Stream(_) => SizeHint::default(),
        }
    }
}
