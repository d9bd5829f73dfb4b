//! Policies against verdicts: a small cluster, and who may reach whom in it.

use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::Namespace;
use api::lean::Pod;
use api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::model::{Allowed, Direction, Model};
use super::rule::Ports;
use super::*;
use crate::nft;
use crate::proxy::endpoints::Protocol;
use crate::{Cidr, Family};

const DNS: &str = "10.43.0.10";

fn pod(namespace: &str, name: &str, node: &str, ip: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "uid": format!("{name}-1"), "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [
            {"name": "http", "containerPort": 8000 + ip.rsplit('.').next().unwrap().parse::<u16>().unwrap()},
            {"name": "http", "containerPort": 53, "protocol": "UDP"}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    })
}

/// Pods of two namespaces: `a/web` and `a/db` here, `a/far` and `b/web` elsewhere, and some that do not count.
fn cluster() -> Feed {
    let feed = Feed::new("here");
    let namespace = |name: &str| -> Arc<Namespace> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": {"name": name}}})).unwrap())
    };
    feed.replace_namespaces(["a", "b", "kube-system"].map(namespace));
    let mut ended = pod("a", "ended", "here", "10.42.0.9");
    ended["status"]["phase"] = "Failed".into();
    let mut host = pod("a", "host", "here", "192.0.2.1");
    host["spec"]["hostNetwork"] = true.into();
    let pods = [
        pod("a", "web", "here", "10.42.0.1"),
        pod("a", "db", "here", "10.42.0.2"),
        pod("a", "far", "there", "10.42.1.3"),
        pod("b", "web", "there", "10.42.1.4"),
        ended,
        host,
    ];
    feed.replace_pods(pods.map(|pod| Arc::new(serde_json::from_value::<Pod>(pod).unwrap())));
    feed.replace_policies([]);
    feed
}

fn with(policies: &[(&str, Value)]) -> Model {
    let feed = cluster();
    for (number, (namespace, spec)) in policies.iter().enumerate() {
        feed.apply_policy(&policy(namespace, &format!("p{number}"), spec));
    }
    feed.read(|inputs| resolve(inputs, &[Peer::cluster_dns(&[DNS.parse().unwrap()])]))
}

fn policy(namespace: &str, name: &str, spec: &Value) -> NetworkPolicy {
    serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec})).unwrap()
}

/// Whether this node lets a connection through.
fn passes(model: &Model, from: &str, to: &str, protocol: Protocol, port: u16) -> bool {
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    [Direction::Egress, Direction::Ingress].into_iter().all(|direction| {
        let (side, own, other) = match direction {
            Direction::Egress => (&model.egress, from, to),
            Direction::Ingress => (&model.ingress, to, from),
        };
        let Some(keys) = side.isolated.get(&own) else { return true };
        let allows = |allowed: &Allowed| {
            let peer = allowed.peers.as_ref().is_none_or(|peers| {
                let within = |cidr: &Cidr| cidr.contains(other);
                peers.groups.iter().any(|group| model.groups[group].contains(&other))
                    || peers.blocks.iter().any(|block| within(&block.cidr) && !block.except.iter().any(within))
            });
            let port = allowed.ports.as_ref().is_none_or(|ports| {
                ports.iter().filter(|one| one.protocol == protocol).any(|one| match &one.ports {
                    Ports::All => true,
                    Ports::Range(first, last) => (*first..=*last).contains(&port),
                    Ports::Named(name) => side.named[&(protocol, name.clone())].contains(&(to, port)),
                })
            });
            peer && port
        };
        from == to || keys.iter().any(|key| side.policies[key].iter().any(allows))
    })
}

const WEB: &str = "10.42.0.1";
const DB: &str = "10.42.0.2";
const FAR: &str = "10.42.1.3";
const OTHER: &str = "10.42.1.4";
const OUTSIDE: &str = "198.51.100.7";

/// Who of all reaches `to` on TCP port 80.
fn reaching(model: &Model, to: &str) -> Vec<&'static str> {
    let all = [("web", WEB), ("db", DB), ("far", FAR), ("other", OTHER), ("outside", OUTSIDE), ("node", "192.0.2.1")];
    all.into_iter().filter(|(_, from)| passes(model, from, to, Protocol::Tcp, 80)).map(|(name, _)| name).collect()
}

#[test]
fn peers_of_every_shape() {
    let everybody = ["web", "db", "far", "other", "outside", "node"];
    let web = json!({"matchLabels": {"app": "web"}});
    let cases: &[(&str, Value, &[&str])] = &[
        ("no rules at all: nobody but itself", json!({"podSelector": {}}), &["db"]),
        ("an absent selector is an empty one", json!({}), &["db"]),
        ("an empty list of rules", json!({"podSelector": {}, "ingress": []}), &["db"]),
        ("a rule that says nothing", json!({"podSelector": {}, "ingress": [{}]}), &everybody),
        ("an empty list of peers", json!({"podSelector": {}, "ingress": [{"from": []}]}), &everybody),
        ("an empty list of ports", json!({"podSelector": {}, "ingress": [{"ports": []}]}), &everybody),
        ("pods", json!({"ingress": [{"from": [{"podSelector": web}]}]}), &["web", "db"]),
        ("all pods here", json!({"ingress": [{"from": [{"podSelector": {}}]}]}), &["web", "db", "far"]),
        (
            "namespaces",
            json!({"ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"name": "b"}}}]}]}),
            &["db", "other"],
        ),
        ("all namespaces", json!({"ingress": [{"from": [{"namespaceSelector": {}}]}]}), &["web", "db", "far", "other"]),
        (
            "pods of namespaces",
            json!({"ingress": [{"from": [{"namespaceSelector": {}, "podSelector": web}]}]}),
            &["web", "db", "other"],
        ),
        (
            "expressions",
            json!({"ingress": [{"from": [{"podSelector": {"matchExpressions": [
                {"key": "app", "operator": "NotIn", "values": ["web"]}]}}]}]}),
            &["db", "far"],
        ),
        (
            "two peers are two ways in",
            json!({"ingress": [{"from": [{"podSelector": web}, {"ipBlock": {"cidr": "198.51.100.0/24"}}]}]}),
            &["web", "db", "outside"],
        ),
        (
            "ranges",
            json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.42.1.0/24"]}}]}]}),
            &["web", "db"],
        ),
        ("another selector's pods", json!({"podSelector": web, "ingress": []}), &everybody),
        (
            "only the other direction",
            json!({"policyTypes": ["Egress"], "ingress": []}),
            &["db", "far", "other", "outside", "node"],
        ),
        ("by default nothing about egress", json!({"podSelector": web}), &everybody),
        (
            "unless it says something",
            json!({"podSelector": web, "egress": [{"to": [{"podSelector": web}]}]}),
            &["db", "far", "other", "outside", "node"],
        ),
        (
            "what no one can read allows no one",
            json!({"ingress": [{"from": [{}, {"ipBlock": {"cidr": "x"}}]}]}),
            &["db"],
        ),
    ];
    for (what, spec, expected) in cases {
        assert_eq!(reaching(&with(&[("a", spec.clone())]), DB), *expected, "{what}");
    }
}

#[test]
fn policies_add_up_and_both_ends_decide() {
    let allow = |app: &str| json!({"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": app}}}]}]});
    let model = with(&[("a", json!({})), ("a", allow("web")), ("a", allow("far"))]);
    assert_eq!(reaching(&model, DB), ["web", "db", "far"]);
    let out = json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"]});
    let model = with(&[("a", allow("web")), ("a", out)]);
    assert_eq!(reaching(&model, DB), ["db"]);
    // A policy of another namespace is not about these pods, and pods elsewhere are not this node's to isolate.
    let model = with(&[("b", json!({}))]);
    assert_eq!(model, Model::default());
}

#[test]
fn ports_of_every_shape() {
    let open = |ports: Value, to: &str, protocol| {
        let model = with(&[("a", json!({"ingress": [{"ports": ports}]}))]);
        [53, 80, 81, 8001, 8002].into_iter().filter(|port| passes(&model, FAR, to, protocol, *port)).collect::<Vec<_>>()
    };
    let all = [53, 80, 81, 8001, 8002];
    assert_eq!(open(json!([{}]), DB, Protocol::Tcp), all);
    assert_eq!(open(json!([{}]), DB, Protocol::Udp), Vec::<u16>::new());
    assert_eq!(open(json!([{"protocol": "SCTP"}]), DB, Protocol::Sctp), all);
    assert_eq!(open(json!([{"port": 80}]), DB, Protocol::Tcp), [80]);
    assert_eq!(open(json!([{"port": 80, "endPort": 8001}]), DB, Protocol::Tcp), [80, 81, 8001]);
    assert_eq!(open(json!([{"port": "http"}, {"port": 81}]), DB, Protocol::Tcp), [81, 8002]);
    assert_eq!(open(json!([{"port": "http"}]), WEB, Protocol::Tcp), [8001]);
    assert_eq!(open(json!([{"port": "http", "protocol": "UDP"}]), WEB, Protocol::Udp), [53]);
    assert_eq!(open(json!([{"port": "nobody's"}]), WEB, Protocol::Tcp), Vec::<u16>::new());
    // Towards others the name is theirs.
    let named = json!({"podSelector": {"matchLabels": {"app": "web"}}, "egress": [{"ports": [{"port": "http"}]}]});
    let model = with(&[("a", named)]);
    assert!(passes(&model, WEB, OTHER, Protocol::Tcp, 8004) && !passes(&model, WEB, OTHER, Protocol::Tcp, 8003));
    assert!(!passes(&model, WEB, OUTSIDE, Protocol::Tcp, 8004));
}

#[test]
fn cluster_dns_is_allowed_as_the_pods_that_serve_it_elsewhere() {
    let dns = |peer: Value, port: Value| {
        let model = with(&[("a", json!({"policyTypes": ["Egress"], "egress": [{"to": [peer], "ports": [port]}]}))]);
        passes(&model, WEB, DNS, Protocol::Udp, 53)
    };
    let udp = |port: Value| json!({"protocol": "UDP", "port": port});
    let system = json!({"matchLabels": {"name": "kube-system"}});
    let labels = json!({"matchLabels": {"k8s-app": "kube-dns"}});
    assert!(dns(json!({"namespaceSelector": system, "podSelector": labels}), udp(json!(53))));
    assert!(dns(json!({"namespaceSelector": system}), udp(json!("dns"))));
    assert!(dns(json!({"namespaceSelector": {}, "podSelector": labels}), udp(json!(53))));
    assert!(dns(json!({"ipBlock": {"cidr": "10.43.0.10/32"}}), udp(json!(53))));
    assert!(!dns(json!({"podSelector": labels}), udp(json!(53))), "it is not of this namespace");
    assert!(!dns(json!({"namespaceSelector": {"matchLabels": {"name": "b"}}}), udp(json!(53))));
    assert!(!dns(json!({"namespaceSelector": system}), json!({"port": 53})), "TCP");
}

fn facts() -> Facts {
    Facts {
        instance: "pintle".into(),
        families: vec![Family::V4],
        bridge: Some("pintle0".into()),
        cluster_dns: vec![DNS.parse().unwrap()],
    }
}

#[test]
fn a_pod_that_comes_is_elements_and_no_rules() {
    let feed = cluster();
    let spec = json!({"ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": "http"}]}]});
    feed.apply_policy(&policy("a", "p", &spec));
    let table = || compile(&feed.read(|inputs| resolve(inputs, &[])), &facts());
    let before = table();
    assert_eq!(table(), before);
    feed.apply_pod(&serde_json::from_value(pod("a", "new", "here", "10.42.0.5")).unwrap());
    let script = nft::diff(&before, &table());
    assert!(!script.is_empty());
    assert!(script.lines().all(|line| line.starts_with("add element inet pintle_policy ")), "{script}");
    feed.delete_policy("a", "p");
    assert_eq!(table(), nft::Table::new("pintle_policy"), "without policies there is nothing in a packet's way");
}

#[test]
fn rules_are_as_few_as_they_can_be() {
    let spec = json!({"ingress": [{
        "from": [{"podSelector": {}}, {"ipBlock": {"cidr": "10.9.0.0/16", "except": ["10.9.1.0/24", "10.9.1.128/25"]}}],
        "ports": [{"port": 80}, {"port": 81}, {"port": 79, "endPort": 82}, {"protocol": "UDP", "port": 53}, {"protocol":
            "UDP"}],
    }, {"from": [{"ipBlock": {"cidr": "10.8.0.0/16", "except": ["10.0.0.0/8"]}}]}, {"from": [{"ipBlock": {"cidr":
        "fd00::/8"}}]}]});
    let table = compile(&with(&[("a", spec)]), &facts());
    let chain = table.chains.iter().find(|(name, _)| name.starts_with("ingress-policy-")).unwrap().1;
    let group = table.sets.keys().find(|name| name.starts_with("pods-")).unwrap();
    let expected = [
        format!("meta l4proto tcp ct original ip saddr @{group} ct reply proto-src 79-82 accept"),
        format!("meta l4proto udp ct original ip saddr @{group} accept"),
        "meta l4proto tcp ct original ip saddr 10.9.0.0/16 ct original ip saddr != 10.9.1.0/24 ct reply proto-src \
         79-82 accept"
            .into(),
        "meta l4proto udp ct original ip saddr 10.9.0.0/16 ct original ip saddr != 10.9.1.0/24 accept".into(),
    ];
    assert_eq!(chain.rules, expected);
}

#[test]
fn many_ranges_and_ports_are_sets_and_no_rules_of_their_own() {
    let blocks =
        |count: u32| (0..count).map(|n| json!({"ipBlock": {"cidr": format!("11.{}.{}.0/24", n / 256, n % 256)}}));
    let block = |cidr: &str, except: &[&str]| json!({"ipBlock": {"cidr": cidr, "except": except}});
    let mut from: Vec<Value> = blocks(2000).collect();
    from.extend([block("11.0.0.0/17", &[]), block("11.0.7.7/32", &[]), block("12.0.0.0/8", &["12.1.0.0/16"])]);
    let ports: Vec<Value> = (0..2000).map(|n| json!({"port": 2 * n + 1})).collect();
    let chain = |spec: Value| {
        let table = compile(&with(&[("a", spec)]), &facts());
        table.chains.into_iter().find(|(name, _)| name.starts_with("ingress-policy-")).unwrap().1.rules
    };
    let rules = chain(json!({"ingress": [{"from": from, "ports": ports}]}));
    assert_eq!(rules.len(), 2, "one of all whole ranges, one of the one with an exception");
    assert!(
        rules[0].starts_with("meta l4proto tcp ct original ip saddr { 11.0.0.0/17, 11.0.128.0/24, 11.0.129.0/24, ")
    );
    assert_eq!(rules[0].matches("/24").count(), 2000 - 128, "what lies in another is not named");
    assert!(rules[0].contains(" ct reply proto-src { 1, 3, 5, ") && rules[0].ends_with(", 3997, 3999 } accept"));
    assert!(rules[1].starts_with(
        "meta l4proto tcp ct original ip saddr 12.0.0.0/8 ct original ip saddr != 12.1.0.0/16 ct reply proto-src { 1, "
    ));
    let all = chain(json!({"ingress": [{"from": [block("0.0.0.0/0", &[]), block("10.0.0.0/8", &[])]}]}));
    assert_eq!(all, ["meta nfproto ipv4 accept"]);
}

#[test]
fn a_rule_beyond_the_bounds_allows_nobody() {
    let parted =
        |n: usize| json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": [format!("10.1.{}.{}/32", n / 256, n % 256)]}});
    let named = |count: usize| (0..count).map(|n| json!({"port": format!("p{n}")})).collect::<Vec<_>>();
    let selector =
        |n: usize| json!({"podSelector": {"matchExpressions": [{"key": format!("k{n}"), "operator": "DoesNotExist"}]}});
    let from = |peers: Vec<Value>, ports: Vec<Value>| json!({"from": peers, "ports": ports});
    let kept = |rules: Vec<Value>| {
        let policy = rule::Policy::of(&policy("a", "p", &json!({"ingress": rules})));
        let rules = policy.ingress.expect("it isolates all the same");
        assert!(rules.iter().map(rule::Rule::elements).sum::<usize>() <= rule::ELEMENTS_MAX);
        rules.len()
    };
    assert_eq!(kept(vec![from((0..100).map(parted).collect(), named(40))]), 1);
    let large = || from((0..1000).map(parted).collect(), named(1000));
    assert_eq!(kept(vec![large()]), 0, "they would be a million rules");
    // What comes before and after holds.
    let small = || from(vec![parted(1)], named(1));
    assert_eq!(kept(vec![small(), large(), small()]), 2);
    // Many small ones are bounded like a large one.
    assert_eq!(kept((0..=rule::ELEMENTS_MAX).map(|_| json!({})).collect()), rule::ELEMENTS_MAX);
    let model = with(&[("a", json!({"ingress": [large()]}))]);
    assert_eq!(reaching(&model, DB), ["db"]);
    assert_eq!(kept(vec![from((0..rule::SELECTORS_MAX).map(selector).collect(), vec![])]), 1);
    assert_eq!(kept(vec![from((0..=rule::SELECTORS_MAX).map(selector).collect(), vec![])]), 0);
}

#[test]
fn an_address_belongs_to_whom_the_node_gave_it_last() {
    let feed = cluster();
    feed.apply_policy(&policy("a", "p", &json!({"podSelector": {"matchLabels": {"app": "new"}}})));
    let typed = |value: &Value| serde_json::from_value::<Pod>(value.clone()).unwrap();
    let isolated = || {
        let model = feed.read(|inputs| resolve(inputs, &[]));
        model.ingress.isolated.keys().map(ToString::to_string).collect::<Vec<_>>()
    };
    let web: IpAddr = WEB.parse().unwrap();
    // No policy holds for it: there is nothing to wait for.
    let old = pod("a", "web", "here", WEB);
    assert_eq!(feed.admit(&typed(&old), &[web]), None);
    // Its address goes to another before the API has forgotten it.
    let mut new = pod("a", "new", "here", WEB);
    new["status"] = json!({});
    let version = feed.admit(&typed(&new), &[web]).unwrap();
    assert_eq!((version, isolated()), (feed.version(), vec![WEB.to_owned()]));
    feed.apply_pod(&typed(&old));
    feed.apply_pod(&typed(&new));
    assert_eq!(isolated(), [WEB]);
    // One of the same name is another pod; the one before lives on until its network is gone.
    let mut former = new.clone();
    new["metadata"]["uid"] = "other".into();
    feed.apply_pod(&typed(&new));
    assert_eq!(isolated(), [WEB]);
    assert_eq!(feed.admit(&typed(&new), &[DB.parse().unwrap()]), Some(feed.version()));
    assert_eq!(isolated(), [WEB, DB]);
    // Its end is told late, and does not concern the other.
    former["metadata"]["labels"] = json!({});
    feed.delete_pod(&typed(&former));
    assert_eq!(isolated(), [WEB, DB]);
    feed.replace_pods([Arc::new(typed(&new))]);
    assert_eq!(isolated(), [WEB, DB]);
    let before = feed.version();
    feed.release(&typed(&former));
    assert_eq!((feed.version(), isolated()), (before + 1, vec![DB.to_owned()]));
    // A new sandbox has a new address, whatever the API says of the old one.
    assert_eq!(feed.admit(&typed(&new), &["10.42.0.77".parse().unwrap()]), Some(feed.version()));
    new["status"] = json!({"podIP": DB});
    feed.apply_pod(&typed(&new));
    assert_eq!(isolated(), ["10.42.0.77"]);
    // It is isolated as long as it has a network, and no longer.
    new["status"]["phase"] = "Failed".into();
    feed.apply_pod(&typed(&new));
    assert_eq!(isolated(), ["10.42.0.77"]);
    feed.release(&typed(&new));
    assert_eq!(isolated(), Vec::<String>::new());
    // One that the API still has is released, and then deleted.
    new["status"] = json!({});
    new["metadata"]["uid"] = "third".into();
    feed.apply_pod(&typed(&new));
    feed.admit(&typed(&new), &[DB.parse().unwrap()]);
    feed.release(&typed(&new));
    assert_eq!(isolated(), [DB]);
    feed.delete_pod(&typed(&new));
    assert_eq!(isolated(), Vec::<String>::new());
}

#[test]
fn a_pod_whose_name_is_anothers_stays_isolated_by_what_it_was() {
    let feed = cluster();
    feed.apply_policy(&policy("a", "p", &json!({"podSelector": {"matchLabels": {"app": "web"}}})));
    let typed = |value: &Value| serde_json::from_value::<Pod>(value.clone()).unwrap();
    let isolated = || {
        let model = feed.read(|inputs| resolve(inputs, &[]));
        model.ingress.isolated.keys().map(ToString::to_string).collect::<Vec<_>>()
    };
    let old = pod("a", "web", "here", WEB);
    feed.admit(&typed(&old), &[WEB.parse().unwrap()]);
    // The new one is on another node, with labels that no policy selects.
    feed.delete_pod(&typed(&old));
    let mut new = pod("a", "web", "there", "10.42.1.77");
    new["metadata"]["uid"] = "web-2".into();
    new["metadata"]["labels"] = json!({"app": "free"});
    feed.apply_pod(&typed(&new));
    assert_eq!(isolated(), [WEB]);
    // A policy that comes now holds for it too, and one that goes does not.
    feed.apply_policy(&policy("a", "out", &json!({"policyTypes": ["Egress"]})));
    feed.delete_policy("a", "p");
    let model = feed.read(|inputs| resolve(inputs, &[]));
    assert_eq!((isolated(), model.egress.isolated.contains_key(&WEB.parse::<IpAddr>().unwrap())), (vec![], true));
    // The address goes to the next pod before the old one is released.
    feed.apply_policy(&policy("a", "p", &json!({"podSelector": {"matchLabels": {"app": "web"}}})));
    let mut next = pod("a", "next", "here", WEB);
    next["status"] = json!({});
    feed.admit(&typed(&next), &[WEB.parse().unwrap()]);
    assert_eq!(isolated(), Vec::<String>::new());
    assert_eq!(feed.isolation(&typed(&next)), Some(feed.version()));
    feed.release(&typed(&old));
    feed.release(&typed(&next));
    assert_eq!(feed.isolation(&typed(&next)), None);
    let model = feed.read(|inputs| resolve(inputs, &[]));
    assert_eq!(model.egress.isolated.keys().map(ToString::to_string).collect::<Vec<_>>(), [DB]);
}

#[test]
fn a_pod_that_ended_and_still_has_a_network_is_isolated() {
    let feed = cluster();
    feed.apply_policy(&policy("a", "p", &json!({})));
    let isolated = |ip: &str| {
        let ip: IpAddr = ip.parse().unwrap();
        feed.read(|inputs| resolve(inputs, &[])).ingress.isolated.contains_key(&ip)
    };
    // As after a restart: the API has listed it as failed, and the node finds its sandbox.
    let mut ended = pod("a", "ended", "here", "10.42.0.9");
    ended["status"]["phase"] = "Failed".into();
    let ended: Pod = serde_json::from_value(ended).unwrap();
    assert!(!isolated("10.42.0.9"));
    assert_eq!(feed.admit(&ended, &["10.42.0.9".parse().unwrap()]), Some(feed.version()));
    assert!(isolated("10.42.0.9"));
    feed.apply_pod(&ended);
    assert!(isolated("10.42.0.9"));
    feed.release(&ended);
    assert!(!isolated("10.42.0.9"));
}

#[test]
fn what_policies_do_not_look_at_changes_nothing() {
    let feed = cluster();
    let before = feed.version();
    let mut told = pod("a", "web", "here", WEB);
    told["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    told["metadata"]["annotations"] = json!({"a": "b"});
    feed.apply_pod(&serde_json::from_value(told.clone()).unwrap());
    assert_eq!(feed.version(), before);
    told["metadata"]["labels"] = json!({});
    feed.apply_pod(&serde_json::from_value(told).unwrap());
    assert_eq!(feed.version(), before + 1);
}
