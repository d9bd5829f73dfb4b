//! One connection to a webhook or another API server: find it, dial, TLS.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base::Random;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::trust::{self, Alpn, Trusted};
use super::{ClientConfig, Destination, service};
use crate::Lookup;

/// How long dialing, and then the handshake, may take, as Go's transport has it.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a connection was not made, in the words of Go's dialer.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// There is no address.
    #[error("{0}")]
    Unresolved(String),
    #[error("{0}")]
    Refused(String),
}

impl Failed {
    pub fn is_unresolved(&self) -> bool {
        matches!(self, Self::Unresolved(_))
    }
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self::Refused(why)
    }
}

/// Opens connections for one configuration.
#[derive(Clone)]
pub struct Connector {
    destination: Arc<Destination>,
    tls: Arc<rustls::ClientConfig>,
    /// Where Services are found; none: they are not called.
    lookup: Option<Lookup>,
    /// The name the certificate must bear, if not the URL's.
    server_name: Option<Arc<str>>,
}

impl Connector {
    pub fn new(config: &ClientConfig, lookup: Lookup) -> Result<Self, String> {
        let trusted = config.ca_bundle.as_deref().map_or(Trusted::System, Trusted::Bundle);
        let identity = config.shown.as_ref().and_then(|shown| shown.0.identity.clone());
        let tls = trust::client(&trusted, identity.map(pki::tls::Reloadable::new), Alpn::Http2OrHttp1)?;
        Ok(Self::with(config.destination.clone(), tls, lookup))
    }

    /// With a TLS configuration of one's own.
    pub fn with(destination: Destination, tls: Arc<rustls::ClientConfig>, lookup: Lookup) -> Self {
        Self { destination: Arc::new(destination), tls, lookup: Some(lookup), server_name: None }
    }

    /// To a server outside the cluster.
    pub fn remote(url: &str, credentials: &super::Credentials) -> Result<Self, String> {
        let trusted = credentials.ca_pem.as_deref().map_or(Trusted::System, |pem| Trusted::Bundle(pem.as_bytes()));
        let identity = credentials.identity.clone().map(pki::tls::Reloadable::new);
        let tls = trust::client(&trusted, identity, Alpn::Http2OrHttp1)?;
        let server_name = credentials.server_name.as_deref().map(Into::into);
        Ok(Self { destination: Arc::new(Destination::Url(url.to_owned())), tls, lookup: None, server_name })
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Tls>;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<TokioIo<Tls>, Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let own = self.clone();
        Box::pin(async move { own.connect(&uri).await.map(TokioIo::new) })
    }
}

impl Connector {
    async fn connect(&self, uri: &Uri) -> Result<Tls, Failed> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (address, port) = match &*self.destination {
            Destination::Url(_) => (host.clone(), uri.port_u16().unwrap_or(443)),
            Destination::Service { namespace, name, port, .. } => {
                let lookup = self.lookup.as_ref().ok_or_else(|| "no services are known here".to_owned())?;
                service::resolve(lookup, &Random::system(), namespace, name, *port).map_err(Failed::Unresolved)?
            }
        };
        let dialed = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect((address.as_str(), port))).await;
        let socket = match dialed {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return Err(dial_failure(&error, &address, port).into()),
            Err(_) => return Err(format!("dial tcp {}: i/o timeout", shown(&address, port)).into()),
        };
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let host = self.server_name.as_deref().map_or(host, str::to_owned);
        let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
        let handshake = TlsConnector::from(self.tls.clone()).connect(name, socket);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(stream) => Ok(stream.map(Tls).map_err(|error| trust::words(&error, &host))?),
            Err(_) => Err("net/http: TLS handshake timeout".to_owned().into()),
        }
    }
}

fn shown(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn dial_failure(error: &std::io::Error, address: &str, port: u16) -> String {
    let shown = shown(address, port);
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("dial tcp {shown}: connect: connection refused"),
        std::io::ErrorKind::HostUnreachable => format!("dial tcp {shown}: connect: no route to host"),
        std::io::ErrorKind::TimedOut => format!("dial tcp {shown}: connect: connection timed out"),
        _ if error.raw_os_error().is_none() => format!("dial tcp: lookup {address}: no such host"),
        _ => format!("dial tcp {shown}: connect: {error}"),
    }
}

/// A TLS connection that says which HTTP it speaks.
pub struct Tls(TlsStream<TcpStream>);

impl Connection for Tls {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.0.get_ref().1.alpn_protocol() == Some(b"h2") { connected.negotiated_h2() } else { connected }
    }
}

impl AsyncRead for Tls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Tls {
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
