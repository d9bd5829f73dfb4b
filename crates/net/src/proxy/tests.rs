//! The compiler's decisions as tables: which rules a Service becomes.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::core::v1::Service;
use api::discovery::v1::EndpointSlice;
use api::lean::Pod;
use serde_json::{Value, json};

use super::*;
use crate::nft;

fn facts() -> Facts {
    Facts {
        instance: "pintle".into(),
        node_name: "here".into(),
        zone: Some("z1".into()),
        cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
        pod_cidrs: vec!["10.42.0.0/24".parse().unwrap()],
        bridge: Some("pintle0".into()),
        node_port_addresses: Vec::new(),
    }
}

fn service(spec: Value) -> Arc<Service> {
    let object = json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec});
    Arc::new(serde_json::from_value(object).unwrap())
}

fn slice(endpoints: Value) -> Arc<EndpointSlice> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints,
        }))
        .unwrap(),
    )
}

fn spec(extra: Value) -> Value {
    let mut spec = json!({
        "clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7"],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 0}],
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn two() -> Value {
    json!([
        {"addresses": ["10.42.0.5"], "nodeName": "here", "conditions": {"ready": true}},
        {"addresses": ["10.42.1.6"], "nodeName": "there", "conditions": {"ready": true}},
    ])
}

fn ruleset(spec: Value, endpoints: Value) -> Ruleset {
    compile(&[service(spec)], &[slice(endpoints)], &[], &facts())
}

/// The ruleset without its fixed part, digests cut out of the names.
fn text(ruleset: &Ruleset) -> String {
    let empty = frame::table(&facts());
    let mut lines = Vec::new();
    for (name, set) in &ruleset.table.sets {
        for (key, value) in &set.elements {
            let separator = if value.is_empty() { "" } else { " : " };
            lines.push(format!("{name} {{ {key}{separator}{value} }}"));
        }
        if !empty.sets.contains_key(name) {
            lines.push(format!("set {name} {}", set.definition));
        }
    }
    let mut chains: Vec<_> = ruleset
        .table
        .chains
        .iter()
        .filter(|(name, _)| !empty.chains.contains_key(*name))
        .map(|(name, chain)| (strip_digests(name), chain))
        .collect();
    chains.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, chain) in chains {
        lines.extend(chain.rules.iter().map(|rule| format!("{name}: {rule}")));
    }
    strip_digests(&lines.join("\n"))
}

fn strip_digests(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('-') {
        let (head, tail) = rest.split_at(at + 1);
        out.push_str(head);
        let digest = tail.len() > 10 && tail.as_bytes()[..10].iter().all(u8::is_ascii_hexdigit) && &tail[10..11] == "-";
        rest = if digest { &tail[11..] } else { tail };
    }
    out + rest
}

#[track_caller]
fn expect(ruleset: &Ruleset, lines: &[&str]) {
    assert_eq!(text(ruleset), lines.join("\n"));
}

#[test]
fn a_cluster_ip_goes_to_its_endpoints() {
    expect(
        &ruleset(spec(json!({})), two()),
        &[
            "hairpin-connections-v4 { 10.42.0.5 . 10.42.0.5 }",
            "service-ips-v4 { 10.43.0.7 . tcp . 80 : goto internal-ns/web/tcp/http/ip }",
            "internal-ns/web/tcp/http/ip: ip saddr != 10.42.0.0/16 jump mark-for-masquerade",
            "internal-ns/web/tcp/http/ip: meta l4proto tcp dnat ip to numgen random mod 2 map \
             { 0 : 10.42.0.5 . 8080, 1 : 10.42.1.6 . 8080 }",
        ],
    );
}

#[test]
fn without_endpoints_a_service_is_refused() {
    expect(
        &ruleset(
            spec(json!({"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]})),
            json!([]),
        ),
        &[
            "no-endpoint-nodeports-v4 { tcp . 30080 : goto reject-chain }",
            "no-endpoint-services-v4 { 10.43.0.7 . tcp . 80 : goto reject-unless-local }",
        ],
    );
}

#[test]
fn headless_external_name_and_foreign_services_are_left_alone() {
    for extra in [json!({"clusterIP": "None", "clusterIPs": ["None"]}), json!({"type": "ExternalName"})] {
        expect(&ruleset(spec(extra), two()), &[""]);
    }
    let mut foreign = service(spec(json!({})));
    Arc::make_mut(&mut foreign)
        .metadata
        .labels
        .get_or_insert_default()
        .insert("service.kubernetes.io/service-proxy-name".into(), "x".into());
    expect(&compile(&[foreign], &[slice(two())], &[], &facts()), &[""]);
}

fn chosen(spec: Value, endpoints: Value) -> (Vec<String>, Vec<String>, bool) {
    let ports = endpoints::ports(&[service(spec)], &[slice(endpoints)], &facts());
    let ips = |list: &[endpoints::Endpoint]| list.iter().map(|e| e.ip.to_string()).collect();
    (ips(&ports[0].cluster_endpoints), ips(&ports[0].local_endpoints), ports[0].has_any_endpoint)
}

#[test]
fn endpoints_are_chosen_by_their_conditions() {
    let endpoint = |ip: &str, ready: bool, serving: bool, terminating: bool| {
        json!({"addresses": [ip], "nodeName": "here",
               "conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
    };
    for (endpoints, expected) in [
        (
            json!([endpoint("10.42.0.5", true, true, false), endpoint("10.42.0.6", false, true, true)]),
            vec!["10.42.0.5"],
        ),
        (
            json!([endpoint("10.42.0.5", false, false, false), endpoint("10.42.0.6", false, true, true)]),
            vec!["10.42.0.6"],
        ),
        (json!([endpoint("10.42.0.5", false, false, false), endpoint("10.42.0.6", false, false, true)]), vec![]),
        (json!([{"addresses": ["10.42.0.5"]}]), vec!["10.42.0.5"]),
    ] {
        assert_eq!(chosen(spec(json!({})), endpoints).0, expected);
    }
}

#[test]
fn hints_narrow_only_when_all_have_them() {
    let hinted = |ip: &str, zone: &str| json!({"addresses": [ip], "hints": {"forZones": [{"name": zone}]}});
    for (endpoints, expected) in [
        (json!([hinted("10.42.0.5", "z1"), hinted("10.42.1.6", "z2")]), vec!["10.42.0.5"]),
        (json!([hinted("10.42.0.5", "z1"), {"addresses": ["10.42.1.6"]}]), vec!["10.42.0.5", "10.42.1.6"]),
        (json!([hinted("10.42.0.5", "z3"), hinted("10.42.1.6", "z2")]), vec!["10.42.0.5", "10.42.1.6"]),
        (
            json!([{"addresses": ["10.42.0.5"], "hints": {"forNodes": [{"name": "here"}], "forZones": [{"name": "z1"}]}},
                   {"addresses": ["10.42.1.6"], "hints": {"forNodes": [{"name": "there"}], "forZones": [{"name": "z1"}]}}]),
            vec!["10.42.0.5"],
        ),
    ] {
        assert_eq!(chosen(spec(json!({})), endpoints).0, expected);
    }
}

#[test]
fn internal_policy_local_drops_when_only_others_have_endpoints() {
    let there = json!([{"addresses": ["10.42.1.6"], "nodeName": "there"}]);
    expect(
        &ruleset(spec(json!({"internalTrafficPolicy": "Local"})), there),
        &["no-endpoint-services-v4 { 10.43.0.7 . tcp . 80 : goto drop-unless-local }"],
    );
    let local = ruleset(spec(json!({"internalTrafficPolicy": "Local"})), two());
    assert!(text(&local).contains("internal-ns/web/tcp/http/ip: meta l4proto tcp dnat ip to 10.42.0.5:8080"));
    assert!(!text(&local).contains("10.42.1.6"));
}

#[test]
fn external_policy_local_keeps_the_source_and_the_node() {
    let node_port = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
                           "externalIPs": ["192.0.2.9"],
                           "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    let rules = text(&ruleset(spec(node_port.clone()), two()));
    for line in [
        "service-nodeports-v4 { tcp . 30080 : goto external-ns/web/tcp/http/ip }",
        "service-ips-v4 { 192.0.2.9 . tcp . 80 : goto external-ns/web/tcp/http/ip }",
        "external-ns/web/tcp/http/ip: ip saddr 10.42.0.0/16 goto service-ns/web/tcp/http/ip",
        "external-ns/web/tcp/http/ip: fib saddr type local jump mark-for-masquerade",
        "external-ns/web/tcp/http/ip: goto local-ns/web/tcp/http/ip",
    ] {
        assert!(rules.lines().any(|l| l == line), "{line}\n{rules}");
    }
    let there = json!([{"addresses": ["10.42.1.6"], "nodeName": "there"}]);
    let rules = text(&ruleset(spec(node_port), there));
    assert!(rules.contains("external-ns/web/tcp/http/ip: drop"), "{rules}");
    assert!(!rules.contains("no-endpoint"), "{rules}");
}

#[test]
fn affinity_remembers_the_client_per_endpoint() {
    let rules = text(&ruleset(
        spec(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}})),
        two(),
    ));
    for line in [
        "set affinity-ns/web/tcp/http/ip/10.42.0.5/8080 type ipv4_addr; flags dynamic,timeout; timeout 60s;",
        "internal-ns/web/tcp/http/ip: ip saddr @affinity-ns/web/tcp/http/ip/10.42.1.6/8080 \
         goto endpoint-ns/web/tcp/http/ip/10.42.1.6/8080",
        "endpoint-ns/web/tcp/http/ip/10.42.0.5/8080: update @affinity-ns/web/tcp/http/ip/10.42.0.5/8080 { ip saddr }",
    ] {
        assert!(rules.lines().any(|l| l == line), "{line}\n{rules}");
    }
}

#[test]
fn source_ranges_guard_the_load_balancer_only() {
    let mut object = service(spec(json!({
        "type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24", "198.51.100.7/32", " 203.0.113.0/24 "],
    })));
    Arc::make_mut(&mut object).status = Some(
        serde_json::from_value(json!({"loadBalancer": {"ingress": [
            {"ip": "192.0.2.8"}, {"ip": "192.0.2.7", "ipMode": "Proxy"}]}}))
        .unwrap(),
    );
    let rules = text(&compile(&[object], &[slice(two())], &[], &facts()));
    assert!(rules.contains("firewall-ips-v4 { 192.0.2.8 . tcp . 80 : goto firewall-ns/web/tcp/http/ip }"), "{rules}");
    assert!(
        rules.contains("firewall-ns/web/tcp/http/ip: ip saddr != { 198.51.100.0/24, 203.0.113.0/24 } drop"),
        "{rules}"
    );
    assert!(!rules.contains("192.0.2.7"), "{rules}");
}

#[test]
fn udp_frontends_are_remembered_for_conntrack() {
    let service =
        service(json!({"clusterIP": "10.43.0.10", "ports": [{"name": "http", "port": 53, "protocol": "UDP"}]}));
    let mut slice = slice(two());
    Arc::make_mut(&mut slice).ports.as_mut().unwrap()[0].protocol = Some("UDP".into());
    let ruleset = compile(&[service], &[slice], &[], &facts());
    let frontend = Frontend::Address("10.43.0.10:53".parse().unwrap());
    let backends: BTreeSet<SocketAddr> = ["10.42.0.5:8080".parse().unwrap(), "10.42.1.6:8080".parse().unwrap()].into();
    assert_eq!(ruleset.udp, [(frontend, backends)].into());

    let listing = "udp      17 29 src=10.42.0.9 dst=10.43.0.10 sport=4000 dport=53 src=10.42.0.5 dst=10.42.0.9 \
                   sport=8080 dport=4000 [ASSURED] mark=0 use=1\n\
                   udp      17 29 src=10.42.0.9 dst=10.43.0.10 sport=4001 dport=53 [UNREPLIED] src=10.42.0.77 \
                   dst=10.42.0.9 sport=8080 dport=4001 mark=0 use=1\n\
                   udp      17 29 src=10.42.0.9 dst=10.43.0.10 sport=4002 dport=53 src=10.43.0.10 dst=10.42.0.9 \
                   sport=53 dport=4002 mark=0 use=1\n\
                   udp      17 29 src=10.42.0.9 dst=10.43.9.9 sport=4003 dport=53 src=10.42.0.5 dst=10.42.0.9 \
                   sport=53 dport=4003 mark=0 use=1\n\
                   udp      17 29 src=10.42.0.9 dst=192.0.2.1 sport=4003 dport=53 src=192.0.2.1 dst=10.42.0.9 \
                   sport=53 dport=4003 mark=0 use=1\n\
                   tcp      6 29 ESTABLISHED src=1.1.1.1 dst=10.43.0.10 sport=1 dport=53 src=1.1.1.2 dst=1.1.1.1 \
                   sport=53 dport=1";
    let stale = conntrack::stale(&conntrack::parse(listing), &ruleset.udp, &facts());
    let stale: Vec<String> = stale.iter().map(|f| format!("{} {}", f.original, f.answering)).collect();
    assert_eq!(stale, ["10.43.0.10:53 10.42.0.77:8080", "10.43.0.10:53 10.43.0.10:53", "10.43.9.9:53 10.42.0.5:53"]);
}

#[test]
fn host_ports_lead_to_local_pods() {
    let pod = |node: &str, ports: Value| -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "ns"},
                "spec": {"nodeName": node, "containers": [{"name": "c", "ports": ports}]},
                "status": {"phase": "Running", "podIP": "10.42.0.9", "podIPs": [{"ip": "10.42.0.9"}]},
            }))
            .unwrap(),
        )
    };
    let ports = json!([{"containerPort": 80, "hostPort": 8080}, {"containerPort": 53, "hostPort": 5353, "protocol": "UDP",
                        "hostIP": "192.0.2.1"}, {"containerPort": 9}]);
    let ruleset = compile(&[], &[], &[pod("here", ports.clone()), pod("there", ports)], &facts());
    expect(
        &ruleset,
        &[
            "hairpin-connections-v4 { 10.42.0.9 . 10.42.0.9 }",
            "host-ip-ports-v4 { 192.0.2.1 . udp . 5353 : goto hostport-ns/p/udp/5353/ip/192.0.2.1 }",
            "host-ports-v4 { tcp . 8080 : goto hostport-ns/p/tcp/8080/ip/ }",
            "hostport-ns/p/tcp/8080/ip/: fib saddr type local jump mark-for-masquerade",
            "hostport-ns/p/tcp/8080/ip/: meta l4proto tcp dnat ip to 10.42.0.9:80",
            "hostport-ns/p/udp/5353/ip/192.0.2.1: fib saddr type local jump mark-for-masquerade",
            "hostport-ns/p/udp/5353/ip/192.0.2.1: meta l4proto udp dnat ip to 10.42.0.9:53",
        ],
    );
}

#[test]
fn a_dual_stack_service_has_both_families() {
    let mut facts = facts();
    facts.cluster_cidrs.push("fd42::/56".parse().unwrap());
    facts.service_cidrs.push("fd43::/108".parse().unwrap());
    let service = service(spec(json!({"clusterIPs": ["10.43.0.7", "fd43::7"]})));
    let mut six = slice(json!([{"addresses": ["fd42::5"], "nodeName": "here"}]));
    Arc::make_mut(&mut six).address_type = "IPv6".into();
    let ruleset = compile(&[service], &[slice(two()), six], &[], &facts);
    let script = nft::replace(&ruleset.table);
    assert!(script.contains("dnat ip6 to [fd42::5]:8080"), "{script}");
    assert!(script.contains("fd43::7 . tcp . 80 : goto internal-"), "{script}");
    assert!(script.contains("ip6 daddr fd43::/108 goto reject-unless-local"), "{script}");
}

#[test]
fn names_that_nft_cannot_take_do_not_appear() {
    let mut facts = facts();
    facts.instance = "table".into();
    let table = compile(&[service(spec(json!({})))], &[slice(two())], &[], &facts).table;
    assert_eq!(table.name, "pintle-table");
    for name in table.chains.keys().chain(table.sets.keys()) {
        assert!(name.len() <= 128 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_/.".contains(&b)), "{name}");
    }
}
