//! Which endpoints a Service's port is sent to: the reading of Services and EndpointSlices, before any rule is written.
//!
//! Upstream: pkg/proxy/topology.go (which endpoints), pkg/proxy/serviceport.go (what a port is). Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::{Service, ServicePort};
use api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};

use super::facts::Facts;
use crate::feed::Key;
use crate::{Cidr, Family};

/// The label of an EndpointSlice that names its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Services and slices with this label are another proxy's.
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// How long a client stays with its endpoint when the Service does not say.
const AFFINITY_SECONDS: u32 = 10_800;

/// A transport the proxy knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Reads `TCP`, `UDP` or `SCTP`; absent means TCP.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name.unwrap_or("TCP") {
            "TCP" | "" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// nft's (and DNS') word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One address and port a Service port is sent to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The pod's (or the outside server's) address.
    pub ip: IpAddr,
    /// The port on it.
    pub port: u16,
    /// Whether it is on this node.
    pub local: bool,
}

/// One port of one Service in one address family, with everything the rules need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The port's name, often empty.
    pub name: String,
    /// IPv4 or IPv6.
    pub family: Family,
    /// The transport.
    pub protocol: Protocol,
    /// The Service's address in this family.
    pub cluster_ip: IpAddr,
    /// The port on the Service's addresses.
    pub port: u16,
    /// `spec.externalIPs` of this family.
    pub external_ips: Vec<IpAddr>,
    /// The load balancer's addresses that are routed to the node unchanged (`ipMode: VIP`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may talk to the load balancer's addresses; empty: everybody.
    pub source_ranges: Vec<Cidr>,
    /// The port on every node.
    pub node_port: Option<u16>,
    /// How long a client stays with its endpoint; `None`: no affinity.
    pub affinity_seconds: Option<u32>,
    /// Cluster-internal clients are sent to endpoints on their own node only.
    pub internal_local: bool,
    /// Clients from outside are sent to endpoints on the node they reached only.
    pub external_local: bool,
    /// The endpoints for the policy `Cluster`.
    pub cluster_endpoints: Vec<Endpoint>,
    /// The endpoints for the policy `Local`.
    pub local_endpoints: Vec<Endpoint>,
    /// Whether any endpoint anywhere could serve: without one a client is refused, with one that the policy does not
    /// allow its packets are dropped.
    pub has_any_endpoint: bool,
}

impl Port {
    /// Whether anything but the cluster IP leads here.
    pub fn is_external(&self) -> bool {
        self.node_port.is_some() || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }

    /// The endpoints for clients inside the cluster.
    pub fn internal_endpoints(&self) -> &[Endpoint] {
        if self.internal_local { &self.local_endpoints } else { &self.cluster_endpoints }
    }

    /// The endpoints for clients outside the cluster.
    pub fn external_endpoints(&self) -> &[Endpoint] {
        if self.external_local { &self.local_endpoints } else { &self.cluster_endpoints }
    }
}

/// All ports of all Services that this proxy serves, ordered by namespace, name, family and port.
pub fn ports<'a>(
    services: impl IntoIterator<Item = &'a Arc<Service>>,
    slices: impl IntoIterator<Item = &'a Arc<EndpointSlice>>,
    facts: &Facts,
) -> Vec<Port> {
    let mut slices_of: HashMap<Key, Vec<&EndpointSlice>> = HashMap::new();
    for slice in slices {
        let label = |name: &str| slice.metadata.labels.as_ref().and_then(|labels| labels.get(name));
        if label(PROXY_NAME_LABEL).is_some() {
            continue;
        }
        let (Some(service), Some(namespace)) = (label(SERVICE_NAME_LABEL), &slice.metadata.namespace) else { continue };
        slices_of.entry(Key { namespace: namespace.clone(), name: service.clone() }).or_default().push(slice);
    }
    let families = facts.families();
    let mut ports = Vec::new();
    for service in services {
        if !is_served(service) {
            continue;
        }
        let slices = slices_of.get(&Key::of(&service.metadata)).map_or(&[][..], Vec::as_slice);
        for cluster_ip in cluster_ips(service).into_iter().filter(|ip| families.contains(&Family::of(*ip))) {
            let service_ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
            ports.extend(service_ports.iter().filter_map(|port| read(service, port, cluster_ip, slices, facts)));
        }
    }
    ports
}

/// Headless Services, names for outside hosts and other proxies' Services are none of ours.
fn is_served(service: &Service) -> bool {
    let labels = service.metadata.labels.as_ref();
    let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    kind != Some("ExternalName") && labels.is_none_or(|labels| !labels.contains_key(PROXY_NAME_LABEL))
}

/// The Service's own addresses; none for a headless one.
pub fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let all = spec.cluster_ips.as_deref().unwrap_or_default();
    let all = if all.is_empty() { spec.cluster_ip.as_slice() } else { all };
    all.iter().filter_map(|ip| ip.parse().ok()).collect()
}

fn read(
    service: &Service,
    port: &ServicePort,
    cluster_ip: IpAddr,
    slices: &[&EndpointSlice],
    facts: &Facts,
) -> Option<Port> {
    let spec = service.spec.as_ref()?;
    let family = Family::of(cluster_ip);
    let addresses = |texts: &mut dyn Iterator<Item = &String>| -> Vec<IpAddr> {
        texts.filter_map(|ip| ip.parse().ok()).filter(|ip| Family::of(*ip) == family).collect()
    };
    let ingress = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref()?.ingress.as_deref())
        .unwrap_or_default();
    let affinity_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        config.and_then(|config| u32::try_from(config.timeout_seconds?).ok()).unwrap_or(AFFINITY_SECONDS)
    });
    let mut read = Port {
        namespace: service.metadata.namespace.clone().unwrap_or_default(),
        service: service.metadata.name.clone()?,
        name: port.name.clone().unwrap_or_default(),
        family,
        protocol: Protocol::parse(port.protocol.as_deref())?,
        cluster_ip,
        port: u16::try_from(port.port).ok().filter(|port| *port != 0)?,
        external_ips: addresses(&mut spec.external_ips.iter().flatten()),
        load_balancer_ips: addresses(
            &mut ingress.iter().filter(|i| i.ip_mode.as_deref() != Some("Proxy")).filter_map(|i| i.ip.as_ref()),
        ),
        source_ranges: spec
            .load_balancer_source_ranges
            .iter()
            .flatten()
            .filter_map(|range| range.parse::<Cidr>().ok())
            .filter(|range| range.family() == family)
            .collect(),
        node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
        affinity_seconds,
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        cluster_endpoints: Vec::new(),
        local_endpoints: Vec::new(),
        has_any_endpoint: false,
    };
    let candidates = candidates(&read, slices, facts);
    select(&mut read, &candidates, facts);
    Some(read)
}

/// An endpoint of a slice, with the conditions that decide whether it is used.
struct Candidate {
    endpoint: Endpoint,
    ready: bool,
    serving_while_terminating: bool,
    zones: Vec<String>,
    nodes: Vec<String>,
}

fn candidates(port: &Port, slices: &[&EndpointSlice], facts: &Facts) -> Vec<Candidate> {
    let mut found: BTreeMap<(IpAddr, u16), Candidate> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.address_type == port.family.name()) {
        let matching = slice.ports.iter().flatten().filter(|slice_port| {
            slice_port.name.as_deref().unwrap_or_default() == port.name
                && Protocol::parse(slice_port.protocol.as_deref()) == Some(port.protocol)
        });
        for number in matching.filter_map(|slice_port| u16::try_from(slice_port.port?).ok()).filter(|port| *port != 0) {
            for endpoint in slice.endpoints.iter().flatten() {
                // Upstream uses the first address only: the others are for the same endpoint.
                let Some(ip) = endpoint.addresses.first().and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
                if Family::of(ip) != port.family || ip.is_unspecified() {
                    continue;
                }
                let candidate = candidate(endpoint, ip, number, facts);
                let known = found.get(&(ip, number));
                // The same endpoint may stand in two slices for a moment: the better word counts.
                if known.is_none_or(|known| !known.ready) {
                    found.insert((ip, number), candidate);
                }
            }
        }
    }
    found.into_values().collect()
}

fn candidate(endpoint: &SliceEndpoint, ip: IpAddr, port: u16, facts: &Facts) -> Candidate {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
    let hints = endpoint.hints.as_ref();
    Candidate {
        endpoint: Endpoint { ip, port, local: endpoint.node_name.as_deref() == Some(facts.node_name.as_str()) },
        ready,
        serving_while_terminating: serving && terminating,
        zones: hints.and_then(|h| h.for_zones.as_ref()).into_iter().flatten().map(|z| z.name.clone()).collect(),
        nodes: hints.and_then(|h| h.for_nodes.as_ref()).into_iter().flatten().map(|n| n.name.clone()).collect(),
    }
}

/// Ready endpoints, or when there are none the ones that still serve while they end; near ones where hints say so.
fn select(port: &mut Port, candidates: &[Candidate], facts: &Facts) {
    let pick = |wanted: &dyn Fn(&Candidate) -> bool| -> Vec<Endpoint> {
        candidates.iter().filter(|c| wanted(c)).map(|c| c.endpoint.clone()).collect()
    };
    let is_ending = |c: &Candidate| c.serving_while_terminating;
    let near = near(candidates, facts);
    port.cluster_endpoints = pick(&|c| c.ready && near.is_near(c));
    if port.cluster_endpoints.is_empty() {
        port.cluster_endpoints = pick(&is_ending);
    }
    if port.internal_local || (port.external_local && port.is_external()) {
        port.local_endpoints = pick(&|c| c.ready && c.endpoint.local);
        if port.local_endpoints.is_empty() {
            port.local_endpoints = pick(&|c| is_ending(c) && c.endpoint.local);
        }
    }
    port.has_any_endpoint = candidates.iter().any(|c| c.ready || is_ending(c));
}

/// How far topology hints narrow the choice.
enum Near<'a> {
    Everywhere,
    Zone(&'a str),
    Node(&'a str),
}

impl Near<'_> {
    fn is_near(&self, candidate: &Candidate) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Zone(zone) => candidate.zones.iter().any(|z| z == zone),
            Self::Node(node) => candidate.nodes.iter().any(|n| n == node),
        }
    }
}

/// Hints count only when every ready endpoint has them and at least one of them points here.
fn near<'a>(candidates: &[Candidate], facts: &'a Facts) -> Near<'a> {
    let ready = || candidates.iter().filter(|c| c.ready);
    if ready().next().is_none() {
        return Near::Everywhere;
    }
    let node = Near::Node(&facts.node_name);
    if ready().all(|c| !c.nodes.is_empty()) && ready().any(|c| node.is_near(c)) {
        return node;
    }
    match facts.zone.as_deref().map(Near::Zone) {
        Some(zone) if ready().all(|c| !c.zones.is_empty()) && ready().any(|c| zone.is_near(c)) => zone,
        _ => Near::Everywhere,
    }
}
