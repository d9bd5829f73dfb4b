//! Services through the proxy.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};

use net::Feed;
use serde_json::json;

use crate::lab::{
    self, Connection, NODE_IP, OUTSIDE_IP, ask_udp, assert_refused, at, greet, service, slice, who, within,
};

const WEB: &str = "10.43.0.7:80";

fn web(extra: serde_json::Value) -> serde_json::Value {
    let mut spec = json!({"clusterIP": "10.43.0.7", "ports": [{"port": 80, "protocol": "TCP"}]});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

#[test]
fn a_cluster_ip_is_reached_from_pods_and_from_the_node() {
    lab::run(|lab| async move {
        let tasks = base::TaskGroup::new();
        let (a, b, client) = (lab.pod().await, lab.pod().await, lab.pod().await);
        lab.serve(&a.netns, "a", 8080);
        lab.serve(&b.netns, "b", 8080);
        let feed = Feed::new();
        feed.replace_services([service("web", web(json!({})))]);
        feed.replace_slices([slice("web", 8080, "TCP", &[&a, &b])]);
        lab.proxy(&feed, &tasks).await;
        for from in [&client.netns, &lab.node] {
            let mut seen = BTreeSet::new();
            for _ in 0..32 {
                seen.insert(who(from, WEB).await);
            }
            assert_eq!(seen, ["a".to_owned(), "b".to_owned()].into(), "both endpoints serve {from}");
        }
        // A pod's own address is kept inside the cluster.
        assert!(greet(&client.netns, WEB).await.unwrap().ends_with(&format!(" {}", client.ip)));

        // Hairpin: the only endpoint talks to itself, and sees another address than its own.
        feed.replace_slices([slice("web", 8080, "TCP", &[&a])]);
        let mut handle = lab.proxy(&feed, &tasks).await;
        within(handle.caught_up(&feed)).await;
        let greeting = greet(&a.netns, WEB).await.unwrap();
        assert_eq!(greeting, "a 10.42.0.1");
    });
}

#[test]
fn a_service_of_the_node_itself_is_reached_from_everywhere() {
    lab::run(|lab| async move {
        let tasks = base::TaskGroup::new();
        let (client, feed) = (lab.pod().await, Feed::new());
        lab.serve(&lab.node, "apiserver", 6443);
        // As the API's own Service: an endpoint that is no pod and on no named node.
        let mut endpoints = slice("kubernetes", 6443, "TCP", &[]);
        let own = json!([{"addresses": [NODE_IP], "conditions": {"ready": true}}]);
        std::sync::Arc::make_mut(&mut endpoints).endpoints = serde_json::from_value(own).unwrap();
        feed.replace_services([service("kubernetes", json!({"clusterIP": "10.43.0.1", "ports": [{"port": 443}]}))]);
        feed.replace_slices([endpoints]);
        lab.proxy(&feed, &tasks).await;
        assert_eq!(greet(&client.netns, "10.43.0.1:443").await.unwrap(), format!("apiserver {}", client.ip));
        assert_eq!(who(&lab.node, "10.43.0.1:443").await, "apiserver");
    });
}

#[test]
fn what_nobody_serves_is_refused_at_once() {
    lab::run(|lab| async move {
        let tasks = base::TaskGroup::new();
        let (a, client) = (lab.pod().await, lab.pod().await);
        lab.serve(&a.netns, "a", 8080);
        let feed = Feed::new();
        let spec = web(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}],
                              "externalIPs": ["198.51.100.7"]}));
        feed.replace_services([service("web", spec)]);
        feed.replace_slices([]);
        let mut handle = lab.proxy(&feed, &tasks).await;
        for from in [&client.netns, &lab.node] {
            assert_refused(from, WEB).await; // no endpoints
            assert_refused(from, "10.43.0.7:81").await; // no such port
            assert_refused(from, "10.43.77.77:80").await; // no such Service
            assert_refused(from, "198.51.100.7:80").await;
            assert_refused(from, &format!("{NODE_IP}:30080")).await;
        }
        assert_refused(&lab.outside, &format!("{NODE_IP}:30080")).await;
        // A pod address that nobody has, on this node and on none, does not leave the node.
        for address in ["10.42.0.200:80", "10.42.99.1:80"] {
            let error = greet(&lab.node, address).await.unwrap_err();
            assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "{address}: {error}");
        }

        feed.apply_slice(slice("web", 8080, "TCP", &[&a]));
        within(handle.caught_up(&feed)).await;
        for target in [WEB, "198.51.100.7:80", &format!("{NODE_IP}:30080")] {
            assert_eq!(who(&client.netns, target).await, "a", "{target}");
            assert_eq!(who(&lab.node, target).await, "a", "{target}");
        }
        feed.delete_service("default", "web");
        within(handle.caught_up(&feed)).await;
        assert_refused(&client.netns, WEB).await;
        assert_eq!(
            handle.counters().table.replacements.load(std::sync::atomic::Ordering::Relaxed),
            1,
            "all else is incremental"
        );
        assert_eq!(handle.counters().table.failures.load(std::sync::atomic::Ordering::Relaxed), 0);
    });
}

#[test]
fn node_ports_serve_the_outside_and_the_node_itself() {
    lab::run(|lab| async move {
        let tasks = base::TaskGroup::new();
        let (a, client) = (lab.pod().await, lab.pod().await);
        lab.serve(&a.netns, "a", 8080);
        let feed = Feed::new();
        let spec = |policy: &str| {
            web(
                json!({"type": "NodePort", "externalTrafficPolicy": policy, "ports": [{"port": 80, "nodePort": 30080}]}),
            )
        };
        feed.replace_services([service("web", spec("Cluster"))]);
        feed.replace_slices([slice("web", 8080, "TCP", &[&a])]);
        let mut handle = lab.proxy(&feed, &tasks).await;
        let node_port = format!("{NODE_IP}:30080");
        // The policy Cluster hides the client behind the node.
        assert_eq!(greet(&lab.outside, &node_port).await.unwrap(), "a 10.42.0.1");
        assert_eq!(who(&client.netns, &node_port).await, "a");
        assert_eq!(who(&lab.node, &node_port).await, "a");
        assert_eq!(who(&lab.node, "127.0.0.1:30080").await, "a");

        // The policy Local shows the client.
        feed.apply_service(service("web", spec("Local")));
        within(handle.caught_up(&feed)).await;
        assert_eq!(greet(&lab.outside, &node_port).await.unwrap(), format!("a {OUTSIDE_IP}"));
        assert_eq!(who(&lab.node, &node_port).await, "a");
        assert_eq!(who(&client.netns, &node_port).await, "a");
    });
}

#[test]
fn a_client_with_affinity_stays_with_its_endpoint() {
    lab::run(|lab| async move {
        let tasks = base::TaskGroup::new();
        let (a, b, c, client) = (lab.pod().await, lab.pod().await, lab.pod().await, lab.pod().await);
        for (pod, name) in [(&a, "a"), (&b, "b"), (&c, "c")] {
            lab.serve(&pod.netns, name, 8080);
        }
        let feed = Feed::new();
        feed.replace_services([service("web", web(json!({"sessionAffinity": "ClientIP"})))]);
        feed.replace_slices([slice("web", 8080, "TCP", &[&a, &b, &c])]);
        let mut handle = lab.proxy(&feed, &tasks).await;
        let first = who(&client.netns, WEB).await;
        for _ in 0..16 {
            assert_eq!(who(&client.netns, WEB).await, first);
        }
        // Another endpoint's end does not move the client; its own does.
        let kept = [(&a, "a"), (&b, "b"), (&c, "c")];
        let other = kept.iter().find(|(_, name)| *name != first).unwrap().1;
        let without = |gone: &str| kept.iter().filter(|(_, n)| *n != gone).map(|(pod, _)| *pod).collect::<Vec<_>>();
        feed.apply_slice(slice("web", 8080, "TCP", &without(other)));
        within(handle.caught_up(&feed)).await;
        assert_eq!(who(&client.netns, WEB).await, first);
        feed.apply_slice(slice("web", 8080, "TCP", &without(&first)));
        within(handle.caught_up(&feed)).await;
        assert_ne!(who(&client.netns, WEB).await, first);
    });
}

#[test]
fn connections_outlive_changes_and_what_others_break_is_mended() {
    lab::run(|lab| async move {
        let tasks = base::TaskGroup::new();
        let (a, b, client) = (lab.pod().await, lab.pod().await, lab.pod().await);
        lab.serve(&a.netns, "a", 8080);
        lab.serve(&b.netns, "b", 8080);
        let feed = Feed::new();
        feed.replace_services([service("web", web(json!({})))]);
        feed.replace_slices([slice("web", 8080, "TCP", &[&a])]);
        let mut handle = lab.proxy(&feed, &tasks).await;
        let target: SocketAddr = WEB.parse().unwrap();
        let mut connection = at(&client.netns, move || Connection::open(target).unwrap()).await;
        assert!(connection.line().unwrap().starts_with("a "));

        // The endpoint is replaced: new connections move, the old one goes on.
        feed.apply_slice(slice("web", 8080, "TCP", &[&b]));
        within(handle.caught_up(&feed)).await;
        assert_eq!(who(&client.netns, WEB).await, "b");
        assert_eq!(connection.say("still here").unwrap(), "still here");

        // Somebody flushes all rules: they are back without a change of the Services.
        tokio::task::yield_now().await;
        let mut waiting = handle.clone();
        let restored = async { waiting.applied().await };
        let output = std::process::Command::new("nft").args(["flush", "ruleset"]).output().unwrap();
        assert!(output.status.success());
        within(restored).await;
        assert_eq!(who(&client.netns, WEB).await, "b");
        assert_eq!(connection.say("and here").unwrap(), "and here");
    });
}

#[test]
fn udp_flows_leave_an_endpoint_that_went_away() {
    lab::run(|lab| async move {
        let tasks = base::TaskGroup::new();
        let (a, b, client) = (lab.pod().await, lab.pod().await, lab.pod().await);
        lab.serve(&a.netns, "a", 5300);
        lab.serve(&b.netns, "b", 5300);
        let feed = Feed::new();
        let spec = json!({"clusterIP": "10.43.0.8", "type": "NodePort",
                          "ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}]});
        feed.replace_services([service("time", spec)]);
        feed.replace_slices([slice("time", 5300, "UDP", &[&a])]);
        let mut handle = lab.proxy(&feed, &tasks).await;
        let bind = || UdpSocket::bind("0.0.0.0:0").unwrap();
        let (inside, outside) = (at(&client.netns, bind).await, at(&lab.outside, bind).await);
        let node_port = format!("{NODE_IP}:30053");
        assert_eq!(ask_udp(&inside, "10.43.0.8:53").unwrap(), "a");
        assert_eq!(ask_udp(&outside, &node_port).unwrap(), "a");
        // The same sockets, so the same flows for the kernel.
        feed.apply_slice(slice("time", 5300, "UDP", &[&b]));
        within(handle.caught_up(&feed)).await;
        assert_eq!(ask_udp(&inside, "10.43.0.8:53").unwrap(), "b");
        assert_eq!(ask_udp(&outside, &node_port).unwrap(), "b");
        assert_eq!(handle.counters().flows_deleted.load(std::sync::atomic::Ordering::Relaxed), 2);
    });
}

#[test]
fn load_balancer_addresses_obey_their_source_ranges() {
    lab::run(|lab| async move {
        let tasks = base::TaskGroup::new();
        let (a, client) = (lab.pod().await, lab.pod().await);
        lab.serve(&a.netns, "a", 8080);
        let feed = Feed::new();
        let balanced = |range: &str| {
            let mut object = service("web", web(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": [range]})));
            let status = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.8"}]}});
            std::sync::Arc::make_mut(&mut object).status = Some(serde_json::from_value(status).unwrap());
            object
        };
        feed.replace_services([balanced("192.0.2.0/24")]);
        feed.replace_slices([slice("web", 8080, "TCP", &[&a])]);
        let mut handle = lab.proxy(&feed, &tasks).await;
        assert_eq!(who(&lab.outside, "198.51.100.8:80").await, "a");
        assert_eq!(who(&client.netns, WEB).await, "a");
        feed.apply_service(balanced("203.0.113.0/24"));
        within(handle.caught_up(&feed)).await;
        let target: SocketAddr = "198.51.100.8:80".parse().unwrap();
        let refused = at(&lab.outside, move || {
            std::net::TcpStream::connect_timeout(&target, std::time::Duration::from_millis(300)).unwrap_err().kind()
        });
        assert_eq!(refused.await, std::io::ErrorKind::TimedOut);
        assert_eq!(who(&client.netns, WEB).await, "a");
    });
}

#[test]
fn the_kernel_takes_a_dual_stack_table_and_many_services() {
    lab::run(|lab| async move {
        let tasks = base::TaskGroup::new();
        let pod = lab.pod().await;
        let feed = Feed::new();
        let mut facts = lab.facts();
        facts.cluster_cidrs.push("fd42::/56".parse().unwrap());
        facts.service_cidrs.push("fd43::/108".parse().unwrap());
        let services = |n: u16| {
            (0..n)
                .map(|n| {
                    let ips = json!([format!("10.43.{}.{}", n / 250, n % 250 + 1), format!("fd43::{n:x}")]);
                    service(
                        &format!("s{n}"),
                        json!({"clusterIPs": ips, "sessionAffinity": "ClientIP", "type": "NodePort",
                    "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local",
                    "ports": [{"port": 80, "nodePort": 20000 + n}, {"name": "u", "protocol": "UDP", "port": 80}]}),
                    )
                })
                .collect::<Vec<_>>()
        };
        let slices: Vec<_> = (0..400).map(|n| slice(&format!("s{n}"), 80, "TCP", &[&pod])).collect();
        feed.replace_services(services(400));
        feed.replace_slices(slices.clone());
        let options = net::proxy::Options::new(facts);
        let (mut proxy, mut handle) = net::proxy::Service::new(options, feed.clone(), base::Clock::system());
        tasks.spawn("proxy", async move { proxy.run().await });
        within(handle.caught_up(&feed)).await;
        // One more and half of them gone: both are changes, not replacements.
        feed.replace_services(services(401));
        within(handle.caught_up(&feed)).await;
        feed.replace_services(services(200));
        feed.replace_slices(slices[..100].to_vec());
        within(handle.caught_up(&feed)).await;
        let counters = &handle.counters().table;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((count(&counters.replacements), count(&counters.failures)), (1, 0));
        assert!(count(&counters.changes) >= 2);
        // What is left is exactly what a fresh table would be.
        let names = net::nft::kernel::names("pintle").await.unwrap().unwrap();
        assert!(names.chains.len() > 200 && !names.chains.iter().any(|chain| chain.contains("default/s399")));
    });
}
