//! The fixed part of the proxy's table: the hooks, the maps the Services fill, and the rules that keep packets for
//! the cluster's own networks from leaving by the default route. Pure.

use super::compile::{header, named, sources};
use super::facts::{Facts, MASQUERADE_MARK};
use crate::Family;
use crate::nft::{Hook, Table};

/// Address, protocol and port of a Service to the chain that serves it.
pub const SERVICE_IPS: &str = "service-ips";
/// Protocol and port on any address of the node to the chain that serves it.
pub const NODE_PORTS: &str = "service-nodeports";
/// Protocol and port on any address of the node to a local pod.
pub const HOST_PORTS: &str = "host-ports";
/// Address, protocol and port to a local pod.
pub const HOST_IP_PORTS: &str = "host-ip-ports";
/// Services that nobody serves.
pub const NO_ENDPOINT_SERVICES: &str = "no-endpoint-services";
/// Node ports that nobody serves.
pub const NO_ENDPOINT_NODE_PORTS: &str = "no-endpoint-nodeports";
/// Load balancer addresses with `loadBalancerSourceRanges`.
pub const FIREWALL_IPS: &str = "firewall-ips";

/// Pods' addresses, twice each: a connection from a pod to itself.
pub const HAIRPINS: &str = "hairpin-connections";

/// Marks a packet whose source is to be rewritten when it leaves.
pub const MARK_FOR_MASQUERADE: &str = "mark-for-masquerade";
/// Refuses at once: a TCP reset or an ICMP port unreachable.
pub const REJECT: &str = "reject-chain";
/// As [`REJECT`], but what is addressed to the node itself (cluster DNS) passes.
pub const REJECT_UNLESS_LOCAL: &str = "reject-unless-local";
/// Drops what is not addressed to the node itself.
pub const DROP_UNLESS_LOCAL: &str = "drop-unless-local";

const NAT_PREROUTING: &str = "nat-prerouting";
const NAT_OUTPUT: &str = "nat-output";
const SERVICES: &str = "services";
const FIREWALL_CHECK: &str = "firewall-check";
const NO_ENDPOINT_CHECK: &str = "service-endpoints-check";
const CLUSTER_IPS_CHECK: &str = "cluster-ips-check";

/// `dstnat` and `srcnat` as numbers: nft 1.0.6 does not know the names for every hook.
const DNAT: i32 = -100;
const SNAT: i32 = 100;
const FILTER: i32 = 0;
/// Before conntrack and before any rewriting.
const RAW: i32 = -300;

/// The table without any Service.
pub fn table(facts: &Facts) -> Table {
    let mut table = Table::new(facts.table());
    let families = facts.families();
    for family in &families {
        declare(&mut table, *family);
    }
    let each = |rules: &dyn Fn(Family) -> Vec<String>| families.iter().flat_map(|f| rules(*f)).collect::<Vec<_>>();

    table.chain(MARK_FOR_MASQUERADE, vec![format!("meta mark set meta mark or {MASQUERADE_MARK:#x}")]);
    table.chain(REJECT, vec!["meta l4proto tcp reject with tcp reset".into(), "reject".into()]);
    let unless_local = |then: &str| vec!["fib daddr type local return".into(), then.to_owned()];
    table.chain(REJECT_UNLESS_LOCAL, unless_local(&format!("goto {REJECT}")));
    table.chain(DROP_UNLESS_LOCAL, unless_local("drop"));
    table.chain(SERVICES, each(&|family| service_rules(family, facts)));
    table.chain(FIREWALL_CHECK, each(&|family| vec![lookup(family, FIREWALL_IPS)]));
    table.chain(NO_ENDPOINT_CHECK, each(&|family| vec![lookup(family, NO_ENDPOINT_SERVICES)]));
    table.chain(
        CLUSTER_IPS_CHECK,
        facts
            .service_cidrs
            .iter()
            .map(|range| format!("{} daddr {range} goto {REJECT_UNLESS_LOCAL}", header(range.family())))
            .collect(),
    );

    let jump = |chain: &str| format!("jump {chain}");
    let nat = |hook, priority| Hook { kind: "nat", hook, priority };
    let filter = |hook, priority| Hook { kind: "filter", hook, priority };
    table.base_chain(NAT_PREROUTING, nat("prerouting", DNAT), vec![jump(SERVICES)]);
    table.base_chain(NAT_OUTPUT, nat("output", DNAT), vec![jump(SERVICES)]);
    table.base_chain("nat-postrouting", nat("postrouting", SNAT), masquerade_rules(facts));
    table.base_chain("firewall-prerouting", filter("prerouting", DNAT - 10), vec![jump(FIREWALL_CHECK)]);
    table.base_chain("firewall-output", filter("output", DNAT - 10), vec![jump(FIREWALL_CHECK)]);
    let new_only = |chain: &str| format!("ct state new jump {chain}");
    let mut input = each(&|family| {
        vec![format!("ct state new {} vmap @{}", to_node(family, facts), named(NO_ENDPOINT_NODE_PORTS, family))]
    });
    input.push(new_only(NO_ENDPOINT_CHECK));
    table.base_chain("filter-input", filter("input", FILTER), input);
    let checks = vec![new_only(NO_ENDPOINT_CHECK), jump(CLUSTER_IPS_CHECK)];
    table.base_chain("filter-forward", filter("forward", FILTER), checks.clone());
    table.base_chain("filter-output", filter("output", FILTER), checks);
    if let (Some(bridge), true) = (&facts.bridge, families.contains(&Family::V4)) {
        // The bridge accepts loopback addresses (`route_localnet`) so that node ports answer on localhost: pods must
        // not reach the node's own loopback services that way.
        let guard = format!("iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop");
        table.base_chain("guard-loopback", filter("prerouting", RAW), vec![guard]);
    }
    table
}

fn declare(table: &mut Table, family: Family) {
    let address = match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    };
    for map in [SERVICE_IPS, HOST_IP_PORTS, NO_ENDPOINT_SERVICES, FIREWALL_IPS] {
        table.verdict_map(named(map, family), &format!("{address} . inet_proto . inet_service"));
    }
    table.set(named(HAIRPINS, family), format!("type {address} . {address};"));
    for map in [NODE_PORTS, HOST_PORTS, NO_ENDPOINT_NODE_PORTS] {
        table.verdict_map(named(map, family), "inet_proto . inet_service");
    }
}

fn lookup(family: Family, map: &str) -> String {
    format!("{} daddr . meta l4proto . th dport vmap @{}", header(family), named(map, family))
}

/// Matches packets to an address of the node that answers node ports, up to the key of the lookup.
fn to_node(family: Family, facts: &Facts) -> String {
    let header = header(family);
    let ranges: Vec<String> =
        facts.node_port_addresses.iter().filter(|c| c.family() == family).map(ToString::to_string).collect();
    let restricted = !facts.node_port_addresses.is_empty();
    let protocol = if family == Family::V4 { "ipv4" } else { "ipv6" };
    match (restricted, ranges.is_empty()) {
        (true, false) => {
            format!("{header} daddr {{ {} }} fib daddr type local meta l4proto . th dport", ranges.join(", "))
        }
        _ => format!("meta nfproto {protocol} fib daddr type local meta l4proto . th dport"),
    }
}

fn service_rules(family: Family, facts: &Facts) -> Vec<String> {
    let protocol = if family == Family::V4 { "ipv4" } else { "ipv6" };
    vec![
        lookup(family, SERVICE_IPS),
        format!("{} vmap @{}", to_node(family, facts), named(NODE_PORTS, family)),
        lookup(family, HOST_IP_PORTS),
        format!(
            "meta nfproto {protocol} fib daddr type local meta l4proto . th dport vmap @{}",
            named(HOST_PORTS, family)
        ),
    ]
}

fn masquerade_rules(facts: &Facts) -> Vec<String> {
    let mut rules = vec![format!(
        "meta mark & {MASQUERADE_MARK:#x} == {MASQUERADE_MARK:#x} \
         meta mark set meta mark xor {MASQUERADE_MARK:#x} masquerade fully-random"
    )];
    for family in facts.families() {
        let (header, set) = (header(family), named(HAIRPINS, family));
        rules.push(format!("{header} saddr . {header} daddr @{set} masquerade fully-random"));
    }
    let Some(bridge) = &facts.bridge else { return rules };
    for range in &facts.pod_cidrs {
        let header = header(range.family());
        let multicast = if range.family() == Family::V4 { "224.0.0.0/4" } else { "ff00::/8" };
        let inside = sources(facts, range.family()).unwrap_or_else(|| range.to_string());
        rules.push(format!(
            "{header} saddr {range} {header} daddr != {inside} {header} daddr != {multicast} \
             oifname != \"{bridge}\" masquerade fully-random"
        ));
    }
    rules
}
