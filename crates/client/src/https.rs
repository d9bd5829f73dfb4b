//! Calls over HTTPS: what an agent on another machine uses, and any client outside the server's process.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api::{Call, Reply, WatchEvent};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::wire::{self, collect, failure};
use crate::{BoxFuture, BoxStream, Error, Transport};

/// How long a call other than a watch may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(65);

/// Where the API server is and who we are to it.
pub struct Https {
    inner: ArcSwap<Inner>,
    tls: Arc<rustls::ClientConfig>,
}

/// One connection, made when it is first needed, and again when it broke.
struct Inner {
    client: hyper_util::client::legacy::Client<Connector, Full<Bytes>>,
    /// `https://host:port`, without a trailing slash.
    server: String,
    bearer_token: Option<String>,
}

impl Https {
    /// `server` is `https://HOST:PORT`; `tls` carries the CA and, if any, the client certificate.
    pub fn new(server: &str, tls: Arc<rustls::ClientConfig>, bearer_token: Option<String>) -> Self {
        let server = server.trim_end_matches('/').to_owned();
        let inner = Inner { client: connection(&tls), server, bearer_token };
        Self { inner: ArcSwap::from_pointee(inner), tls }
    }

    /// Calls that begin from now on take a connection of their own, with the client certificate there is now: the
    /// server knows a connection by the certificate it was made with. Calls and watches under way go on where they are,
    /// and the old connection ends with the last of them.
    pub fn reconnect(&self) {
        let old = self.inner.load();
        let (server, bearer_token) = (old.server.clone(), old.bearer_token.clone());
        self.inner.store(Arc::new(Inner { client: connection(&self.tls), server, bearer_token }));
    }

    /// POSTs nothing to a path that is no resource's; the answer's body.
    ///
    /// # Errors
    /// As any call.
    pub async fn post_path(&self, path: &str) -> Result<Bytes, Error> {
        let request = Request::builder().method(Method::POST).uri(path).body(Bytes::new());
        let answer = self.inner.load_full().request(request.map_err(wire::malformed)?).await?;
        if !answer.status().is_success() {
            return Err(failure(answer).await);
        }
        collect(answer.into_body()).await
    }
}

fn connection(tls: &Arc<rustls::ClientConfig>) -> hyper_util::client::legacy::Client<Connector, Full<Bytes>> {
    hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .http2_only(true)
        .http2_initial_stream_window_size(1 << 20)
        // Many watches share the connection: a small window would let one that is not read stop the others.
        .http2_initial_connection_window_size(8 << 20)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(15))
        .timer(hyper_util::rt::TokioTimer::new())
        .build(Connector { tls: TlsConnector::from(tls.clone()) })
}

impl Transport for Https {
    fn call(&self, call: Call) -> BoxFuture<Result<Reply, Error>> {
        let inner = self.inner.load_full();
        Box::pin(async move {
            tokio::time::timeout(CALL_TIMEOUT, async { wire::reply(&call, inner.send(&call).await?).await })
                .await
                .unwrap_or_else(|_| Err(Error::Unavailable("no answer within 65 s".into())))
        })
    }

    fn watch(&self, call: Call) -> BoxFuture<Result<BoxStream<WatchEvent>, Error>> {
        let inner = self.inner.load_full();
        Box::pin(async move {
            let response = tokio::time::timeout(CALL_TIMEOUT, inner.send(&call))
                .await
                .unwrap_or_else(|_| Err(Error::Unavailable("no answer within 65 s".into())))?;
            wire::events(&call, response).await
        })
    }

    fn document(&self, path: &'static str, accept: &'static str) -> BoxFuture<Result<Bytes, Error>> {
        let inner = self.inner.load_full();
        Box::pin(async move {
            let reading = async {
                let request = Request::builder().uri(path).header(header::ACCEPT, accept).body(Bytes::new());
                let response = inner.request(request.map_err(wire::malformed)?).await?;
                if !response.status().is_success() {
                    return Err(failure(response).await);
                }
                collect(response.into_body()).await
            };
            tokio::time::timeout(CALL_TIMEOUT, reading)
                .await
                .unwrap_or_else(|_| Err(Error::Unavailable("no answer within 65 s".into())))
        })
    }
}

impl Inner {
    async fn send(&self, call: &Call) -> Result<Response<Incoming>, Error> {
        self.request(wire::request(call)?).await
    }

    /// Sends a request that has no host yet, in our name.
    async fn request(&self, request: Request<Bytes>) -> Result<Response<Incoming>, Error> {
        let mut request = request.map(Full::new);
        let uri: Uri = format!("{}{}", self.server, request.uri())
            .parse()
            .map_err(|error| Error::Malformed(format!("the request's address: {error}")))?;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        let agent = HeaderValue::from_static(concat!("pintle/", env!("CARGO_PKG_VERSION")));
        headers.insert(header::USER_AGENT, agent);
        if let Some(token) = &self.bearer_token {
            let credentials = HeaderValue::from_str(&format!("Bearer {token}")).map_err(wire::malformed)?;
            headers.insert(header::AUTHORIZATION, credentials);
        }
        self.client.request(request).await.map_err(|error| Error::Unavailable(with_causes(&error)))
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// TCP, then TLS.
#[derive(Clone)]
struct Connector {
    tls: TlsConnector,
}

struct Stream(TokioIo<tokio_rustls::client::TlsStream<TcpStream>>);

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = std::io::Error;
    type Future = BoxFuture<Result<Stream, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move {
            let invalid = |why: String| std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let port = uri.port_u16().unwrap_or(443);
            let connect = TcpStream::connect((host.as_str(), port));
            let tcp = tokio::time::timeout(Duration::from_secs(10), connect).await??;
            tcp.set_nodelay(true)?;
            let name = rustls::pki_types::ServerName::try_from(host).map_err(|error| invalid(error.to_string()))?;
            let stream = tokio::time::timeout(Duration::from_secs(10), tls.connect(name, tcp)).await??;
            Ok(Stream(TokioIo::new(stream)))
        })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().negotiated_h2()
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
