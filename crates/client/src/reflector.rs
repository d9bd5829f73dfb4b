//! Reflectors: the objects of one kind, kept in memory as the API says they are, by list and watch.
//!
//! There is one reflector per kind and process ([`Reflectors`]); readers take snapshots, and subscribers are told
//! which objects changed. Changes of one object that are not yet taken are merged, so a slow subscriber holds at most
//! one change per object.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::{Kind, Typed, WatchEvent, downcast_arc};
use arc_swap::ArcSwap;
use base::{Backoff, Random, TaskGroup};
use futures_util::StreamExt;
use imbl::OrdMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use crate::client::ListOptions;
use crate::{BoxFuture, Client, Error};

/// Objects by key (`namespace/name`), in order.
pub type Snapshot<T> = OrdMap<String, Arc<T>>;

/// One object's change: `old` is `None` when it is new, `new` is `None` when it is gone.
#[derive(Debug)]
pub struct Change<T> {
    pub key: String,
    pub old: Option<Arc<T>>,
    pub new: Option<Arc<T>>,
}

// Derived, it would ask for `T: Clone`.
impl<T> Clone for Change<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), old: self.old.clone(), new: self.new.clone() }
    }
}

impl<T> Change<T> {
    /// The newest state known: the new one, or the last one before it went.
    pub fn latest(&self) -> Option<&Arc<T>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

/// A shared view of all objects of one kind. Cheap to clone.
pub struct Reflector<T: Typed>(Arc<Shared<T>>);

impl<T: Typed> Clone for Reflector<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Shared<T: Typed> {
    state: ArcSwap<Snapshot<T>>,
    synced: watch::Sender<bool>,
    /// The revision the view has reached; 0 before the first list.
    reached: watch::Sender<u64>,
    /// Written by the reflector's task alone; subscribing takes the lock for a moment.
    listeners: Mutex<Vec<Arc<Pending<T>>>>,
    indices: RwLock<Vec<Arc<IndexState<T>>>>,
}

struct Pending<T> {
    changes: Mutex<HashMap<String, Change<T>>>,
    changed: Notify,
}

/// A subscriber's end: takes merged changes.
pub struct Subscription<T: Typed>(Arc<Pending<T>>);

impl<T: Typed> Subscription<T> {
    /// All changes since the last call; waits until there is one. Cancel-safe.
    pub async fn next(&mut self) -> Vec<Change<T>> {
        loop {
            let notified = self.0.changed.notified();
            let mut changes: Vec<Change<T>> = {
                let mut pending = self.0.changes.lock();
                pending.drain().map(|(_, change)| change).collect()
            };
            if !changes.is_empty() {
                changes.sort_by(|a, b| a.key.cmp(&b.key));
                return changes;
            }
            notified.await;
        }
    }
}

/// Objects by a value computed from them (owner uid, node name).
pub struct Index<T: Typed>(Arc<IndexState<T>>);

impl<T: Typed> Clone for Index<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct IndexState<T: Typed> {
    values: fn(&T) -> Vec<String>,
    map: RwLock<HashMap<String, BTreeMap<String, Arc<T>>>>,
}

impl<T: Typed> IndexState<T> {
    fn apply(&self, change: &Change<T>) {
        let mut map = self.map.write();
        if let Some(old) = &change.old {
            for value in (self.values)(old) {
                if let Some(entries) = map.get_mut(&value) {
                    entries.remove(&change.key);
                    if entries.is_empty() {
                        map.remove(&value);
                    }
                }
            }
        }
        if let Some(new) = &change.new {
            for value in (self.values)(new) {
                map.entry(value).or_default().insert(change.key.clone(), new.clone());
            }
        }
    }
}

impl<T: Typed> Index<T> {
    /// The objects with that value, in key order.
    pub fn get(&self, value: &str) -> Vec<Arc<T>> {
        self.0.map.read().get(value).map(|entries| entries.values().cloned().collect()).unwrap_or_default()
    }
}

impl<T: Typed> Reflector<T> {
    /// Starts following the API. The view is empty until [`Reflector::synced`].
    pub fn start(client: Client, options: ListOptions, random: Random, tasks: &TaskGroup) -> Self {
        let reflector = Self::detached();
        let follower = reflector.clone();
        tasks.supervise("reflector", move || follow(follower.clone(), client.clone(), options.clone(), random.clone()));
        reflector
    }

    /// A reflector that follows nothing, fed by [`Reflector::replace`] and [`Reflector::apply`]: for tests of what
    /// stands on reflectors.
    pub fn detached() -> Self {
        Self(Arc::new(Shared {
            state: ArcSwap::from_pointee(OrdMap::new()),
            synced: watch::channel(false).0,
            reached: watch::channel(0).0,
            listeners: Mutex::default(),
            indices: RwLock::default(),
        }))
    }

    /// The object with that key (`namespace/name`, or `name`).
    pub fn get(&self, key: &str) -> Option<Arc<T>> {
        self.0.state.load().get(key).cloned()
    }

    /// All objects, as of now; costs O(1).
    pub fn snapshot(&self) -> Snapshot<T> {
        OrdMap::clone(&self.0.state.load())
    }

    /// The objects of one namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let start = format!("{namespace}/");
        let snapshot = self.0.state.load();
        let range = snapshot.range(start.clone()..);
        range.take_while(|(key, _)| key.starts_with(&start)).map(|(_, object)| object.clone()).collect()
    }

    /// Returns once the first list has been taken in.
    pub async fn synced(&self) {
        let mut synced = self.0.synced.subscribe();
        // The sender lives as long as `self`.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    pub fn is_synced(&self) -> bool {
        *self.0.synced.borrow()
    }

    /// Returns once the view has reached `revision` (resource versions compare as numbers since v1.35): after a write
    /// of one's own, so that the next decision sees it. Bound the wait: the watch may be down.
    pub async fn reach(&self, revision: u64) {
        let mut reached = self.0.reached.subscribe();
        let _ = reached.wait_for(|reached| *reached >= revision).await;
    }

    fn note_reached(&self, resource_version: &str) {
        if let Ok(revision) = resource_version.parse() {
            self.0.reached.send_replace(revision);
        }
    }

    /// Told of every change from now on; what is there already comes as changes with `old: None`.
    pub fn subscribe(&self) -> Subscription<T> {
        let pending = Arc::new(Pending { changes: Mutex::default(), changed: Notify::new() });
        let mut listeners = self.0.listeners.lock();
        for (key, object) in self.0.state.load().iter() {
            let change = Change { key: key.clone(), old: None, new: Some(object.clone()) };
            pending.changes.lock().insert(key.clone(), change);
        }
        pending.changed.notify_one();
        listeners.push(pending.clone());
        Subscription(pending)
    }

    /// An index by `values`; the same function gives the same index.
    pub fn index(&self, values: fn(&T) -> Vec<String>) -> Index<T> {
        // Holding the listeners' lock keeps the state still while the index is filled.
        let _still = self.0.listeners.lock();
        let mut indices = self.0.indices.write();
        if let Some(index) = indices.iter().find(|index| std::ptr::fn_addr_eq(index.values, values)) {
            return Index(index.clone());
        }
        let index = Arc::new(IndexState { values, map: RwLock::default() });
        for (key, object) in self.0.state.load().iter() {
            index.apply(&Change { key: key.clone(), old: None, new: Some(object.clone()) });
        }
        indices.push(index.clone());
        Index(index)
    }

    /// Takes in a whole list.
    pub fn replace(&self, items: Vec<Arc<T>>) {
        let new: Snapshot<T> = items.into_iter().map(|object| (object.key(), object)).collect();
        let mut listeners = self.0.listeners.lock();
        let old = self.0.state.load_full();
        let mut changes = Vec::new();
        for (key, object) in old.iter() {
            if !new.contains_key(key) {
                changes.push(Change { key: key.clone(), old: Some(object.clone()), new: None });
            }
        }
        for (key, object) in &new {
            let before = old.get(key);
            if before.is_none_or(|before| before.resource_version() != object.resource_version()) {
                changes.push(Change { key: key.clone(), old: before.cloned(), new: Some(object.clone()) });
            }
        }
        self.publish(&mut listeners, new, changes);
        drop(listeners);
        self.0.synced.send_replace(true);
    }

    /// Takes in one object's new state (`None`: it is gone).
    pub fn apply(&self, key: String, new: Option<Arc<T>>) {
        let mut listeners = self.0.listeners.lock();
        let mut state = OrdMap::clone(&self.0.state.load());
        let old = match &new {
            Some(object) => state.insert(key.clone(), object.clone()),
            None => state.remove(&key),
        };
        if old.is_some() || new.is_some() {
            self.publish(&mut listeners, state, vec![Change { key, old, new }]);
        }
    }

    fn publish(&self, listeners: &mut Vec<Arc<Pending<T>>>, state: Snapshot<T>, changes: Vec<Change<T>>) {
        self.0.state.store(Arc::new(state));
        for index in self.0.indices.read().iter() {
            for change in &changes {
                index.apply(change);
            }
        }
        // A listener whose subscription was dropped is held by us alone.
        listeners.retain(|listener| Arc::strong_count(listener) > 1);
        for listener in listeners.iter() {
            let mut pending = listener.changes.lock();
            for change in &changes {
                merge(&mut pending, change);
            }
            drop(pending);
            listener.changed.notify_one();
        }
    }
}

/// Adds a change to those not yet taken: the first `old` and the last `new` of an object remain. An object that came
/// and went untaken is still reported (as gone), because its passing may have released something.
fn merge<T>(pending: &mut HashMap<String, Change<T>>, change: &Change<T>) {
    match pending.get_mut(&change.key) {
        Some(earlier) => {
            if earlier.old.is_none() && change.new.is_none() {
                earlier.old.clone_from(&change.old);
            }
            earlier.new.clone_from(&change.new);
        }
        None => {
            pending.insert(change.key.clone(), change.clone());
        }
    }
}

/// Lists, then watches until the watch breaks or is too old, over and over.
async fn follow<T: Typed>(reflector: Reflector<T>, client: Client, options: ListOptions, random: Random) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
    let mut version: Option<String> = None;
    loop {
        let result = match &version {
            None => list(&reflector, &client, &options).await.map(|listed| version = Some(listed)),
            Some(from) => match watch_from(&reflector, &client, &options, from.clone()).await {
                Ok(reached) => {
                    let barren = reached == *from;
                    version = Some(reached);
                    if barren {
                        // A server that is ending ends every watch at once: do not ask it again and again.
                        tokio::time::sleep(backoff.next_jittered(&random)).await;
                        continue;
                    }
                    Ok(())
                }
                Err(error) => {
                    version = None;
                    Err(error)
                }
            },
        };
        match result {
            Ok(()) => backoff.reset(),
            Err(error) if error.is_expired() => {
                tracing::debug!(kind = T::KIND.kind, "the watch is too old; listing again");
            }
            Err(error) => {
                let delay = backoff.next_jittered(&random);
                tracing::warn!(kind = T::KIND.kind, %error, ?delay, "following the API failed");
                tokio::time::sleep(delay).await;
            }
        }
    }
}

async fn list<T: Typed>(reflector: &Reflector<T>, client: &Client, options: &ListOptions) -> Result<String, Error> {
    let listed = client.list::<T>(options).await?;
    reflector.replace(listed.items);
    reflector.note_reached(&listed.resource_version);
    Ok(listed.resource_version)
}

/// Follows one watch to its end; returns the revision it reached.
async fn watch_from<T: Typed>(
    reflector: &Reflector<T>,
    client: &Client,
    options: &ListOptions,
    from: String,
) -> Result<String, Error> {
    let mut events = client.watch::<T>(options, &from).await?;
    let mut reached = from;
    while let Some(event) = events.next().await {
        let (object, gone) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
            WatchEvent::Deleted(object) => (object, true),
            WatchEvent::Bookmark { resource_version, .. } => {
                reflector.note_reached(&resource_version);
                reached = resource_version;
                continue;
            }
            WatchEvent::Error(status) => return Err(Error::Status(*status)),
        };
        reached = object.resource_version().to_owned();
        let key = object.key();
        let object =
            downcast_arc::<T>(object).ok_or_else(|| Error::Malformed("a watch event of another kind".into()))?;
        reflector.apply(key, (!gone).then_some(object));
        reflector.note_reached(&reached);
    }
    Ok(reached)
}

/// The reflectors of a process: asks for a kind twice get the same one. Cheap to clone.
#[derive(Clone)]
pub struct Reflectors {
    client: Client,
    random: Random,
    tasks: TaskGroup,
    kinds: Arc<Mutex<ByKind>>,
}

/// By type, and by the field selector they follow.
type ByKind = HashMap<(TypeId, &'static str), Box<dyn AnyReflector>>;

/// A reflector whose kind is not known at compile time.
trait AnyReflector: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn kind(&self) -> &'static Kind;
    fn reach(&self, revision: u64) -> BoxFuture<()>;
    fn is_live(&self, key: &str, uid: &str) -> bool;
}

impl<T: Typed> AnyReflector for Reflector<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn kind(&self) -> &'static Kind {
        T::KIND
    }

    fn reach(&self, revision: u64) -> BoxFuture<()> {
        let reflector = self.clone();
        Box::pin(async move { reflector.reach(revision).await })
    }

    fn is_live(&self, key: &str, uid: &str) -> bool {
        self.get(key).is_some_and(|object| object.uid() == uid && !object.is_terminating())
    }
}

impl Reflectors {
    pub fn new(client: Client, random: Random, tasks: TaskGroup) -> Self {
        Self { client, random, tasks, kinds: Arc::default() }
    }

    /// The reflector of all objects of a kind, started on first use. Of kinds with a lean form ([`api::lean`]) that is
    /// to be followed: nothing of the whole form is shared with the server.
    pub fn of<T: Typed>(&self) -> Reflector<T> {
        self.selected("")
    }

    /// The reflector of those objects of a kind that a field selector matches: for kinds of which there are many, and
    /// few are asked for.
    pub fn selected<T: Typed>(&self, field_selector: &'static str) -> Reflector<T> {
        let mut kinds = self.kinds.lock();
        let entry = kinds.entry((TypeId::of::<T>(), field_selector)).or_insert_with(|| {
            let selector = (!field_selector.is_empty()).then(|| field_selector.to_owned());
            let options =
                ListOptions { follows: selector.is_none(), field_selector: selector, ..ListOptions::default() };
            Box::new(Reflector::<T>::start(self.client.clone(), options, self.random.clone(), &self.tasks))
        });
        entry.as_any().downcast_ref::<Reflector<T>>().expect("entries are keyed by their own type").clone()
    }

    /// As [`Reflector::reach`] for a kind known at run time; returns at once if nobody follows that kind here.
    pub async fn reach(&self, kind: &Kind, revision: u64) {
        let reached: Vec<BoxFuture<()>> = {
            let kinds = self.kinds.lock();
            let of_kind = kinds.values().filter(|reflector| reflector.kind() == kind);
            of_kind.map(|reflector| reflector.reach(revision)).collect()
        };
        for reached in reached {
            reached.await;
        }
    }

    /// Whether the view of a kind still has that very object, not marked for deletion.
    pub fn is_live(&self, kind: &Kind, key: &str, uid: &str) -> bool {
        self.kinds.lock().values().any(|reflector| reflector.kind() == kind && reflector.is_live(key, uid))
    }

    /// The client the reflectors use.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

#[cfg(test)]
mod tests {
    use api::Object;
    use api::core::v1::ConfigMap;
    use api::meta::v1::ObjectMeta;

    use super::*;

    fn object(name: &str, version: &str) -> Arc<ConfigMap> {
        Arc::new(ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("default".into()),
                resource_version: Some(version.into()),
                ..Default::default()
            },
            ..Default::default()
        })
    }

    #[tokio::test]
    async fn changes_are_merged_until_taken() {
        let reflector = Reflector::<ConfigMap>::detached();
        let index = reflector.index(|object| vec![object.resource_version().to_owned()]);
        let mut changes = reflector.subscribe();
        reflector.replace(vec![object("a", "1"), object("b", "2")]);
        reflector.apply("default/a".into(), Some(object("a", "3")));
        reflector.apply("default/b".into(), None);
        let taken = changes.next().await;
        assert_eq!(taken.len(), 2);
        assert_eq!(taken[0].new.as_ref().expect("a is there").resource_version(), "3");
        assert!(taken[1].new.is_none() && taken[1].old.is_some(), "b's passing is told");
        assert_eq!(index.get("3").len(), 1);
        assert!(index.get("1").is_empty());
        assert_eq!(reflector.in_namespace("default").len(), 1);
    }

    #[tokio::test]
    async fn a_late_subscriber_is_told_what_is_there() {
        let reflector = Reflector::<ConfigMap>::detached();
        reflector.replace(vec![object("a", "1")]);
        let mut changes = reflector.subscribe();
        assert_eq!(changes.next().await[0].key, "default/a");
        reflector.replace(vec![object("a", "1")]);
        assert!(tokio::time::timeout(Duration::from_millis(10), changes.next()).await.is_err(), "nothing changed");
    }
}
