//! Fills the caches from the store: one read of everything, then one watch of everything.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::Status;
use resources::Shared;
use store::{At, Range, Revision};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Cache, Caches, Change, Entry, Event, State, Unread};
use crate::seal::Unopened;

/// All of the API's keys.
const ROOT: &str = "/registry/";

/// How long the feed waits before it asks again for what could not be read.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// How many commands may wait for the feed; who has one more waits.
pub(super) const COMMANDS_LEN_MAX: usize = 64;

/// What the feed does between two batches: it alone changes which caches there are.
pub(super) enum Command {
    /// Opens a cache with what the store holds; one of that segment that is open is closed.
    Open {
        segment: String,
        strategy: Shared,
        reply: oneshot::Sender<Result<Arc<Cache>, Status>>,
    },
    Close {
        segment: String,
        reply: oneshot::Sender<()>,
    },
}

fn no_feed<T>(_: T) -> Status {
    Status::unavailable("the server is ending")
}

/// Why the feed's watch is over.
enum Broken {
    Store(store::Error),
    Unread(Status),
}

/// A cache's share of one batch.
struct Share {
    cache: Arc<Cache>,
    state: State,
    events: Vec<Arc<Event>>,
}

/// Caches whose watchers are woken later, and when.
#[derive(Default)]
struct Held(Vec<(Instant, Arc<Cache>)>);

impl Held {
    fn next(&self) -> Option<Instant> {
        self.0.iter().map(|(at, _)| *at).min()
    }

    /// Wakes those whose time has come.
    fn tell(&mut self, now: Instant) {
        self.0.retain(|(at, cache)| {
            let due = *at <= now;
            if due {
                cache.bell.due(now);
            }
            !due
        });
    }

    fn tell_all(&mut self, now: Instant) {
        self.0.drain(..).for_each(|(_, cache)| cache.bell.due(now));
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Caches {
    /// Reads what the store holds now. Afterwards reads and watches work, and [`Caches::follow`] keeps them true.
    ///
    /// # Errors
    /// 500 or 503 if the store cannot be read.
    pub async fn fill(&self) -> Result<(), Status> {
        self.fill_then(|| ()).await
    }

    /// As [`Caches::fill`]. `then` is called when the caches that there are hold their objects; those that it adds are
    /// filled with what the same read found.
    ///
    /// # Errors
    /// As [`Caches::fill`].
    pub async fn fill_then(&self, then: impl FnOnce()) -> Result<(), Status> {
        let all = self.store.range(&Range::prefix(ROOT), At::Latest, None).await.map_err(crate::status::of_store)?;
        let revision = all.revision.0;
        let before = self.caches.read().clone();
        self.check_keys(&all.value.entries).await?;
        self.fill_from(&all.value.entries, revision, &before).await?;
        then();
        let known: HashSet<&str> = before.iter().map(|cache| cache.prefix.as_str()).collect();
        let all_now = self.caches.read().clone();
        let added: Vec<_> = all_now.into_iter().filter(|cache| !known.contains(cache.prefix.as_str())).collect();
        if !added.is_empty() {
            self.check_keys(&all.value.entries).await?;
            self.fill_from(&all.value.entries, revision, &added).await?;
        }
        self.progress.send_replace(revision);
        Ok(())
    }

    /// Whether everything that is sealed can be opened: a server without the right keys does not begin, so that nobody
    /// takes what it cannot read for gone.
    async fn check_keys(&self, entries: &[store::Entry]) -> Result<(), Status> {
        let rules = self.sealing.rules();
        let (mut count, mut first) = (0, None);
        for stored in entries.iter().filter(|stored| stored.value.starts_with(crate::seal::PREFIX)) {
            // What is sealed of resources defined at run time is looked at when they are.
            let Some(cache) = self.of(&stored.key) else { continue };
            match rules.open(cache.sealed(), &stored.key, &stored.value).await {
                Ok(_) => {}
                Err(Unopened::Sealed(why)) => {
                    count += 1;
                    first.get_or_insert_with(|| format!("{}: {why}", stored.key));
                }
                // Others would wait for it as long.
                Err(Unopened::Plugin(why)) => {
                    return Err(Status::internal(format!(
                        "{} is sealed with a key that its KMS plugin does not decrypt: {why}. Nothing was changed: \
                         start again when the plugin serves with the keys that it had",
                        stored.key
                    )));
                }
            }
        }
        let Some(first) = first else { return Ok(()) };
        Err(Status::internal(format!(
            "{count} sealed objects are not opened by the encryption keys that are given, among them {first}. Nothing \
             was changed: start again with the keys they were sealed with"
        )))
    }

    async fn fill_from(&self, entries: &[store::Entry], revision: u64, caches: &[Arc<Cache>]) -> Result<(), Status> {
        let mut states: HashMap<String, State> = HashMap::new();
        let wanted: HashSet<&str> = caches.iter().map(|cache| cache.prefix.as_str()).collect();
        for stored in entries {
            let Some(cache) = self.of(&stored.key).filter(|cache| wanted.contains(cache.prefix.as_str())) else {
                continue;
            };
            match cache.decode(stored, false).await {
                Ok(entry) => {
                    let state = states.entry(cache.prefix.clone()).or_default();
                    state.items.insert(entry.key.clone(), Arc::new(entry));
                }
                Err(Unread::NotNow(status)) => return Err(status),
                Err(Unread::Never(error)) => {
                    tracing::error!(key = %stored.key, %error, "a stored object cannot be read");
                }
            }
        }
        for cache in caches {
            let mut state = states.remove(&cache.prefix).unwrap_or_default();
            state.revision = revision;
            let mut ring = cache.ring.write();
            ring.restart(revision);
            cache.state.store(Arc::new(state));
            drop(ring);
            cache.bell.ring(1);
        }
        Ok(())
    }

    /// Opens a cache while the feed runs: it holds what the store holds, and every event after that. A cache of the
    /// segment that is there is closed, and its watches end.
    ///
    /// # Errors
    /// 500 or 503 if the store cannot be read, 503 when the server ends.
    pub(crate) async fn open(&self, segment: String, strategy: Shared) -> Result<Arc<Cache>, Status> {
        let (reply, opened) = oneshot::channel();
        self.commands.send(Command::Open { segment, strategy, reply }).await.map_err(no_feed)?;
        opened.await.map_err(no_feed)?
    }

    /// Closes a cache; its watches end.
    ///
    /// # Errors
    /// 503 when the server ends.
    pub(crate) async fn close(&self, segment: String) -> Result<(), Status> {
        let (reply, closed) = oneshot::channel();
        self.commands.send(Command::Close { segment, reply }).await.map_err(no_feed)?;
        closed.await.map_err(no_feed)
    }

    async fn obey(&self, command: Command) {
        match command {
            Command::Open { segment, strategy, reply } => drop(reply.send(self.open_now(&segment, strategy).await)),
            Command::Close { segment, reply } => {
                let prefix = format!("/registry/{segment}/");
                let mut caches = self.caches.write();
                if let Ok(at) = caches.binary_search_by(|cache| cache.prefix.cmp(&prefix)) {
                    let old = caches.remove(at);
                    drop(caches);
                    old.end();
                }
                let _ = reply.send(());
            }
        }
    }

    async fn open_now(&self, segment: &str, strategy: Shared) -> Result<Arc<Cache>, Status> {
        let prefix = format!("/registry/{segment}/");
        let cache = Cache::new(prefix.clone(), strategy, self.sealing.clone());
        let found = self.store.range(&Range::prefix(&prefix), At::Latest, None).await;
        let found = found.map_err(crate::status::of_store)?;
        let mut state = State { revision: found.revision.0, ..State::default() };
        for stored in &found.value.entries {
            match cache.decode(stored, false).await {
                Ok(entry) => drop(state.items.insert(entry.key.clone(), Arc::new(entry))),
                Err(Unread::NotNow(status)) => return Err(status),
                Err(Unread::Never(error)) => {
                    tracing::error!(key = %stored.key, %error, "a stored object cannot be read");
                }
            }
        }
        cache.opened_at.store(state.revision, Ordering::Release);
        cache.ring.write().restart(state.revision);
        cache.state.store(Arc::new(state));
        let cache = Arc::new(cache);
        let mut caches = self.caches.write();
        let old = match caches.binary_search_by(|cache| cache.prefix.cmp(&prefix)) {
            Ok(at) => Some(std::mem::replace(&mut caches[at], cache.clone())),
            Err(at) => {
                caches.insert(at, cache.clone());
                None
            }
        };
        drop(caches);
        if let Some(old) = old {
            old.end();
        }
        Ok(cache)
    }

    /// Follows the store until it closes. If the watch fell behind the store's history everything is read anew, and
    /// watchers are told to list again.
    pub async fn follow(&self) {
        let Some(mut commands) = self.commanded.lock().take() else { return };
        loop {
            let mut watch = self.store.watch(Range::prefix(ROOT), Revision(self.progress()));
            let mut held = Held::default();
            let broken = self.follow_watch(&mut watch, &mut commands, &mut held).await;
            held.tell_all(self.clock.monotonic());
            match broken {
                Broken::Store(error) => {
                    tracing::warn!(%error, "the watch of the store ended");
                    if matches!(error, store::Error::Unavailable(_)) {
                        return;
                    }
                }
                // The same events come again: none of them is left out.
                Broken::Unread(error) => {
                    tracing::error!(%error, "events of the store wait until they can be read");
                    self.clock.sleep(AGAIN).await;
                    continue;
                }
            }
            if let Err(error) = self.fill().await {
                tracing::error!(%error, "the store cannot be read");
                self.clock.sleep(AGAIN).await;
            }
        }
    }

    async fn follow_watch(
        &self,
        watch: &mut store::Watch,
        commands: &mut mpsc::Receiver<Command>,
        held: &mut Held,
    ) -> Broken {
        loop {
            let due = held.next();
            tokio::select! {
                biased;
                () = sleep_until(due), if due.is_some() => held.tell(self.clock.monotonic()),
                // There are few of them, and batches without end under load.
                Some(command) = commands.recv() => {
                    // It may take its time.
                    held.tell_all(self.clock.monotonic());
                    self.obey(command).await;
                }
                batch = watch.next() => match batch {
                    Ok(batch) => {
                        if let Err(status) = self.apply(&batch, held).await {
                            return Broken::Unread(status);
                        }
                    }
                    Err(error) => return Broken::Store(error),
                },
            }
        }
    }

    async fn apply(&self, batch: &store::Batch, held: &mut Held) -> Result<(), Status> {
        let mut shares: Vec<Share> = Vec::new();
        let at_second = self.clock.now().as_second();
        for event in &batch.events {
            let known = shares.iter().position(|share| event.key().starts_with(&share.cache.prefix));
            let share = match known {
                Some(at) => &mut shares[at],
                None => {
                    let Some(cache) = self.of(event.key()) else { continue };
                    let state = State::clone(&cache.state.load());
                    shares.push(Share { cache, state, events: Vec::new() });
                    shares.last_mut().expect("just pushed")
                }
            };
            if event.revision().0 <= share.cache.opened_at.load(Ordering::Acquire) {
                if let store::Event::Put { entry, .. } = event {
                    self.retract(&entry.value);
                }
                continue;
            }
            if let Some(event) = self.apply_one(share, event, at_second).await? {
                share.events.push(Arc::new(event));
            }
            share.state.revision = event.revision().0;
        }
        let now = self.clock.monotonic();
        for Share { cache, state, events } in shares {
            let count = events.len() as u64;
            {
                let mut ring = cache.ring.write();
                events.into_iter().for_each(|event| ring.push(event));
                cache.state.store(Arc::new(state));
            }
            if let Some(at) = cache.bell.happened(count, now) {
                held.0.push((at, cache));
            }
        }
        self.progress.send_replace(batch.revision.0);
        Ok(())
    }

    async fn apply_one(
        &self,
        share: &mut Share,
        event: &store::Event,
        at_second: i64,
    ) -> Result<Option<Event>, Status> {
        let revision = event.revision().0;
        match event {
            store::Event::Put { entry: stored, .. } => {
                let entry = match self.entry(&share.cache, stored).await {
                    Ok(entry) => entry,
                    Err(Unread::NotNow(status)) => return Err(status),
                    Err(Unread::Never(error)) => {
                        tracing::error!(key = %stored.key, %error, "a stored object cannot be read");
                        return Ok(None);
                    }
                };
                let previous = share.state.items.insert(entry.key.clone(), entry.clone());
                Ok(Some(Event::new(revision, Change::Put { entry, previous }, at_second)))
            }
            store::Event::Delete { previous: stored, .. } => {
                let previous = share.state.items.remove(&stored.key);
                Ok(previous.map(|previous| Event::new(revision, Change::Delete { previous }, at_second)))
            }
        }
    }

    async fn entry(&self, cache: &Cache, stored: &store::Entry) -> Result<Arc<Entry>, Unread> {
        match self.retract(&stored.value) {
            Some(prepared) => prepared.entry(cache, stored.modified.0).map_err(Unread::Never),
            None => cache.decode(stored, cache.keeps_lean()).await.map(Arc::new),
        }
    }
}

impl Cache {
    /// Ends the cache's watches in good order.
    fn end(&self) {
        self.closed.store(true, Ordering::Release);
        self.bell.ring(1);
    }
}
