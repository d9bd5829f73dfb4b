//! A server that ends while clients work: none of their requests fails, if they take a new connection when the old one
//! is closed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use apiserver::drain;
use base::TaskGroup;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pki::tls::{Alpn, Reloadable};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::world::World;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A connection, of either kind.
enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Two(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

#[derive(Clone)]
struct Client {
    tls: Arc<rustls::ClientConfig>,
    http2: bool,
    tasks: TaskGroup,
}

impl Client {
    fn new(world: &World, http2: bool) -> Self {
        let request = pki::Request::client("admin", &["system:masters"], Duration::from_secs(3600));
        let identity = Reloadable::new(world.ca.issue(&request, world.clock.now()).unwrap());
        let alpn = if http2 { Alpn::Http2 } else { Alpn::Http1 };
        let tls = pki::tls::client_config(world.ca.cert_pem(), Some(identity), alpn, world.clock).unwrap();
        Self { tls, http2, tasks: TaskGroup::new() }
    }

    async fn connect(&self, address: SocketAddr) -> Option<Sender> {
        let socket = TcpStream::connect(address).await.ok()?;
        let name = rustls_pki_types::ServerName::from(address.ip());
        let tls = tokio_rustls::TlsConnector::from(self.tls.clone()).connect(name, socket).await.ok()?;
        if self.http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.ok()?;
            self.tasks.spawn("client", async move { drop(connection.await) });
            return Some(Sender::Two(sender));
        }
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.ok()?;
        self.tasks.spawn("client", async move { drop(connection.await) });
        Some(Sender::One(sender))
    }
}

fn create(name: &str) -> Request<Full<Bytes>> {
    let body = format!("{{\"metadata\":{{\"name\":\"{name}\"}}}}");
    Request::post(format!("https://test{CONFIG_MAPS}")).header("host", "test").body(Full::from(body)).unwrap()
}

/// What all clients share.
struct Load {
    servers: [SocketAddr; 2],
    stop: AtomicBool,
    answered: watch::Sender<u32>,
    reconnected: AtomicU32,
}

/// Creates one object after the other until told to stop; the names of those created.
async fn work(load: Arc<Load>, client: Client, own: usize) -> BTreeSet<String> {
    let mut created = BTreeSet::new();
    let mut sender = client.connect(load.servers[0]).await.expect("the first server is there");
    let mut number = 0;
    while !load.stop.load(Ordering::Relaxed) {
        let name = format!("c{own}-{number}");
        number += 1;
        for attempt in 0.. {
            assert!(attempt < 5, "{name} is refused again and again");
            match sender.send(create(&name)).await {
                Ok(response) => {
                    let code = response.status().as_u16();
                    let body = response.into_body().collect().await.expect("an answer that began is whole").to_bytes();
                    // 409 would be a request that was worked on and not answered.
                    assert_eq!(code, 201, "{name}, attempt {attempt}: {}", String::from_utf8_lossy(&body));
                    load.answered.send_modify(|answered| *answered += 1);
                    break;
                }
                Err(_) => {
                    load.reconnected.fetch_add(1, Ordering::Relaxed);
                    sender = match client.connect(load.servers[0]).await {
                        Some(sender) => sender,
                        None => client.connect(load.servers[1]).await.expect("the second server stays"),
                    };
                }
            }
        }
        created.insert(name);
    }
    created
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_when_a_server_ends() {
    let world = World::start().await;
    let (tasks, serving) = (TaskGroup::new(), TaskGroup::new());
    let (ending, address) = world.beside(&tasks, &serving).await;
    let load = Arc::new(Load {
        servers: [address, world.address],
        stop: AtomicBool::new(false),
        answered: watch::Sender::new(0),
        reconnected: AtomicU32::new(0),
    });
    let mut clients = JoinSet::new();
    for own in 0..8 {
        clients.spawn(work(load.clone(), Client::new(&world, own % 2 == 1), own));
    }
    let answered = |more: u32| {
        let mut seen = load.answered.subscribe();
        let until = *seen.borrow() + more;
        async move { drop(seen.wait_for(|answered| *answered >= until).await.unwrap()) }
    };
    answered(50).await;
    let mut watcher = Client::new(&world, false).connect(address).await.unwrap();
    let watch = Request::get(format!("https://test{CONFIG_MAPS}?watch=true&resourceVersion=0")).header("host", "test");
    let watch = watcher.send(watch.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(watch.status(), 200);

    let options = drain::Options { delay: Duration::from_secs(2), ..drain::Options::default() };
    let not_ready = async {
        // Not ready from the first step of the drain on, which is taken before this; and yet it serves.
        let mut sender = Client::new(&world, false).connect(address).await.expect("connections are taken");
        let request = Request::get("https://test/readyz").header("host", "test").body(Full::default()).unwrap();
        let response = sender.send(request).await.unwrap();
        let code = response.status().as_u16();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8_lossy(&text).into_owned())
    };
    let (drained, (code, text)) = tokio::join!(ending.drain(&serving, &options), not_ready);
    assert!(drained, "all requests ended in time");
    assert!(code == 500 && text.contains("[-]shutdown failed: reason withheld"), "{code} {text}");
    let watched = watch.into_body().collect().await.expect("a watch ends in good order").to_bytes();
    let events: Vec<serde_json::Value> =
        watched.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert!(events.len() >= 50 && events.iter().all(|event| event["type"] == "ADDED"), "{} events", events.len());
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");

    answered(50).await;
    load.stop.store(true, Ordering::Relaxed);
    let mut created = BTreeSet::new();
    while let Some(own) = clients.join_next().await {
        created.extend(own.unwrap());
    }
    assert!(load.reconnected.load(Ordering::Relaxed) >= 8, "every client was sent elsewhere");
    let there = world.get(CONFIG_MAPS).await.json();
    let there: BTreeSet<String> = there["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .filter(|name| name.starts_with('c'))
        .collect();
    assert_eq!(there, created);
}

#[tokio::test]
async fn watches_end_over_the_time_they_are_given() {
    let world = World::start().await;
    let (tasks, serving) = (TaskGroup::new(), TaskGroup::new());
    let (ending, address) = world.beside(&tasks, &serving).await;
    let mut watches = JoinSet::new();
    for _ in 0..24 {
        let mut sender = Client::new(&world, false).connect(address).await.unwrap();
        let watch = Request::get(format!("https://test{CONFIG_MAPS}?watch=true")).header("host", "test");
        let watch = sender.send(watch.body(Full::default()).unwrap()).await.unwrap();
        let clock = world.clock;
        watches.spawn(async move {
            watch.into_body().collect().await.unwrap();
            clock.monotonic()
        });
    }
    let began = world.clock.monotonic();
    let watch_grace = Duration::from_millis(800);
    let options = drain::Options { watch_grace, ..drain::Options::default() };
    assert!(ending.drain(&serving, &options).await);
    let mut ended: Vec<Duration> = Vec::new();
    while let Some(at) = watches.join_next().await {
        ended.push(at.unwrap() - began);
    }
    ended.sort_unstable();
    assert!(ended[23] - ended[0] > watch_grace / 4, "{ended:?}");
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn who_shows_no_credentials_over_http2_is_sent_away() {
    let world = World::start().await;
    let tls = pki::tls::client_config(world.ca.cert_pem(), None, Alpn::Http2, world.clock).unwrap();
    let client = Client { tls, http2: true, tasks: TaskGroup::new() };
    let mut sender = client.connect(world.address).await.unwrap();
    let ask = || Request::get("https://test/version").body(Full::default()).unwrap();
    assert_eq!(sender.send(ask()).await.unwrap().status(), 401);
    let Sender::Two(two) = &mut sender else { panic!("HTTP/2") };
    let closed = async {
        while two.ready().await.is_ok() && !two.is_closed() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), closed).await.is_ok(), "no GOAWAY came");
}
