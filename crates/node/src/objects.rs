//! The ConfigMaps and Secrets that the node's pods refer to, each followed on its own (the node may read no others),
//! for as long as a pod needs it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::Typed;
use api::core::v1::{ConfigMap, Secret};
use base::{Random, TaskGroup};
use client::{Client, ListOptions, Reflector};
use parking_lot::Mutex;

use crate::inbox::{Inbox, Signal};
use crate::pod::Uid;
use crate::trust_bundles::TrustBundles;

/// How long a first read may take.
const FIRST_READ_SECONDS_MAX: u64 = 10;

/// An object could not be read in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to sync {0} cache: timed out waiting for the condition")]
pub struct NotSynced(&'static str);

/// Objects by name. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    config_maps: Arc<Followed<ConfigMap>>,
    secrets: Arc<Followed<Secret>>,
    trust_bundles: TrustBundles,
}

struct Followed<T: Typed> {
    client: Client,
    random: Random,
    tasks: TaskGroup,
    /// By `namespace/name`.
    entries: Mutex<HashMap<String, Entry<T>>>,
}

struct Entry<T: Typed> {
    reflector: Reflector<T>,
    tasks: TaskGroup,
    users: HashMap<Uid, Arc<Inbox>>,
}

impl<T: Typed> Followed<T> {
    fn new(client: Client, random: Random, tasks: TaskGroup) -> Arc<Self> {
        Arc::new(Self { client, random, tasks, entries: Mutex::default() })
    }

    fn follow(self: &Arc<Self>, namespace: &str, name: &str, uid: &str, inbox: &Arc<Inbox>) {
        let key = format!("{namespace}/{name}");
        let mut entries = self.entries.lock();
        let entry = entries.entry(key.clone()).or_insert_with(|| {
            let tasks = self.tasks.child();
            let options = ListOptions {
                namespace: Some(namespace.to_owned()),
                field_selector: Some(format!("metadata.name={name}")),
                ..ListOptions::default()
            };
            let reflector = Reflector::start(self.client.clone(), options, self.random.clone(), &tasks);
            tasks.spawn("object watch", forward(Arc::downgrade(self), key, reflector.clone()));
            Entry { reflector, tasks, users: HashMap::new() }
        });
        entry.users.insert(uid.to_owned(), inbox.clone());
    }

    fn forget(&self, uid: &str, still: &BTreeSet<String>) {
        self.entries.lock().retain(|key, entry| {
            if !still.contains(key) {
                entry.users.remove(uid);
            }
            let used = !entry.users.is_empty();
            if !used {
                entry.tasks.cancel();
            }
            used
        });
    }

    async fn get(&self, namespace: &str, name: &str, what: &'static str) -> Result<Option<Arc<T>>, NotSynced> {
        let key = format!("{namespace}/{name}");
        let Some(reflector) = self.entries.lock().get(&key).map(|e| e.reflector.clone()) else {
            return Err(NotSynced(what));
        };
        let limit = Duration::from_secs(FIRST_READ_SECONDS_MAX);
        tokio::time::timeout(limit, reflector.synced()).await.map_err(|_| NotSynced(what))?;
        Ok(reflector.get(&key))
    }
}

/// Wakes the users of an object whenever it changes.
async fn forward<T: Typed>(followed: Weak<Followed<T>>, key: String, reflector: Reflector<T>) {
    let mut changes = reflector.subscribe();
    loop {
        changes.next().await;
        let Some(followed) = followed.upgrade() else { return };
        let users: Vec<Arc<Inbox>> =
            followed.entries.lock().get(&key).map(|e| e.users.values().cloned().collect()).unwrap_or_default();
        for user in users {
            user.wake(Signal::Objects);
        }
    }
}

impl Objects {
    /// Objects read through `client`.
    pub fn new(client: &Client, random: &Random, tasks: &TaskGroup) -> Self {
        Self {
            config_maps: Followed::new(client.clone(), random.clone(), tasks.clone()),
            secrets: Followed::new(client.clone(), random.clone(), tasks.clone()),
            trust_bundles: TrustBundles::new(client, random, tasks),
        }
    }

    /// Follows exactly these objects for a pod from now on; `inbox` is woken when one changes.
    pub fn follow(
        &self,
        uid: &str,
        namespace: &str,
        config_maps: &BTreeSet<String>,
        secrets: &BTreeSet<String>,
        inbox: &Arc<Inbox>,
    ) {
        for name in config_maps {
            self.config_maps.follow(namespace, name, uid, inbox);
        }
        for name in secrets {
            self.secrets.follow(namespace, name, uid, inbox);
        }
        let keys = |names: &BTreeSet<String>| names.iter().map(|name| format!("{namespace}/{name}")).collect();
        self.config_maps.forget(uid, &keys(config_maps));
        self.secrets.forget(uid, &keys(secrets));
    }

    /// A pod needs nothing any more.
    pub fn forget(&self, uid: &str) {
        self.config_maps.forget(uid, &BTreeSet::new());
        self.secrets.forget(uid, &BTreeSet::new());
        self.trust_bundles.forget(uid);
    }

    /// The cluster's trust bundles, for pods that need any.
    pub fn trust_bundles(&self) -> &TrustBundles {
        &self.trust_bundles
    }

    /// A followed ConfigMap; `None` when it does not exist.
    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, NotSynced> {
        self.config_maps.get(namespace, name, "configmap").await
    }

    /// A followed Secret; `None` when it does not exist.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, NotSynced> {
        self.secrets.get(namespace, name, "secret").await
    }
}
