//! A client as small as can be: HTTP, upgrades, WebSocket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::TaskGroup;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const SOON: Duration = Duration::from_secs(60);

pub struct Client {
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    tasks: TaskGroup,
}

/// An answer to a plain request.
pub struct Answer {
    pub code: u16,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

impl Client {
    pub fn new(address: SocketAddr, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { address, tls, tasks: TaskGroup::new() }
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, Error> {
        let tcp = TcpStream::connect(self.address).await?;
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1")?;
        Ok(TlsConnector::from(self.tls.clone()).connect(name, tcp).await?)
    }

    async fn send(&self, request: Request<Empty<Bytes>>) -> Result<http::Response<Incoming>, Error> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.connect().await?)).await?;
        self.tasks.spawn("client", async move {
            let _ = connection.with_upgrades().await;
        });
        Ok(sender.send_request(request).await?)
    }

    fn request(&self, path: &str) -> Request<Empty<Bytes>> {
        Request::get(path).header("host", "node").body(Empty::new()).unwrap()
    }

    pub async fn try_get(&self, path: &str) -> Result<Answer, Error> {
        let answer = self.send(self.request(path)).await?;
        let code = answer.status().as_u16();
        Ok(Answer { code, body: answer.into_body().collect().await?.to_bytes() })
    }

    pub async fn get(&self, path: &str) -> Answer {
        tokio::time::timeout(SOON, self.try_get(path)).await.expect(path).unwrap()
    }

    /// A body that goes on.
    pub async fn follow(&self, path: &str) -> Follow {
        let answer = self.send(self.request(path)).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        Follow(answer.into_body())
    }

    /// A connection upgraded to SPDY.
    pub async fn upgrade(&self, path: &str, protocols: &[&str]) -> TokioIo<Upgraded> {
        let mut request = self.request(path);
        *request.method_mut() = http::Method::POST;
        request.headers_mut().insert("connection", HeaderValue::from_static("Upgrade"));
        request.headers_mut().insert("upgrade", HeaderValue::from_static("SPDY/3.1"));
        for protocol in protocols {
            request.headers_mut().append("x-stream-protocol-version", HeaderValue::from_str(protocol).unwrap());
        }
        let answer = self.send(request).await.unwrap();
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
        TokioIo::new(hyper::upgrade::on(answer).await.unwrap())
    }

    async fn open(&self, path: &str, protocol: &str) -> Result<WebSocketStream<TlsStream<TcpStream>>, String> {
        let tls = self.connect().await.unwrap();
        let mut request = format!("wss://node{path}").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_str(protocol).unwrap());
        let (socket, answer) =
            tokio_tungstenite::client_async(request, tls).await.map_err(|error| error.to_string())?;
        assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
        Ok(socket)
    }

    pub async fn try_websocket(&self, path: &str, protocol: &str) -> Result<Stream, String> {
        let socket = self.open(path, protocol).await?;
        Ok(Stream { socket, base64: protocol.contains("base64") })
    }

    pub async fn websocket(&self, path: &str, protocol: &str) -> Stream {
        self.try_websocket(path, protocol).await.expect(path)
    }

    /// A byte stream through binary messages.
    pub async fn tunnel(&self, path: &str, protocol: &str) -> DuplexStream {
        let socket = self.open(path, protocol).await.expect(path);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (mut sink, mut source) = socket.split();
        let (mut read, mut write) = tokio::io::split(far);
        self.tasks.spawn("tunnel out", async move {
            let mut buffer = [0; 1000];
            while let Ok(len @ 1..) = read.read(&mut buffer).await {
                sink.send(Message::binary(buffer[..len].to_vec())).await.unwrap();
            }
        });
        self.tasks.spawn("tunnel in", async move {
            while let Some(Ok(message)) = source.next().await {
                if let Message::Binary(bytes) = message {
                    write.write_all(&bytes).await.unwrap();
                }
            }
        });
        near
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// A WebSocket with channels.
pub struct Stream {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    base64: bool,
}

/// All that a stream said until it was closed in order.
#[derive(Default)]
pub struct Outcome {
    /// The channel of the first, empty message.
    pub greeted: Option<u8>,
    pub out: Vec<u8>,
    pub error: Vec<u8>,
    pub status: Vec<u8>,
    pub channels: BTreeMap<u8, Vec<u8>>,
}

impl Outcome {
    pub fn out(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    pub fn status(&self) -> Value {
        serde_json::from_slice(&self.status).unwrap()
    }
}

impl Stream {
    pub async fn send(&mut self, channel: u8, data: &[u8]) {
        let message = if self.base64 {
            Message::text(format!("{channel}{}", STANDARD.encode(data)))
        } else {
            Message::binary([&[channel], data].concat())
        };
        self.socket.send(message).await.unwrap();
    }

    pub async fn close_channel(&mut self, channel: u8) {
        self.socket.send(Message::binary(vec![255, channel])).await.unwrap();
    }

    pub async fn outcome(&mut self) -> Outcome {
        tokio::time::timeout(SOON, self.read()).await.expect("the stream ends")
    }

    async fn read(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        loop {
            let message = self.socket.next().await.expect("it is closed in order").unwrap();
            let (channel, data) = match message {
                Message::Binary(bytes) => (bytes[0], bytes[1..].to_vec()),
                Message::Text(text) => (text.as_bytes()[0] - b'0', STANDARD.decode(&text[1..]).unwrap()),
                Message::Close(frame) => {
                    assert_eq!(u16::from(frame.expect("a close says why").code), 1000);
                    outcome.out = outcome.channels.get(&1).cloned().unwrap_or_default();
                    outcome.error = outcome.channels.get(&2).cloned().unwrap_or_default();
                    outcome.status = outcome.channels.get(&3).cloned().unwrap_or_default();
                    return outcome;
                }
                other => panic!("{other:?}"),
            };
            if outcome.channels.is_empty() && data.is_empty() {
                outcome.greeted = Some(channel);
            }
            outcome.channels.entry(channel).or_default().extend(data);
        }
    }
}

/// A log that is followed.
pub struct Follow(Incoming);

impl Follow {
    /// The text up to and with `end`.
    pub async fn until(&mut self, end: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(end) {
            let frame = tokio::time::timeout(SOON, self.0.frame()).await.expect(end).expect("the log goes on").unwrap();
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        text
    }

    /// The text to the end.
    pub async fn rest(mut self) -> String {
        let body = tokio::time::timeout(SOON, (&mut self.0).collect()).await.expect("the log ends").unwrap();
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    }
}
