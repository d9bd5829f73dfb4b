//! What the policies of a cluster mean for the pods of one node: who is isolated, and what each policy allows, with all
//! selectors resolved to addresses. Pure; the kernel's rules are made from it word by word.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::feed::Inputs;
use super::peer::Peer;
use super::rule::{Block, NamespacesMatch, PeerMatch, PodsMatch, Policy, PortMatch, Ports, Rule};
use crate::feed::Key;
use crate::proxy::endpoints::Protocol;

/// A direction, as seen from the isolated pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Connections the pod opens.
    Egress,
    /// Connections that are opened to the pod.
    Ingress,
}

/// Everything this node enforces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// Connections of this node's pods to others.
    pub egress: Side,
    /// Connections of others to this node's pods.
    pub ingress: Side,
    /// Groups of pods that policies refer to, by their canonical text.
    pub groups: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// One direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Side {
    /// The addresses of isolated pods, and the policies that hold for each, sorted; never an empty list.
    pub isolated: BTreeMap<IpAddr, Vec<Key>>,
    /// What the policies allow.
    pub policies: BTreeMap<Key, Vec<Allowed>>,
    /// Ports by protocol and name: the receiving pod's address and its port of that name.
    pub named: BTreeMap<(Protocol, String), BTreeSet<(IpAddr, u16)>>,
}

/// What a rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// The other end; `None`: anybody.
    pub peers: Option<Peers>,
    /// The receiving port; `None`: any port of any protocol.
    pub ports: Option<Vec<PortMatch>>,
}

/// Who is at the other end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// Names of groups in [`Model::groups`].
    pub groups: BTreeSet<String>,
    /// Ranges.
    pub blocks: BTreeSet<Block>,
}

impl Model {
    /// The number of addresses that are isolated in either direction.
    pub fn isolated_len(&self) -> usize {
        let all: BTreeSet<&IpAddr> = self.egress.isolated.keys().chain(self.ingress.isolated.keys()).collect();
        all.len()
    }
}

/// Resolves all policies. `built_in` are peers that are no pods of the API.
pub fn resolve(inputs: &Inputs, built_in: &[Peer]) -> Model {
    let mut model = Model::default();
    let (Some(policies), Some(namespaces), Some(pods)) = (&inputs.policies, &inputs.namespaces, &inputs.pods) else {
        return model;
    };
    if policies.is_empty() {
        return model;
    }
    let view = View { namespaces, pods, more: inputs.unlisted().chain(built_in).collect() };
    let local: Vec<&Peer> = view.all().filter(|peer| peer.local && !peer.ips.is_empty()).collect();
    for policy in policies.values() {
        let of_namespace = local.iter().filter(|peer| peer.key.namespace == policy.key.namespace);
        let subjects: Vec<&Peer> = of_namespace.filter(|peer| policy.pods.matches(&peer.labels)).copied().collect();
        if subjects.is_empty() {
            continue;
        }
        for (direction, rules) in [(Direction::Egress, &policy.egress), (Direction::Ingress, &policy.ingress)] {
            if let Some(rules) = rules {
                isolate(&mut model, &view, direction, policy, rules, &subjects);
            }
        }
    }
    model
}

fn isolate(
    model: &mut Model,
    view: &View<'_>,
    direction: Direction,
    policy: &Policy,
    rules: &[Rule],
    subjects: &[&Peer],
) {
    let Model { egress, ingress, groups } = model;
    let side = match direction {
        Direction::Egress => egress,
        Direction::Ingress => ingress,
    };
    for ip in subjects.iter().flat_map(|peer| &peer.ips) {
        let keys = side.isolated.entry(*ip).or_default();
        if keys.last() != Some(&policy.key) {
            keys.push(policy.key.clone());
        }
    }
    for rule in rules {
        for port in rule.ports.iter().flatten() {
            let Ports::Named(name) = &port.ports else { continue };
            let known = side.named.entry((port.protocol, name.clone())).or_default();
            // The receiving pod says which number the name is: the policy's own pods, or any.
            match direction {
                Direction::Ingress => known.extend(subjects.iter().flat_map(|peer| numbers(peer, port.protocol, name))),
                Direction::Egress if known.is_empty() => {
                    known.extend(view.all().flat_map(|peer| numbers(peer, port.protocol, name)));
                }
                Direction::Egress => {}
            }
        }
    }
    let allowed = rules.iter().map(|rule| Allowed {
        peers: rule.peers.as_ref().map(|peers| resolve_peers(groups, view, peers)),
        ports: rule.ports.clone(),
    });
    side.policies.insert(policy.key.clone(), allowed.collect());
}

fn resolve_peers(groups: &mut BTreeMap<String, BTreeSet<IpAddr>>, view: &View<'_>, peers: &[PeerMatch]) -> Peers {
    let mut resolved = Peers::default();
    for peer in peers {
        match peer {
            PeerMatch::Block(block) => {
                resolved.blocks.insert(block.clone());
            }
            PeerMatch::Pods(pods) => {
                let Some(name) = group_name(pods) else { continue };
                groups.entry(name.clone()).or_insert_with(|| view.addresses(pods));
                resolved.groups.insert(name);
            }
        }
    }
    resolved
}

/// The canonical text of a group: equal for selectors that are equal, so that policies share it. `None`: nobody is ever
/// in it.
fn group_name(pods: &PodsMatch) -> Option<String> {
    let namespaces = match &pods.namespaces {
        NamespacesMatch::One(name) => format!("{name}/"),
        NamespacesMatch::Labelled(labels) if labels.is_nothing() => return None,
        NamespacesMatch::Labelled(labels) => format!("({labels})/"),
    };
    (!pods.pods.is_nothing()).then(|| format!("{namespaces}{}", pods.pods))
}

fn numbers(peer: &Peer, protocol: Protocol, name: &str) -> Vec<(IpAddr, u16)> {
    // As a Service's named port: the first container's that has one of that name.
    let found = peer.ports.iter().find(|port| port.protocol == protocol && port.name == name);
    found.map_or_else(Vec::new, |port| peer.ips.iter().map(|ip| (*ip, port.number)).collect())
}

struct View<'a> {
    namespaces: &'a BTreeMap<String, BTreeMap<String, String>>,
    pods: &'a BTreeMap<Key, Peer>,
    /// Peers that are not listed.
    more: Vec<&'a Peer>,
}

impl<'a> View<'a> {
    fn all(&self) -> impl Iterator<Item = &'a Peer> + '_ {
        self.pods.values().chain(self.more.iter().copied())
    }

    fn addresses(&self, pods: &PodsMatch) -> BTreeSet<IpAddr> {
        let names: Vec<&str> = match &pods.namespaces {
            NamespacesMatch::One(own) => vec![own],
            NamespacesMatch::Labelled(selector) => {
                let selected = self.namespaces.iter().filter(|(_, labels)| selector.matches(labels));
                selected.map(|(name, _)| name.as_str()).collect()
            }
        };
        let mut addresses = BTreeSet::new();
        for name in names {
            let first = Key { namespace: name.to_owned(), name: String::new() };
            let of_namespace = self.pods.range(first..).map(|(_, peer)| peer);
            let of_namespace = of_namespace.take_while(|peer| peer.key.namespace == name);
            let more = self.more.iter().copied().filter(|peer| peer.key.namespace == name);
            let members = of_namespace.chain(more).filter(|peer| pods.pods.matches(&peer.labels));
            addresses.extend(members.flat_map(|peer| peer.ips.iter().copied()));
        }
        addresses
    }
}
