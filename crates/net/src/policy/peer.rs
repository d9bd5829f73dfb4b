//! A pod as network policies see it: labels, addresses and named ports, nothing else. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::lean::Pod;

use crate::feed::Key;
use crate::proxy::endpoints::Protocol;

/// A pod at either end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its namespace and name.
    pub key: Key,
    /// Tells it from another pod of that name.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses, sorted.
    pub ips: Vec<IpAddr>,
    /// The ports that have a name.
    pub ports: Vec<NamedPort>,
    /// Whether it is on this node, so that its policies are this node's to enforce.
    pub local: bool,
}

/// A container's port that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPort {
    /// The name.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The port's number in the pod.
    pub number: u16,
}

impl Peer {
    /// Reads a pod as seen from `node_name`. `None`: network policies know nothing of it, because it has ended, because
    /// it shares its node's network and so is its node, or because it is elsewhere and has no address yet.
    pub fn of(pod: &Pod, node_name: &str) -> Option<Self> {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return None;
        }
        Self::that_runs(pod, node_name)
    }

    /// As [`Peer::of`], of a pod that has a network whatever its phase: one that failed may still be being ended.
    pub fn that_runs(pod: &Pod, node_name: &str) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let status = pod.status.as_ref();
        if spec.host_network == Some(true) {
            return None;
        }
        let listed = status.iter().flat_map(|status| status.pod_ips.iter().flatten()).map(|ip| &ip.ip);
        let single = status.iter().filter_map(|status| status.pod_ip.as_ref());
        let ips = sorted(listed.chain(single).filter_map(|ip| ip.parse().ok()));
        let local = spec.node_name.as_deref() == Some(node_name);
        if ips.is_empty() && !local {
            return None;
        }
        let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
        let ports = ports.filter_map(|port| {
            Some(NamedPort {
                name: port.name.clone()?,
                protocol: Protocol::parse(port.protocol.as_deref())?,
                number: u16::try_from(port.container_port).ok()?,
            })
        });
        Some(Self {
            key: Key::of(&pod.metadata),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            ips,
            ports: ports.collect(),
            local,
        })
    }

    /// Cluster DNS, which is no pod here but is allowed as the pods are that serve it elsewhere: those of `kube-system`
    /// with the label `k8s-app: kube-dns`.
    pub fn cluster_dns(addresses: &[IpAddr]) -> Self {
        let port = |name: &str, protocol| NamedPort { name: name.into(), protocol, number: 53 };
        Self {
            key: Key { namespace: "kube-system".into(), name: "cluster DNS".into() },
            uid: String::new(),
            labels: BTreeMap::from([("k8s-app".into(), "kube-dns".into())]),
            ips: sorted(addresses.iter().copied()),
            ports: vec![port("dns", Protocol::Udp), port("dns-tcp", Protocol::Tcp)],
            local: false,
        }
    }

    /// The same pod with these addresses.
    pub fn with_ips(&self, ips: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { ips: sorted(ips), ..self.clone() }
    }
}

fn sorted(ips: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = ips.into_iter().collect();
    ips.sort_unstable();
    ips.dedup();
    ips
}
