//! The node's interfaces and routes, through `ip` of iproute2: the pods' bridge, and the link that carries the cluster
//! DNS address and the route to the Services. Every function brings about a state and may be called again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

use crate::{Cidr, Error, Family, Result, command, names};

/// The bridge of a node's pods.
#[derive(Debug, Clone, Copy)]
pub struct Bridge<'a> {
    /// The interface's name.
    pub name: &'a str,
    /// The gateway addresses with their prefix lengths. Others are removed from the bridge.
    pub addresses: &'a [(IpAddr, u8)],
    /// The largest packet, bytes.
    pub mtu_bytes: Option<u32>,
}

/// Whether what passes from one of a bridge's ports to another meets netfilter's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bridged {
    /// It does.
    Filtered,
    /// It does not: the kernel cannot.
    Unfiltered,
}

/// Makes the bridge as described; says whether netfilter sees what passes over it.
pub async fn ensure_bridge(bridge: &Bridge<'_>) -> Result<Bridged> {
    let name = bridge.name;
    if !exists(name).await? {
        ip(&["link", "add", "name", name, "type", "bridge"]).await?;
    }
    // Without a fixed address a bridge takes the lowest of its ports', and pods would have to learn it anew whenever
    // one of them comes or goes.
    if let Some((IpAddr::V4(v4), _)) = bridge.addresses.iter().find(|(ip, _)| ip.is_ipv4()) {
        let [a, b, c, d] = v4.octets();
        ip(&["link", "set", "dev", name, "address", &format!("0a:58:{a:02x}:{b:02x}:{c:02x}:{d:02x}")]).await?;
    }
    if let Some(mtu) = bridge.mtu_bytes {
        ip(&["link", "set", "dev", name, "mtu", &mtu.to_string()]).await?;
    }
    let bridged = filter_bridged_packets(name).await?;
    ensure_addresses(name, bridge.addresses).await?;
    ip(&["link", "set", "dev", name, "up"]).await?;
    if bridge.addresses.iter().any(|(ip, _)| ip.is_ipv4()) {
        // Node ports on localhost: the answer of a pod comes back to a loopback address. The proxy's table keeps pods
        // from using this by themselves.
        sysctl(&format!("net/ipv4/conf/{name}/route_localnet"), "1")?;
    }
    Ok(bridged)
}

/// A pod that reaches a neighbour through a Service is answered over the bridge directly: the kernel has to show such
/// packets to netfilter, or the answer comes from the wrong address. Network policies between neighbours need it too.
/// The bridge's own switch is set, so that no other bridge of the machine changes; all bridges' only where it has none.
async fn filter_bridged_packets(name: &str) -> Result<Bridged> {
    if !Path::new("/proc/sys/net/bridge").exists() {
        let loaded = command::output("modprobe", &["br_netfilter"], &[], "").await.is_ok_and(|output| output.success);
        if !loaded {
            tracing::warn!(
                "the kernel module br_netfilter is not there: pods do not reach Services that are served by pods of \
                 the same node, and network policies do not hold between pods of the same node"
            );
            return Ok(Bridged::Unfiltered);
        }
    }
    let per_bridge = ["link", "set", "dev", name, "type", "bridge", "nf_call_iptables", "1", "nf_call_ip6tables", "1"];
    if ip(&per_bridge).await.is_err() {
        sysctl("net/bridge/bridge-nf-call-iptables", "1")?;
        sysctl("net/bridge/bridge-nf-call-ip6tables", "1")?;
    }
    Ok(Bridged::Filtered)
}

/// Makes the link that carries `addresses` (cluster DNS) and the routes to `service_cidrs`. The routes give the node's
/// own packets to Services a way and a source before the proxy rewrites them, and keep those that no Service takes
/// from leaving by the default route.
pub async fn ensure_service_link(
    instance: &str,
    addresses: &[IpAddr],
    service_cidrs: &[Cidr],
    node_ips: &[IpAddr],
) -> Result<()> {
    let name = names::dns_link(instance);
    if !exists(&name).await? && ip(&["link", "add", "name", &name, "type", "dummy"]).await.is_err() {
        // A kernel without dummy interfaces: a bridge without ports is as good.
        ip(&["link", "add", "name", &name, "type", "bridge"]).await?;
    }
    let hosts: Vec<(IpAddr, u8)> = addresses.iter().map(|ip| (*ip, if ip.is_ipv4() { 32 } else { 128 })).collect();
    ensure_addresses(&name, &hosts).await?;
    ip(&["link", "set", "dev", &name, "up"]).await?;
    let metric = names::route_metric(instance).to_string();
    for cidr in service_cidrs {
        let source = node_ips.iter().find(|ip| Family::of(**ip) == cidr.family()).map(ToString::to_string);
        let (family, cidr) = (option(cidr.family()), cidr.to_string());
        let mut args = vec![family, "route", "replace", &cidr, "dev", &name, "metric", &metric];
        if let Some(source) = &source {
            args.extend(["src", source]);
        }
        ip(&args).await?;
    }
    Ok(())
}

/// Removes the link of [`ensure_service_link`] with its addresses and routes. Fine if there is none.
pub async fn remove_service_link(instance: &str) -> Result<()> {
    remove(&names::dns_link(instance)).await
}

/// Packets for pods that no more exact route knows are refused, and never leave by the default route.
pub async fn ensure_unreachable(cidrs: &[Cidr], metric: u32) -> Result<()> {
    for cidr in cidrs {
        let (cidr_text, metric) = (cidr.to_string(), metric.to_string());
        ip(&[option(cidr.family()), "route", "replace", "unreachable", &cidr_text, "metric", &metric]).await?;
    }
    Ok(())
}

/// Removes the unreachable routes with `metric`, and those through gateways.
pub async fn remove_routes(metric: u32) -> Result<()> {
    for (cidr, gateway) in gateway_routes(metric).await? {
        remove_gateway_route(cidr, gateway, metric).await?;
    }
    for family in [Family::V4, Family::V6] {
        let listed = json(&[option(family), "-j", "route", "show", "type", "unreachable"]).await?;
        for route in listed.as_array().into_iter().flatten() {
            if route["metric"].as_u64() == Some(u64::from(metric))
                && let Some(dst) = route["dst"].as_str()
            {
                let metric = metric.to_string();
                ip(&[option(family), "route", "del", "unreachable", dst, "metric", &metric]).await?;
            }
        }
    }
    Ok(())
}

/// The routes with `metric` that lead through a gateway.
pub async fn gateway_routes(metric: u32) -> Result<BTreeMap<Cidr, IpAddr>> {
    let mut routes = BTreeMap::new();
    for family in [Family::V4, Family::V6] {
        let listed = json(&[option(family), "-j", "route", "show", "type", "unicast"]).await?;
        for route in listed.as_array().into_iter().flatten() {
            let ours = route["metric"].as_u64() == Some(u64::from(metric));
            // A single address is shown without its length.
            let host = |dst: &str| {
                dst.parse::<IpAddr>().ok().and_then(|ip| Cidr::new(ip, if ip.is_ipv4() { 32 } else { 128 }))
            };
            let cidr = route["dst"].as_str().and_then(|dst| dst.parse::<Cidr>().ok().or_else(|| host(dst)));
            let gateway = route["gateway"].as_str().and_then(|gateway| gateway.parse::<IpAddr>().ok());
            if let (true, Some(cidr), Some(gateway)) = (ours, cidr, gateway) {
                routes.insert(cidr, gateway);
            }
        }
    }
    Ok(routes)
}

/// Sends packets for `cidr` to `gateway`.
pub async fn add_gateway_route(cidr: Cidr, gateway: IpAddr, metric: u32) -> Result<()> {
    let (to, via, metric) = (cidr.to_string(), gateway.to_string(), metric.to_string());
    ip(&[option(cidr.family()), "route", "replace", &to, "via", &via, "metric", &metric]).await
}

/// Takes back [`add_gateway_route`].
pub async fn remove_gateway_route(cidr: Cidr, gateway: IpAddr, metric: u32) -> Result<()> {
    let (to, via, metric) = (cidr.to_string(), gateway.to_string(), metric.to_string());
    ip(&[option(cidr.family()), "route", "del", &to, "via", &via, "metric", &metric]).await
}

/// Removes a bridge and the interfaces on it. Fine if there is none.
pub async fn remove_with_ports(bridge: &str) -> Result<()> {
    if !exists(bridge).await? {
        return Ok(());
    }
    let ports = json(&["-j", "link", "show", "master", bridge]).await?;
    for port in ports.as_array().into_iter().flatten().filter_map(|port| port["ifname"].as_str()) {
        remove(port).await?;
    }
    remove(bridge).await
}

/// Writes a kernel setting of the calling thread's network namespace, if it is not so already. `name` is relative to
/// `/proc/sys`.
pub fn sysctl(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    if std::fs::read_to_string(&path).is_ok_and(|known| known.trim() == value) {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(Error::io(format!("setting {} to {value}", path.display())))
}

async fn remove(link: &str) -> Result<()> {
    match ip(&["link", "del", "dev", link]).await {
        // It may have gone by itself: a veth goes with its pod.
        Err(_) if !exists(link).await? => Ok(()),
        result => result,
    }
}

async fn ensure_addresses(link: &str, wanted: &[(IpAddr, u8)]) -> Result<()> {
    let shown = json(&["-j", "addr", "show", "dev", link]).await?;
    let mut present = BTreeSet::new();
    for address in shown[0]["addr_info"].as_array().into_iter().flatten() {
        let global = address["scope"].as_str() == Some("global");
        let (ip, len) = (address["local"].as_str().and_then(|ip| ip.parse().ok()), address["prefixlen"].as_u64());
        if let (true, Some(ip), Some(Ok(len))) = (global, ip, len.map(u8::try_from)) {
            present.insert((ip, len));
        }
    }
    let wanted: BTreeSet<(IpAddr, u8)> = wanted.iter().copied().collect();
    for (address, len) in present.difference(&wanted) {
        ip(&["addr", "del", &format!("{address}/{len}"), "dev", link]).await?;
    }
    for (address, len) in wanted.difference(&present) {
        let text = format!("{address}/{len}");
        let mut args = vec!["addr", "add", &text, "dev", link];
        if address.is_ipv6() {
            // Duplicate detection would leave the address unusable for a second, and nobody else can have it.
            args.push("nodad");
        }
        ip(&args).await?;
    }
    Ok(())
}

async fn exists(link: &str) -> Result<bool> {
    let output = command::output("ip", &["link", "show", "dev", link], &[], "").await?;
    Ok(output.success)
}

fn option(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}

async fn ip(args: &[&str]) -> Result<()> {
    command::run("ip", args, "").await.map(drop)
}

async fn json(args: &[&str]) -> Result<Value> {
    let output = command::run("ip", args, "").await?;
    if output.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_slice(&output)
        .map_err(|source| Error::Io { context: "reading what ip printed".into(), source: source.into() })
}
