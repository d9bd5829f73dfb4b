//! Who owns whom. Pure: changes go in, what they call for comes out.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use api::core::v1::ObjectReference;
use api::meta::v1::OwnerReference;
use api::{Kind, Object, Target};

use super::{FOREGROUND, ORPHAN};

/// Owners known not to exist; the oldest are forgotten.
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

    /// As events refer to it.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.kind.api_version.to_owned()),
            kind: Some(self.kind.kind.to_owned()),
            name: Some(self.name.clone()),
            namespace: (!self.namespace.is_empty()).then(|| self.namespace.clone()),
            uid: Some(self.uid.clone()),
            ..Default::default()
        }
    }

    /// Whether a reference in that namespace means this object; its version may be another one of the group.
    pub fn is_named_by(&self, owner: &OwnerReference, namespace: &str) -> bool {
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        self.uid == owner.uid
            && (self.kind.group, self.kind.kind, self.name.as_str())
                == (group, owner.kind.as_str(), owner.name.as_str())
            && (self.namespace.is_empty() || self.namespace == namespace)
    }

    /// Whether it is in a namespace that is not the dependent's.
    fn is_elsewhere(&self, dependent: &Self) -> bool {
        !self.namespace.is_empty() && self.namespace != dependent.namespace
    }

    fn blocks(&self, owner: &str) -> bool {
        self.owners.iter().any(|own| own.uid == owner && own.block_owner_deletion == Some(true))
    }
}

/// What a change calls for.
#[derive(Debug, Default)]
pub struct Look {
    /// Uids worth a look.
    pub uids: Vec<String>,
    /// Objects with a reference to an owner that is in another namespace.
    pub misplaced: Vec<(Node, OwnerReference)>,
}

impl Look {
    fn at(&mut self, uid: &str) {
        if self.uids.last().is_none_or(|last| last != uid) {
            self.uids.push(uid.to_owned());
        }
    }
}

/// An owner as a dependent names it: uid, api version, kind, name, and the dependent's namespace.
type Named = (String, String, String, String, String);

fn named(owner: &OwnerReference, namespace: &str) -> Named {
    let OwnerReference { uid, api_version, kind, name, .. } = owner;
    (uid.clone(), api_version.clone(), kind.clone(), name.clone(), namespace.to_owned())
}

/// All objects, by uid.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
    absent: HashSet<Named>,
    absent_order: VecDeque<Named>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<Node> {
        self.nodes.get(uid).cloned()
    }

    pub fn dependents(&self, uid: &str) -> Vec<Node> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid).cloned()).collect()
    }

    /// Whether the owner that is so named in that namespace is known not to exist.
    pub fn is_absent(&self, owner: &OwnerReference, namespace: &str) -> bool {
        self.absent.contains(&named(owner, namespace))
    }

    /// Remembers that the owner so named does not exist: uids do not return.
    pub fn note_absent(&mut self, owner: &OwnerReference, namespace: &str) {
        let named = named(owner, namespace);
        if self.absent.insert(named.clone()) {
            self.absent_order.push_back(named);
        }
        if self.absent_order.len() > ABSENT_LEN_MAX
            && let Some(oldest) = self.absent_order.pop_front()
        {
            self.absent.remove(&oldest);
        }
    }

    /// Takes in an object's state.
    pub fn put(&mut self, object: &dyn Object) -> Look {
        let node = Node::of(object);
        let mut look = Look::default();
        let old = self.nodes.get(&node.uid).cloned();
        let before = old.as_ref().map_or(&[][..], |old| &old.owners);
        for owner in before {
            let kept = node.owners.iter().any(|new| new.uid == owner.uid);
            if !kept {
                self.unlink(&owner.uid, &node.uid);
            }
            // Whoever waits for this object may have been let go.
            if !kept || (owner.block_owner_deletion == Some(true) && !node.blocks(&owner.uid)) {
                look.at(&owner.uid);
            }
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(node.uid.clone());
            let known = self.nodes.get(&owner.uid);
            // An owner that is not known, is not what it is called, or waits for its dependents: look whether this
            // object is to go.
            let kept = known
                .is_some_and(|own| own.is_named_by(owner, &node.namespace) && !(own.terminating && own.foreground));
            if !kept {
                look.at(&node.uid);
            }
            if known.is_some_and(|own| own.is_elsewhere(&node)) && !before.contains(owner) {
                look.misplaced.push((node.clone(), owner.clone()));
            }
        }
        if old.is_none() {
            self.greet_dependents(&node, &mut look);
        }
        if node.terminating && (node.foreground || node.orphan) {
            look.at(&node.uid);
        }
        self.nodes.insert(node.uid.clone(), node);
        look
    }

    /// An object is seen for the first time: those that call it their owner may have it wrong.
    fn greet_dependents(&self, node: &Node, look: &mut Look) {
        for dependent in self.dependents(&node.uid) {
            let Some(owner) = dependent.owners.iter().find(|owner| owner.uid == node.uid) else { continue };
            if node.is_elsewhere(&dependent) {
                look.misplaced.push((dependent.clone(), owner.clone()));
            }
            if !node.is_named_by(owner, &dependent.namespace) {
                look.at(&dependent.uid);
            }
        }
    }

    /// An object is gone: its dependents and whoever waited for it are worth a look.
    pub fn remove(&mut self, uid: &str) -> Look {
        let look = self.take(uid);
        // Those that name it rightly need not ask for it again.
        let gone: Vec<(OwnerReference, String)> = self
            .dependents(uid)
            .into_iter()
            .flat_map(|node| node.owners.into_iter().map(move |owner| (owner, node.namespace.clone())))
            .filter(|(owner, _)| owner.uid == uid)
            .collect();
        for (owner, namespace) in gone {
            self.note_absent(&owner, &namespace);
        }
        look
    }

    fn take(&mut self, uid: &str) -> Look {
        let mut look = Look::default();
        let Some(node) = self.nodes.remove(uid) else { return look };
        for dependent in self.dependents.get(uid).into_iter().flatten() {
            look.at(dependent);
        }
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            look.at(&owner.uid);
        }
        look
    }

    /// After a new list of a kind: what was not in it is gone.
    pub fn retain(&mut self, kind: &Kind, uids: &HashSet<String>) -> Look {
        let gone = self.uids_of(kind, |uid| !uids.contains(uid));
        let mut look = Look::default();
        for uid in gone {
            look.uids.extend(self.remove(&uid).uids);
        }
        look
    }

    /// A kind is no longer served: whether its objects exist is not known.
    pub fn forget(&mut self, kind: &Kind) -> Look {
        let mut look = Look::default();
        for uid in self.uids_of(kind, |_| true) {
            look.uids.extend(self.take(&uid).uids);
        }
        look
    }

    fn uids_of(&self, kind: &Kind, which: impl Fn(&String) -> bool) -> Vec<String> {
        let of_kind = self.nodes.values().filter(|node| node.kind == kind && which(&node.uid));
        of_kind.map(|node| node.uid.clone()).collect()
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
    use api::Typed;
    use api::core::v1::ConfigMap;
    use api::meta::v1::{ObjectMeta, Time};

    use super::*;

    fn object(uid: &str, owners: &[&str], finalizers: &[&str], terminating: bool) -> ConfigMap {
        let owner = |uid: &&str| OwnerReference {
            uid: (*uid).into(),
            name: (*uid).into(),
            kind: "ConfigMap".into(),
            api_version: "v1".into(),
            ..Default::default()
        };
        ConfigMap {
            metadata: ObjectMeta {
                uid: Some(uid.into()),
                name: Some(uid.into()),
                namespace: Some("default".into()),
                owner_references: Some(owners.iter().map(owner).collect()),
                finalizers: Some(finalizers.iter().map(|f| (*f).to_owned()).collect()),
                deletion_timestamp: terminating.then_some(Time(api::Timestamp::UNIX_EPOCH)),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    fn owner_of(object: &ConfigMap) -> OwnerReference {
        object.metadata.owner_references.as_ref().unwrap()[0].clone()
    }

    #[test]
    fn an_unknown_owner_and_a_lost_one_are_worth_a_look() {
        let mut graph = Graph::default();
        let b = object("b", &["a"], &[], false);
        assert_eq!(graph.put(&b).uids, ["b"]);
        assert!(graph.put(&object("a", &[], &[], false)).uids.is_empty());
        assert!(graph.put(&object("c", &["a"], &[], false)).uids.is_empty());
        assert_eq!(graph.remove("a").uids, ["b", "c"]);
        assert!(graph.is_absent(&owner_of(&b), "default"));
        assert!(!graph.is_absent(&owner_of(&b), "other"), "elsewhere nobody looked");
    }

    #[test]
    fn whoever_waits_for_its_dependents_is_told_of_their_end() {
        let mut graph = Graph::default();
        graph.put(&object("a", &[], &[FOREGROUND], true));
        assert_eq!(graph.put(&object("b", &["a"], &[], false)).uids, ["b"]);
        assert_eq!(graph.remove("b").uids, ["a"]);
        assert!(graph.dependents("a").is_empty());
    }

    #[test]
    fn whoever_is_no_longer_blocked_is_told() {
        let mut graph = Graph::default();
        graph.put(&object("a", &[], &[FOREGROUND], true));
        let mut b = object("b", &["a"], &[], true);
        b.metadata.owner_references.as_mut().unwrap()[0].block_owner_deletion = Some(true);
        graph.put(&b);
        b.metadata.owner_references.as_mut().unwrap()[0].block_owner_deletion = Some(false);
        assert_eq!(graph.put(&b).uids, ["a", "b"]);
    }

    #[test]
    fn an_owner_in_another_namespace_is_none() {
        let mut b = object("b", &["a"], &[], false);
        b.metadata.namespace = Some("other".into());
        // The dependent first, or the owner first: it is told once.
        let mut graph = Graph::default();
        assert!(graph.put(&b).misplaced.is_empty());
        let look = graph.put(&object("a", &[], &[], false));
        assert_eq!((look.uids, look.misplaced.len()), (vec!["b".to_owned()], 1));
        assert!(graph.put(&b).misplaced.is_empty());
        let mut graph = Graph::default();
        graph.put(&object("a", &[], &[], false));
        let look = graph.put(&b);
        assert_eq!((look.uids, look.misplaced.len()), (vec!["b".to_owned()], 1));
        assert!(graph.put(&b).misplaced.is_empty());
    }

    #[test]
    fn a_name_must_fit_the_object() {
        let mut graph = Graph::default();
        graph.put(&object("a", &[], &[], false));
        let mut b = object("b", &["a"], &[], false);
        b.metadata.owner_references.as_mut().unwrap()[0].name = "x".into();
        assert_eq!(graph.put(&b).uids, ["b"]);
        b.metadata.owner_references.as_mut().unwrap()[0] = owner_of(&object("b", &["a"], &[], false));
        assert!(graph.put(&b).uids.is_empty());
    }

    #[test]
    fn what_is_not_served_any_more_is_not_said_to_be_gone() {
        let mut graph = Graph::default();
        graph.put(&object("a", &[], &[], false));
        let b = object("b", &["a"], &[], false);
        graph.put(&b);
        let mut uids = graph.forget(ConfigMap::KIND).uids;
        uids.sort();
        uids.dedup();
        assert!(uids.iter().all(|uid| uid == "a" || uid == "b"));
        assert!(!graph.is_absent(&owner_of(&b), "default"));
        assert!(graph.get("a").is_none() && graph.get("b").is_none());
    }
}
