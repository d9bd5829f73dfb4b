//! A node, an outside host and pods, each a network namespace of its own that goes away with the [`Lab`].

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use api::core::v1::{Namespace, Service};
use api::discovery::v1::EndpointSlice;
use api::lean::Pod;
use net::cni::{self, plugins::Attachment};
use net::proxy::{self, Facts};
use net::{Feed, links};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// The node's address on the link to the outside.
pub const NODE_IP: &str = "192.0.2.1";
/// The outside host's.
pub const OUTSIDE_IP: &str = "192.0.2.2";
/// Cluster DNS.
pub const DNS_IP: &str = "10.43.0.10";
/// Nothing in a lab takes longer unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(5);

static LABS: AtomicU32 = AtomicU32::new(0);

/// Runs `test` on a node of its own: the thread, its sockets and its child processes live in the node's namespace.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Arc<Lab>) -> F + Send + 'static) {
    run_bare(|lab| async move {
        cni::setup(&lab.network).await.unwrap();
        let (dns, range) = ([DNS_IP.parse().unwrap()], ["10.43.0.0/16".parse().unwrap()]);
        links::ensure_service_link("pintle", &dns, &range, &[NODE_IP.parse().unwrap()]).await.unwrap();
        test(lab).await;
    });
}

/// As [`run`], but the node has no pod network yet.
pub fn run_bare<F: Future<Output = ()>>(test: impl FnOnce(Arc<Lab>) -> F + Send + 'static) {
    run_with(&["10.42.0.0/24"], test);
}

/// As [`run_bare`], with these ranges of pods' addresses.
pub fn run_with<F: Future<Output = ()>>(
    ranges: &'static [&'static str],
    test: impl FnOnce(Arc<Lab>) -> F + Send + 'static,
) {
    assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces: run them as root");
    let number = LABS.fetch_add(1, Ordering::Relaxed);
    let prefix = format!("pnt-{}-{number}", std::process::id());
    std::thread::spawn(move || {
        let lab = Arc::new(Lab::new(&prefix, ranges));
        enter(&lab.node);
        // Whatever the machine's default is: the pod network has to see to bridged packets itself.
        links::sysctl("net/bridge/bridge-nf-call-iptables", "0").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(lab.clone()));
        assert_eq!(base::task::panics(), 0, "a task panicked");
    })
    .join()
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Moves the calling thread into a namespace.
fn enter(namespace: &str) {
    let file = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    setns(file, CloneFlags::CLONE_NEWNET).unwrap();
}

/// Runs `work` in a namespace while the node goes on.
pub async fn at<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = namespace.to_owned();
    tokio::task::spawn_blocking(move || {
        std::thread::spawn(move || {
            enter(&namespace);
            work()
        })
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
    .await
    .unwrap()
}

pub fn ip(args: &str) {
    let output = Command::new("ip").args(args.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The namespaces. Dropping it ends the servers in them and removes them.
pub struct Lab {
    pub node: String,
    pub outside: String,
    pub network: cni::Options,
    prefix: String,
    stop: watch::Sender<bool>,
    pods: AtomicU32,
    _dir: tempfile::TempDir,
}

/// A pod on the node.
#[derive(Clone)]
pub struct LabPod {
    pub name: String,
    pub netns: String,
    pub ip: IpAddr,
    pub ips: Vec<IpAddr>,
    pub attachment: Attachment,
}

impl Lab {
    fn new(prefix: &str, ranges: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cidr = |text: &str| text.parse().unwrap();
        let network = cni::Options {
            instance: "pintle".into(),
            pod_cidrs: ranges.iter().map(|range| cidr(range)).collect(),
            cluster_cidrs: ranges.iter().map(|range| cidr(&range.replace("0/24", "0/16"))).collect(),
            conf_dir: dir.path().join("net.d"),
            bin_dirs: cni::BIN_DIRS.map(PathBuf::from).to_vec(),
            lease_dir: dir.path().join("leases"),
            mtu_bytes: None,
        };
        let lab = Self {
            node: format!("{prefix}-node"),
            outside: format!("{prefix}-out"),
            network,
            prefix: prefix.into(),
            stop: watch::Sender::new(false),
            pods: AtomicU32::new(0),
            _dir: dir,
        };
        let (node, outside) = (&lab.node, &lab.outside);
        for namespace in [node, outside] {
            ip(&format!("netns add {namespace}"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        ip(&format!("-n {node} link add eth0 type veth peer name eth0 netns {outside}"));
        for (namespace, address) in [(node, NODE_IP), (outside, OUTSIDE_IP)] {
            ip(&format!("-n {namespace} addr add {address}/24 dev eth0"));
            ip(&format!("-n {namespace} link set eth0 up"));
        }
        // All that is not known goes out: what must stay on the node has to be stopped, not just be unreachable.
        ip(&format!("-n {node} route add default via {OUTSIDE_IP}"));
        ip(&format!("-n {outside} route add default via {NODE_IP}"));
        lab
    }

    pub fn facts(&self) -> Facts {
        Facts {
            instance: "pintle".into(),
            node_name: "node".into(),
            zone: None,
            cluster_cidrs: self.network.cluster_cidrs.clone(),
            service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
            pod_cidrs: self.network.pod_cidrs.clone(),
            bridge: Some("pintle0".into()),
            node_port_addresses: Vec::new(),
        }
    }

    /// Starts a proxy on a feed and waits until it is in place.
    pub async fn proxy(&self, feed: &Feed, tasks: &base::TaskGroup) -> proxy::Handle {
        let options = proxy::Options::new(self.facts());
        let (mut service, mut handle) = proxy::Service::new(options, feed.clone(), base::Clock::system());
        tasks.spawn("proxy", async move { service.run().await });
        within(handle.caught_up(feed)).await;
        handle
    }

    /// A pod on the network, through the CNI plugins.
    pub async fn pod(&self) -> LabPod {
        let name = format!("pod{}", self.pods.fetch_add(1, Ordering::Relaxed));
        let netns = format!("{}-{name}", self.prefix);
        ip(&format!("netns add {netns}"));
        ip(&format!("-n {netns} link set lo up"));
        let attachment = Attachment {
            container_id: netns.clone(),
            netns: format!("/run/netns/{netns}").into(),
            pod_namespace: "default".into(),
            pod_name: name.clone(),
        };
        let conflist = cni::conflist(&self.network);
        let ips = cni::plugins::add(&conflist, &self.network.bin_dirs, &attachment).await.unwrap();
        LabPod { name, netns, ip: ips[0], ips, attachment }
    }

    /// A server in a namespace: says its name and the client's address, then echoes lines; over UDP per datagram.
    pub fn serve(&self, namespace: &str, name: &str, port: u16) {
        self.serve_at("0.0.0.0", namespace, name, port);
    }

    /// As [`Lab::serve`], on that address: `::` is both families.
    pub fn serve_at(&self, any: &'static str, namespace: &str, name: &str, port: u16) {
        let (namespace, name, mut stop) = (namespace.to_owned(), name.to_owned(), self.stop.subscribe());
        let (ready, started) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            enter(&namespace);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let tcp = tokio::net::TcpListener::bind((any, port)).await.unwrap();
                let udp = tokio::net::UdpSocket::bind((any, port)).await.unwrap();
                ready.send(()).unwrap();
                let clients = base::TaskGroup::new();
                let mut buffer = [0; 2048];
                loop {
                    tokio::select! {
                        _ = stop.changed() => break,
                        accepted = tcp.accept() => {
                            let (stream, client) = accepted.unwrap();
                            let greeting = format!("{name} {}\n", client.ip());
                            clients.spawn("echo", async move { let _ = echo(stream, greeting).await; });
                        }
                        received = udp.recv_from(&mut buffer) => {
                            let (_, client) = received.unwrap();
                            let _ = udp.send_to(format!("{name} {}", client.ip()).as_bytes(), client).await;
                        }
                    }
                }
            });
        });
        started.recv().unwrap();
    }
}

async fn echo(mut stream: tokio::net::TcpStream, greeting: String) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    write.write_all(greeting.as_bytes()).await?;
    let mut lines = tokio::io::BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        write.write_all(format!("{line}\n").as_bytes()).await?;
    }
    Ok(())
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for n in 0..self.pods.load(Ordering::Relaxed) {
            let _ = Command::new("ip").args(["netns", "del", &format!("{}-pod{n}", self.prefix)]).status();
        }
        for namespace in [&self.node, &self.outside] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

/// A connection to a lab server.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(target: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&target, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self(BufReader::new(stream)))
    }

    pub fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    pub fn line_within(&mut self, limit: Duration) -> std::io::Result<String> {
        self.0.get_ref().set_read_timeout(Some(limit))?;
        self.line()
    }

    pub fn say_within(&mut self, text: &str, limit: Duration) -> std::io::Result<String> {
        self.0.get_mut().write_all(format!("{text}\n").as_bytes())?;
        self.line_within(limit)
    }

    pub fn say(&mut self, text: &str) -> std::io::Result<String> {
        self.0.get_mut().write_all(format!("{text}\n").as_bytes())?;
        self.line()
    }
}

/// Connects from a namespace and returns the greeting: the server's name and the client's address as it saw it.
pub async fn greet(from: &str, target: impl ToString) -> std::io::Result<String> {
    let target: SocketAddr = target.to_string().parse().unwrap();
    at(from, move || Connection::open(target)?.line()).await
}

/// The server's name only.
pub async fn who(from: &str, target: impl ToString) -> String {
    let greeting = greet(from, target).await.unwrap();
    greeting.split(' ').next().unwrap().to_owned()
}

/// Sends a datagram from `socket` and returns the server's name.
pub fn ask_udp(socket: &UdpSocket, target: &str) -> std::io::Result<String> {
    let target: SocketAddr = target.parse().unwrap();
    socket.set_read_timeout(Some(LIMIT))?;
    socket.send_to(b"?", target)?;
    let mut buffer = [0; 2048];
    let (len, from) = socket.recv_from(&mut buffer)?;
    assert_eq!(from, target, "the answer has to come from where the question went");
    Ok(String::from_utf8_lossy(&buffer[..len]).split(' ').next().unwrap().to_owned())
}

/// How a refused connection looks: at once, and not by silence.
pub async fn assert_refused(from: &str, target: &str) {
    let started = base::Clock::system();
    let before = started.monotonic();
    let error = greet(from, target).await.expect_err("nobody should answer");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{target}: {error}");
    assert!(started.monotonic().duration_since(before) < Duration::from_secs(1), "{target} was refused too slowly");
}

/// Waits for something that must happen.
pub async fn within(future: impl Future<Output = bool>) {
    assert!(tokio::time::timeout(LIMIT, future).await.expect("it did not happen in time"), "the actor ended");
}

/// Asks again and again until something is so, for what has no event to wait for.
pub async fn eventually<F: Future<Output = bool>>(is_so: impl Fn() -> F) {
    let asked = async {
        while !is_so().await {
            base::Clock::system().sleep(Duration::from_millis(20)).await;
        }
        true
    };
    within(asked).await;
}

pub fn service(name: &str, spec: Value) -> Arc<Service> {
    let object = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    Arc::new(serde_json::from_value(object).unwrap())
}

pub fn slice(service: &str, port: u16, protocol: &str, pods: &[&LabPod]) -> Arc<EndpointSlice> {
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|pod| json!({"addresses": [pod.ip], "nodeName": "node", "conditions": {"ready": true}}))
        .collect();
    let object = json!({
        "metadata": {"name": format!("{service}-1"), "namespace": "default",
                     "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"port": port, "protocol": protocol}], "endpoints": endpoints,
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

pub fn namespace(name: &str) -> Arc<Namespace> {
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name}})).unwrap())
}

pub fn pod_object(pod: &LabPod, ports: Value) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": pod.name, "namespace": "default"},
            "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": ports}]},
            "status": {"phase": "Running", "podIP": pod.ip},
        }))
        .unwrap(),
    )
}
