//! The objects the node's network is made from, as they arrive: one shared, coalescing slot. Whoever watches the API
//! writes into it; the service proxy and DNS take snapshots of it. It holds the latest state only, so it cannot grow
//! beyond the cluster's objects and a slow reader misses nothing but intermediate states.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::core::v1::{Namespace, Service};
use api::discovery::v1::EndpointSlice;
use api::lean::Pod;
use api::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::Cidr;

/// Namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace, empty for cluster-scoped objects.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of an object with this metadata.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

/// A snapshot of everything the network is made from.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// All Services, once they have been listed.
    pub services: Option<BTreeMap<Key, Arc<Service>>>,
    /// All EndpointSlices, once they have been listed.
    pub slices: Option<BTreeMap<Key, Arc<EndpointSlice>>>,
    /// The names of all namespaces, once they have been listed. DNS needs them, the proxy does not.
    pub namespaces: Option<BTreeSet<String>>,
    /// The pods of this node, for their host ports.
    pub pods: Option<BTreeMap<Key, Arc<Pod>>>,
    /// The zone this node is in (`topology.kubernetes.io/zone`), for topology hints.
    pub zone: Option<String>,
    /// The ranges of the node's pods, once the node has them.
    pub pod_cidrs: Vec<Cidr>,
}

/// The slot. Cheap to clone; clones are the same slot.
#[derive(Clone)]
pub struct Feed {
    inputs: Arc<Mutex<Inputs>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { inputs: Arc::default(), changed: Arc::new(watch::Sender::new(0)) }
    }
}

macro_rules! verbs {
    ($(#[$replace_doc:meta])* $replace:ident, $(#[$apply_doc:meta])* $apply:ident,
     $(#[$delete_doc:meta])* $delete:ident, $kind:ty, $field:ident) => {
        $(#[$replace_doc])*
        pub fn $replace(&self, objects: impl IntoIterator<Item = Arc<$kind>>) {
            let all = objects.into_iter().map(|object| (Key::of(&object.metadata), object)).collect();
            self.change(|inputs| inputs.$field = Some(all));
        }

        $(#[$apply_doc])*
        pub fn $apply(&self, object: Arc<$kind>) {
            self.change(|inputs| {
                inputs.$field.get_or_insert_default().insert(Key::of(&object.metadata), object);
            });
        }

        $(#[$delete_doc])*
        pub fn $delete(&self, namespace: &str, name: &str) {
            let key = Key { namespace: namespace.into(), name: name.into() };
            self.change(|inputs| {
                inputs.$field.get_or_insert_default().remove(&key);
            });
        }
    };
}

impl Feed {
    /// An empty slot: readers wait until it has been filled once.
    pub fn new() -> Self {
        Self::default()
    }

    verbs!(
        /// Sets all Services, as after a list.
        replace_services,
        /// Adds or changes one Service.
        apply_service,
        /// Removes one Service.
        delete_service,
        Service,
        services
    );
    verbs!(
        /// Sets all EndpointSlices, as after a list.
        replace_slices,
        /// Adds or changes one EndpointSlice.
        apply_slice,
        /// Removes one EndpointSlice.
        delete_slice,
        EndpointSlice,
        slices
    );
    verbs!(
        /// Sets the node's pods, as after a list.
        replace_pods,
        /// Adds or changes one of the node's pods.
        apply_pod,
        /// Removes one of the node's pods.
        delete_pod,
        Pod,
        pods
    );

    /// Sets all namespaces, as after a list.
    pub fn replace_namespaces(&self, objects: impl IntoIterator<Item = Arc<Namespace>>) {
        let all = objects.into_iter().filter_map(|object| object.metadata.name.clone()).collect();
        self.change(|inputs| inputs.namespaces = Some(all));
    }

    /// Adds one namespace.
    pub fn apply_namespace(&self, name: &str) {
        let mut inputs = self.inputs.lock();
        if inputs.namespaces.get_or_insert_default().insert(name.to_owned()) {
            self.notify();
        }
    }

    /// Removes one namespace.
    pub fn delete_namespace(&self, name: &str) {
        self.change(|inputs| {
            inputs.namespaces.get_or_insert_default().remove(name);
        });
    }

    /// Says which zone the node is in and which addresses its pods have.
    pub fn set_node(&self, zone: Option<String>, pod_cidrs: Vec<Cidr>) {
        let mut inputs = self.inputs.lock();
        if inputs.zone != zone || inputs.pod_cidrs != pod_cidrs {
            (inputs.zone, inputs.pod_cidrs) = (zone, pod_cidrs);
            self.notify();
        }
    }

    /// The state as it is now.
    pub fn snapshot(&self) -> Inputs {
        self.inputs.lock().clone()
    }

    /// Grows with every change.
    pub fn version(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Hears of every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Inputs)) {
        let mut inputs = self.inputs.lock();
        change(&mut inputs);
        // Told while the lock is held: a snapshot taken after reading the version holds at least that version.
        self.notify();
    }

    fn notify(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> Arc<Service> {
        let metadata = ObjectMeta { name: Some(name.into()), namespace: Some("a".into()), ..ObjectMeta::default() };
        Arc::new(Service { metadata, ..Service::default() })
    }

    #[test]
    fn the_slot_keeps_the_latest_state_and_tells() {
        let feed = Feed::new();
        let mut changed = feed.subscribe();
        assert!(feed.snapshot().services.is_none());
        feed.replace_services([service("x"), service("y")]);
        feed.apply_service(service("z"));
        feed.delete_service("a", "x");
        assert!(changed.has_changed().unwrap());
        changed.mark_unchanged();
        let names: Vec<String> = feed.snapshot().services.unwrap().into_keys().map(|key| key.name).collect();
        assert_eq!(names, ["y", "z"]);
        feed.set_node(None, Vec::new());
        assert!(!changed.has_changed().unwrap());
    }
}
