//! A NetworkPolicy as it is judged by: read once, with its defaults filled in. Pure.
//!
//! Upstream: staging/src/k8s.io/api/networking/v1 (what the fields mean, and what their absence does).

use std::collections::BTreeSet;

use api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use api::selector::LabelSelector;

use crate::feed::Key;
use crate::proxy::endpoints::Protocol;
use crate::{Cidr, Family};

/// How many elements the rules of one direction of a policy may be made of ([`Rule::elements`]). It bounds what one
/// policy takes of the node's memory and of the kernel's.
pub const ELEMENTS_MAX: usize = 16 * 1024;
/// How many selectors of pods the rules of one direction of a policy may have: each may stand for every address of the
/// cluster.
pub const SELECTORS_MAX: usize = 256;

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
            ingress: for_ingress.then(|| bounded(&key, "ingress", ingress)),
            egress: for_egress.then(|| bounded(&key, "egress", egress)),
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

impl Rule {
    /// The number of elements that the rule is made of: every kind of peer is written once for every kind of port; the
    /// numbers of a protocol's ports are one kind, and so are all ranges without `except`.
    pub fn elements(&self) -> usize {
        let peers = self.peers.as_deref().unwrap_or_default();
        let blocks = || peers.iter().filter_map(PeerMatch::block);
        let whole = blocks().filter(|block| block.except.is_empty()).count();
        let parts: usize = blocks().map(|block| block.except.len()).sum();
        let ports = self.ports.as_deref().unwrap_or_default();
        let named = ports.iter().filter(|port| matches!(port.ports, Ports::Named(_))).count();
        let protocols: BTreeSet<Protocol> = ports.iter().map(|port| port.protocol).collect();
        let kinds_of_peers = (peers.len() - whole + usize::from(whole > 0)).max(1);
        let kinds_of_ports = (named + protocols.len()).max(1);
        (peers.len() + parts).max(1) * kinds_of_ports + kinds_of_peers * ports.len()
    }

    fn selectors(&self) -> usize {
        self.peers.iter().flatten().filter(|peer| peer.block().is_none()).count()
    }
}

/// The rules within the bounds. One that goes beyond them, together with those before it, allows nobody: all of a rule
/// or nothing, and never more than it says.
fn bounded(key: &Key, direction: &str, rules: impl Iterator<Item = Rule>) -> Vec<Rule> {
    let (mut elements, mut selectors) = (0, 0);
    let fits = |(number, rule): &(usize, Rule)| {
        let (more, pods) = (rule.elements(), rule.selectors());
        let fits = elements + more <= ELEMENTS_MAX && selectors + pods <= SELECTORS_MAX;
        if fits {
            (elements, selectors) = (elements + more, selectors + pods);
        } else {
            tracing::warn!(
                namespace = key.namespace,
                name = key.name,
                elements = more,
                selectors = pods,
                "a NetworkPolicy's rule spec.{direction}[{number}] is too large and allows nobody: a policy may have \
                 {ELEMENTS_MAX} elements and {SELECTORS_MAX} pod selectors in a direction; make several policies of it"
            );
        }
        fits
    };
    rules.enumerate().filter(fits).map(|(_, rule)| rule).collect()
}

impl PeerMatch {
    fn block(&self) -> Option<&Block> {
        match self {
            Self::Block(block) => Some(block),
            Self::Pods(_) => None,
        }
    }

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
