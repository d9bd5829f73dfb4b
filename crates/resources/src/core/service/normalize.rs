//! What a client may leave out of a service and the server fills in from what was there before, and what goes when the
//! type changes.

use api::core::v1::{Service, ServicePort, ServiceSpec};

use super::{is_external, kind, needs_health_check_node_port, needs_node_ports};

/// A new service: `clusterIPs` follows `clusterIP`.
pub fn create(service: &mut Service) {
    let spec = service.spec.get_or_insert_default();
    let ip = text(&spec.cluster_ip);
    if !ip.is_empty() && list(&spec.cluster_ips).is_empty() {
        spec.cluster_ips = Some(vec![ip]);
    }
}

/// An update: fields of the old type go, values the server chose stay.
pub fn update(new: &mut Service, old: &Service) {
    let empty = ServiceSpec::default();
    let before = old.spec.clone().unwrap_or(empty);
    drop_type_dependent(new, old, &before);
    keep_chosen(new, old, &before);
    let spec = new.spec.get_or_insert_default();
    normalize_ips(spec, &before);
}

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

fn list(values: &Option<Vec<String>>) -> &[String] {
    values.as_deref().unwrap_or_default()
}

fn node_ports(spec: &ServiceSpec) -> Vec<i32> {
    spec.ports.iter().flatten().map(|port| port.node_port.unwrap_or_default()).collect()
}

fn has_cluster_ip(service: &Service) -> bool {
    matches!(kind(service), "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// Fields that the old type needed and the new one may not have, where the client merely sent them back.
fn drop_type_dependent(new: &mut Service, old: &Service, before: &ServiceSpec) {
    let (had_ip, has_ip) = (has_cluster_ip(old), has_cluster_ip(new));
    let (had_ports, has_ports) = (needs_node_ports(old), needs_node_ports(new));
    let (had_check, has_check) = (needs_health_check_node_port(old), needs_health_check_node_port(new));
    let (was_balanced, is_balanced) = (kind(old) == "LoadBalancer", kind(new) == "LoadBalancer");
    let spec = new.spec.get_or_insert_default();
    let same_ips = spec.cluster_ip == before.cluster_ip && list(&spec.cluster_ips) == list(&before.cluster_ips);
    if had_ip && !has_ip && same_ips {
        spec.cluster_ip = None;
        spec.cluster_ips = None;
    }
    if had_ip && !has_ip {
        if spec.ip_families == before.ip_families {
            spec.ip_families = None;
        }
        if spec.ip_family_policy == before.ip_family_policy {
            spec.ip_family_policy = None;
        }
    }
    if had_ports && !has_ports && node_ports(spec) == node_ports(before) {
        for port in spec.ports.iter_mut().flatten() {
            port.node_port = None;
        }
    }
    if had_check && !has_check && spec.health_check_node_port == before.health_check_node_port {
        spec.health_check_node_port = None;
    }
    if was_balanced && !is_balanced {
        if spec.allocate_load_balancer_node_ports == before.allocate_load_balancer_node_ports {
            spec.allocate_load_balancer_node_ports = None;
        }
        if spec.load_balancer_class == before.load_balancer_class {
            spec.load_balancer_class = None;
        }
    }
    if is_external(before) && !is_external(spec) && spec.external_traffic_policy == before.external_traffic_policy {
        spec.external_traffic_policy = None;
    }
}

/// Addresses and node ports that the client did not repeat.
fn keep_chosen(new: &mut Service, old: &Service, before: &ServiceSpec) {
    let keep_ips = has_cluster_ip(new) && has_cluster_ip(old);
    let keep_ports = needs_node_ports(new) && needs_node_ports(old);
    let keep_check = needs_health_check_node_port(new) && needs_health_check_node_port(old);
    let spec = new.spec.get_or_insert_default();
    if keep_ips {
        if text(&spec.cluster_ip).is_empty() {
            spec.cluster_ip.clone_from(&before.cluster_ip);
        }
        if list(&spec.cluster_ips).is_empty() && spec.cluster_ip == before.cluster_ip {
            spec.cluster_ips.clone_from(&before.cluster_ips);
        }
        if spec.ip_family_policy.is_none() {
            spec.ip_family_policy.clone_from(&before.ip_family_policy);
        }
        if list(&spec.ip_families).is_empty() && spec.ip_family_policy == before.ip_family_policy {
            spec.ip_families.clone_from(&before.ip_families);
        }
    }
    if keep_ports {
        keep_node_ports(spec.ports.as_deref_mut().unwrap_or_default(), before.ports.as_deref().unwrap_or_default());
    }
    if keep_check && spec.health_check_node_port.unwrap_or_default() == 0 {
        spec.health_check_node_port = before.health_check_node_port;
    }
}

fn keep_node_ports(new: &mut [ServicePort], old: &[ServicePort]) {
    let protocol = |port: &ServicePort| text(&port.protocol);
    let mut used: Vec<(String, i32)> = new
        .iter()
        .filter(|port| port.node_port.unwrap_or_default() != 0)
        .map(|port| (protocol(port), port.node_port.unwrap_or_default()))
        .collect();
    for port in new.iter_mut().filter(|port| port.node_port.unwrap_or_default() == 0) {
        let before = old.iter().find(|old| protocol(old) == protocol(port) && old.port == port.port);
        let Some(number) = before.and_then(|old| old.node_port).filter(|number| *number != 0) else { continue };
        let key = (protocol(port), number);
        if !used.contains(&key) {
            port.node_port = Some(number);
            used.push(key);
        }
    }
}

/// Where only one of `clusterIP` and `clusterIPs` was changed, the other follows.
fn normalize_ips(spec: &mut ServiceSpec, before: &ServiceSpec) {
    let (ip, old_ip) = (text(&spec.cluster_ip), text(&before.cluster_ip));
    let same_list = list(&spec.cluster_ips) == list(&before.cluster_ips);
    if list(&spec.cluster_ips).is_empty() {
        if !ip.is_empty() {
            spec.cluster_ips = Some(vec![ip]);
        }
        return;
    }
    if ip == old_ip || !same_list {
        return;
    }
    if ip.is_empty() {
        spec.cluster_ips = None;
    } else if let Some(first) = spec.cluster_ips.as_mut().and_then(|ips| ips.first_mut()) {
        *first = ip;
    }
}
