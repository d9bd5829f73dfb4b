//! The body of a response: nothing, bytes, or chunks that are made as the client takes them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::audit::Trail;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A response's body.
pub enum Payload {
    Bytes(Bytes),
    /// Chunks made on demand; nothing is buffered beyond the one under way.
    Chunks(Box<dyn Iterator<Item = Bytes> + Send>),
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
    /// Passed on from another server; recorded as over when it is dropped.
    Incoming(Incoming, #[expect(dead_code, reason = "held until the body is sent")] Option<Arc<Trail>>),
}

impl Payload {
    pub fn empty() -> Self {
        Self::Bytes(Bytes::new())
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
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Incoming(incoming, _) => incoming.is_end_stream(),
            Self::Chunks(_) | Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(incoming, _) => incoming.size_hint(),
            Self::Chunks(_) | Self::Stream(_) => SizeHint::default(),
        }
    }
}
