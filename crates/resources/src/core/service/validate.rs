//! Validation of services.

use std::collections::BTreeSet;

use api::core::v1::{Service, ServicePort, ServiceSpec, SessionAffinityConfig};
use api::field::{FieldErrors, Path};
use serde_json::json;

use super::{family_of, is_external, is_headless, kind, needs_health_check_node_port};
use crate::checks;

const AFFINITY_SECONDS_MAX: i32 = 86_400;
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const BALANCER_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";

/// All problems of a service (upstream's `ValidateService`).
pub fn service(service: &Service) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("spec");
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let type_ = kind(service);
    let ports = spec.ports.as_deref().unwrap_or_default();
    let ports_path = path.child("ports");
    if ports.is_empty() && !is_headless(service) && type_ != "ExternalName" {
        errors.required(&ports_path, "");
    }
    validate_type(&mut errors, &path, service, spec);
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        validate_port(&mut errors, &ports_path.index(index), port, ports.len() > 1, &mut names);
    }
    checks::labels(&mut errors, &path.child("selector"), spec.selector.as_ref());
    validate_affinity(&mut errors, &path, spec);
    errors.extend(cluster_ips(service));
    for (index, ip) in spec.external_ips.iter().flatten().enumerate() {
        let path = path.child("externalIPs").index(index);
        if checks::ip(&mut errors, &path, ip).is_some() {
            checks::non_special_ip(&mut errors, &path, ip);
        }
    }
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    checks::one_of(&mut errors, &path.child("type"), spec.type_.as_deref(), &types);
    if type_ == "ClusterIP" {
        for (index, _) in ports.iter().enumerate().filter(|(_, port)| port.node_port.unwrap_or_default() != 0) {
            let path = ports_path.index(index).child("nodePort");
            errors.forbidden(&path, "may not be used when `type` is 'ClusterIP'");
        }
    }
    validate_unique_ports(&mut errors, &ports_path, ports);
    validate_balancer(&mut errors, &path, service, spec);
    validate_traffic(&mut errors, &path, service, spec);
    errors
}

fn validate_type(errors: &mut FieldErrors, path: &Path, service: &Service, spec: &ServiceSpec) {
    match kind(service) {
        type_ @ ("LoadBalancer" | "NodePort") if is_headless(service) => {
            let why = format!("may not be set to 'None' for {type_} services");
            errors.invalid(&path.child("clusterIPs").index(0), "None", why);
        }
        "ExternalName" => {
            const WHY: &str = "may not be set for ExternalName services";
            let set = [
                ("clusterIPs", spec.cluster_ips.as_ref().is_some_and(|ips| !ips.is_empty())),
                ("ipFamilies", spec.ip_families.as_ref().is_some_and(|families| !families.is_empty())),
                ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
            ];
            for (name, _) in set.iter().filter(|(_, set)| *set) {
                errors.forbidden(&path.child(name), WHY);
            }
            let name = spec.external_name.as_deref().unwrap_or_default();
            match name.strip_suffix('.').unwrap_or(name) {
                "" => errors.required(&path.child("externalName"), ""),
                name => checks::dns_subdomain(errors, &path.child("externalName"), name),
            }
        }
        _ => {}
    }
}

fn validate_port<'a>(
    errors: &mut FieldErrors,
    path: &Path,
    port: &'a ServicePort,
    name_required: bool,
    names: &mut BTreeSet<&'a str>,
) {
    match port.name.as_deref().unwrap_or_default() {
        "" if name_required => errors.required(&path.child("name"), ""),
        "" => {}
        name => {
            checks::dns_label(errors, &path.child("name"), name);
            checks::unique(errors, &path.child("name"), names, name);
        }
    }
    checks::port(errors, &path.child("port"), port.port);
    checks::protocol(errors, &path.child("protocol"), port.protocol.as_deref());
    if let Some(target) = &port.target_port {
        checks::port_or_name(errors, &path.child("targetPort"), target);
    }
    if let Some(protocol) = &port.app_protocol {
        checks::qualified(errors, &path.child("appProtocol"), protocol);
    }
}

fn validate_unique_ports(errors: &mut FieldErrors, path: &Path, ports: &[ServicePort]) {
    let (mut node_ports, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let number = port.node_port.unwrap_or_default();
        if number != 0 && !node_ports.insert((&port.protocol, number)) {
            errors.duplicate(&path.index(index).child("nodePort"), number);
        }
    }
    for (index, port) in ports.iter().enumerate() {
        if !numbers.insert((&port.protocol, port.port)) {
            errors.duplicate(&path.index(index), json!({ "protocol": port.protocol, "port": port.port }));
        }
    }
}

fn validate_affinity(errors: &mut FieldErrors, path: &Path, spec: &ServiceSpec) {
    let affinity = spec.session_affinity.as_deref();
    checks::one_of(errors, &path.child("sessionAffinity"), affinity, &["ClientIP", "None"]);
    let config_path = path.child("sessionAffinityConfig");
    match (affinity, &spec.session_affinity_config) {
        (Some("None"), Some(_)) => {
            errors.forbidden(&config_path, "must not be set when session affinity is None");
        }
        (Some("ClientIP"), config) => validate_affinity_config(errors, &config_path, config.as_ref()),
        _ => {}
    }
}

fn validate_affinity_config(errors: &mut FieldErrors, path: &Path, config: Option<&SessionAffinityConfig>) {
    const WHEN: &str = "when session affinity type is ClientIP";
    let client_path = path.child("clientIP");
    let seconds_path = client_path.child("timeoutSeconds");
    let Some(config) = config else { return errors.required(path, WHEN) };
    let Some(client) = &config.client_ip else { return errors.required(&client_path, WHEN) };
    let Some(seconds) = client.timeout_seconds else { return errors.required(&seconds_path, WHEN) };
    if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds) {
        let why = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
        errors.invalid(&seconds_path, seconds, why);
    }
}

/// Problems of the addresses and their families (upstream's `ValidateServiceClusterIPsRelatedFields`).
pub fn cluster_ips(service: &Service) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (Some(spec), path) = (&service.spec, Path::new("spec")) else { return errors };
    if kind(service) == "ExternalName" {
        return errors;
    }
    let (ips_path, families_path) = (path.child("clusterIPs"), path.child("ipFamilies"));
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    match (ip, ips.first()) {
        ("", Some(_)) => {
            errors.invalid(&ips_path, checks::shown(&ips), "must be empty when `clusterIP` is not specified");
        }
        ("", None) => {}
        (_, None) => errors.required(&ips_path, ""),
        (ip, Some(first)) if ip != first => {
            errors.invalid(&ips_path, checks::shown(&ips), "first value must match `clusterIP`");
        }
        _ => {}
    }
    let families = spec.ip_families.as_deref().unwrap_or_default();
    let mut seen = BTreeSet::new();
    for (index, family) in families.iter().enumerate() {
        checks::optional_one_of(&mut errors, &families_path.index(index), Some(family), &["IPv4", "IPv6"]);
        checks::unique(&mut errors, &families_path.index(index), &mut seen, family);
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    let policy_path = path.child("ipFamilyPolicy");
    checks::optional_one_of(&mut errors, &policy_path, spec.ip_family_policy.as_deref(), &policies);
    let mut parsed = Vec::new();
    let mut invalid = false;
    for (index, ip) in ips.iter().enumerate() {
        if index == 0 && ip == "None" {
            if ips.len() > 1 {
                invalid = true;
                errors.invalid(&ips_path, checks::shown(&ips), "'None' must be the first and only value");
            }
            continue;
        }
        match checks::ip(&mut errors, &ips_path.index(index), ip) {
            Some(ip) => parsed.push(ip),
            None => invalid = true,
        }
    }
    if ips.len() > 2 {
        errors.invalid(&ips_path, checks::shown(&ips), "may only hold up to 2 values");
    }
    if invalid {
        return errors;
    }
    if ips.len() > 1 && !checks::is_dual_stack(&parsed) {
        errors.invalid(&ips_path, checks::shown(&ips), "may specify no more than one IP for each IP family");
    }
    if !is_headless(service) {
        for (index, (ip, family)) in ips.iter().zip(families).enumerate() {
            if family_of(ip).is_some_and(|actual| actual != family) && matches!(family.as_str(), "IPv4" | "IPv6") {
                let why = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
                errors.invalid(&ips_path.index(index), ip.as_str(), why);
            }
        }
    }
    errors
}

fn validate_balancer(errors: &mut FieldErrors, path: &Path, service: &Service, spec: &ServiceSpec) {
    let is_balanced = kind(service) == "LoadBalancer";
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let annotation = service.metadata.annotations.as_ref().and_then(|annotations| annotations.get(SOURCE_RANGES));
    if !ranges.is_empty() {
        let path = path.child("LoadBalancerSourceRanges");
        if !is_balanced {
            errors.forbidden(&path, BALANCER_ONLY);
        }
        for (index, range) in ranges.iter().enumerate() {
            checks::cidr(errors, &path.index(index), range.trim());
        }
    } else if let Some(text) = annotation {
        let path = Path::new("metadata").child("annotations").key(SOURCE_RANGES);
        if !is_balanced {
            errors.forbidden(&path, BALANCER_ONLY);
        }
        for range in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
            checks::cidr(errors, &path, range.trim());
        }
    }
    match (spec.allocate_load_balancer_node_ports, is_balanced) {
        (Some(_), false) => errors.forbidden(&path.child("allocateLoadBalancerNodePorts"), BALANCER_ONLY),
        (None, true) => errors.required(&Path::new("allocateLoadBalancerNodePorts"), ""),
        _ => {}
    }
    if let Some(class) = &spec.load_balancer_class {
        let path = path.child("loadBalancerClass");
        if is_balanced {
            checks::qualified(errors, &path, class);
        } else {
            errors.forbidden(&path, BALANCER_ONLY);
        }
    }
}

fn validate_traffic(errors: &mut FieldErrors, path: &Path, service: &Service, spec: &ServiceSpec) {
    let policies = ["Cluster", "Local"];
    let external_path = path.child("externalTrafficPolicy");
    let external = spec.external_traffic_policy.as_deref().unwrap_or_default();
    if is_external(spec) {
        checks::one_of(errors, &external_path, Some(external), &policies);
    } else if !external.is_empty() {
        errors.invalid(&external_path, external, "may only be set for externally-accessible services");
    }
    let check_path = path.child("healthCheckNodePort");
    match (needs_health_check_node_port(service), spec.health_check_node_port.unwrap_or_default()) {
        (true, 0) => errors.required(&check_path, ""),
        (true, port) => checks::port(errors, &check_path, port),
        (false, 0) => {}
        (false, port) => {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&check_path, port, why);
        }
    }
    let internal_path = path.child("internalTrafficPolicy");
    match spec.internal_traffic_policy.as_deref() {
        None if matches!(kind(service), "ClusterIP" | "NodePort" | "LoadBalancer") => {
            errors.required(&internal_path, "");
        }
        policy => checks::optional_one_of(errors, &internal_path, policy, &policies),
    }
    let preferences = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    let distribution = spec.traffic_distribution.as_deref();
    checks::optional_one_of(errors, &path.child("trafficDistribution"), distribution, &preferences);
}

/// All problems of an update: what was chosen once stays.
pub fn update(new: &Service, old: &Service) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("spec");
    let empty = ServiceSpec::default();
    let (spec, before) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
    if kind(new) != "ExternalName" && kind(old) != "ExternalName" {
        let (headless, was_headless) = (is_headless(new), is_headless(old));
        if !(headless && was_headless) {
            let lists = [&spec.cluster_ips, &before.cluster_ips];
            let [ips, old_ips] = lists.map(|list| list.as_deref().unwrap_or_default());
            let single = spec.ip_family_policy.as_deref() == Some("SingleStack");
            validate_kept(&mut errors, &path, "clusterIPs", "clusterIP", ips, old_ips, single);
        }
        if !headless && !was_headless {
            let lists = [&spec.ip_families, &before.ip_families];
            let [families, old_families] = lists.map(|list| list.as_deref().unwrap_or_default());
            let single = spec.ip_family_policy.as_deref() == Some("SingleStack");
            validate_kept(&mut errors, &path, "ipFamilies", "ipFamily", families, old_families, single);
        }
    }
    let both_balanced = kind(new) == "LoadBalancer" && kind(old) == "LoadBalancer";
    if both_balanced && spec.load_balancer_class != before.load_balancer_class {
        let value = checks::shown(&spec.load_balancer_class);
        errors.invalid(&path.child("loadBalancerClass"), value, "may not change once set");
    }
    let both_checked = needs_health_check_node_port(new) && needs_health_check_node_port(old);
    if both_checked && spec.health_check_node_port != before.health_check_node_port {
        errors.forbidden(&path.child("healthCheckNodePort"), "field is immutable");
    }
    errors.extend(service(new));
    errors
}

/// The first value never changes; the second may come, and go with the policy `SingleStack`.
fn validate_kept(
    errors: &mut FieldErrors,
    path: &Path,
    field: &str,
    what: &str,
    new: &[String],
    old: &[String],
    single: bool,
) {
    const CHANGED: &str = "may not change once set";
    let list_path = path.child(field);
    let shown = checks::shown(&new);
    if new.len() == old.len() {
        for (index, _) in old.iter().zip(new).enumerate().filter(|(_, (old, new))| old != new) {
            let index = if field == "ipFamilies" { 0 } else { index };
            errors.invalid(&list_path.index(index), shown.clone(), CHANGED);
        }
        return;
    }
    if new.is_empty() {
        let why = format!("primary {what} can not be unset");
        errors.invalid(&list_path.index(0), shown.clone(), why);
    }
    if let (Some(first), Some(before)) = (new.first(), old.first())
        && first != before
    {
        errors.invalid(&list_path.index(0), shown, CHANGED);
    }
    if old.len() > new.len() && new.len() == 1 && !single {
        let why = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        errors.invalid(&path.child("ipFamilyPolicy"), serde_json::Value::Null, why);
    }
}

/// All problems of a status: the addresses of a load balancer.
pub fn status(service: &Service) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    if kind(service) != "LoadBalancer" && !ingress.is_empty() {
        errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        return errors;
    }
    for (index, ingress) in ingress.iter().enumerate() {
        let path = path.index(index);
        let ip = ingress.ip.as_deref().unwrap_or_default();
        if !ip.is_empty() {
            checks::ip(&mut errors, &path.child("ip"), ip);
        }
        let mode_path = path.child("ipMode");
        match (ingress.ip_mode.as_deref(), ip) {
            (None, "") => {}
            (None, _) => errors.required(&mode_path, "must be specified when `ip` is set"),
            (Some(_), "") => errors.forbidden(&mode_path, "may not be specified when `ip` is not set"),
            (Some(mode), _) => checks::optional_one_of(&mut errors, &mode_path, Some(mode), &["Proxy", "VIP"]),
        }
        if let Some(name) = ingress.hostname.as_deref().filter(|name| !name.is_empty()) {
            checks::dns_subdomain(&mut errors, &path.child("hostname"), name);
            if checks::parse_ip(name).is_some() {
                errors.invalid(&path.child("hostname"), name, "must be a DNS name, not an IP address");
            }
        }
    }
    errors
}
