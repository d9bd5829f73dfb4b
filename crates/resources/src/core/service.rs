//! Service: One stable address and name for a set of pods.
//!
//! Addresses and node ports are not chosen here but in [`allocate`], which the registry calls between `prepare_*` and
//! `validate*`.

pub mod allocate;
pub mod normalize;
pub mod validate;

use api::IntOrString;
use api::core::v1::{
    ClientIPConfig, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus, SessionAffinityConfig,
};

use crate::checks;
use crate::prelude::*;

/// How long a client stays with its pod if session affinity does not say: three hours.
const AFFINITY_SECONDS: i32 = 10_800;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Service;

    const NAMES: Names = Names::new("services", "service").short(&["svc"]).categories(&["all"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "services/specs" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Proxy, Subresource::Status];
    const CREATE_ON_UPDATE: bool = true;
    const SELECTABLE: &'static [Selectable<Service>] = &[
        Selectable { path: "spec.clusterIP", value: |service| text(service, |spec| spec.cluster_ip.as_ref()) },
        Selectable { path: "spec.type", value: |service| text(service, |spec| spec.type_.as_ref()) },
    ];
    const COLUMNS: &'static [Column<Service>] = &[
        Column::name(),
        Column::new("Type", "string", |service, _| Value::from(text(service, |spec| spec.type_.as_ref())))
            .describe("How the service is exposed."),
        Column::new("Cluster-IP", "string", |service, _| {
            or_none(text(service, |spec| spec.cluster_ips.as_ref().and_then(|ips| ips.first())))
        })
        .describe("The address of the service inside the cluster."),
        Column::new("External-IP", "string", |service, _| Value::from(external_ip(service)))
            .describe("Addresses of the service outside the cluster."),
        Column::new("Port(s)", "string", |service, _| or_none(ports_text(service)))
            .describe("The ports the service listens on."),
        Column::age(),
        Column::new("Selector", "string", |service: &Service, _| {
            let pairs = service.spec.iter().flat_map(|spec| spec.selector.iter().flatten());
            or_none(pairs.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
        })
        .wide()
        .describe("Which pods the service leads to."),
    ];

    fn default(service: &mut Service) {
        default_spec(service.spec.get_or_insert_default());
        let is_balanced = kind(service) == "LoadBalancer";
        let ingress = service.status.iter_mut().flat_map(|status| status.load_balancer.iter_mut());
        for ingress in ingress.flat_map(|balancer| balancer.ingress.iter_mut().flatten()).filter(|_| is_balanced) {
            if ingress.ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
                ingress.ip_mode.get_or_insert_with(|| "VIP".to_owned());
            }
        }
    }

    fn prepare_create(service: &mut Service) {
        service.status =
            Some(ServiceStatus { load_balancer: Some(LoadBalancerStatus::default()), ..Default::default() });
        normalize::create(service);
    }

    fn prepare_update(new: &mut Service, old: &Service) {
        new.status.clone_from(&old.status);
        normalize::update(new, old);
    }

    fn prepare_status_update(new: &mut Service, old: &Service) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(service: &Service) -> FieldErrors {
        validate::service(service)
    }

    fn validate_update(new: &Service, old: &Service) -> FieldErrors {
        validate::update(new, old)
    }

    fn validate_status_update(new: &Service, _old: &Service) -> FieldErrors {
        validate::status(new)
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        api::name::dns1035_label(name, prefix)
    }

    fn warnings(service: &Service) -> Vec<String> {
        let mut warnings = Vec::new();
        let Some(spec) = &service.spec else { return warnings };
        if kind(service) == "ExternalName" {
            return warnings;
        }
        if is_headless(service) {
            if spec.load_balancer_ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
                warnings.push("spec.loadBalancerIP is ignored for headless services".to_owned());
            }
            if spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()) {
                warnings.push("spec.externalIPs is ignored for headless services".to_owned());
            }
            if spec.session_affinity.as_deref().is_some_and(|affinity| affinity != "None") {
                warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
            }
        }
        warnings
    }
}

fn default_spec(spec: &mut ServiceSpec) {
    let fill = |field: &mut Option<String>, value: &str| {
        if field.as_deref().is_none_or(str::is_empty) {
            *field = Some(value.to_owned());
        }
    };
    fill(&mut spec.session_affinity, "None");
    match spec.session_affinity.as_deref() {
        Some("None") => spec.session_affinity_config = None,
        Some("ClientIP") => {
            let config = spec.session_affinity_config.get_or_insert_with(SessionAffinityConfig::default);
            let client = config.client_ip.get_or_insert_with(ClientIPConfig::default);
            client.timeout_seconds.get_or_insert(AFFINITY_SECONDS);
        }
        _ => {}
    }
    fill(&mut spec.type_, "ClusterIP");
    for port in spec.ports.iter_mut().flatten() {
        fill(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    let type_ = spec.type_.clone().unwrap_or_default();
    if is_external(spec) {
        fill(&mut spec.external_traffic_policy, "Cluster");
    }
    if matches!(type_.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if type_ == "LoadBalancer" {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
}

fn text(service: &Service, field: impl Fn(&ServiceSpec) -> Option<&String>) -> String {
    service.spec.as_ref().and_then(field).cloned().unwrap_or_default()
}

fn or_none(text: String) -> Value {
    Value::from(if text.is_empty() { "<none>".to_owned() } else { text })
}

/// The service's type.
pub fn kind(service: &Service) -> &str {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()).unwrap_or_default()
}

/// A service without an address of its own: its name leads to the pods' addresses.
pub fn is_headless(service: &Service) -> bool {
    let ips = service.spec.as_ref().and_then(|spec| spec.cluster_ips.as_deref());
    matches!(ips, Some([one]) if one == "None")
}

/// Whether the service must have addresses from the service range (those it has not yet are to be chosen).
pub fn needs_cluster_ip(service: &Service) -> bool {
    let none = service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"));
    matches!(kind(service), "ClusterIP" | "NodePort" | "LoadBalancer") && !is_headless(service) && !none
}

/// Whether the service's ports must have node ports.
pub fn needs_node_ports(service: &Service) -> bool {
    match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => {
            service.spec.as_ref().is_some_and(|spec| spec.allocate_load_balancer_node_ports != Some(false))
        }
        _ => false,
    }
}

/// The indices of the ports whose node port is still to be chosen.
pub fn needed_node_ports(service: &Service) -> Vec<usize> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let unset = |port: &ServicePort| port.node_port.unwrap_or_default() == 0;
    let indices = ports.iter().enumerate().filter(|(_, port)| unset(port)).map(|(index, _)| index);
    if needs_node_ports(service) { indices.collect() } else { Vec::new() }
}

/// Whether a load balancer asks a node port of its own whether the node has pods of the service.
pub fn needs_health_check_node_port(service: &Service) -> bool {
    let policy = service.spec.as_ref().and_then(|spec| spec.external_traffic_policy.as_deref());
    kind(service) == "LoadBalancer" && policy == Some("Local")
}

/// Whether traffic from outside the cluster reaches the service.
fn is_external(spec: &ServiceSpec) -> bool {
    let by_address = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    match spec.type_.as_deref() {
        Some("LoadBalancer" | "NodePort") => true,
        Some("ClusterIP") => by_address,
        _ => false,
    }
}

fn external_ip(service: &Service) -> String {
    let Some(spec) = &service.spec else { return "<unknown>".to_owned() };
    let external = spec.external_ips.as_deref().unwrap_or_default();
    match kind(service) {
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let ingress = service.status.iter().flat_map(|status| status.load_balancer.iter());
            let ingress = ingress.flat_map(|balancer| balancer.ingress.iter().flatten());
            let set = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
            let addresses = ingress.filter_map(|ingress| set(&ingress.ip).or_else(|| set(&ingress.hostname)));
            let all: Vec<String> = addresses.chain(external.iter().cloned()).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => spec.external_name.clone().unwrap_or_default(),
        _ => "<unknown>".to_owned(),
    }
}

fn ports_text(service: &Service) -> String {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let text = |port: &ServicePort| {
        let protocol = port.protocol.as_deref().unwrap_or_default();
        match port.node_port.unwrap_or_default() {
            0 => format!("{}/{protocol}", port.port),
            node_port => format!("{}:{node_port}/{protocol}", port.port),
        }
    };
    ports.map(text).collect::<Vec<_>>().join(",")
}

/// `IPv4` or `IPv6`; `None` for text that is no address.
fn family_of(ip: &str) -> Option<&'static str> {
    checks::parse_ip(ip).map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" })
}

#[cfg(test)]
mod tests;
