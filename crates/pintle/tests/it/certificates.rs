//! Certificates and CAs are replaced under load: no request fails, watches go on, new connections see what is new.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use api::core::v1::ConfigMap;
use api::{Object, WatchEvent};
use client::https::Https;
use client::{Client, ListOptions};
use futures_util::StreamExt;
use parking_lot::Mutex;
use pki::tls::{Alpn, Reloadable};
use pki::{Certificate, Kubeconfig};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_rustls::TlsConnector;

use crate::cluster::Cluster;
use crate::starts::{one_line, server};
use crate::tools::{check, eventually};

/// Each client asks this often at most: many requests meet every change, and other tests have the machine too.
const EVERY: Duration = Duration::from_millis(20);

/// What the clients did, and what went wrong.
#[derive(Default)]
struct Seen {
    ended: AtomicBool,
    failures: Mutex<Vec<String>>,
    writes: AtomicU64,
    reads: AtomicU64,
    connections: AtomicU64,
    /// Certificates of clients that were used.
    clients: Mutex<BTreeSet<String>>,
    /// Serial numbers that the server showed.
    servers: Mutex<BTreeSet<String>>,
}

impl Seen {
    /// Whether a client goes on, once it is its turn again.
    async fn goes_on(&self, pace: &mut Interval) -> bool {
        pace.tick().await;
        !self.ended.load(Ordering::Relaxed)
    }

    fn note<T>(&self, what: &str, result: Result<T, impl std::fmt::Display>) -> Option<T> {
        result.map_err(|error| self.failures.lock().push(format!("{what}: {error}"))).ok()
    }

    fn servers(&self) -> usize {
        self.servers.lock().len()
    }
}

/// Clients of all sorts at one server, until they are told to end.
struct Load {
    runtime: Runtime,
    seen: Arc<Seen>,
    clients: Vec<JoinHandle<()>>,
    watches: Vec<JoinHandle<BTreeSet<String>>>,
    /// As many objects are written, over and over.
    writers: Vec<String>,
}

fn read(path: &Path) -> Kubeconfig {
    Kubeconfig::load(path, None).unwrap()
}

fn client_of(kubeconfig: &Kubeconfig, token: Option<&str>) -> Client {
    let identity = kubeconfig.identity.clone().filter(|_| token.is_none()).map(Reloadable::new);
    let ca = kubeconfig.ca_pem.as_deref().unwrap();
    let tls = pki::tls::client_config(ca, identity, Alpn::Http2, base::Clock::system()).unwrap();
    Client::new(Arc::new(Https::new(&kubeconfig.server, tls, token.map(str::to_owned))))
}

impl Load {
    fn start(cluster: &Cluster) -> Self {
        let path = cluster.data_dir().join("admin.kubeconfig");
        cluster.kubectl(&["create", "serviceaccount", "loader"]).run(20).ok();
        let bind = ["create", "clusterrolebinding", "loader", "--clusterrole=cluster-admin"];
        cluster.kubectl(&bind).args(&["--serviceaccount=default:loader"]).run(20).ok();
        let token = cluster.kubectl(&["create", "token", "loader", "--duration=1h"]).run(20).ok();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let seen = Arc::new(Seen::default());
        let (first, writers) = (read(&path), vec!["a".to_owned(), "b".to_owned()]);
        // One with a token and one with the first certificate, both on connections that stay open throughout.
        let clients_of_first = || (client_of(&first, Some(token.trim())), client_of(&first, None));
        let (by_token, by_certificate) = runtime.block_on(async { clients_of_first() });
        let watches = [by_token.clone(), by_certificate].map(|client| runtime.spawn(watch(client, seen.clone())));
        let mut clients: Vec<JoinHandle<()>> =
            writers.iter().map(|name| runtime.spawn(write(by_token.clone(), name.clone(), seen.clone()))).collect();
        clients.push(runtime.spawn(list(by_token, seen.clone())));
        clients.push(runtime.spawn(follow(path.clone(), seen.clone())));
        clients.push(runtime.spawn(connect(path, seen.clone())));
        Self { runtime, seen, clients, watches: watches.into(), writers }
    }

    /// Until the server has shown so many certificates to new connections.
    fn until_certificates(&self, count: usize, seconds: u64) {
        eventually(&format!("{count} certificates"), seconds, || {
            check(self.seen.failures.lock().is_empty(), || format!("{:?}", self.seen.failures.lock())).unwrap();
            check(self.seen.servers() >= count, || format!("{} until now", self.seen.servers()))
        });
    }

    /// Ends the clients: nothing failed, and the watches have seen everything to its end.
    fn finish(self) -> Arc<Seen> {
        let Self { runtime, seen, clients, watches, writers } = self;
        runtime.block_on(async {
            seen.ended.store(true, Ordering::Relaxed);
            for client in clients {
                client.await.unwrap();
            }
            for watch in watches {
                let last = watch.await.unwrap();
                let wanted: BTreeSet<String> = writers.iter().map(|name| format!("{name}-last")).collect();
                assert_eq!(last, wanted, "{:?}", *seen.failures.lock());
            }
        });
        let failures = seen.failures.lock().clone();
        let (writes, reads) = (seen.writes.load(Ordering::Relaxed), seen.reads.load(Ordering::Relaxed));
        let connections = seen.connections.load(Ordering::Relaxed);
        let (servers, users) = (seen.servers(), seen.clients.lock().len());
        println!(
            "{writes} writes, {reads} reads, {connections} new connections; {servers} certificates of the server, \
             {users} of clients; {} failures",
            failures.len()
        );
        assert!(failures.is_empty(), "{failures:#?}");
        assert!(writes > 50 && reads > 50 && connections > 20, "{writes} {reads} {connections}");
        seen
    }
}

fn pace() -> Interval {
    let mut pace = tokio::time::interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Writes one object over and over; at the end it has the label that the watches wait for.
async fn write(client: Client, name: String, seen: Arc<Seen>) {
    let object = json!({"metadata": {"name": name, "namespace": "default"}, "data": {"count": "0"}});
    let object = <ConfigMap as api::Typed>::from_value(object).unwrap();
    seen.note("create", client.create(object).await);
    let mut pace = pace();
    while seen.goes_on(&mut pace).await {
        let count = seen.writes.fetch_add(1, Ordering::Relaxed).to_string();
        let patch = json!({"data": {"count": count}});
        let written = client.patch::<ConfigMap>("default", &name, None, api::call::PatchKind::Merge, &patch).await;
        seen.note("patch", written);
    }
    let patch = json!({"data": {"last": "yes"}});
    let written = client.patch::<ConfigMap>("default", &name, None, api::call::PatchKind::Merge, &patch).await;
    seen.note("the last patch", written);
}

async fn list(client: Client, seen: Arc<Seen>) {
    let mut pace = pace();
    while seen.goes_on(&mut pace).await {
        seen.note("list", client.list::<ConfigMap>(&ListOptions::default()).await);
        seen.reads.fetch_add(1, Ordering::Relaxed);
    }
}

/// One watch for the whole time: it ends by itself when it has seen the last of every writer.
async fn watch(client: Client, seen: Arc<Seen>) -> BTreeSet<String> {
    let mut last = BTreeSet::new();
    let options = ListOptions { namespace: Some("default".into()), ..ListOptions::default() };
    let Some(mut events) = seen.note("watch", client.watch::<ConfigMap>(&options, "0").await) else { return last };
    let mut newest = 0;
    while last.len() < 2 {
        let event = tokio::time::timeout(Duration::from_secs(60), events.next()).await;
        let object = match event {
            Ok(Some(WatchEvent::Modified(object))) => object,
            Ok(Some(WatchEvent::Added(_) | WatchEvent::Bookmark { .. } | WatchEvent::Deleted(_))) => continue,
            other => {
                seen.failures.lock().push(format!("a watch ended: {other:?}"));
                return last;
            }
        };
        let revision: u64 = object.resource_version().parse().unwrap();
        if revision < newest {
            seen.failures.lock().push(format!("{revision} after {newest}"));
        }
        newest = revision;
        let map = api::downcast::<ConfigMap>(&*object).unwrap();
        if map.data.iter().flatten().any(|(key, _)| key == "last") {
            last.insert(format!("{}-last", map.name()));
        }
    }
    last
}

/// A client that takes up its kubeconfig again whenever that changes, as client-go does with its files.
async fn follow(path: PathBuf, seen: Arc<Seen>) {
    let mut text = String::new();
    let mut client = None;
    let mut pace = pace();
    while seen.goes_on(&mut pace).await {
        let now = fs::read_to_string(&path).unwrap();
        if now != text {
            let kubeconfig = read(&path);
            seen.clients.lock().insert(kubeconfig.identity.as_ref().unwrap().certificate().serial.clone());
            client = Some(client_of(&kubeconfig, None));
            text = now;
        }
        let client = client.as_ref().unwrap();
        seen.note("a follower", client.get::<ConfigMap>("kube-system", "extension-apiserver-authentication").await);
        seen.reads.fetch_add(1, Ordering::Relaxed);
    }
}

/// A new connection for every request, with the kubeconfig as it is then.
async fn connect(path: PathBuf, seen: Arc<Seen>) {
    let mut pace = pace();
    while seen.goes_on(&mut pace).await {
        if let Some(certificate) = seen.note("a new connection", ask_anew(&read(&path)).await) {
            seen.servers.lock().insert(certificate.serial);
        }
        seen.connections.fetch_add(1, Ordering::Relaxed);
    }
}

/// One request on a connection of its own; the certificate that the server showed.
async fn ask_anew(kubeconfig: &Kubeconfig) -> Result<Certificate, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let identity = kubeconfig.identity.clone().map(Reloadable::new);
    let ca = kubeconfig.ca_pem.as_deref().unwrap();
    let tls = pki::tls::client_config(ca, identity, Alpn::Http1, base::Clock::system()).map_err(|e| said(&e))?;
    let address = kubeconfig.server.trim_start_matches("https://").to_owned();
    let host = address.rsplit_once(':').unwrap().0.to_owned();
    let socket = TcpStream::connect(&address).await.map_err(|e| said(&e))?;
    let mut stream = TlsConnector::from(tls).connect(host.try_into().unwrap(), socket).await.map_err(|e| said(&e))?;
    let shown = Certificate::from_der(&stream.get_ref().1.peer_certificates().unwrap()[0]).unwrap();
    let request = b"GET /api/v1/namespaces/default HTTP/1.1\r\nHost: pintle\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.map_err(|e| said(&e))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(|e| said(&e))?;
    let answer = String::from_utf8_lossy(&answer);
    let first = answer.lines().next().unwrap_or("nothing").to_owned();
    if first.starts_with("HTTP/1.1 200") { Ok(shown) } else { Err(first) }
}

/// Certificates of a short life: several generations, some of them because somebody asked.
#[test]
fn certificates_are_replaced_under_load() {
    let cluster = Cluster::control_plane_with(&["--certificate-validity-period", "24s"]);
    let load = Load::start(&cluster);
    load.until_certificates(3, 120);
    let said = cluster.pintle(&["certs", "rotate"]).run(30).ok();
    let issued = ["server", "kubelet-client", "front-proxy-client", "admin"].map(|name| format!("{name} issued anew"));
    assert!(issued.iter().all(|line| said.contains(line)), "{said}");
    load.until_certificates(4, 60);
    cluster.pintle(&["certs", "rotate"]).run(30).ok();
    load.until_certificates(6, 120);
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]).run(20).ok();
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let left = value("pintle_certificate_ttl_seconds{certificate=\"server.crt\"}");
    assert!((0.0..=24.0).contains(&left), "{left}");
    assert!(value("pintle_certificate_ttl_seconds{certificate=\"ca.crt\"}") > 1e8);
    assert!(value("apiserver_client_certificate_expiration_seconds_count") > 50.0);
    let listed = cluster.pintle(&["certs", "list"]).run(20).ok();
    assert!(listed.lines().any(|line| line.starts_with("server.crt") && line.ends_with('s')), "{listed}");
    let seen = load.finish();
    assert!(seen.clients.lock().len() >= 5, "a client that follows its kubeconfig has had new certificates too");
    cluster.finish();
}

fn trusted(cluster: &Cluster, namespace: &str) -> usize {
    let map = cluster.get(&["configmap", "kube-root-ca.crt", "-n", namespace]);
    map["data"]["ca.crt"].as_str().unwrap().matches("BEGIN CERTIFICATE").count()
}

/// Until pods are shown so many CAs.
fn until_pods_trust(cluster: &Cluster, count: usize) {
    eventually("kube-root-ca.crt", 30, || {
        let (default, system) = (trusted(cluster, "default"), trusted(cluster, "kube-system"));
        check(default == count && system == count, || format!("{default} and {system} CAs"))
    });
    let map = cluster.get(&["configmap", "extension-apiserver-authentication", "-n", "kube-system"]);
    for key in ["client-ca-file", "requestheader-client-ca-file"] {
        assert_eq!(map["data"][key].as_str().unwrap().matches("BEGIN CERTIFICATE").count(), count, "{key}");
    }
}

#[test]
fn cas_are_replaced_under_load() {
    let mut cluster = Cluster::control_plane();
    let path = cluster.data_dir().join("admin.kubeconfig");
    let first = read(&path);
    let jane = cluster.scratch().join("jane");
    let for_jane = ["kubeconfig", "--user", "jane", "--group", "system:masters"];
    fs::write(&jane, cluster.pintle(&for_jane).run(20).ok()).unwrap();
    let jane = read(&jane);
    let load = Load::start(&cluster);
    load.until_certificates(1, 30);
    let wrong = cluster.pintle(&["certs", "rotate", "--ca", "switch"]).run(30).fails();
    assert!(wrong.contains("no new CA has been introduced"), "{wrong}");

    let said = cluster.pintle(&["certs", "rotate", "--ca"]).run(30).ok();
    assert!(said.contains("pintle certs rotate --ca switch"), "{said}");
    until_pods_trust(&cluster, 2);
    let both = read(&path);
    assert_eq!(both.ca_pem.as_ref().unwrap().matches("BEGIN CERTIFICATE").count(), 2);
    let twice = cluster.pintle(&["certs", "rotate", "--ca", "introduce"]).run(30).fails();
    assert!(twice.contains("the new CAs are trusted and wait to sign"), "{twice}");
    assert!(load.runtime.block_on(ask_anew(&first)).is_ok(), "nothing has changed for those who know the old CA alone");

    let said = cluster.pintle(&["certs", "rotate", "--ca", "switch"]).run(30).ok();
    assert!(said.contains("server issued anew") && said.contains("--ca retire"), "{said}");
    load.until_certificates(2, 30);
    let ask = |kubeconfig: &Kubeconfig| load.runtime.block_on(ask_anew(kubeconfig));
    // What the old CA signed still counts, for whoever trusts both; who knows the old one alone sees another's.
    let old_and_both = Kubeconfig { ca_pem: both.ca_pem.clone(), ..jane };
    let shown = ask(&old_and_both).unwrap();
    let next = Certificate::from_pem(&fs::read_to_string(cluster.data_dir().join("pki/ca.crt")).unwrap()).unwrap();
    let before = Certificate::from_pem(first.ca_pem.as_deref().unwrap()).unwrap();
    assert!(shown.names_as_issuer(&next) && !shown.names_as_issuer(&before));
    let refused = ask(&first).unwrap_err();
    assert!(refused.contains("UnknownIssuer") || refused.contains("BadSignature"), "{refused}");
    // What is signed on request is the new one's too.
    until_pods_trust(&cluster, 2);
    let listed = cluster.pintle(&["certs", "list"]).run(20).ok();
    assert!(listed.contains("ca-old.crt") && listed.contains("--ca retire"), "{listed}");

    cluster.pintle(&["certs", "rotate", "--ca", "retire"]).run(30).ok();
    until_pods_trust(&cluster, 1);
    let refused = ask(&old_and_both).unwrap_err();
    assert!(!refused.is_empty());
    load.finish();

    // It holds after a restart.
    cluster.stop_server();
    cluster.launch();
    cluster.wait_api();
    let now = read(&path);
    assert_eq!(now.ca_pem.as_deref(), Some(&*fs::read_to_string(cluster.data_dir().join("pki/ca.crt")).unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(runtime.block_on(ask_anew(&now)).unwrap().names_as_issuer(&next));
    cluster.finish();
}

#[test]
fn lives_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    for (flag, value, says) in [
        ("--certificate-validity-period", "3s", "must be 10s at least"),
        ("--ca-certificate-validity-period", "8760h", "must be twice --certificate-validity-period at least"),
        ("--cluster-signing-duration", "0s", "must be more than nothing"),
    ] {
        let line = one_line(server(folder.path(), &[flag, value]), 1);
        assert!(line.contains(flag) && line.contains(says), "{line}");
    }
    let data_dir = folder.path().to_string_lossy().into_owned();
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pintle"));
        crate::tools::run(command.arg("certs").args(words).args(["--data-dir", &data_dir]), b"", 20)
    };
    let says = run(&["list", "--ca"]).fails();
    assert!(says.contains("--ca goes with `pintle certs rotate`"), "{says}");
    let says = run(&["rotate", "--ca", "everything"]).fails();
    assert!(says.contains("introduce, switch, retire"), "{says}");
    let says = run(&["rotate"]).fails();
    assert!(says.contains("is `pintle server` running with this data dir?"), "{says}");
}
