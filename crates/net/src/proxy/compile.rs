//! Services and endpoints in, one nftables table out.
//!
//! The shape is that of upstream's nftables proxy (pkg/proxy/nftables): a packet's destination is looked up in a map
//! whose verdict is the Service port's chain; that chain picks an endpoint and rewrites the destination. What has no
//! endpoint is looked up in a second map, after routing, and refused. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::core::v1::Service;
use api::discovery::v1::EndpointSlice;
use api::lean::Pod;

use super::endpoints::{self, Endpoint, Port, Protocol};
use super::facts::Facts;
use super::{frame, host_port};
use crate::nft::Table;
use crate::{Family, names};

/// A place UDP packets are sent to: what conntrack remembers as the original destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frontend {
    /// An address of a Service.
    Address(SocketAddr),
    /// A port on every address of the node.
    NodePort(Family, u16),
}

/// What the proxy puts into the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// The nftables table.
    pub table: Table,
    /// Where each UDP frontend may lead: conntrack entries that say otherwise are stale.
    pub udp: BTreeMap<Frontend, BTreeSet<SocketAddr>>,
}

/// Compiles the whole ruleset. Equal inputs give equal rulesets.
pub fn compile<'a>(
    services: impl IntoIterator<Item = &'a Arc<Service>>,
    slices: impl IntoIterator<Item = &'a Arc<EndpointSlice>>,
    pods: impl IntoIterator<Item = &'a Arc<Pod>>,
    facts: &Facts,
) -> Ruleset {
    let mut ruleset = Ruleset { table: frame::table(facts), udp: BTreeMap::new() };
    for port in endpoints::ports(services, slices, facts) {
        compile_port(&mut ruleset, &port, facts);
    }
    host_port::compile(&mut ruleset, pods, facts);
    ruleset
}

/// `ip` or `ip6`, nft's word for a family's header.
pub(super) fn header(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// The name of a map or set of a family.
pub(super) fn named(name: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{name}-v4"),
        Family::V6 => format!("{name}-v6"),
    }
}

/// An address and a port, as nft and people write them.
pub(super) fn socket(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

fn compile_port(ruleset: &mut Ruleset, port: &Port, facts: &Facts) {
    let chains = Chains::of(port);
    let uses_cluster = !port.internal_local || port.is_external();
    let uses_local = port.internal_local || (port.external_local && port.is_external());
    let mut endpoints: BTreeSet<&Endpoint> = BTreeSet::new();
    if uses_cluster {
        endpoints.extend(&port.cluster_endpoints);
    }
    if uses_local {
        endpoints.extend(&port.local_endpoints);
    }
    for endpoint in endpoints {
        if endpoint.local || facts.pod_cidrs.iter().any(|cidr| cidr.contains(endpoint.ip)) {
            hairpin(&mut ruleset.table, endpoint.ip);
        }
        if let Some(seconds) = port.affinity_seconds {
            compile_endpoint(&mut ruleset.table, port, endpoint, seconds, &chains);
        }
    }
    if port.is_external() {
        if !port.cluster_endpoints.is_empty() {
            ruleset.table.chain(&chains.cluster, pick(port, &port.cluster_endpoints, &chains));
        }
        if uses_local && !port.local_endpoints.is_empty() {
            ruleset.table.chain(&chains.local, pick(port, &port.local_endpoints, &chains));
        }
        compile_external(ruleset, port, &chains, facts);
    }
    compile_internal(ruleset, port, &chains, facts);
}

/// A pod that reaches itself through a Service must see another source than itself.
pub(super) fn hairpin(table: &mut Table, ip: IpAddr) {
    table.set_element(&named(frame::HAIRPINS, Family::of(ip)), format!("{ip} . {ip}"));
}

/// The chains of one Service port.
struct Chains<'a> {
    parts: [&'a str; 4],
    internal: String,
    external: String,
    cluster: String,
    local: String,
    firewall: String,
    family: &'static str,
}

impl<'a> Chains<'a> {
    fn of(port: &'a Port) -> Self {
        let parts = [port.namespace.as_str(), &port.service, port.protocol.word(), &port.name];
        let family = header(port.family);
        let name = |kind: &str| names::chain(kind, &[parts[0], parts[1], parts[2], parts[3], family]);
        Self {
            parts,
            internal: name("internal"),
            external: name("external"),
            cluster: name("service"),
            local: name("local"),
            firewall: name("firewall"),
            family,
        }
    }

    fn endpoint(&self, kind: &str, endpoint: &Endpoint) -> String {
        let (ip, port) = (endpoint.ip.to_string(), endpoint.port.to_string());
        names::chain(kind, &[self.parts[0], self.parts[1], self.parts[2], self.parts[3], self.family, &ip, &port])
    }
}

/// The rules that choose among endpoints: the one the client had, else any.
fn pick(port: &Port, endpoints: &[Endpoint], chains: &Chains<'_>) -> Vec<String> {
    if port.affinity_seconds.is_some() {
        let mut rules = Vec::new();
        for endpoint in endpoints {
            let (set, chain) = (chains.endpoint("affinity", endpoint), chains.endpoint("endpoint", endpoint));
            rules.push(format!("{} saddr @{set} goto {chain}", chains.family));
        }
        let choices = endpoints.iter().map(|endpoint| format!("goto {}", chains.endpoint("endpoint", endpoint)));
        rules.push(match endpoints {
            [only] => format!("goto {}", chains.endpoint("endpoint", only)),
            _ => format!("numgen random mod {} vmap {{ {} }}", endpoints.len(), numbered(choices)),
        });
        return rules;
    }
    // Without memory there is no need for a chain per endpoint: nft's work grows with the number of chains.
    let choices = endpoints.iter().map(|endpoint| format!("{} . {}", endpoint.ip, endpoint.port));
    let target = match endpoints {
        [only] => socket(only.ip, only.port).to_string(),
        _ => format!("numgen random mod {} map {{ {} }}", endpoints.len(), numbered(choices)),
    };
    vec![format!("meta l4proto {} dnat {} to {target}", port.protocol.word(), chains.family)]
}

fn numbered(choices: impl Iterator<Item = String>) -> String {
    choices.enumerate().map(|(n, choice)| format!("{n} : {choice}")).collect::<Vec<_>>().join(", ")
}

/// The chain of an endpoint that remembers its clients.
fn compile_endpoint(table: &mut Table, port: &Port, endpoint: &Endpoint, seconds: u32, chains: &Chains<'_>) {
    let family = chains.family;
    let set = chains.endpoint("affinity", endpoint);
    let kind = if port.family == Family::V4 { "ipv4_addr" } else { "ipv6_addr" };
    table.set(&set, format!("type {kind}; flags dynamic,timeout; timeout {seconds}s;"));
    let target = socket(endpoint.ip, endpoint.port);
    table.chain(
        chains.endpoint("endpoint", endpoint),
        vec![
            format!("update @{set} {{ {family} saddr }}"),
            format!("meta l4proto {} dnat {family} to {target}", port.protocol.word()),
        ],
    );
}

/// The cluster IP: for pods and the node itself.
fn compile_internal(ruleset: &mut Ruleset, port: &Port, chains: &Chains<'_>, facts: &Facts) {
    let key = key(port.cluster_ip, port.protocol, port.port);
    remember(ruleset, port, port.cluster_ip, port.port, port.internal_endpoints());
    if port.internal_endpoints().is_empty() {
        let verdict = refusal(port, frame::REJECT_UNLESS_LOCAL, frame::DROP_UNLESS_LOCAL);
        ruleset.table.map_element(&named(frame::NO_ENDPOINT_SERVICES, port.family), key, verdict);
        return;
    }
    let mut rules = Vec::new();
    // A source outside the pod network may not have a route back from the endpoint's node.
    if let Some(range) = sources(facts, port.family) {
        rules.push(format!("{} saddr != {range} jump {}", chains.family, frame::MARK_FOR_MASQUERADE));
    }
    let shared = if port.internal_local { &chains.local } else { &chains.cluster };
    if ruleset.table.chains.contains_key(shared) {
        rules.push(format!("goto {shared}"));
    } else {
        rules.extend(pick(port, port.internal_endpoints(), chains));
    }
    ruleset.table.chain(&chains.internal, rules);
    ruleset.table.map_element(&named(frame::SERVICE_IPS, port.family), key, format!("goto {}", chains.internal));
}

/// External IPs, load balancer addresses and node ports.
fn compile_external(ruleset: &mut Ruleset, port: &Port, chains: &Chains<'_>, facts: &Facts) {
    let addresses: BTreeSet<IpAddr> = port.external_ips.iter().chain(&port.load_balancer_ips).copied().collect();
    let endpoints = port.external_endpoints();
    for address in &addresses {
        remember(ruleset, port, *address, port.port, endpoints);
    }
    if let (Some(node_port), Protocol::Udp) = (port.node_port, port.protocol) {
        ruleset.udp.insert(
            Frontend::NodePort(port.family, node_port),
            endpoints.iter().map(|endpoint| socket(endpoint.ip, endpoint.port)).collect(),
        );
    }
    compile_firewall(&mut ruleset.table, port, chains);

    // Without an endpoint here, the policy `Local` still lets pods and the node itself go to any endpoint.
    let served = !endpoints.is_empty() || (port.external_local && !port.cluster_endpoints.is_empty());
    let (ips, ports, verdict) = if served {
        ruleset.table.chain(&chains.external, external_rules(port, chains, facts));
        (frame::SERVICE_IPS, frame::NODE_PORTS, format!("goto {}", chains.external))
    } else {
        (frame::NO_ENDPOINT_SERVICES, frame::NO_ENDPOINT_NODE_PORTS, refusal(port, frame::REJECT, "drop"))
    };
    for address in addresses {
        let key = key(address, port.protocol, port.port);
        ruleset.table.map_element(&named(ips, port.family), key, verdict.clone());
    }
    if let Some(node_port) = port.node_port {
        let key = format!("{} . {node_port}", port.protocol.word());
        ruleset.table.map_element(&named(ports, port.family), key, verdict);
    }
}

fn external_rules(port: &Port, chains: &Chains<'_>, facts: &Facts) -> Vec<String> {
    if !port.external_local {
        // The endpoint may be on another node: the answer has to come back this way.
        return vec![format!("jump {}", frame::MARK_FOR_MASQUERADE), format!("goto {}", chains.cluster)];
    }
    let mut rules =
        if port.cluster_endpoints.is_empty() { Vec::new() } else { near_sources(chains, facts, port.family) };
    rules.push(if port.local_endpoints.is_empty() { "drop".into() } else { format!("goto {}", chains.local) });
    rules
}

/// `externalTrafficPolicy: Local` is for clients from outside: pods and the node itself use every endpoint.
fn near_sources(chains: &Chains<'_>, facts: &Facts, family: Family) -> Vec<String> {
    let mut rules = Vec::new();
    if let Some(range) = sources(facts, family) {
        rules.push(format!("{} saddr {range} goto {}", chains.family, chains.cluster));
    }
    rules.push(format!("fib saddr type local jump {}", frame::MARK_FOR_MASQUERADE));
    rules.push(format!("fib saddr type local goto {}", chains.cluster));
    rules
}

/// `loadBalancerSourceRanges`: looked at before anything is rewritten.
fn compile_firewall(table: &mut Table, port: &Port, chains: &Chains<'_>) {
    if port.source_ranges.is_empty() || port.load_balancer_ips.is_empty() {
        return;
    }
    let ranges: Vec<String> = port.source_ranges.iter().map(ToString::to_string).collect();
    table.chain(&chains.firewall, vec![format!("{} saddr != {{ {} }} drop", chains.family, merged(&ranges))]);
    for address in &port.load_balancer_ips {
        let key = key(*address, port.protocol, port.port);
        table.map_element(&named(frame::FIREWALL_IPS, port.family), key, format!("goto {}", chains.firewall));
    }
}

/// Ranges that lie in one another are refused by nft: only the widest are kept.
fn merged(ranges: &[String]) -> String {
    let ranges: BTreeSet<crate::Cidr> = ranges.iter().filter_map(|range| range.parse().ok()).collect();
    let widest = ranges.iter().filter(|range| {
        !ranges
            .iter()
            .any(|other| other != *range && other.contains(range.base()) && other.prefix_len() < range.prefix_len())
    });
    widest.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn remember(ruleset: &mut Ruleset, port: &Port, ip: IpAddr, number: u16, endpoints: &[Endpoint]) {
    if port.protocol == Protocol::Udp {
        ruleset.udp.insert(
            Frontend::Address(socket(ip, number)),
            endpoints.iter().map(|endpoint| socket(endpoint.ip, endpoint.port)).collect(),
        );
    }
}

fn refusal(port: &Port, reject: &str, drop: &str) -> String {
    let target = if port.has_any_endpoint { drop } else { reject };
    if target == "drop" { target.into() } else { format!("goto {target}") }
}

fn key(ip: IpAddr, protocol: Protocol, port: u16) -> String {
    format!("{ip} . {} . {port}", protocol.word())
}

/// The pods' addresses of a family as an nft expression.
pub(super) fn sources(facts: &Facts, family: Family) -> Option<String> {
    let ranges: Vec<String> =
        facts.cluster_cidrs.iter().filter(|cidr| cidr.family() == family).map(ToString::to_string).collect();
    match ranges.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        _ => Some(format!("{{ {} }}", merged(&ranges))),
    }
}
