//! `hostPort`s of the node's pods: the same rewriting as a node port, to one pod. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::ContainerPort;
use api::lean::Pod;

use super::compile::{Frontend, Ruleset, hairpin, header, named, socket};
use super::endpoints::Protocol;
use super::facts::Facts;
use super::frame;
use crate::{Family, names};

/// Adds the chains and map elements of all host ports. Two pods with the same port cannot both have it: the scheduler
/// prevents that, and if it happens the first by namespace and name wins.
pub fn compile<'a>(ruleset: &mut Ruleset, pods: impl IntoIterator<Item = &'a Arc<Pod>>, facts: &Facts) {
    let families = facts.families();
    for pod in pods {
        let Some((ips, ports)) = mapped(pod, facts) else { continue };
        for ip in ips.into_iter().filter(|ip| families.contains(&Family::of(*ip))) {
            for port in &ports {
                compile_port(ruleset, pod, ip, port);
            }
        }
    }
}

/// The pod's addresses and its ports that have a host port; `None` for pods that have no network of their own.
fn mapped<'a>(pod: &'a Pod, facts: &Facts) -> Option<(Vec<IpAddr>, Vec<&'a ContainerPort>)> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if ended || spec.host_network == Some(true) || spec.node_name.as_deref() != Some(facts.node_name.as_str()) {
        return None;
    }
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports: Vec<_> = sidecars
        .chain(&spec.containers)
        .flat_map(|container| container.ports.iter().flatten())
        .filter(|port| port.host_port.is_some_and(|port| port > 0))
        .collect();
    if ports.is_empty() {
        return None;
    }
    let listed = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
    let mut ips: Vec<IpAddr> = listed.chain(&status.pod_ip).filter_map(|ip| ip.parse().ok()).collect();
    ips.sort_unstable();
    ips.dedup();
    Some((ips, ports))
}

fn compile_port(ruleset: &mut Ruleset, pod: &Pod, pod_ip: IpAddr, port: &ContainerPort) {
    let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else { return };
    let (Some(Ok(host_port)), Ok(container_port)) =
        (port.host_port.map(u16::try_from), u16::try_from(port.container_port))
    else {
        return;
    };
    let family = Family::of(pod_ip);
    let host_ip = port.host_ip.as_deref().filter(|ip| !ip.is_empty()).and_then(|ip| ip.parse::<IpAddr>().ok());
    let (map, key) = match host_ip.filter(|ip| !ip.is_unspecified()) {
        Some(ip) if Family::of(ip) != family => return,
        Some(ip) => (frame::HOST_IP_PORTS, format!("{ip} . {} . {host_port}", protocol.word())),
        None if host_ip.is_some_and(|ip| Family::of(ip) != family) => return,
        None => (frame::HOST_PORTS, format!("{} . {host_port}", protocol.word())),
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let ip = host_ip.map(|ip| ip.to_string()).unwrap_or_default();
    let parts = [namespace, name, protocol.word(), &host_port.to_string(), header(family), &ip];
    let chain = names::chain("hostport", &parts);
    if !ruleset.table.map_element(&named(map, family), key, format!("goto {chain}")) {
        return;
    }
    hairpin(&mut ruleset.table, pod_ip);
    let header = header(family);
    let backend = socket(pod_ip, container_port);
    ruleset.table.chain(
        chain,
        vec![
            format!("fib saddr type local jump {}", frame::MARK_FOR_MASQUERADE),
            format!("meta l4proto {} dnat {header} to {backend}", protocol.word()),
        ],
    );
    if protocol == Protocol::Udp {
        ruleset.udp.entry(Frontend::NodePort(family, host_port)).or_default().insert(backend);
    }
}
