//! What network policies are compiled from, as it arrives: the latest state, and a version that grows only when
//! something that policies look at has changed. Pods tell of themselves all the time; nearly all of that is not heard.
//!
//! It is apart from the network's other feed because it holds every pod of the cluster in a form of its own, and
//! neither the service proxy nor DNS is to be woken by them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::Object;
use api::core::v1::Namespace;
use api::lean::Pod;
use api::networking::v1::NetworkPolicy;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::peer::Peer;
use super::rule::Policy;
use crate::feed::Key;

/// A snapshot of everything the policies' table is made from.
#[derive(Debug, Default)]
pub struct Inputs {
    /// All NetworkPolicies, once they have been listed.
    pub policies: Option<BTreeMap<Key, Policy>>,
    /// The labels of all namespaces, once they have been listed.
    pub namespaces: Option<BTreeMap<String, BTreeMap<String, String>>>,
    /// All pods of the API that policies know of, once they have been listed.
    pub pods: Option<BTreeMap<Key, Peer>>,
    /// Why some connections of pods never meet the rules; `None`: all do.
    pub unseen: Option<String>,
    /// The pods of this node that have a network, by uid, as the API told of them last, with the addresses that the
    /// node itself told: it knows before the API does. They are isolated until the node has taken their network away,
    /// whatever the API says: it forgets a pod, or has another under its name, while its processes live on.
    admitted: BTreeMap<String, Peer>,
}

impl Inputs {
    /// Whether everything has been listed.
    pub fn is_complete(&self) -> bool {
        self.policies.is_some() && self.namespaces.is_some() && self.pods.is_some()
    }

    /// The pods of this node that have a network and are not among [`Inputs::pods`]: the API does not know them yet, or
    /// no more, though it may know another of the same name.
    pub fn unlisted(&self) -> impl Iterator<Item = &Peer> {
        self.admitted.values().filter(|peer| self.listed(&peer.key, &peer.uid).is_none())
    }

    fn listed(&self, key: &Key, uid: &str) -> Option<&Peer> {
        self.pods.as_ref().and_then(|pods| pods.get(key)).filter(|peer| peer.uid == uid)
    }

    /// Whether any policy holds for a pod with these labels.
    fn isolates(&self, peer: &Peer) -> bool {
        let own = self.policies.iter().flatten().filter(|(key, _)| key.namespace == peer.key.namespace);
        own.into_iter().any(|(_, policy)| policy.pods.matches(&peer.labels))
    }

    /// Whether anything changed.
    fn put(&mut self, peer: Peer) -> bool {
        let known = self.pods.get_or_insert_default();
        if known.get(&peer.key) == Some(&peer) {
            return false;
        }
        known.insert(peer.key.clone(), peer);
        true
    }

    /// A pod as the API tells of it, with the addresses the node told of it.
    fn merged(&mut self, peer: Peer) -> Peer {
        if let Some(admitted) = self.admitted.get_mut(&peer.uid) {
            let peer = Peer { local: true, ..peer.with_ips(admitted.ips.iter().copied()) };
            admitted.clone_from(&peer);
            return peer;
        }
        if !peer.local {
            return peer;
        }
        // An address that the node gave to another pod since is no longer this one's, whatever is told of it.
        let taken: BTreeSet<IpAddr> = self.admitted.values().flat_map(|other| other.ips.iter().copied()).collect();
        peer.with_ips(peer.ips.iter().copied().filter(|ip| !taken.contains(ip)))
    }

    /// Whether anything changed: one that has a network stays, as [`Inputs::unlisted`].
    fn remove(&mut self, key: &Key, uid: &str) -> bool {
        let listed = self.listed(key, uid).is_some();
        let known = self.pods.get_or_insert_default();
        listed && known.remove(key).is_some() && !self.admitted.contains_key(uid)
    }

    /// Whether anything changed: one that the API has stays.
    fn release(&mut self, uid: &str) -> bool {
        let Some(peer) = self.admitted.remove(uid) else { return false };
        self.listed(&peer.key, uid).is_none()
    }

    /// Takes in a pod that has a network; whether anything changed.
    fn admit(&mut self, peer: &Peer) -> bool {
        let others = self.admitted.values_mut().chain(self.pods.iter_mut().flat_map(BTreeMap::values_mut));
        let mut changed = false;
        // An address is whose the node gave it last.
        for other in others.filter(|other| other.local && other.uid != peer.uid) {
            let before = other.ips.len();
            other.ips.retain(|ip| !peer.ips.contains(ip));
            changed |= other.ips.len() != before;
        }
        let put = self.listed(&peer.key, &peer.uid).is_some() && self.put(peer.clone());
        let before = self.admitted.insert(peer.uid.clone(), peer.clone());
        changed || put || before.as_ref() != Some(peer)
    }
}

/// Where the state is kept. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Feed {
    node_name: Arc<str>,
    inputs: Arc<Mutex<Inputs>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Feed {
    /// An empty state, as seen from the node of that name.
    pub fn new(node_name: &str) -> Self {
        Self { node_name: node_name.into(), inputs: Arc::default(), changed: Arc::new(watch::Sender::new(0)) }
    }

    /// Sets all policies, as after a list.
    pub fn replace_policies(&self, all: impl IntoIterator<Item = Arc<NetworkPolicy>>) {
        let all =
            all.into_iter().map(|policy| Policy::of(&policy)).map(|policy| (policy.key.clone(), policy)).collect();
        self.change(|inputs| inputs.policies.replace(all).is_none_or(|_| true));
    }

    /// Adds or changes one policy.
    pub fn apply_policy(&self, policy: &NetworkPolicy) {
        let policy = Policy::of(policy);
        self.change(|inputs| {
            let known = inputs.policies.get_or_insert_default();
            known.get(&policy.key) != Some(&policy) && {
                known.insert(policy.key.clone(), policy);
                true
            }
        });
    }

    /// Removes one policy.
    pub fn delete_policy(&self, namespace: &str, name: &str) {
        let key = Key { namespace: namespace.into(), name: name.into() };
        self.change(|inputs| inputs.policies.get_or_insert_default().remove(&key).is_some());
    }

    /// Sets all namespaces, as after a list.
    pub fn replace_namespaces(&self, all: impl IntoIterator<Item = Arc<Namespace>>) {
        let all = all.into_iter().map(|namespace| labels_of(&namespace)).collect();
        self.change(|inputs| inputs.namespaces.replace(all).is_none_or(|_| true));
    }

    /// Adds or changes one namespace.
    pub fn apply_namespace(&self, namespace: &Namespace) {
        let (name, labels) = labels_of(namespace);
        self.change(|inputs| {
            let known = inputs.namespaces.get_or_insert_default();
            known.get(&name) != Some(&labels) && {
                known.insert(name, labels);
                true
            }
        });
    }

    /// Removes one namespace.
    pub fn delete_namespace(&self, name: &str) {
        self.change(|inputs| inputs.namespaces.get_or_insert_default().remove(name).is_some());
    }

    /// Sets all pods, as after a list. What the node has admitted stays until it is released.
    pub fn replace_pods(&self, all: impl IntoIterator<Item = Arc<Pod>>) {
        let all: Vec<Peer> = all.into_iter().filter_map(|pod| Peer::of(&pod, &self.node_name)).collect();
        self.change(|inputs| {
            let pods = all.into_iter().map(|peer| inputs.merged(peer)).map(|peer| (peer.key.clone(), peer)).collect();
            inputs.pods = Some(pods);
            true
        });
    }

    /// Adds or changes one pod.
    pub fn apply_pod(&self, pod: &Pod) {
        let Some(peer) = Peer::of(pod, &self.node_name) else {
            return self.delete_pod(pod);
        };
        self.change(|inputs| {
            let peer = inputs.merged(peer);
            inputs.put(peer)
        });
    }

    /// Removes one pod; what the node has admitted stays until it is released.
    pub fn delete_pod(&self, pod: &Pod) {
        let key = Key::of(&pod.metadata);
        self.change(|inputs| inputs.remove(&key, pod.metadata.uid.as_deref().unwrap_or_default()));
    }

    /// Says why some connections of pods never meet the rules; `None`: all do.
    pub fn set_unseen(&self, why: Option<String>) {
        self.change(|inputs| std::mem::replace(&mut inputs.unseen, why.clone()) != why);
    }

    /// Takes in what the node knows of a pod of its own before the API does: its addresses. Returns the version that
    /// the kernel has to have reached before the pod may begin; `None`: no policy holds for it.
    pub fn admit(&self, pod: &Pod, ips: &[IpAddr]) -> Option<u64> {
        let peer = Peer::that_runs(pod, &self.node_name)?;
        let mut inputs = self.inputs.lock();
        // Labels are the API's to tell, once it has.
        let peer = inputs.listed(&peer.key, &peer.uid).cloned().unwrap_or(peer);
        let peer = Peer { local: true, ..peer.with_ips(ips.iter().copied()) };
        let changed = inputs.admit(&peer);
        if !inputs.is_complete() {
            return Some(self.version().wrapping_add(1));
        }
        if changed {
            self.notify();
        }
        inputs.isolates(&peer).then(|| self.version())
    }

    /// As [`Feed::admit`], of a pod that was admitted before; `None` too if it has been released since.
    pub fn isolation(&self, pod: &Pod) -> Option<u64> {
        let inputs = self.inputs.lock();
        let peer = inputs.admitted.get(pod.metadata.uid.as_deref().unwrap_or_default())?;
        inputs.isolates(peer).then(|| self.version())
    }

    /// Takes back [`Feed::admit`]: the pod has no network any more.
    pub fn release(&self, pod: &dyn Object) {
        self.change(|inputs| inputs.release(pod.uid()));
    }

    /// Works on the state as it is now; nothing can be written meanwhile.
    pub fn read<T>(&self, work: impl FnOnce(&Inputs) -> T) -> T {
        work(&self.inputs.lock())
    }

    /// Grows with every change that policies look at.
    pub fn version(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Hears of every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Inputs) -> bool) {
        let mut inputs = self.inputs.lock();
        if change(&mut inputs) {
            // Told while the lock is held: whoever reads after the version was read sees at least that version.
            self.notify();
        }
    }

    fn notify(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }
}

fn labels_of(namespace: &Namespace) -> (String, BTreeMap<String, String>) {
    let metadata = &namespace.metadata;
    (metadata.name.clone().unwrap_or_default(), metadata.labels.clone().unwrap_or_default())
}
