//! A byte stream in binary messages: how kubectl carries a SPDY session for port-forward through a WebSocket.

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// What a subprotocol begins with that tunnels a SPDY session; the session's own protocol follows.
pub const PREFIX: &str = "SPDY/3.1+";
/// The most that is put in one message.
const MESSAGE_BYTES: usize = 32 * 1024;

/// The first offered subprotocol that tunnels one of `known`, and the latter.
pub fn negotiate<'a>(offered: &[&'a str], known: &[&str]) -> Option<(&'a str, &'a str)> {
    let inner = |name: &'a str| name.strip_prefix(PREFIX).map(|inner| (name, inner));
    offered.iter().filter_map(|name| inner(name)).find(|(_, inner)| known.contains(inner))
}

/// Copies the client's messages to `runtime` until the client closes. `moved` is called after each.
///
/// # Errors
/// Either side broke.
pub async fn inward<IO: AsyncRead + AsyncWrite + Unpin>(
    client: &mut SplitStream<WebSocketStream<IO>>,
    runtime: &mut (impl AsyncWrite + Unpin),
    moved: impl Fn(),
) -> std::io::Result<()> {
    while let Some(message) = client.next().await {
        match message.map_err(std::io::Error::other)? {
            Message::Binary(bytes) => {
                runtime.write_all(&bytes).await?;
                runtime.flush().await?;
                moved();
            }
            Message::Close(_) => break,
            Message::Text(_) => return Err(std::io::Error::other("text in a tunnel of bytes")),
            _ => {}
        }
    }
    Ok(())
}

/// Copies what `runtime` sends into messages until it closes, then closes the WebSocket. `moved` is called after each.
///
/// # Errors
/// Either side broke.
pub async fn outward<IO: AsyncRead + AsyncWrite + Unpin>(
    runtime: &mut (impl AsyncRead + Unpin),
    client: &mut SplitSink<WebSocketStream<IO>, Message>,
    moved: impl Fn(),
) -> std::io::Result<()> {
    let mut buffer = vec![0; MESSAGE_BYTES];
    loop {
        let len = runtime.read(&mut buffer).await?;
        if len == 0 {
            return client.close().await.map_err(std::io::Error::other);
        }
        let message = Message::Binary(Bytes::copy_from_slice(&buffer[..len]));
        client.send(message).await.map_err(std::io::Error::other)?;
        moved();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tunnelled() {
        let known = ["portforward.k8s.io"];
        let offered = ["v4.channel.k8s.io", "SPDY/3.1+x", "SPDY/3.1+portforward.k8s.io"];
        assert_eq!(negotiate(&offered, &known), Some(("SPDY/3.1+portforward.k8s.io", "portforward.k8s.io")));
        assert_eq!(negotiate(&offered[..2], &known), None);
    }
}
