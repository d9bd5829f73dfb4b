//! Which pods answer for a Service: the part that EndpointSlices and Endpoints share.

use std::collections::BTreeSet;

use api::core::v1::{ObjectReference, Service, ServicePort};
use api::lean::Pod;
use api::{IntOrString, LabelSelector, Object, Typed};
use client::{Change, Reflectors};

use crate::pod;

/// A port of a Service as one pod answers it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub name: String,
    pub protocol: String,
    pub port: i32,
    pub app_protocol: Option<String>,
}

/// The Services whose selector matches the pod, before or after its change.
pub fn services_of(change: &Change<Pod>, reflectors: &Reflectors, keys: &mut BTreeSet<String>) {
    let Some(latest) = change.latest() else { return };
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && !concerns_endpoints(old, new)
    {
        return;
    }
    for service in reflectors.of::<Service>().in_namespace(latest.namespace()) {
        let Some(selector) = selector(&service) else { continue };
        let pods = [&change.old, &change.new];
        if pods.into_iter().flatten().any(|pod| selector.matches_labels(pod.metadata.labels.as_ref())) {
            keys.insert(service.key());
        }
    }
}

/// Whether the change may alter an endpoint.
fn concerns_endpoints(old: &Pod, new: &Pod) -> bool {
    old.metadata.labels != new.metadata.labels
        || old.is_terminating() != new.is_terminating()
        || addresses(old) != addresses(new)
        || pod::is_ready(old) != pod::is_ready(new)
        || pod::is_finished(old) != pod::is_finished(new)
        || pod::node_name(old) != pod::node_name(new)
}

/// The Service's selector; `None` if endpoints are somebody else's affair (no selector, ExternalName).
pub fn selector(service: &Service) -> Option<LabelSelector> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    (spec.type_.as_deref() != Some("ExternalName")).then(|| LabelSelector::from_map(selector))
}

pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The pod's addresses, of any family.
pub fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else { return Vec::new() };
    match &status.pod_ips {
        Some(ips) if !ips.is_empty() => ips.iter().map(|ip| ip.ip.as_str()).collect(),
        _ => status.pod_ip.as_deref().filter(|ip| !ip.is_empty()).into_iter().collect(),
    }
}

/// Whether the pod takes part at all: it has an address and is not finished.
pub fn takes_part(pod: &Pod) -> bool {
    !pod::is_finished(pod) && !addresses(pod).is_empty()
}

/// The Service's ports as this pod answers them. A named target port the pod does not have is left out.
pub fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut ports: Vec<Port> = ports.iter().filter_map(|port| resolve(port, pod)).collect();
    ports.sort();
    ports
}

fn resolve(service_port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = service_port.protocol.as_deref().unwrap_or("TCP");
    let port = match &service_port.target_port {
        None => service_port.port,
        Some(IntOrString::Int(0)) => service_port.port,
        Some(IntOrString::Int(port)) => *port,
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars = spec.init_containers.iter().flatten();
            let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
            let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
            let found = ports.find(|port| {
                port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
            });
            found?.container_port
        }
    };
    Some(Port {
        name: service_port.name.clone().unwrap_or_default(),
        protocol: protocol.to_owned(),
        port,
        app_protocol: service_port.app_protocol.clone(),
    })
}

/// The name under which the pod is known below the Service's own.
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let ours = spec.subdomain.as_deref() == Some(service.name());
    spec.hostname.clone().filter(|hostname| ours && !hostname.is_empty())
}

pub fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some(Pod::KIND.kind.to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..Default::default()
    }
}
