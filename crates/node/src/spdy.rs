//! SPDY/3.1 as container runtimes speak it for exec, attach and port-forward: frames, compressed headers, and the
//! client's side of a session.
//!
//! Never a server, and never TLS: the runtime listens on this host only. Windows are not kept: the peers of this
//! protocol never did, and TCP holds a fast sender back. A peer that does speak of windows is credited what it sent.

pub mod frame;
pub mod header;
pub mod session;

mod dictionary;

/// Why a session broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer sent what the protocol does not allow; the session is useless.
    #[error("SPDY: {0}")]
    Protocol(&'static str),
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
