//! The server on a port: TLS, HTTP/1.1 and HTTP/2, connections in bounded number, an end that lets requests finish.

mod aggregate;
mod connection;
pub(crate) mod duration;
mod handler;
mod health;
mod list;
pub(crate) mod metrics;
mod negotiate;
mod path;
mod payload;
mod pretty;
mod protobuf;
mod proxy;
mod query;
mod table;
mod watch;
mod write;
mod zpages;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::TaskGroup;
use http::{Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::Server;
use crate::authn::Peer;
use connection::{Connection, Sent};

pub use duration::parse as parse_duration;
pub use handler::BODY_BYTES_MAX;
pub(crate) use metrics::away;
pub use query::Query;
pub(crate) use query::check_dry_run;

/// A client has this long for the handshake, and for the headers of each request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Streams of one HTTP/2 connection.
const STREAMS_MAX: u32 = 1000;
/// Headers of one HTTP/2 request, unpacked. (Those of HTTP/1.1 are bounded by its buffer of 400 KiB and their number,
/// 100.)
const HEADERS_BYTES_MAX: u32 = 128 << 10;
/// HTTP/2 flow control: large enough that lists are not slowed by round trips.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// How often a silent HTTP/2 connection is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(15);

/// Why the server is not on its port.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process listens there already: end it, or choose another address.
    #[error("the address {0} is already in use by another process")]
    AddressInUse(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

/// A port that is ours.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes the port; with port 0, any.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn bind(address: SocketAddr) -> Result<Self, Error> {
        let of = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AddrInUse => Error::AddressInUse(address),
            _ => Error::Listen { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(of)?;
        let address = listener.local_addr().map_err(of)?;
        Ok(Self { listener, address })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `tasks` ends: then no connection is taken any more, and those there are end after the requests
    /// under
    /// way. `connections_len_max` bounds the connections; further ones wait to be accepted.
    pub fn serve(
        self,
        server: Arc<Server>,
        tls: Arc<rustls::ServerConfig>,
        connections_len_max: usize,
        tasks: &TaskGroup,
    ) {
        let group = tasks.clone();
        tasks.spawn_graceful("listener", async move {
            let ending = group.cancelled();
            let acceptor = TlsAcceptor::from(tls);
            let seats = Arc::new(Semaphore::new(connections_len_max.max(1)));
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = ending.cancelled() => return,
                    accepted = accept(&self.listener, &seats) => accepted,
                };
                let (socket, address, seat) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors or the like: what there is must end first.
                        tracing::warn!(%error, "a connection could not be accepted");
                        server.options().clock.sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                };
                let (server, acceptor, group) = (server.clone(), acceptor.clone(), group.clone());
                group.clone().spawn_graceful("connection", async move {
                    connection(server, acceptor, socket, address, group).await;
                    drop(seat);
                });
            }
        });
    }
}

async fn accept(
    listener: &TcpListener,
    seats: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let seat = seats.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (socket, address) = listener.accept().await?;
    socket.set_nodelay(true)?;
    Ok((socket, address, seat))
}

/// Runs hyper's own tasks (HTTP/2 streams) in our group.
#[derive(Clone)]
struct Executor(TaskGroup);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn_graceful("stream", future);
    }
}

async fn connection(
    server: Arc<Server>,
    acceptor: TlsAcceptor,
    socket: TcpStream,
    address: SocketAddr,
    group: TaskGroup,
) {
    let ending = group.cancelled();
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket));
    let tls = tokio::select! {
        biased;
        () = ending.cancelled() => return,
        tls = handshake => tls,
    };
    let tls = match tls {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "the TLS handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!(%address, "the TLS handshake took too long");
            return;
        }
    };
    let certificates = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = certificates.iter().map(|certificate| certificate.clone().into_owned()).collect();
    let peer = Arc::new(Peer::new(address, certificates));
    let connection = Connection::new(server.options().clock);
    let own = connection.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, peer, own) = (server.clone(), peer.clone(), own.clone());
        let (busy, many) = (own.busy(), request.version() == Version::HTTP_2);
        async move {
            // In a box that is gone with the answer: a watch's stream would hold its whole state as long as it lasts.
            let response = Box::pin(handler::handle(server.clone(), peer, request)).await;
            // Who shows no good credentials gets no further streams (upstream's answer to rapid resets).
            if many && response.status() == StatusCode::UNAUTHORIZED {
                own.close();
            }
            let sent = |payload| Sent::new(payload, busy, || server.drain.streams_end());
            Ok::<_, std::convert::Infallible>(response.map(sent))
        }
    });
    let mut builder = auto::Builder::new(Executor(group));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN);
    let served = builder.serve_connection_with_upgrades(TokioIo::new(tls), service);
    tokio::pin!(served);
    let result = tokio::select! {
        biased;
        result = served.as_mut() => result,
        () = async {
            tokio::select! {
                () = ending.cancelled() => {}
                () = connection.over() => {}
            }
        } => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%address, error = &*error, "a connection ended");
    }
}
