//! Who owns whom. Pure: changes go in, uids worth a look come out.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use api::meta::v1::OwnerReference;
use api::{Kind, Object, Target};

use super::{FOREGROUND, ORPHAN};

/// Uids of owners known not to exist; the oldest are forgotten.
const ABSENT_LEN_MAX: usize = 10_000;

/// One object.
#[derive(Debug, Clone)]
pub struct Node {
    pub uid: String,
    pub kind: &'static Kind,
    pub namespace: String,
    pub name: String,
    pub owners: Vec<OwnerReference>,
    pub terminating: bool,
    /// It carries the finalizer `foregroundDeletion`.
    pub foreground: bool,
    /// It carries the finalizer `orphan`.
    pub orphan: bool,
}

impl Node {
    fn of(object: &dyn Object) -> Self {
        let has = |name: &str| object.metadata().finalizers.iter().flatten().any(|finalizer| finalizer == name);
        Self {
            uid: object.uid().to_owned(),
            kind: object.kind(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            owners: object.metadata().owner_references.clone().unwrap_or_default(),
            terminating: object.is_terminating(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
        }
    }

    pub fn target(&self) -> Target {
        Target::kind(self.kind).namespaced(&self.namespace).named(&self.name)
    }
}

/// All objects, by uid.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
    absent: HashSet<String>,
    absent_order: VecDeque<String>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<Node> {
        self.nodes.get(uid).cloned()
    }

    pub fn dependents(&self, uid: &str) -> Vec<Node> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid).cloned()).collect()
    }

    pub fn has_dependents(&self, uid: &str) -> bool {
        self.dependents.get(uid).is_some_and(|dependents| !dependents.is_empty())
    }

    pub fn is_absent(&self, uid: &str) -> bool {
        self.absent.contains(uid)
    }

    /// Remembers that no object has that uid: uids do not return.
    pub fn note_absent(&mut self, uid: &str) {
        if self.absent.insert(uid.to_owned()) {
            self.absent_order.push_back(uid.to_owned());
        }
        if self.absent_order.len() > ABSENT_LEN_MAX
            && let Some(oldest) = self.absent_order.pop_front()
        {
            self.absent.remove(&oldest);
        }
    }

    /// Takes in an object's state.
    pub fn put(&mut self, object: &dyn Object) -> Vec<String> {
        let node = Node::of(object);
        let mut look = Vec::new();
        if let Some(old) = self.nodes.get(&node.uid) {
            let lost: Vec<String> = old
                .owners
                .iter()
                .filter(|owner| !node.owners.iter().any(|new| new.uid == owner.uid))
                .map(|owner| owner.uid.clone())
                .collect();
            for owner in lost {
                self.unlink(&owner, &node.uid);
                look.push(owner);
            }
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(node.uid.clone());
            // An owner that is not known, or that waits for its dependents: look whether this object is to go.
            if self.nodes.get(&owner.uid).is_none_or(|owner| owner.terminating && owner.foreground) {
                look.push(node.uid.clone());
            }
        }
        if node.terminating && (node.foreground || node.orphan) {
            look.push(node.uid.clone());
        }
        self.nodes.insert(node.uid.clone(), node);
        look
    }

    /// An object is gone: its dependents and whoever waited for it are worth a look.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        self.note_absent(uid);
        let mut look: Vec<String> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            look.push(owner.uid.clone());
        }
        look
    }

    /// After a new list of a kind: what was not in it is gone.
    pub fn retain(&mut self, kind: &Kind, uids: &[String]) -> Vec<String> {
        let listed: HashSet<&String> = uids.iter().collect();
        let gone: Vec<String> = self
            .nodes
            .values()
            .filter(|node| node.kind == kind && !listed.contains(&node.uid))
            .map(|node| node.uid.clone())
            .collect();
        gone.iter().flat_map(|uid| self.remove(uid)).collect()
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use api::core::v1::ConfigMap;
    use api::meta::v1::{ObjectMeta, Time};

    use super::*;

    fn object(uid: &str, owners: &[&str], finalizers: &[&str], terminating: bool) -> ConfigMap {
        let owner = |uid: &&str| OwnerReference { uid: (*uid).into(), ..Default::default() };
        ConfigMap {
            metadata: ObjectMeta {
                uid: Some(uid.into()),
                owner_references: Some(owners.iter().map(owner).collect()),
                finalizers: Some(finalizers.iter().map(|f| (*f).to_owned()).collect()),
                deletion_timestamp: terminating.then_some(Time(api::Timestamp::UNIX_EPOCH)),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    #[test]
    fn an_unknown_owner_and_a_lost_one_are_worth_a_look() {
        let mut graph = Graph::default();
        assert_eq!(graph.put(&object("b", &["a"], &[], false)), ["b"]);
        assert!(graph.put(&object("a", &[], &[], false)).is_empty());
        assert!(graph.put(&object("c", &["a"], &[], false)).is_empty());
        assert_eq!(graph.remove("a"), ["b", "c"]);
        assert!(graph.is_absent("a"));
    }

    #[test]
    fn whoever_waits_for_its_dependents_is_told_of_their_end() {
        let mut graph = Graph::default();
        graph.put(&object("a", &[], &[FOREGROUND], true));
        assert_eq!(graph.put(&object("b", &["a"], &[], false)), ["b"]);
        assert_eq!(graph.remove("b"), ["a"]);
        assert!(!graph.has_dependents("a"));
    }
}
