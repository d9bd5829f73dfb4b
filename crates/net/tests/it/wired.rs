//! The whole of it, as the binary starts it: objects through reflectors, everything else by itself.

use std::sync::Arc;

use api::core::v1::Node;
use client::Reflector;
use net::dns::Upstreams;
use net::run::{self, PodNetwork};
use net::{Options, Sources};
use serde_json::json;

use crate::lab::{
    self, DNS_IP, NODE_IP, OUTSIDE_IP, assert_refused, eventually, greet, ip, namespace, service, slice, who, within,
};

fn node(name: &str, cidr: Option<&str>, ip: &str) -> Arc<Node> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name}, "spec": {"podCIDR": cidr, "podCIDRs": cidr.map(|cidr| [cidr])},
            "status": {"addresses": [{"type": "InternalIP", "address": ip}]},
        }))
        .unwrap(),
    )
}

fn routes() -> String {
    let output = std::process::Command::new("ip").args(["route", "show"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_node_gets_its_network_from_the_api_objects() {
    lab::run_bare(|lab| async move {
        let tasks = base::TaskGroup::new();
        let sources = Sources {
            services: Reflector::detached(),
            slices: Reflector::detached(),
            namespaces: Reflector::detached(),
            nodes: Reflector::detached(),
            pods: Reflector::detached(),
            all_pods: Reflector::detached(),
            policies: Reflector::detached(),
        };
        let options = Options {
            instance: "pintle".into(),
            node_name: "node".into(),
            node_ips: vec![NODE_IP.parse().unwrap()],
            cluster_cidrs: lab.network.cluster_cidrs.clone(),
            service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
            cluster_dns: vec![DNS_IP.parse().unwrap()],
            cluster_domain: "cluster.local".into(),
            pod_network: Some(PodNetwork {
                conf_dir: lab.network.conf_dir.clone(),
                bin_dirs: lab.network.bin_dirs.clone(),
                lease_dir: lab.network.lease_dir.clone(),
                mtu_bytes: None,
            }),
            upstreams: Upstreams::Fixed(Vec::new()),
        };
        let (clock, random) = (base::Clock::system(), base::Random::system());
        let mut handle = run::start(options, sources.clone(), clock, random, &tasks).unwrap();
        sources.nodes.replace(vec![node("node", None, NODE_IP)]);
        sources.services.replace(vec![service("web", json!({"clusterIP": "10.43.0.7", "ports": [{"port": 80}]}))]);
        sources.slices.replace(Vec::new());
        sources.namespaces.replace(vec![namespace("default")]);
        sources.pods.replace(Vec::new());
        sources.all_pods.replace(Vec::new());
        sources.policies.replace(Vec::new());
        within(handle.proxy.ready()).await;
        within(handle.dns.ready()).await;
        assert!(!handle.has_pod_network(), "the node has no range yet");
        assert_refused(&lab.node, "10.43.0.7:80").await;

        sources.nodes.apply("node".into(), Some(node("node", Some("10.42.0.0/24"), NODE_IP)));
        within(handle.pod_network_ready()).await;
        let pod = lab.pod().await;
        lab.serve(&pod.netns, "a", 8080);
        sources.slices.replace(vec![slice("web", 8080, "TCP", &[&pod])]);
        eventually(|| async { greet(&pod.netns, "10.43.0.7:80").await.is_ok_and(|said| said.starts_with("a ")) }).await;

        // Another node comes and goes: so do the routes to its pods.
        ip(&format!("-n {} addr add 10.42.7.1/24 dev lo", lab.outside));
        lab.serve(&lab.outside, "far", 8080);
        sources.nodes.apply("far".into(), Some(node("far", Some("10.42.7.0/24"), OUTSIDE_IP)));
        eventually(|| async { routes().contains("10.42.7.0/24 via 192.0.2.2") }).await;
        assert_eq!(who(&pod.netns, "10.42.7.1:8080").await, "far");

        sources.nodes.apply("far".into(), None);
        eventually(|| async { !routes().contains("10.42.7.0/24") }).await;

        tasks.shutdown(lab::LIMIT).await;
        run::cleanup("pintle", &lab.network.conf_dir).await.unwrap();
        assert!(!routes().contains("10.4"), "{}", routes());
    });
}
