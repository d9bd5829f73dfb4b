//! The cluster's names in the form the answers need, made from Services, EndpointSlices and namespaces. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use api::core::v1::Service;
use api::discovery::v1::EndpointSlice;
use hickory_proto::rr::Name;

use crate::feed::Inputs;
use crate::proxy::endpoints::{Protocol, cluster_ips};
use crate::{Cidr, Error, Result};

/// The label of an EndpointSlice that names its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The zone the cluster's names are in.
#[derive(Debug, Clone)]
pub struct Zone {
    /// The name, e.g. `cluster.local.`.
    pub name: Name,
    /// Its labels in lower case, e.g. `["cluster", "local"]`.
    pub labels: Vec<String>,
    /// The addresses of the name server.
    pub addresses: Vec<IpAddr>,
    /// Addresses whose reverse names nobody else knows: the Services' and the pods'.
    pub reverse: Vec<Cidr>,
}

impl Zone {
    /// Reads a cluster domain such as `cluster.local`.
    pub fn new(domain: &str, addresses: Vec<IpAddr>, reverse: Vec<Cidr>) -> Result<Self> {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let name = Name::from_ascii(format!("{domain}."))
            .ok()
            .filter(|name| !name.is_root())
            .ok_or_else(|| Error::Invalid(format!("the cluster domain {domain:?} is not a domain name")))?;
        Ok(Self { name, labels: domain.split('.').map(str::to_owned).collect(), addresses, reverse })
    }
}

/// A named port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its name, often empty.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// The number.
    pub number: u16,
}

/// An endpoint that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The host name the slice gives it, or its address with dashes.
    pub host: String,
    /// Its address.
    pub ip: IpAddr,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// What a Service's name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Addresses of its own.
    ClusterIps(Vec<IpAddr>),
    /// Its endpoints.
    Headless,
    /// A name elsewhere.
    ExternalName(Name),
}

/// A Service as DNS sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What its name leads to.
    pub kind: Kind,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Its endpoints that may be named.
    pub endpoints: Vec<Endpoint>,
}

/// Every name of the cluster. Immutable: a change makes a new one.
#[derive(Debug)]
pub struct State {
    /// The zone.
    pub zone: Zone,
    /// Grows with every change; the zone's serial number.
    pub serial: u32,
    /// Services by namespace and name; a namespace without Services is there too.
    pub namespaces: HashMap<String, HashMap<String, Entry>>,
    /// The names of addresses.
    pub reverse: HashMap<IpAddr, Vec<Name>>,
    /// Whether the cluster's objects have been seen: before that nothing is known not to exist.
    pub synced: bool,
}

impl State {
    /// A state that knows the zone only.
    pub fn empty(zone: Zone) -> Self {
        Self { zone, serial: 0, namespaces: HashMap::new(), reverse: HashMap::new(), synced: false }
    }

    /// The names of `inputs`.
    pub fn build(zone: Zone, inputs: &Inputs, serial: u32) -> Self {
        let mut state = Self { serial, ..Self::empty(zone) };
        let (Some(services), Some(slices)) = (&inputs.services, &inputs.slices) else { return state };
        state.synced = inputs.namespaces.is_some();
        for namespace in inputs.namespaces.iter().flatten() {
            state.namespaces.entry(namespace.clone()).or_default();
        }
        let mut slices_of: HashMap<(&str, &str), Vec<&EndpointSlice>> = HashMap::new();
        for (key, slice) in slices {
            if let Some(service) = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL)) {
                slices_of.entry((&key.namespace, service)).or_default().push(slice);
            }
        }
        for (key, service) in services {
            let slices = slices_of.get(&(key.namespace.as_str(), key.name.as_str())).map_or(&[][..], Vec::as_slice);
            let Some(entry) = entry(service, slices) else { continue };
            state.index_reverse(&key.namespace, &key.name, &entry);
            state.namespaces.entry(key.namespace.clone()).or_default().insert(key.name.clone(), entry);
        }
        state
    }

    /// `<service>.<namespace>.svc.<zone>`, with more labels in front.
    pub fn service_name(&self, prefix: Option<&str>, service: &str, namespace: &str) -> Option<Name> {
        let labels = prefix.into_iter().chain([service, namespace, "svc"]).map(str::as_bytes);
        Name::from_labels(labels).ok()?.append_domain(&self.zone.name).ok()
    }

    fn index_reverse(&mut self, namespace: &str, service: &str, entry: &Entry) {
        if let Kind::ClusterIps(ips) = &entry.kind
            && let Some(name) = self.service_name(None, service, namespace)
        {
            for ip in ips {
                self.reverse.entry(*ip).or_default().push(name.clone());
            }
        }
        for endpoint in &entry.endpoints {
            if let Some(name) = self.service_name(Some(&endpoint.host), service, namespace) {
                self.reverse.entry(endpoint.ip).or_default().push(name);
            }
        }
    }
}

fn entry(service: &Service, slices: &[&EndpointSlice]) -> Option<Entry> {
    let spec = service.spec.as_ref()?;
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        Some(Port {
            name: port.name.clone().unwrap_or_default().to_ascii_lowercase(),
            protocol: Protocol::parse(port.protocol.as_deref())?.word(),
            number: u16::try_from(port.port).ok()?,
        })
    });
    let kind = if spec.type_.as_deref() == Some("ExternalName") {
        let target = spec.external_name.as_deref()?.trim_end_matches('.');
        Kind::ExternalName(Name::from_ascii(format!("{target}.")).ok()?)
    } else if spec.cluster_ip.as_deref() == Some("None") {
        Kind::Headless
    } else {
        let ips = cluster_ips(service);
        if ips.is_empty() {
            return None;
        }
        Kind::ClusterIps(ips)
    };
    let not_ready_too = spec.publish_not_ready_addresses == Some(true);
    Some(Entry { kind, ports: ports.collect(), endpoints: endpoints(slices, not_ready_too) })
}

/// The endpoints of all slices, each address once, in a fixed order.
fn endpoints(slices: &[&EndpointSlice], not_ready_too: bool) -> Vec<Endpoint> {
    let mut found: BTreeMap<(IpAddr, String), BTreeSet<Port>> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.address_type != "FQDN") {
        let ports: Vec<Port> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|port| {
                Some(Port {
                    name: port.name.clone().unwrap_or_default().to_ascii_lowercase(),
                    protocol: Protocol::parse(port.protocol.as_deref())?.word(),
                    number: u16::try_from(port.port?).ok()?,
                })
            })
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
            if !ready && !not_ready_too {
                continue;
            }
            for ip in endpoint.addresses.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
                let host = endpoint.hostname.as_deref().filter(|host| !host.is_empty());
                let host = host.map_or_else(|| dashed(ip), str::to_ascii_lowercase);
                found.entry((ip, host)).or_default().extend(ports.iter().cloned());
            }
        }
    }
    found.into_iter().map(|((ip, host), ports)| Endpoint { host, ip, ports: ports.into_iter().collect() }).collect()
}

/// `10-42-0-5` for `10.42.0.5`.
pub fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// The address a dashed name stands for.
pub fn undashed(name: &str) -> Option<IpAddr> {
    name.replace('-', ".").parse().ok().or_else(|| name.replace('-', ":").parse().ok())
}
