//! The server's side of WebSocket, as Kubernetes' clients speak it: channels by the first byte of each message, or a
//! SPDY session tunnelled through binary messages.
//!
//! Never a client; the runtime is spoken to in SPDY.

pub mod channels;
pub mod handshake;
pub mod tunnel;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The largest message taken from a client (the limit of upstream's library).
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The most that waits to be written to a client.
const WRITE_BYTES_MAX: usize = 256 * 1024;
const BUFFER_BYTES: usize = 16 * 1024;

/// Speaks WebSocket on a connection that was upgraded to it.
pub async fn serve<IO: AsyncRead + AsyncWrite + Unpin>(connection: IO) -> WebSocketStream<IO> {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await
}
