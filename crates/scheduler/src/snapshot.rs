//! The cluster as one scheduling cycle sees it: nodes with what is used of them. Persistent maps make a snapshot O(1),
//! and a change rewrites one node.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::Object;
use api::core::v1::Node;
use api::lean::Pod;
use imbl::OrdMap;

use crate::pod::{HostPort, PodInfo, Resources, is_finished, node_name};

/// A node and the pods assigned to it.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    pub node: Arc<Node>,
    pub allocatable: Resources,
    pub pods_max: i64,
    pub requested: Resources,
    /// What is asked for, with stand-ins for pods that ask for nothing: for scoring.
    pub scored: Resources,
    pub pods_len: i64,
    pub host_ports: Vec<HostPort>,
}

impl NodeInfo {
    pub fn name(&self) -> &str {
        self.node.name()
    }

    fn new(node: Arc<Node>) -> Self {
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let pods_max =
            allocatable.and_then(|list| list.get("pods")).map_or(0, |pods| api::quantity::amount(pods).value());
        Self {
            allocatable: Resources::of(allocatable),
            pods_max,
            requested: Resources::default(),
            scored: Resources::default(),
            pods_len: 0,
            host_ports: Vec::new(),
            node,
        }
    }

    pub(crate) fn add(&mut self, pod: &PodInfo) {
        self.requested.add(&pod.requests);
        self.scored.add(&pod.scored);
        self.pods_len += 1;
        self.host_ports.extend(pod.host_ports.iter().cloned());
    }

    fn remove(&mut self, pod: &PodInfo) {
        self.requested.subtract(&pod.requests);
        self.scored.subtract(&pod.scored);
        self.pods_len -= 1;
        for port in &pod.host_ports {
            if let Some(at) = self.host_ports.iter().position(|known| known == port) {
                self.host_ports.swap_remove(at);
            }
        }
    }
}

/// Nodes by name.
pub type Snapshot = OrdMap<String, Arc<NodeInfo>>;

/// Follows nodes and assigned pods, and hands out snapshots.
#[derive(Debug, Default)]
pub struct Cache {
    nodes: Snapshot,
    /// Assigned pods by uid, with their node: what the API says, and what this scheduler assumes until it does.
    pods: HashMap<String, (String, PodInfo)>,
    /// Uids of pods assumed and not yet confirmed.
    assumed: BTreeSet<String>,
}

impl Cache {
    pub fn snapshot(&self) -> Snapshot {
        self.nodes.clone()
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.name().to_owned();
        let mut info = NodeInfo::new(node);
        match self.nodes.get(&name) {
            Some(old) => {
                info.requested = old.requested.clone();
                info.scored = old.scored.clone();
                info.pods_len = old.pods_len;
                info.host_ports.clone_from(&old.host_ports);
            }
            None => {
                for (_, pod) in self.pods.values().filter(|(node, _)| *node == name) {
                    info.add(pod);
                }
            }
        }
        self.nodes.insert(name, Arc::new(info));
    }

    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// Takes in an assigned pod's state; a finished one uses nothing any more. Answers whether room was freed.
    pub fn set_pod(&mut self, pod: &Arc<Pod>) -> bool {
        let (uid, node) = (pod.uid().to_owned(), node_name(pod).to_owned());
        if node.is_empty() {
            return false;
        }
        if is_finished(pod) {
            return self.remove_pod(&uid);
        }
        self.assumed.remove(&uid);
        let info = PodInfo::new(pod.clone());
        let freed = match self.pods.get(&uid) {
            Some((known, old))
                if *known == node && old.requests == info.requests && old.host_ports == info.host_ports =>
            {
                return false;
            }
            Some(_) => self.remove_pod(&uid),
            None => false,
        };
        self.put(uid, node, info);
        freed
    }

    /// The pod is gone. Answers whether it was known.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        self.assumed.remove(uid);
        let Some((node, pod)) = self.pods.remove(uid) else { return false };
        if let Some(info) = self.nodes.get_mut(&node) {
            Arc::make_mut(info).remove(&pod);
        }
        true
    }

    /// Counts the pod as running on the node before the API says so.
    pub fn assume(&mut self, pod: &PodInfo, node: &str) {
        let uid = pod.pod.uid().to_owned();
        self.remove_pod(&uid);
        self.put(uid.clone(), node.to_owned(), pod.clone());
        self.assumed.insert(uid);
    }

    /// Binding failed: the pod is not there after all. One that was confirmed meanwhile stays.
    pub fn forget(&mut self, uid: &str) {
        if self.assumed.contains(uid) {
            self.remove_pod(uid);
        }
    }

    /// Whether the pod is assigned, or assumed to be.
    pub fn has_pod(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    fn put(&mut self, uid: String, node: String, pod: PodInfo) {
        if let Some(info) = self.nodes.get_mut(&node) {
            Arc::make_mut(info).add(&pod);
        }
        self.pods.insert(uid, (node, pod));
    }
}
