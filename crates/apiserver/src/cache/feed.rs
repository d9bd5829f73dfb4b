//! Fills the caches from the store: one read of everything, then one watch of everything.

use std::collections::HashMap;
use std::sync::Arc;

use api::Status;
use store::{At, Range, Revision};

use super::{Cache, Caches, Change, Entry, Event, State};

/// All of the API's keys.
const ROOT: &str = "/registry/";

/// A cache's share of one batch.
struct Share {
    cache: Arc<Cache>,
    state: State,
    events: Vec<Arc<Event>>,
}

impl Caches {
    /// Reads what the store holds now. Afterwards reads and watches work, and [`Caches::follow`] keeps them true.
    ///
    /// # Errors
    /// 500 or 503 if the store cannot be read.
    pub async fn fill(&self) -> Result<(), Status> {
        let all = self.store.range(&Range::prefix(ROOT), At::Latest, None).await.map_err(crate::status::of_store)?;
        let revision = all.revision.0;
        let mut states: HashMap<String, State> = HashMap::new();
        for stored in &all.value.entries {
            let Some(cache) = self.of(&stored.key) else { continue };
            match cache.decode(stored, false) {
                Ok(entry) => {
                    let state = states.entry(cache.prefix.clone()).or_default();
                    state.items.insert(entry.key.clone(), Arc::new(entry));
                }
                Err(error) => tracing::error!(key = %stored.key, %error, "a stored object cannot be read"),
            }
        }
        let caches = self.caches.read().clone();
        for cache in caches {
            let mut state = states.remove(&cache.prefix).unwrap_or_default();
            state.revision = revision;
            let mut ring = cache.ring.write();
            ring.restart(revision);
            cache.state.store(Arc::new(state));
            drop(ring);
            cache.signal.send_modify(|count| *count += 1);
        }
        self.progress.send_replace(revision);
        Ok(())
    }

    /// Follows the store until it closes. If the watch fell behind the store's history everything is read anew, and
    /// watchers are told to list again.
    pub async fn follow(&self) {
        loop {
            let mut watch = self.store.watch(Range::prefix(ROOT), Revision(self.progress()));
            let error = loop {
                match watch.next().await {
                    Ok(batch) => self.apply(&batch),
                    Err(error) => break error,
                }
            };
            tracing::warn!(%error, "the watch of the store ended");
            if matches!(error, store::Error::Unavailable(_)) {
                return;
            }
            if let Err(error) = self.fill().await {
                tracing::error!(%error, "the store cannot be read");
                self.clock.sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }

    fn apply(&self, batch: &store::Batch) {
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
            if let Some(event) = self.apply_one(share, event, at_second) {
                share.events.push(Arc::new(event));
            }
            share.state.revision = event.revision().0;
        }
        for Share { cache, state, events } in shares {
            let count = events.len() as u64;
            {
                let mut ring = cache.ring.write();
                events.into_iter().for_each(|event| ring.push(event));
                cache.state.store(Arc::new(state));
            }
            cache.signal.send_modify(|seen| *seen += count);
        }
        self.progress.send_replace(batch.revision.0);
    }

    fn apply_one(&self, share: &mut Share, event: &store::Event, at_second: i64) -> Option<Event> {
        let revision = event.revision().0;
        match event {
            store::Event::Put { entry: stored, .. } => {
                let entry = match self.entry(&share.cache, stored) {
                    Ok(entry) => entry,
                    Err(error) => {
                        tracing::error!(key = %stored.key, %error, "a stored object cannot be read");
                        return None;
                    }
                };
                let previous = share.state.items.insert(entry.key.clone(), entry.clone());
                Some(Event::new(revision, Change::Put { entry, previous }, at_second))
            }
            store::Event::Delete { previous: stored, .. } => {
                let previous = share.state.items.remove(&stored.key)?;
                Some(Event::new(revision, Change::Delete { previous }, at_second))
            }
        }
    }

    fn entry(&self, cache: &Cache, stored: &store::Entry) -> Result<Arc<Entry>, Status> {
        match self.retract(&stored.value) {
            Some(prepared) => prepared.entry(cache, stored.modified.0),
            None => cache.decode(stored, cache.keeps_typed()).map(Arc::new),
        }
    }
}
