//! The node's HTTPS API, as upstream's kubelet serves it: logs, exec, attach, port-forward, pods, statistics.
//!
//! Every request must come with a client certificate that the node's CA vouches for, from somebody who may. Nothing
//! here changes a pod, and nothing here reaches the API server.

pub mod access;
mod exits;
mod logs;
mod query;
mod reply;
mod route;
mod stats;
mod streams;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Pod;
use base::{Backoff, Clock, TaskGroup};
use cri::Runtime;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pki::PeerIdentity;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use access::{Attributes, Authorize};
use exits::Exits;
use reply::{Failure, Reply};
use route::Route;

/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may wait for the head of its next request.
const HEAD_LIMIT: Duration = Duration::from_secs(90);

/// The pods this node runs: what the server is asked about.
pub trait Pods: Send + Sync + 'static {
    /// The pod of that name, its status as new as the node has it.
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>>;
    /// All of them, alike.
    fn pods(&self) -> Vec<Arc<Pod>>;
    /// Further metrics in Prometheus' text format, for `/metrics`.
    fn metrics(&self) -> String {
        String::new()
    }
}

/// How the server is to be.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 lets the kernel choose. Upstream: 10250.
    pub bind: SocketAddr,
    /// From [`pki::tls::server_config`], with the CA of clients.
    pub tls: Arc<rustls::ServerConfig>,
    /// Who may do what.
    pub authorize: Authorize,
    /// The certificate in `tls`, for its figures.
    pub serving: Option<Arc<pki::tls::Reloadable>>,
    /// Whose server this is.
    pub node_name: String,
    /// How many connections are open at once; more wait in the kernel.
    pub connections_len_max: usize,
    /// How many execs, attaches, port-forwards and followed logs run at once; more are refused with 429.
    pub streams_len_max: usize,
}

impl Options {
    /// Defaults for all but what must be given.
    pub fn new(bind: SocketAddr, tls: Arc<rustls::ServerConfig>, authorize: Authorize, node_name: &str) -> Self {
        Self {
            bind,
            tls,
            authorize,
            serving: None,
            node_name: node_name.to_owned(),
            connections_len_max: 1024,
            streams_len_max: 512,
        }
    }
}

/// A server that is listening.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    address: SocketAddr,
}

/// What requests are answered from.
struct Shared {
    options: Options,
    pods: Arc<dyn Pods>,
    runtime: Runtime,
    clock: Clock,
    tasks: TaskGroup,
    exits: Arc<Exits>,
    streams: Arc<Semaphore>,
}

impl Server {
    /// Listens, and serves until the task group ends. Streams that are open then are cut.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn start(
        options: Options,
        pods: Arc<dyn Pods>,
        runtime: Runtime,
        clock: Clock,
        tasks: &TaskGroup,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(options.bind).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            exits: Exits::start(runtime.clone(), clock, tasks),
            streams: Arc::new(Semaphore::new(options.streams_len_max)),
            tasks: tasks.clone(),
            options,
            pods,
            runtime,
            clock,
        });
        tasks.spawn("node server", accept(listener, shared));
        tracing::info!(%address, "the node's API is served");
        Ok(Self { address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let connections = Arc::new(Semaphore::new(shared.options.connections_len_max));
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
    loop {
        let permit = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((tcp, _)) => {
                backoff.reset();
                let served = shared.clone();
                shared.tasks.spawn("node server connection", async move {
                    connection(tcp, served).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                shared.clock.sleep(backoff.next()).await;
            }
        }
    }
}

async fn connection(tcp: TcpStream, shared: Arc<Shared>) {
    let _ = tcp.set_nodelay(true); // keystrokes; without it they are only later
    let _ = rustix::net::sockopt::set_socket_keepalive(&tcp, true); // a peer that is gone is noticed in two hours
    let acceptor = TlsAcceptor::from(shared.options.tls.clone());
    let tls = match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(tcp)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let peer = certificate.and_then(|der| pki::peer_identity(der).ok()).filter(|peer| !peer.common_name.is_empty());
    let peer = peer.map(Arc::new);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (shared, peer) = (shared.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(shared, peer, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD_LIMIT).max_concurrent_streams(250);
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(tls), service).await {
        tracing::debug!(error, "a connection broke");
    }
}

async fn answer(shared: Arc<Shared>, peer: Option<Arc<PeerIdentity>>, request: Request<Incoming>) -> Reply {
    let outcome = base::task::catch("node server request", dispatch(shared, peer, request)).await;
    match outcome {
        Some(Ok(reply)) => reply,
        Some(Err(failure)) => failure.into(),
        None => Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").into(),
    }
}

async fn dispatch(
    shared: Arc<Shared>,
    peer: Option<Arc<PeerIdentity>>,
    request: Request<Incoming>,
) -> Result<Reply, Failure> {
    let peer = peer.ok_or_else(|| Failure::new(StatusCode::UNAUTHORIZED, "Unauthorized"))?;
    let attributes = Attributes::of(request.method(), request.uri().path(), &shared.options.node_name);
    if !(shared.options.authorize)(peer.clone(), attributes.clone()).await {
        return Err(Failure::new(StatusCode::FORBIDDEN, attributes.refusal(&peer.common_name)));
    }
    let route =
        route::parse(request.uri().path()).ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "404 page not found"))?;
    let streams = matches!(route, Route::Exec(_) | Route::Attach(_) | Route::PortForward { .. });
    match *request.method() {
        Method::GET => {}
        Method::POST if streams => {}
        _ => return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed")),
    }
    match route {
        Route::Healthz => Ok(reply::text("ok")),
        Route::Pods => Ok(reply::json(stats::pod_list(&shared.pods.pods()))),
        Route::Metrics => stats::metrics(&shared).await,
        Route::ResourceMetrics => stats::resource_metrics(&shared).await,
        Route::StatsSummary => stats::summary(&shared).await,
        Route::Logs(container) => logs::serve(&shared, &container, &request).await,
        Route::Exec(container) => streams::exec(&shared, &container, request).await,
        Route::Attach(container) => streams::attach(&shared, &container, request).await,
        Route::PortForward { namespace, pod, uid } => {
            streams::port_forward(&shared, &namespace, &pod, uid.as_deref(), request).await
        }
    }
}

/// A future to be awaited elsewhere.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

#[cfg(test)]
mod tests;
