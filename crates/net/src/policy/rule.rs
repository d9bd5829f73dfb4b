//! A NetworkPolicy as it is judged by: read once, with its defaults filled in. Pure.
//!
//! Upstream: staging/src/k8s.io/api/networking/v1 (what the fields mean, and what their absence does).

use api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use api::selector::LabelSelector;

use crate::feed::Key;
use crate::proxy::endpoints::Protocol;
use crate::{Cidr, Family};

/// A NetworkPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its namespace and name.
    pub key: Key,
    /// The pods of its namespace that it holds for.
    pub pods: LabelSelector,
    /// Who may reach these pods; `None`: it does not isolate them from anybody.
    pub ingress: Option<Vec<Rule>>,
    /// Whom these pods may reach; `None`: it does not keep them from anybody.
    pub egress: Option<Vec<Rule>>,
}

/// One rule: connections with one of these peers, on one of these ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `None`: everybody.
    pub peers: Option<Vec<PeerMatch>>,
    /// `None`: every port of every protocol.
    pub ports: Option<Vec<PortMatch>>,
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMatch {
    /// Pods.
    Pods(PodsMatch),
    /// Addresses, whoever has them.
    Block(Block),
}

/// Pods by their labels and their namespace's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodsMatch {
    /// In which namespaces.
    pub namespaces: NamespacesMatch,
    /// Which pods there.
    pub pods: LabelSelector,
}

/// The namespaces of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespacesMatch {
    /// The policy's own.
    One(String),
    /// Those with these labels.
    Labelled(LabelSelector),
}

/// A range without some of its parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// The range.
    pub cidr: Cidr,
    /// The parts that do not count, of the same family.
    pub except: Vec<Cidr>,
}

/// Ports of one protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortMatch {
    /// The protocol.
    pub protocol: Protocol,
    /// Which ports.
    pub ports: Ports,
}

/// Which ports of a protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ports {
    /// All.
    All,
    /// From the first to the last, both included.
    Range(u16, u16),
    /// The one that the pod at the receiving end calls so.
    Named(String),
}

impl Policy {
    /// Reads a policy. What cannot be read (the API refuses it, so it does not happen) allows nobody: a rule never gets
    /// wider by it.
    pub fn of(policy: &NetworkPolicy) -> Self {
        let key = Key::of(&policy.metadata);
        let spec = policy.spec.clone().unwrap_or_default();
        let types = spec.policy_types.unwrap_or_default();
        let egress = spec.egress.unwrap_or_default();
        let is_of = |word: &str| types.iter().any(|one| one == word);
        // Without types a policy is about ingress, and about egress if it says anything of it.
        let (for_ingress, for_egress) =
            if types.is_empty() { (true, !egress.is_empty()) } else { (is_of("Ingress"), is_of("Egress")) };
        let ingress = spec.ingress.unwrap_or_default().into_iter();
        let ingress = ingress.map(|rule| Rule::of(&key, rule.from.as_deref(), rule.ports.as_deref()));
        let egress = egress.into_iter().map(|rule| Rule::of(&key, rule.to.as_deref(), rule.ports.as_deref()));
        Self {
            // An absent selector is an empty one: all pods of the namespace.
            pods: spec.pod_selector.as_ref().map_or_else(LabelSelector::everything, |one| selector(&key, one)),
            ingress: for_ingress.then(|| ingress.collect()),
            egress: for_egress.then(|| egress.collect()),
            key,
        }
    }
}

impl Rule {
    fn of(key: &Key, peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>) -> Self {
        let peers = peers.filter(|peers| !peers.is_empty());
        let ports = ports.filter(|ports| !ports.is_empty());
        Self {
            peers: peers.map(|peers| peers.iter().filter_map(|peer| PeerMatch::of(key, peer)).collect()),
            ports: ports.map(|ports| ports.iter().filter_map(PortMatch::of).collect()),
        }
    }
}

impl PeerMatch {
    fn of(key: &Key, peer: &NetworkPolicyPeer) -> Option<Self> {
        if let Some(block) = &peer.ip_block {
            let cidr: Cidr = block.cidr.parse().ok()?;
            let except: Result<Vec<Cidr>, _> = block.except.iter().flatten().map(|part| part.parse()).collect();
            let except = except.ok()?.into_iter().filter(|part| part.family() == cidr.family()).collect();
            return Some(Self::Block(Block { cidr, except }));
        }
        let (namespaces, pods) = (peer.namespace_selector.as_ref(), peer.pod_selector.as_ref());
        if namespaces.is_none() && pods.is_none() {
            return None;
        }
        Some(Self::Pods(PodsMatch {
            namespaces: match namespaces {
                None => NamespacesMatch::One(key.namespace.clone()),
                Some(labels) => NamespacesMatch::Labelled(selector(key, labels)),
            },
            pods: pods.map_or_else(LabelSelector::everything, |labels| selector(key, labels)),
        }))
    }
}

impl PortMatch {
    fn of(port: &NetworkPolicyPort) -> Option<Self> {
        use api::IntOrString;
        let protocol = Protocol::parse(port.protocol.as_deref())?;
        let ports = match &port.port {
            None => Ports::All,
            Some(IntOrString::Int(first)) => {
                let first = u16::try_from(*first).ok()?;
                let last = port.end_port.map_or(Ok(first), u16::try_from).ok()?;
                Ports::Range(first, last)
            }
            Some(IntOrString::String(name)) => Ports::Named(name.clone()),
        };
        Some(Self { protocol, ports })
    }
}

impl Block {
    /// IPv4 or IPv6.
    pub fn family(&self) -> Family {
        self.cidr.family()
    }
}

fn selector(key: &Key, selector: &api::meta::v1::LabelSelector) -> LabelSelector {
    LabelSelector::from_api(Some(selector)).unwrap_or_else(|error| {
        tracing::warn!(namespace = key.namespace, name = key.name, error, "a NetworkPolicy's selector selects nothing");
        LabelSelector::nothing()
    })
}
