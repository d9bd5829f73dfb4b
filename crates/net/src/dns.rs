//! Cluster DNS, in process on every node: names of Services, endpoints and pods from memory, everything else from the
//! host's own resolvers.
//!
//! The specification is that of Kubernetes DNS 1.1.0. [`answer`] decides, [`Service`] holds the sockets. Recursion,
//! caching and DNSSEC are the host's resolvers' business.

pub mod answer;
pub mod forward;
pub mod server;
pub mod state;
#[cfg(test)]
mod tests;
pub mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base::{Clock, Random, TaskGroup};
use futures_util::future::{BoxFuture, FutureExt, select_all};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, watch};

pub use self::answer::{Answer, answer};
use self::forward::Forwarder;
pub use self::forward::Upstreams;
pub use self::server::Counters;
use self::server::Server;
pub use self::state::{State, Zone};
use crate::{Cidr, Error, Feed, Result, links};

/// Settings of cluster DNS.
#[derive(Debug, Clone)]
pub struct Options {
    /// The addresses to answer on. They must be the node's: see [`links::ensure_service_link`].
    pub addresses: Vec<IpAddr>,
    /// The port; 53 but for tests.
    pub port: u16,
    /// The cluster's domain, e.g. `cluster.local`.
    pub domain: String,
    /// The Services' and the pods' addresses: their reverse names are asked nowhere else.
    pub reverse_cidrs: Vec<Cidr>,
    /// Who knows all other names.
    pub upstreams: Upstreams,
    /// How long one of them is waited for.
    pub upstream_timeout: Duration,
    /// How many questions may be on their way to them at a time; more are answered SERVFAIL.
    pub in_flight_max: usize,
    /// The shortest time between two rebuilds of the names.
    pub interval_min: Duration,
}

impl Options {
    /// The defaults for a node.
    pub fn new(addresses: Vec<IpAddr>, domain: impl Into<String>, reverse_cidrs: Vec<Cidr>) -> Self {
        Self {
            addresses,
            port: 53,
            domain: domain.into(),
            reverse_cidrs,
            upstreams: Upstreams::File("/etc/resolv.conf".into()),
            upstream_timeout: Duration::from_secs(2),
            in_flight_max: 512,
            interval_min: Duration::from_millis(20),
        }
    }
}

/// A view of the running server. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    counters: Arc<Counters>,
    published: watch::Receiver<Option<u64>>,
}

impl Handle {
    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Waits until the sockets are open and the cluster's names known. Returns `false` if the server ended before.
    pub async fn ready(&mut self) -> bool {
        self.published.wait_for(Option::is_some).await.is_ok()
    }

    /// Waits until everything that was in `feed` when this was called can be asked for. Returns `false` if the server
    /// ended before.
    pub async fn caught_up(&mut self, feed: &Feed) -> bool {
        let version = feed.version();
        self.published.wait_for(|published| published.is_some_and(|published| published >= version)).await.is_ok()
    }
}

/// The actor: run it as a supervised task.
pub struct Service {
    options: Options,
    zone: Zone,
    feed: Feed,
    clock: Clock,
    server: Arc<Server>,
    published: watch::Sender<Option<u64>>,
}

impl Service {
    /// A server of the names in `feed`. Questions that need another resolver run in `tasks`.
    /// `Error::Invalid` for a domain that is none.
    pub fn new(
        options: Options,
        feed: Feed,
        clock: Clock,
        random: Random,
        tasks: &TaskGroup,
    ) -> Result<(Self, Handle)> {
        let zone = Zone::new(&options.domain, options.addresses.clone(), options.reverse_cidrs.clone())?;
        let counters = Arc::<Counters>::default();
        let own = options.addresses.iter().map(|ip| SocketAddr::new(*ip, options.port)).collect();
        let server = Arc::new(Server {
            state: ArcSwap::from_pointee(State::empty(zone.clone())),
            forwarder: Forwarder::new(options.upstreams.clone(), own, options.upstream_timeout, random),
            in_flight: Arc::new(Semaphore::new(options.in_flight_max)),
            counters: counters.clone(),
            tasks: tasks.child(),
        });
        let (published, seen) = watch::channel(None);
        let handle = Handle { counters, published: seen };
        Ok((Self { options, zone, feed, clock, server, published }, handle))
    }

    /// Opens the sockets and answers until dropped; returns only when a socket cannot be opened or fails.
    pub async fn run(&mut self) -> Error {
        let mut parts: Vec<BoxFuture<'_, Error>> = Vec::new();
        for ip in &self.options.addresses {
            let address = SocketAddr::new(*ip, self.options.port);
            let failed = |what: &str| format!("serving DNS on {address} over {what}");
            let udp = match UdpSocket::bind(address).await {
                Ok(socket) => socket,
                Err(error) => return Error::io(failed("UDP"))(error),
            };
            let tcp = match TcpListener::bind(address).await {
                Ok(listener) => listener,
                Err(error) => return Error::io(failed("TCP"))(error),
            };
            parts.push(self.server.clone().serve_udp(udp).map(Error::io(failed("UDP"))).boxed());
            parts.push(self.server.clone().serve_tcp(tcp).map(Error::io(failed("TCP"))).boxed());
        }
        parts.push(self.publish().boxed());
        select_all(parts).await.0
    }

    /// Keeps the published names as the feed says.
    async fn publish(&self) -> Error {
        let mut changed = self.feed.subscribe();
        loop {
            changed.mark_unchanged();
            let version = self.feed.version();
            #[allow(clippy::cast_possible_truncation)] // a serial number wraps (RFC 1982)
            let state = State::build(self.zone.clone(), &self.feed.snapshot(), version as u32);
            let synced = state.synced;
            self.server.state.store(Arc::new(state));
            if synced {
                self.published.send_replace(Some(version));
            }
            self.clock.sleep(self.options.interval_min).await;
            // The feed is ours too, so its sender lives.
            let _ = changed.changed().await;
        }
    }
}

/// Removes the link with the DNS address. The sockets end with their task.
pub async fn cleanup(instance: &str) -> Result<()> {
    links::remove_service_link(instance).await
}
