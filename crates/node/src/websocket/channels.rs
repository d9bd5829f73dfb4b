//! Messages that begin with the number of a channel (upstream `wsstream` and `remotecommand`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// The first byte of a v5 message that says that a channel (the second byte) ends.
const CLOSE_SIGNAL: u8 = 255;

/// A subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    /// As it is negotiated; empty when the client asked for none.
    pub name: &'static str,
    /// Messages are text: the channel as a digit, then base64.
    pub base64: bool,
    /// The error channel carries a `Status`; else a message, and nothing on success.
    pub status: bool,
    /// A client can end a channel.
    pub close_signal: bool,
}

/// Those of exec and attach, in order of preference.
pub const ALL: &[Protocol] = &[
    Protocol { name: "v5.channel.k8s.io", base64: false, status: true, close_signal: true },
    Protocol { name: "v4.channel.k8s.io", base64: false, status: true, close_signal: false },
    Protocol { name: "v4.base64.channel.k8s.io", base64: true, status: true, close_signal: false },
    Protocol { name: "channel.k8s.io", base64: false, status: false, close_signal: false },
    Protocol { name: "base64.channel.k8s.io", base64: true, status: false, close_signal: false },
    Protocol { name: "", base64: false, status: false, close_signal: false },
];

/// The first offered protocol that is known and that `wanted` takes; a client that offers none gets the unnamed one.
pub fn negotiate(offered: &[&str], wanted: impl Fn(&Protocol) -> bool) -> Option<Protocol> {
    let offered = if offered.is_empty() { &[""] } else { offered };
    offered.iter().find_map(|name| ALL.iter().find(|p| p.name == *name && wanted(p))).copied()
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// Data on a channel.
    Data(u8, Bytes),
    /// The channel ends.
    Close(u8),
}

impl Protocol {
    /// The message that carries `data` on `channel`.
    fn encode(&self, channel: u8, data: &[u8]) -> Message {
        if self.base64 {
            let mut text = char::from(b'0' + channel).to_string();
            STANDARD.encode_string(data, &mut text);
            return Message::text(text);
        }
        let mut message = BytesMut::with_capacity(1 + data.len());
        message.put_u8(channel);
        message.put_slice(data);
        Message::Binary(message.freeze())
    }

    /// What a message says; `None` when it says nothing.
    fn decode(&self, message: Message) -> Option<Incoming> {
        let mut bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            _ => return None,
        };
        if bytes.is_empty() {
            return None;
        }
        let channel = bytes.split_to(1)[0];
        if self.base64 {
            let data = STANDARD.decode(&bytes).ok()?;
            return Some(Incoming::Data(channel.checked_sub(b'0')?, data.into()));
        }
        if self.close_signal && channel == CLOSE_SIGNAL {
            return bytes.first().map(|ended| Incoming::Close(*ended));
        }
        Some(Incoming::Data(channel, bytes))
    }
}

/// The half on which the client is spoken to.
pub struct Sink<IO> {
    socket: SplitSink<WebSocketStream<IO>, Message>,
    protocol: Protocol,
}

/// The half on which the client speaks. It must be read even when nothing is expected: pings are answered there.
pub struct Source<IO> {
    socket: SplitStream<WebSocketStream<IO>>,
    protocol: Protocol,
}

/// Both halves of a socket on which `protocol` was negotiated.
pub fn split<IO: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<IO>,
    protocol: Protocol,
) -> (Sink<IO>, Source<IO>) {
    let (sink, source) = socket.split();
    (Sink { socket: sink, protocol }, Source { socket: source, protocol })
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Sink<IO> {
    /// Sends data on a channel. Returns when the connection has taken all of it.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub async fn send(&mut self, channel: u8, data: &[u8]) -> std::io::Result<()> {
        self.socket.send(self.protocol.encode(channel, data)).await.map_err(std::io::Error::other)
    }

    /// Says that all is done.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub async fn close(&mut self) -> std::io::Result<()> {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.socket.send(Message::Close(Some(frame))).await.map_err(std::io::Error::other)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Source<IO> {
    /// What the client sends next; `None` when it has gone, or sent what no client should. Cancel-safe.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            match self.socket.next().await? {
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(message) => {
                    if let Some(incoming) = self.protocol.decode(message) {
                        return Some(incoming);
                    }
                }
            }
        }
    }

    /// Reads until the client has closed too, and forgets what it says.
    pub async fn drain(&mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(name: &str) -> Protocol {
        negotiate(&[name], |_| true).unwrap()
    }

    #[test]
    fn the_first_known_offer_is_taken() {
        let name = |offered: &[&str]| negotiate(offered, |_| true).map(|p| p.name);
        assert_eq!(name(&["v6.channel.k8s.io", "v4.channel.k8s.io", "v5.channel.k8s.io"]), Some("v4.channel.k8s.io"));
        assert_eq!(name(&[]), Some(""));
        assert_eq!(name(&["chat"]), None);
        assert_eq!(negotiate(&["v5.channel.k8s.io"], |p| !p.close_signal), None);
    }

    #[test]
    fn messages() {
        let bytes = |b: &'static [u8]| Message::Binary(Bytes::from_static(b));
        let data = |channel, b: &'static [u8]| Some(Incoming::Data(channel, Bytes::from_static(b)));
        let (v5, v4, text) =
            (protocol("v5.channel.k8s.io"), protocol("v4.channel.k8s.io"), protocol("v4.base64.channel.k8s.io"));
        assert_eq!(v5.encode(1, b"out"), bytes(b"\x01out"));
        assert_eq!(text.encode(1, b"out"), Message::text("1b3V0"));
        let table = [
            (v5, bytes(b"\x00in"), data(0, b"in")),
            (v5, bytes(b"\xff\x00"), Some(Incoming::Close(0))),
            (v5, bytes(b"\xff"), None),
            (v4, bytes(b"\xff\x00"), data(255, b"\x00")),
            (v4, bytes(b""), None),
            (v4, Message::Ping(Bytes::new()), None),
            (text, Message::text("0aW4="), data(0, b"in")),
            (text, Message::text("0!"), None),
            (text, Message::text("\n"), None),
        ];
        for (protocol, message, expected) in table {
            assert_eq!(protocol.decode(message.clone()), expected, "{message:?}");
        }
    }
}
