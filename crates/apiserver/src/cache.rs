//! The watch cache: for each resource the present state as a persistent map, and a ring of the latest events. One task
//! feeds all of them from one watch of the store, so that all share one revision: the [`Caches::progress`].
//!
//! Watchers hold cursors into the ring, never queues; one that falls off its end is ended with 410.

mod entry;
mod feed;
mod filter;
mod list;
mod ring;
mod wake;
mod watcher;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use api::{Object, Status};
use arc_swap::ArcSwap;
use base::Clock;
use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::{Mutex, RwLock};
use resources::Shared;
use tokio::sync::{mpsc, watch};

pub use entry::{Entry, push_number};
pub use filter::Filter;
pub use list::{ListAt, ListOptions, Listed, Paging, in_range};
pub use ring::{Change, Event};
pub use watcher::{Out, Step, WatchOptions, Watcher};

use crate::seal::{Sealed, Sealing, Unopened};
use ring::Ring;
use wake::Bell;

/// How long a read waits for the cache to reach a revision (upstream's `blockTimeout`).
const FRESH_WAIT: Duration = Duration::from_secs(3);

/// The present objects of a resource. A snapshot costs O(1).
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The revision of the last event in here; what is here holds up to [`Caches::progress`].
    pub revision: u64,
    pub items: OrdMap<Arc<str>, Arc<Entry>>,
}

/// One resource's state and recent events.
pub struct Cache {
    /// `/registry/pods/`.
    pub prefix: String,
    /// The strategy of the stored form.
    pub strategy: Shared,
    state: ArcSwap<State>,
    ring: RwLock<Ring>,
    bell: Bell,
    pinned: Mutex<list::Pinned>,
    /// How many readers keep the lean form of every version; without any it is not kept when an object is written.
    lean_readers: AtomicUsize,
    /// Which of it lies sealed in the store.
    sealing: Arc<Sealing>,
    /// The revision that the cache was opened at, if that was while the feed ran: earlier events are in it already.
    opened_at: AtomicU64,
    /// Another cache took its place, or what it kept is not served any more.
    closed: AtomicBool,
}

impl Cache {
    fn new(prefix: String, strategy: Shared, sealing: Arc<Sealing>) -> Self {
        Self {
            prefix,
            strategy,
            state: ArcSwap::from_pointee(State::default()),
            ring: RwLock::new(Ring::new(0)),
            bell: Bell::new(),
            pinned: Mutex::default(),
            lean_readers: AtomicUsize::new(0),
            sealing,
            opened_at: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Whether the cache is not fed any more: watches of it are over.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// How many objects there are, and about how many bytes each has on the wire (a few of them are looked at).
    pub(crate) fn reckoned_size(&self) -> (usize, usize) {
        const LOOKED_AT: usize = 4;
        let state = self.state.load();
        let few = state.items.values().take(LOOKED_AT).chain(state.items.values().rev().take(LOOKED_AT));
        let (count, bytes) = few.fold((0, 0), |(count, bytes), entry| (count + 1, bytes + entry.wire_len_max()));
        (state.items.len(), bytes / count.max(1))
    }

    /// How many watchers hear of a write.
    pub(crate) fn watches(&self) -> usize {
        self.bell.listeners()
    }

    /// Calls back on every event; see [`Watcher`].
    pub(crate) fn signal(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// The present objects.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// The entry under a store key, as far as the cache has got.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state.load().items.get(key).cloned()
    }

    /// The store's key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if namespace.is_empty() {
            format!("{}{name}", self.prefix)
        } else {
            format!("{}{namespace}/{name}", self.prefix)
        }
    }

    /// Lean forms are kept from now on until [`Cache::lean_reader_left`].
    pub(crate) fn lean_reader_came(&self) {
        self.lean_readers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lean_reader_left(&self) {
        self.lean_readers.fetch_sub(1, Ordering::Relaxed);
    }

    fn keeps_lean(&self) -> bool {
        self.lean_readers.load(Ordering::Relaxed) > 0
    }

    /// What its objects' keys begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// As encryption at rest names it.
    pub(crate) fn sealed(&self) -> Sealed<'static> {
        let kind = self.strategy.kind();
        Sealed { group: kind.group, resource: kind.plural }
    }

    /// How long its objects are kept, if not for ever.
    pub(crate) fn ttl(&self) -> Option<Duration> {
        self.strategy.ttl_seconds().map(Duration::from_secs)
    }

    /// JSON as it is to be stored. [`Sealing::writing`] is to be held until it is.
    pub(crate) fn seal(&self, key: &str, json: Bytes) -> Result<Bytes, Status> {
        self.sealing.rules().seal(self.sealed(), key, &json).map_err(Status::internal)
    }

    /// What is stored, as JSON.
    async fn open(&self, key: &str, stored: &Bytes) -> Result<Bytes, Unread> {
        let rules = self.sealing.rules();
        match rules.open(self.sealed(), key, stored).await {
            Ok((json, _)) => Ok(json),
            Err(Unopened::Plugin(why)) => Err(Unread::NotNow(Status::internal(why))),
            Err(Unopened::Sealed(why)) => Err(Unread::Never(Status::internal(why))),
        }
    }

    /// Whether what is stored of an object is to be sealed anew although the object stays as it is.
    pub(crate) async fn is_stale(&self, stored: &store::Entry) -> bool {
        let rules = self.sealing.rules();
        let opened = Box::pin(rules.open(self.sealed(), &stored.key, &stored.value)).await;
        opened.is_ok_and(|(_, stale)| stale)
    }

    /// Whether its objects are sealed.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealing.rules().concerns(self.sealed())
    }

    /// An entry for what the store holds: the cache's own if it has this version.
    pub(crate) async fn entry_of(&self, stored: &store::Entry) -> Result<Arc<Entry>, Status> {
        if let Some(entry) = self.get(&stored.key)
            && entry.revision == stored.modified.0
        {
            return Ok(entry);
        }
        // Rare, and large: a request does not carry it along.
        match Box::pin(self.decode(stored, false)).await {
            Ok(entry) => Ok(Arc::new(entry)),
            Err(Unread::NotNow(status) | Unread::Never(status)) => Err(status),
        }
    }

    async fn decode(&self, stored: &store::Entry, keep: bool) -> Result<Entry, Unread> {
        let json = self.open(&stored.key, &stored.value).await?;
        let entry = Entry::from_stored(&*self.strategy, stored.key.clone(), stored.modified.0, json, keep);
        entry.map_err(Unread::Never)
    }
}

/// Why there is no entry for what is stored.
enum Unread {
    /// Who would have to help does not: it must not be taken for gone.
    NotNow(Status),
    /// It is broken.
    Never(Status),
}

/// An object on its way into the store: whoever learns its revision first, the writer or the feed, makes the entry,
/// and both share it.
pub(crate) struct Prepared {
    key: Arc<str>,
    json: Bytes,
    /// What goes into the store; kept alive so that its address stays its own.
    value: Bytes,
    object: Mutex<Option<Box<dyn Object>>>,
    made: std::sync::OnceLock<Result<Arc<Entry>, Status>>,
}

impl Prepared {
    pub(crate) fn new(key: &str, json: Bytes, value: Bytes, object: Box<dyn Object>) -> Arc<Self> {
        let object = Mutex::new(Some(object));
        Arc::new(Self { key: key.into(), json, value, object, made: std::sync::OnceLock::new() })
    }

    pub(crate) fn entry(&self, cache: &Cache, revision: u64) -> Result<Arc<Entry>, Status> {
        let make = || {
            let object = self.object.lock().take().expect("taken once, here");
            let (key, json, keep) = (self.key.clone(), self.json.clone(), cache.keeps_lean());
            Entry::from_object(&*cache.strategy, key, revision, json, object, keep).map(Arc::new)
        };
        self.made.get_or_init(make).clone()
    }
}

/// All resources' caches over one store.
pub struct Caches {
    pub store: store::Store,
    pub clock: Clock,
    pub(crate) sealing: Arc<Sealing>,
    caches: RwLock<Vec<Arc<Cache>>>,
    progress: watch::Sender<u64>,
    /// Writes under way, by the address of their value: the store hands the same bytes to its watchers.
    pending: Mutex<HashMap<usize, Arc<Prepared>>>,
    /// What the feed is asked to do between two batches.
    commands: mpsc::Sender<feed::Command>,
    commanded: Mutex<Option<mpsc::Receiver<feed::Command>>>,
}

impl Caches {
    /// Caches for what is to come; [`Caches::feed`] fills them.
    pub fn new(store: store::Store, clock: Clock, sealing: Arc<Sealing>) -> Self {
        let (commands, commanded) = mpsc::channel(feed::COMMANDS_LEN_MAX);
        Self {
            store,
            clock,
            sealing,
            caches: RwLock::default(),
            progress: watch::Sender::new(0),
            pending: Mutex::default(),
            commands,
            commanded: Mutex::new(Some(commanded)),
        }
    }

    /// Adds a cache before [`Caches::feed`] begins; a segment is added once, later calls get the same one.
    pub fn add(&self, segment: &str, strategy: Shared) -> Arc<Cache> {
        let prefix = format!("/registry/{segment}/");
        let mut caches = self.caches.write();
        match caches.binary_search_by(|cache| cache.prefix.cmp(&prefix)) {
            Ok(at) => caches[at].clone(),
            Err(at) => {
                let cache = Arc::new(Cache::new(prefix, strategy, self.sealing.clone()));
                caches.insert(at, cache.clone());
                cache
            }
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Cache>> {
        self.caches.read().clone()
    }

    /// The cache that keeps `key`.
    fn of(&self, key: &str) -> Option<Arc<Cache>> {
        let caches = self.caches.read();
        let after = caches.partition_point(|cache| cache.prefix.as_str() <= key);
        let cache = caches[..after].last()?;
        key.starts_with(&cache.prefix).then(|| cache.clone())
    }

    /// The revision up to which every cache is complete.
    pub fn progress(&self) -> u64 {
        *self.progress.borrow()
    }

    /// Announces a write, so that its typed form need not be decoded again.
    pub(crate) fn announce(&self, prepared: Arc<Prepared>) {
        self.pending.lock().insert(prepared.value.as_ptr().addr(), prepared);
    }

    /// Takes back an announcement: the write failed, or was seen.
    pub(crate) fn retract(&self, value: &Bytes) -> Option<Arc<Prepared>> {
        self.pending.lock().remove(&value.as_ptr().addr())
    }

    /// Returns when the caches have reached `revision`.
    ///
    /// # Errors
    /// 504 in upstream's words when that takes longer than 3 s.
    pub async fn wait_for(&self, revision: u64) -> Result<(), Status> {
        if self.progress() >= revision {
            return Ok(());
        }
        let mut progress = self.progress.subscribe();
        let reached = tokio::time::timeout(FRESH_WAIT, progress.wait_for(|at| *at >= revision)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => Err(too_large(revision, self.progress())),
        }
    }

    /// Returns when the caches hold everything written before the call.
    ///
    /// # Errors
    /// As [`Caches::wait_for`].
    pub async fn wait_fresh(&self) -> Result<(), Status> {
        self.wait_for(self.store.revision().0).await
    }
}

/// The answer to a resourceVersion that has not come yet (upstream's `NewTooLargeResourceVersionError`).
pub(crate) fn too_large(asked: u64, current: u64) -> Status {
    let mut status = Status::timeout(format!("Too large resource version: {asked}, current: {current}"), 1);
    let cause = api::meta::v1::StatusCause {
        message: Some("Too large resource version".to_owned()),
        reason: Some("ResourceVersionTooLarge".to_owned()),
        ..Default::default()
    };
    status.0.details.get_or_insert_with(Default::default).causes = Some(vec![cause]);
    status
}
