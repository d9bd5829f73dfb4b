//! Cluster DNS over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use net::dns::{Options, Service, Upstreams};
use net::{Feed, dns};
use serde_json::json;

use crate::lab::{self, DNS_IP, LIMIT, Lab, LabPod, OUTSIDE_IP, at, namespace, service, slice, within};

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// Asks over UDP from a namespace, and over TCP when the answer was truncated: whether it was, and the last answer.
async fn resolve(from: &str, name: &str) -> (bool, Message) {
    let bytes = question(name, RecordType::A).to_vec().unwrap();
    at(from, move || {
        let server: SocketAddr = (DNS_IP.parse::<std::net::IpAddr>().unwrap(), 53).into();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.connect(server).unwrap();
        socket.send(&bytes).unwrap();
        let mut buffer = vec![0; 65536];
        let len = socket.recv(&mut buffer).unwrap();
        assert!(len <= 512, "a client without EDNS takes 512 bytes");
        let answer = Message::from_vec(&buffer[..len]).unwrap();
        assert_eq!(answer.metadata.id, 4711);
        if !answer.metadata.truncation {
            return (false, answer);
        }
        let mut stream = TcpStream::connect_timeout(&server, LIMIT).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut framed = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        stream.write_all(&framed).unwrap();
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut answer).unwrap();
        (true, Message::from_vec(&answer).unwrap())
    })
    .await
}

fn addresses(message: &Message) -> Vec<String> {
    let mut found: Vec<String> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(A(ip)) => Some(ip.to_string()),
            _ => None,
        })
        .collect();
    found.sort();
    found
}

/// A resolver in the outside namespace that knows `example.org.` and no other name.
async fn upstream(lab: &Lab) {
    let socket = at(&lab.outside, || UdpSocket::bind((OUTSIDE_IP, 53)).unwrap()).await;
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        // Ends when nobody has asked for a while.
        while let Ok((len, client)) = socket.recv_from(&mut buffer) {
            let mut message = Message::from_vec(&buffer[..len]).unwrap();
            message.metadata.message_type = MessageType::Response;
            let name = message.queries[0].name().clone();
            if name.to_ascii().eq_ignore_ascii_case("example.org.") {
                message.answers.push(Record::from_rdata(name, 60, RData::A(A::new(203, 0, 113, 9))));
            } else {
                message.metadata.response_code = ResponseCode::NXDomain;
            }
            socket.send_to(&message.to_vec().unwrap(), client).unwrap();
        }
    });
}

async fn start(feed: &Feed, upstreams: Vec<SocketAddr>, tasks: &base::TaskGroup) -> dns::Handle {
    let ranges = vec!["10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap()];
    let mut options = Options::new(vec![DNS_IP.parse().unwrap()], "cluster.local", ranges);
    options.upstreams = Upstreams::Fixed(upstreams);
    options.upstream_timeout = std::time::Duration::from_millis(500);
    let (mut service, mut handle) =
        Service::new(options, feed.clone(), base::Clock::system(), base::Random::system(), tasks).unwrap();
    tasks.spawn("dns", async move { panic!("{}", service.run().await) });
    within(handle.caught_up(feed)).await;
    handle
}

#[test]
fn pods_and_the_node_resolve_names_of_the_cluster_and_of_the_world() {
    lab::run(|lab: Arc<Lab>| async move {
        let tasks = base::TaskGroup::new();
        let pod = lab.pod().await;
        upstream(&lab).await;
        let feed = Feed::new();
        // The Service of cluster DNS has no endpoints: the node answers itself, and the proxy must not refuse it.
        let dns_ports = json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}]);
        feed.replace_services([
            service("kube-dns", json!({"clusterIP": DNS_IP, "ports": dns_ports})),
            service("web", json!({"clusterIP": "10.43.0.7", "ports": [{"port": 80}]})),
            service("out", json!({"type": "ExternalName", "externalName": "example.org"})),
            service("inner", json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"})),
            service("ring", json!({"type": "ExternalName", "externalName": "ring.default.svc.cluster.local"})),
        ]);
        feed.replace_slices([]);
        feed.replace_namespaces([namespace("default")]);
        lab.proxy(&feed, &tasks).await;
        let mut handle = start(&feed, vec![format!("{OUTSIDE_IP}:53").parse().unwrap()], &tasks).await;
        for from in [&pod.netns, &lab.node] {
            for (name, code, expected) in [
                ("web.default.svc.cluster.local.", ResponseCode::NoError, &["10.43.0.7"][..]),
                ("nope.default.svc.cluster.local.", ResponseCode::NXDomain, &[]),
                ("example.org.", ResponseCode::NoError, &["203.0.113.9"]),
                ("nope.example.", ResponseCode::NXDomain, &[]),
                ("out.default.svc.cluster.local.", ResponseCode::NoError, &["203.0.113.9"]),
                ("inner.default.svc.cluster.local.", ResponseCode::NoError, &["10.43.0.7"]),
                ("ring.default.svc.cluster.local.", ResponseCode::ServFail, &[]),
            ] {
                let (_, answer) = resolve(from, name).await;
                assert_eq!(answer.metadata.response_code, code, "{name}");
                assert_eq!(addresses(&answer), expected, "{name}");
            }
        }
        for (name, expected) in [
            ("web", "10.43.0.7"),
            ("web.default", "10.43.0.7"),
            ("web.default.svc.cluster.local", "10.43.0.7"),
            ("example.org", "203.0.113.9"),
            ("nope", ""),
        ] {
            assert_eq!(getent(&pod, name).await, expected, "{name}");
        }
        // A name that comes is known at once.
        feed.apply_service(service("late", json!({"clusterIP": "10.43.0.9", "ports": [{"port": 80}]})));
        within(handle.caught_up(&feed)).await;
        assert_eq!(addresses(&resolve(&pod.netns, "late.default.svc.cluster.local.").await.1), ["10.43.0.9"]);
    });
}

/// What the C library makes of a name inside a pod, with the resolv.conf a pod gets.
async fn getent(pod: &LabPod, name: &str) -> String {
    let (netns, name) = (format!("/run/netns/{}", pod.netns), name.to_owned());
    tokio::task::spawn_blocking(move || {
        let conf = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver {DNS_IP}\noptions ndots:5\n"
        );
        std::fs::write(conf.path(), text).unwrap();
        let script = format!("mount --bind {} /etc/resolv.conf && getent ahostsv4 {name}", conf.path().display());
        let output = std::process::Command::new("nsenter")
            .args([&format!("--net={netns}"), "unshare", "--mount", "sh", "-c", &script])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_owned()
    })
    .await
    .unwrap()
}

#[test]
fn a_long_answer_comes_over_tcp_and_a_silent_resolver_is_a_failure() {
    lab::run(|lab: Arc<Lab>| async move {
        let tasks = base::TaskGroup::new();
        let pod = lab.pod().await;
        // Somebody who listens and never answers.
        let _silent = at(&lab.outside, || UdpSocket::bind((OUTSIDE_IP, 53)).unwrap()).await;
        let feed = Feed::new();
        feed.replace_services([service("many", json!({"clusterIP": "None"}))]);
        let mut many = slice("many", 80, "TCP", &[]);
        let endpoints: Vec<_> = (1..=100).map(|n| json!({"addresses": [format!("10.42.1.{n}")]})).collect();
        Arc::make_mut(&mut many).endpoints = serde_json::from_value(endpoints.into()).unwrap();
        feed.replace_slices([many]);
        feed.replace_namespaces([namespace("default")]);
        lab.proxy(&feed, &tasks).await;
        // Its own address among the resolvers is left out.
        let upstreams = [format!("{DNS_IP}:53"), format!("{OUTSIDE_IP}:53")].map(|a| a.parse().unwrap()).to_vec();
        let handle = start(&feed, upstreams, &tasks).await;
        let (truncated, answer) = resolve(&pod.netns, "many.default.svc.cluster.local.").await;
        assert!(truncated);
        assert_eq!(addresses(&answer).len(), 100);
        let (_, answer) = resolve(&pod.netns, "example.org.").await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        assert_eq!(handle.counters().forwarded.load(std::sync::atomic::Ordering::Relaxed), 1);
    });
}
