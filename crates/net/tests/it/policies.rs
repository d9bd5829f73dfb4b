//! Network policies in the kernel: who reaches whom, over a bridge, through Services and to the outside.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::core::v1::{Namespace, Pod};
use api::lean;
use api::networking::v1::NetworkPolicy;
use base::TaskGroup;
use net::policy::{self, Enforcement, Facts};
use net::{Family, Feed};
use serde_json::{Value, json};

use crate::lab::{
    self, Connection, DNS_IP, Lab, LabPod, NODE_IP, OUTSIDE_IP, at, greet, ip, service, slice, who, within,
};

/// A connection that is dropped gets no answer at all.
const SILENCE: Duration = Duration::from_millis(400);

struct Rules {
    feed: policy::Feed,
    handle: policy::Handle,
    /// What the service proxy beside them goes by.
    services: Feed,
    proxy: net::proxy::Handle,
}

impl Rules {
    /// Starts enforcing in a cluster with the namespaces `default` (`team: a`), `other` (`team: b`) and `kube-system`.
    async fn start(lab: &Lab, tasks: &TaskGroup, families: &[Family]) -> Self {
        let facts = Facts {
            instance: "pintle".into(),
            families: families.to_vec(),
            bridge: Some("pintle0".into()),
            cluster_dns: vec![DNS_IP.parse().unwrap()],
        };
        let feed = policy::Feed::new("node");
        let options = policy::Options::new(facts);
        let (mut service, handle) = policy::Service::new(options, feed.clone(), base::Clock::system());
        tasks.spawn("policies", async move { service.run().await });
        feed.replace_policies([]);
        feed.replace_pods([]);
        feed.replace_namespaces([
            namespace("default", "a"),
            namespace("other", "b"),
            namespace("kube-system", "system"),
        ]);
        let services = Feed::new();
        services.replace_services([]);
        services.replace_slices([]);
        let proxy = lab.proxy(&services, tasks).await;
        let mut rules = Self { feed, handle, services, proxy };
        rules.hold().await;
        rules
    }

    async fn hold(&mut self) {
        within(self.handle.caught_up()).await;
    }

    async fn pods(&mut self, pods: &[Arc<Pod>]) {
        for pod in pods {
            self.feed.apply_pod(&lean::Pod::from(Pod::clone(pod)));
        }
        self.hold().await;
    }

    async fn policy(&mut self, name: &str, spec: Value) {
        self.policy_in("default", name, spec).await;
    }

    async fn policy_in(&mut self, namespace: &str, name: &str, spec: Value) {
        let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
        let object: NetworkPolicy = serde_json::from_value(object).unwrap();
        self.feed.apply_policy(&object);
        self.hold().await;
    }

    async fn without(&mut self, name: &str) {
        self.feed.delete_policy("default", name);
        self.hold().await;
    }
}

fn namespace(name: &str, team: &str) -> Arc<Namespace> {
    let object = json!({"metadata": {"name": name, "labels": {"team": team, "kubernetes.io/metadata.name": name}}});
    Arc::new(serde_json::from_value(object).unwrap())
}

fn pod(of: &LabPod, namespace: &str, role: &str, ports: Value) -> Arc<Pod> {
    let ips: Vec<Value> = of.ips.iter().map(|ip| json!({"ip": ip})).collect();
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": of.name, "namespace": namespace, "uid": of.name, "labels": {"role": role}},
            "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": ports}]},
            "status": {"phase": "Running", "podIP": of.ip, "podIPs": ips},
        }))
        .unwrap(),
    )
}

async fn reaches(from: &str, target: impl ToString) -> bool {
    let target: SocketAddr = target.to_string().parse().unwrap();
    let connected = at(from, move || TcpStream::connect_timeout(&target, SILENCE)).await;
    match connected {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{from} {target}: {error}");
            false
        }
    }
}

async fn answers_udp(from: &str, target: impl ToString) -> bool {
    let target: SocketAddr = target.to_string().parse().unwrap();
    at(from, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        asks(&socket, target)
    })
    .await
}

fn asks(socket: &UdpSocket, target: SocketAddr) -> bool {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket.send_to(b"?", target).is_ok_and(|_| socket.recv_from(&mut [0; 256]).is_ok())
}

fn at_port(pod: &LabPod, port: u16) -> SocketAddr {
    SocketAddr::new(pod.ip, port)
}

fn deny(direction: &str) -> Value {
    json!({"podSelector": {}, "policyTypes": [direction]})
}

#[test]
fn who_comes_in_is_decided_by_labels_of_pods_and_namespaces() {
    lab::run(|lab| async move {
        let tasks = TaskGroup::new();
        let (web, friend, stranger, far) = (lab.pod().await, lab.pod().await, lab.pod().await, lab.pod().await);
        for pod in [&web, &far] {
            lab.serve(&pod.netns, &pod.name, 8080);
        }
        let mut rules = Rules::start(&lab, &tasks, &[Family::V4]).await;
        rules
            .pods(&[
                pod(&web, "default", "web", json!([])),
                pod(&friend, "default", "friend", json!([])),
                pod(&stranger, "default", "stranger", json!([])),
                pod(&far, "other", "friend", json!([])),
            ])
            .await;
        let target = at_port(&web, 8080);
        let all = [&friend, &stranger, &far, &web];
        for pod in all {
            assert!(reaches(&pod.netns, target).await, "without policies everybody reaches everybody");
        }
        assert_eq!(rules.handle.counters().rules.load(Ordering::Relaxed), 0);

        rules.policy("deny", deny("Ingress")).await;
        for pod in [&friend, &stranger, &far] {
            assert!(!reaches(&pod.netns, target).await, "{}", pod.name);
        }
        assert!(reaches(&web.netns, target).await, "a pod reaches itself");
        assert!(reaches(&lab.node, target).await, "the node reaches its pods");
        assert!(!reaches(&lab.outside, target).await, "the outside is a stranger too");
        assert!(reaches(&web.netns, at_port(&far, 8080)).await, "it may go out, and is answered");
        // One that is not selected is not isolated.
        assert!(reaches(&friend.netns, at_port(&far, 8080)).await);

        let from =
            |peers: Value| json!({"podSelector": {"matchLabels": {"role": "web"}}, "ingress": [{"from": peers}]});
        rules.policy("allow", from(json!([{"podSelector": {"matchLabels": {"role": "friend"}}}]))).await;
        assert_eq!(greet(&friend.netns, target).await.unwrap(), format!("{} {}", web.name, friend.ip));
        assert!(!reaches(&stranger.netns, target).await);
        assert!(!reaches(&far.netns, target).await, "a pod selector alone is about the policy's own namespace");

        rules.policy("allow", from(json!([{"namespaceSelector": {"matchLabels": {"team": "b"}}}]))).await;
        assert!(reaches(&far.netns, target).await);
        assert!(!reaches(&friend.netns, target).await);

        let both = json!([{"namespaceSelector": {}, "podSelector": {"matchExpressions":
            [{"key": "role", "operator": "In", "values": ["friend"]}]}}]);
        rules.policy("allow", from(both)).await;
        assert!(reaches(&far.netns, target).await && reaches(&friend.netns, target).await);
        assert!(!reaches(&stranger.netns, target).await);

        // Labels change: so does what holds.
        rules.pods(&[pod(&stranger, "default", "friend", json!([])), pod(&friend, "default", "x", json!([]))]).await;
        assert!(reaches(&stranger.netns, target).await);
        assert!(!reaches(&friend.netns, target).await);
        // A pod that has ended is nobody.
        let mut ended = Pod::clone(&pod(&stranger, "default", "friend", json!([])));
        ended.status.as_mut().unwrap().phase = Some("Succeeded".into());
        rules.pods(&[Arc::new(ended)]).await;
        assert!(!reaches(&stranger.netns, target).await);

        rules.without("allow").await;
        rules.without("deny").await;
        for pod in all {
            assert!(reaches(&pod.netns, target).await, "without policies everything flows again");
        }
        assert_eq!(*rules.handle.enforcement().borrow(), Enforcement::Whole);
        let counters = rules.handle.counters();
        assert_eq!(counters.table.failures.load(Ordering::Relaxed), 0);
        assert_eq!(counters.table.replacements.load(Ordering::Relaxed), 1, "all but the first were differences");
    });
}

#[test]
fn who_goes_out_is_decided_by_addresses_and_dns_is_allowed_in_the_usual_way() {
    lab::run(|lab| async move {
        let tasks = TaskGroup::new();
        let (client, neighbour) = (lab.pod().await, lab.pod().await);
        ip(&format!("-n {} addr add 192.0.2.3/24 dev eth0", lab.outside));
        lab.serve(&lab.outside, "outside", 8080);
        lab.serve(&neighbour.netns, "neighbour", 8080);
        lab.serve(&lab.node, "node", 8080);
        lab.serve(&lab.node, "dns", 53);
        let mut rules = Rules::start(&lab, &tasks, &[Family::V4]).await;
        rules.pods(&[pod(&client, "default", "client", json!([])), pod(&neighbour, "other", "web", json!([]))]).await;
        let (out, excepted) = (format!("{OUTSIDE_IP}:8080"), "192.0.2.3:8080");
        let dns = format!("{DNS_IP}:53");
        assert!(reaches(&client.netns, &out).await && reaches(&client.netns, excepted).await);
        assert!(answers_udp(&client.netns, &dns).await);

        rules.policy("deny", deny("Egress")).await;
        assert!(!reaches(&client.netns, &out).await);
        assert!(!reaches(&client.netns, at_port(&neighbour, 8080)).await);
        assert!(!answers_udp(&client.netns, &dns).await);
        assert!(!reaches(&client.netns, &dns).await, "over TCP neither");
        assert!(reaches(&client.netns, format!("{NODE_IP}:8080")).await, "its own node is always reached");
        assert!(reaches(&neighbour.netns, &out).await, "another namespace is not meant");
        assert!(answers_udp(&neighbour.netns, &dns).await);

        let kube_dns = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]);
        let allow_dns = json!({"podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{"to": kube_dns, "ports": [{"protocol": "UDP", "port": 53}]}]});
        rules.policy("dns", allow_dns).await;
        assert!(answers_udp(&client.netns, &dns).await);
        assert!(!reaches(&client.netns, &dns).await, "the policy says UDP");
        let named = json!({"podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{"to": kube_dns, "ports": [{"protocol": "TCP", "port": "dns-tcp"}]}]});
        rules.policy("dns", named).await;
        assert!(reaches(&client.netns, &dns).await && !answers_udp(&client.netns, &dns).await);

        let block = json!({"podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.3/32", "192.0.2.3/32"]}}]}]});
        rules.policy("block", block).await;
        assert!(reaches(&client.netns, &out).await);
        assert!(!reaches(&client.netns, excepted).await);
        let everywhere = json!({"podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "10.42.0.0/16"]}}]}]});
        rules.policy("block", everywhere).await;
        assert!(reaches(&client.netns, excepted).await);
        assert!(!reaches(&client.netns, at_port(&neighbour, 8080)).await);

        // Both ends have to agree.
        let to_other = json!({"podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}]});
        rules.policy("block", to_other).await;
        assert!(reaches(&client.netns, at_port(&neighbour, 8080)).await);
        rules.policy_in("other", "deny", deny("Ingress")).await;
        assert!(!reaches(&client.netns, at_port(&neighbour, 8080)).await);
    });
}

#[test]
fn ports_are_numbers_ranges_and_names() {
    lab::run(|lab| async move {
        let tasks = TaskGroup::new();
        let (one, two, client) = (lab.pod().await, lab.pod().await, lab.pod().await);
        for port in [80, 443, 8080, 8081, 8082, 9090] {
            lab.serve(&one.netns, "one", port);
            lab.serve(&two.netns, "two", port);
        }
        let mut rules = Rules::start(&lab, &tasks, &[Family::V4]).await;
        let named = |number: u16| json!([{"name": "http", "containerPort": number}]);
        rules
            .pods(&[
                pod(&one, "default", "web", named(8080)),
                pod(&two, "default", "web", named(9090)),
                pod(&client, "default", "client", json!([])),
            ])
            .await;
        let open = async |target: &LabPod| {
            let mut open = Vec::new();
            for port in [80, 443, 8080, 8081, 8082, 9090] {
                if reaches(&client.netns, at_port(target, port)).await {
                    open.push(port);
                }
            }
            open
        };
        let ports = |ports: Value| {
            json!({"podSelector": {"matchLabels": {"role": "web"}}, "policyTypes": ["Ingress"],
                "ingress": [{"ports": ports}]})
        };
        rules
            .policy("ports", ports(json!([{"port": 80}, {"protocol": "TCP", "port": 443}, {"protocol": "UDP"}])))
            .await;
        assert_eq!(open(&one).await, [80, 443]);
        assert!(answers_udp(&client.netns, at_port(&one, 9090)).await);
        // Numbers and ranges in one set, and ranges of addresses in another.
        let mut several = ports(json!([{"port": 443}, {"port": 8081, "endPort": 8082}]));
        let block = |cidr: String| json!({"ipBlock": {"cidr": cidr}});
        several["ingress"][0]["from"] = json!([
            block("198.51.100.0/24".into()),
            block("198.51.100.7/32".into()),
            block(format!("{}/32", client.ip))
        ]);
        rules.policy("ports", several.clone()).await;
        assert_eq!(open(&one).await, [443, 8081, 8082]);
        several["ingress"][0]["from"][2] = block("192.0.2.0/24".into());
        rules.policy("ports", several).await;
        assert_eq!(open(&one).await, Vec::<u16>::new());
        rules.policy("ports", ports(json!([{"port": 8080, "endPort": 8081}]))).await;
        assert_eq!(open(&one).await, [8080, 8081]);
        assert!(!answers_udp(&client.netns, at_port(&one, 8080)).await);
        rules.policy("ports", ports(json!([{"port": "http"}, {"port": 80}]))).await;
        assert_eq!((open(&one).await, open(&two).await), (vec![80, 8080], vec![80, 9090]));

        // The same names, seen from the other end.
        rules.without("ports").await;
        let out = json!({"podSelector": {"matchLabels": {"role": "client"}}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"podSelector": {}}], "ports": [{"port": "http"}]}]});
        rules.policy("out", out).await;
        assert_eq!((open(&one).await, open(&two).await), (vec![8080], vec![9090]));
    });
}

#[test]
fn services_are_judged_by_the_pod_behind_them() {
    lab::run(|lab| async move {
        let tasks = TaskGroup::new();
        let (web, friend, stranger) = (lab.pod().await, lab.pod().await, lab.pod().await);
        lab.serve(&web.netns, "web", 8080);
        let mut rules = Rules::start(&lab, &tasks, &[Family::V4]).await;
        rules
            .pods(&[
                pod(&web, "default", "web", json!([])),
                pod(&friend, "default", "friend", json!([])),
                pod(&stranger, "default", "stranger", json!([])),
            ])
            .await;
        let ports = json!([{"port": 80, "nodePort": 30080, "protocol": "TCP"}]);
        rules
            .services
            .replace_services([service("web", json!({"type": "NodePort", "clusterIP": "10.43.0.7", "ports": ports}))]);
        rules.services.replace_slices([slice("web", 8080, "TCP", &[&web])]);
        within(rules.proxy.caught_up(&rules.services)).await;
        let allow = json!({"podSelector": {"matchLabels": {"role": "web"}}, "ingress": [{
            "from": [{"podSelector": {"matchLabels": {"role": "friend"}}}], "ports": [{"port": 8080}]}]});
        rules.policy("allow", allow).await;
        for target in ["10.43.0.7:80".to_owned(), format!("{NODE_IP}:30080")] {
            let said = greet(&friend.netns, &target).await.unwrap();
            assert!(said.starts_with("web "), "{said}");
            assert!(!reaches(&stranger.netns, &target).await, "{target}");
            assert!(reaches(&web.netns, &target).await, "to itself, through {target}");
            assert_eq!(who(&lab.node, &target).await, "web");
        }
        assert_eq!(greet(&friend.netns, "10.43.0.7:80").await.unwrap(), format!("web {}", friend.ip));
        assert!(!reaches(&lab.outside, format!("{NODE_IP}:30080")).await);
        let outside = json!({"podSelector": {"matchLabels": {"role": "web"}}, "ingress": [{
            "from": [{"ipBlock": {"cidr": "192.0.2.2/32"}}], "ports": [{"port": 8080}]}]});
        rules.policy("outside", outside).await;
        assert_eq!(who(&lab.outside, format!("{NODE_IP}:30080")).await, "web");
    });
}

#[test]
fn what_is_open_is_cut_when_it_is_forbidden() {
    lab::run(|lab| async move {
        let tasks = TaskGroup::new();
        let (web, client) = (lab.pod().await, lab.pod().await);
        lab.serve(&web.netns, "web", 8080);
        let mut rules = Rules::start(&lab, &tasks, &[Family::V4]).await;
        rules.pods(&[pod(&web, "default", "web", json!([])), pod(&client, "other", "client", json!([]))]).await;
        let target = at_port(&web, 8080);
        let (mut tcp, udp) = at(&client.netns, move || {
            let mut tcp = Connection::open(target).unwrap();
            tcp.line().unwrap();
            (tcp, UdpSocket::bind("0.0.0.0:0").unwrap())
        })
        .await;
        assert_eq!(tcp.say("before").unwrap(), "before");
        assert!(asks(&udp, target));
        rules.policy("deny", deny("Ingress")).await;
        assert!(!asks(&udp, target));
        let (mut tcp, said) = at(&client.netns, move || {
            let said = tcp.say_within("now", SILENCE);
            (tcp, said)
        })
        .await;
        assert!(said.is_err(), "{said:?}");
        // It was not reset: once it is allowed again, what was said arrives.
        rules.without("deny").await;
        assert_eq!(tcp.line_within(lab::LIMIT).unwrap(), "now");
        assert!(asks(&udp, target));
    });
}

#[test]
fn a_pod_is_admitted_when_its_rules_hold() {
    lab::run(|lab| async move {
        let tasks = TaskGroup::new();
        let (web, client) = (lab.pod().await, lab.pod().await);
        lab.serve(&web.netns, "web", 8080);
        let mut rules = Rules::start(&lab, &tasks, &[Family::V4]).await;
        rules.policy("deny", json!({"podSelector": {"matchLabels": {"role": "web"}}})).await;
        // The API knows of no address yet.
        let mut early = Pod::clone(&pod(&web, "default", "web", json!([])));
        early.status = None;
        rules.pods(&[Arc::new(early.clone()), pod(&client, "default", "client", json!([]))]).await;
        assert!(reaches(&client.netns, at_port(&web, 8080)).await);
        rules.handle.admit(&early, &web.ips).await.unwrap();
        assert!(!reaches(&client.netns, at_port(&web, 8080)).await);
        // What the API says later without the address does not open it again.
        early.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
        rules.pods(&[Arc::new(early.clone())]).await;
        assert!(!reaches(&client.netns, at_port(&web, 8080)).await);
        // Nor does its end, as long as its network is there: a pod may be deleted before its processes are.
        rules.feed.delete_pod(&lean::Pod::from(early.clone()));
        rules.hold().await;
        assert!(!reaches(&client.netns, at_port(&web, 8080)).await);
        rules.handle.release(&early);
        rules.hold().await;
        assert!(reaches(&client.netns, at_port(&web, 8080)).await);
    });
}

#[test]
fn both_families_are_enforced_and_no_address_leads_around() {
    lab::run_with(&["10.42.0.0/24", "fd42::/64"], |lab| async move {
        net::cni::setup(&lab.network).await.unwrap();
        let tasks = TaskGroup::new();
        let (web, friend, stranger) = (lab.pod().await, lab.pod().await, lab.pod().await);
        lab.serve_at("::", &web.netns, "web", 8080);
        let mut rules = Rules::start(&lab, &tasks, &[Family::V4, Family::V6]).await;
        rules
            .pods(&[
                pod(&web, "default", "web", json!([{"name": "http", "containerPort": 8080}])),
                pod(&friend, "default", "friend", json!([])),
                pod(&stranger, "default", "stranger", json!([])),
            ])
            .await;
        let link_local = at(&web.netns, || {
            let shown = std::process::Command::new("ip").args(["-6", "-o", "addr", "show", "scope", "link"]).output();
            let text = String::from_utf8(shown.unwrap().stdout).unwrap();
            let address = text.split("inet6 ").nth(1).unwrap().split('/').next().unwrap().to_owned();
            address.parse::<std::net::Ipv6Addr>().unwrap()
        })
        .await;
        let index = at(&stranger.netns, || nix::net::if_::if_nametoindex("eth0").unwrap()).await;
        let around = SocketAddr::V6(std::net::SocketAddrV6::new(link_local, 8080, 0, index));
        let connects = |from: String, target: SocketAddr| {
            at_owned(from, move || TcpStream::connect_timeout(&target, Duration::from_secs(2)).is_ok())
        };
        let targets: Vec<SocketAddr> = web.ips.iter().map(|ip: &IpAddr| SocketAddr::new(*ip, 8080)).collect();
        assert_eq!(targets.len(), 2);
        for target in targets.iter().chain([&around]) {
            assert!(connects(stranger.netns.clone(), *target).await, "{target}");
        }
        let allow = json!({"podSelector": {"matchLabels": {"role": "web"}}, "ingress": [{"ports": [{"port": "http"}],
            "from": [{"podSelector": {"matchLabels": {"role": "friend"}}}, {"ipBlock": {"cidr": "fd99::/16"}}]}]});
        rules.policy("allow", allow).await;
        for target in &targets {
            assert!(connects(friend.netns.clone(), *target).await, "{target}");
            assert!(connects(lab.node.clone(), *target).await, "{target}");
            assert!(!reaches(&stranger.netns, target).await, "{target}");
        }
        assert!(!reaches(&stranger.netns, around).await, "by its link-local address");
        let block = json!({"podSelector": {"matchLabels": {"role": "web"}}, "ingress": [{
            "from": [{"ipBlock": {"cidr": "::/0", "except": [format!("{}/128", friend.ips[1])]}}]}]});
        rules.policy("allow", block).await;
        assert!(connects(stranger.netns.clone(), targets[1]).await);
        assert!(!reaches(&friend.netns, targets[1]).await && !reaches(&stranger.netns, targets[0]).await);
    });
}

/// A datagram to `to` as a frame, with a VLAN tag of the number 0 if asked for, from whoever may open a raw socket.
fn frame(from: (&[u8; 6], std::net::Ipv4Addr), to: (&[u8; 6], std::net::Ipv4Addr), tagged: bool) -> Vec<u8> {
    let tag: &[u8] = if tagged { &[0x81, 0, 0, 0] } else { &[] };
    let mut header = vec![0x45, 0, 0, 20 + 8 + 5, 0, 1, 0, 0, 64, 17, 0, 0];
    header.extend(from.1.octets());
    header.extend(to.1.octets());
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    // Port 4000 to port 9999, 13 bytes, no checksum.
    [to.0, from.0, tag, &[8, 0], &header, &[0x0f, 0xa0, 0x27, 0x0f, 0, 13, 0, 0], b"hello"].concat()
}

/// The interface's own address, by which frames are sent on it, and its hardware address.
fn link() -> (nix::sys::socket::LinkAddr, [u8; 6]) {
    let all = nix::ifaddrs::getifaddrs().unwrap().filter(|one| one.interface_name == "eth0");
    let address = all.filter_map(|one| one.address?.as_link_addr().copied()).next().unwrap();
    (address, address.addr().unwrap())
}

#[test]
fn frames_with_a_tag_do_not_lead_around() {
    lab::run(|lab| async move {
        use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};
        let tasks = TaskGroup::new();
        let (web, stranger) = (lab.pod().await, lab.pod().await);
        let mut rules = Rules::start(&lab, &tasks, &[Family::V4]).await;
        rules.pods(&[pod(&web, "default", "web", json!([])), pod(&stranger, "other", "x", json!([]))]).await;
        let receiver = at(&web.netns, || UdpSocket::bind("0.0.0.0:9999").unwrap()).await;
        let (_, to) = at(&web.netns, link).await;
        let v4 = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => panic!("{ip}"),
        };
        let (web_ip, stranger_ip) = (v4(web.ip), v4(stranger.ip));
        let receives = async |tagged: bool| {
            at(&stranger.netns, move || {
                let (address, from) = link();
                let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
                let frame = frame((&from, stranger_ip), (&to, web_ip), tagged);
                sendto(std::os::fd::AsRawFd::as_raw_fd(&raw), &frame, &address, MsgFlags::empty()).unwrap();
            })
            .await;
            receiver.set_read_timeout(Some(SILENCE)).unwrap();
            receiver.recv_from(&mut [0; 64]).is_ok()
        };
        assert!(receives(false).await, "without policies a frame is a frame");
        rules.policy("deny", deny("Ingress")).await;
        assert!(!receives(false).await);
        assert!(receives(true).await, "if this fails the kernel has become stricter, and the guard is not needed");
        policy::guard::ensure("pintle", "pintle0").await.unwrap();
        policy::guard::ensure("pintle", "pintle0").await.unwrap();
        assert!(!receives(true).await);
        rules.without("deny").await;
        assert!(receives(false).await);
        tasks.shutdown(lab::LIMIT).await;
        policy::cleanup("pintle").await.unwrap();
        policy::cleanup("pintle").await.unwrap();
        let tables = std::process::Command::new("nft").args(["list", "tables"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&tables.stdout), "table inet pintle\n", "the proxy's alone");
    });
}

async fn at_owned<T: Send + 'static>(namespace: String, work: impl FnOnce() -> T + Send + 'static) -> T {
    at(&namespace, work).await
}
