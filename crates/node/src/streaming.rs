//! Exec, attach and port-forward: a client's connection on one side, the runtime's streaming server on the other.
//!
//! A client that speaks SPDY gets the runtime's own words, byte for byte. One that speaks WebSocket is translated.
//! Nothing is buffered beyond one message: a slow side holds the other one back. A stream on which nothing moves for
//! four hours is ended, as upstream.

pub mod channels;
pub mod idle;
pub mod pass;
pub mod runtime;
pub mod tunnel;

/// The protocol between a client or this node and the runtime for exec and attach.
pub const REMOTE_COMMAND: &str = "v4.channel.k8s.io";
/// The same for port-forward.
pub const PORT_FORWARD: &str = "portforward.k8s.io";
/// The header in which both are negotiated.
pub const PROTOCOL_HEADER: &str = "x-stream-protocol-version";
/// The name in `Upgrade:`.
pub const SPDY: &str = "SPDY/3.1";
