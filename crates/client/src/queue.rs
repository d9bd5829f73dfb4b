//! The work queue: keys wait once however often they are added, are worked on by one worker at a time, and return
//! after a back-off when they fail. Semantics of client-go's `workqueue`.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base::Backoff;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A queue of keys, bounded by the number of distinct keys. Cheap to clone; clones are the same queue.
#[derive(Clone)]
pub struct WorkQueue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    first: Duration,
    max: Duration,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Arc<str>>,
    /// In `ready`, or to be put there when its worker is done.
    dirty: HashSet<Arc<str>>,
    working: HashSet<Arc<str>>,
    delayed: BTreeMap<(Instant, u64), Arc<str>>,
    /// The earliest time of each delayed key.
    due: HashMap<Arc<str>, (Instant, u64)>,
    backoff: HashMap<Arc<str>, Backoff>,
    sequence: u64,
}

/// A key that is being worked on. Dropping it without a verdict counts as done.
pub struct Work {
    queue: WorkQueue,
    key: Arc<str>,
}

impl WorkQueue {
    /// Failed keys return after `first`, doubling up to `max` (client-go: 5 ms, 1000 s).
    pub fn new(first: Duration, max: Duration) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), changed: Notify::new(), first, max }))
    }

    /// Adds a key; nothing happens if it waits already.
    pub fn add(&self, key: &str) {
        if self.0.state.lock().add(key.into()) {
            self.0.changed.notify_one();
        }
    }

    /// Adds a key after `delay`; of several delays the earliest counts.
    pub fn add_after(&self, key: &str, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.0.state.lock().delay(key.into(), Instant::now() + delay);
        self.0.changed.notify_one();
    }

    /// Keys that wait now, the delayed ones included.
    pub fn len(&self) -> usize {
        let state = self.0.state.lock();
        state.ready.len() + state.due.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next key; waits until there is one. Cancel-safe.
    pub async fn next(&self) -> Work {
        loop {
            let changed = self.0.changed.notified();
            let wait = {
                let mut state = self.0.state.lock();
                state.promote(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.working.insert(key.clone());
                    if !state.ready.is_empty() {
                        self.0.changed.notify_one();
                    }
                    return Work { queue: self.clone(), key };
                }
                state.delayed.keys().next().map(|(due, _)| *due)
            };
            match wait {
                Some(due) => tokio::select! {
                    biased;
                    () = changed => {}
                    () = tokio::time::sleep_until(due) => {}
                },
                None => changed.await,
            }
        }
    }
}

impl State {
    fn add(&mut self, key: Arc<str>) -> bool {
        if !self.dirty.insert(key.clone()) {
            return false;
        }
        if self.working.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn delay(&mut self, key: Arc<str>, due: Instant) {
        if let Some(earlier) = self.due.get(&key) {
            if earlier.0 <= due {
                return;
            }
            let earlier = *earlier;
            self.delayed.remove(&earlier);
        }
        self.sequence += 1;
        self.due.insert(key.clone(), (due, self.sequence));
        self.delayed.insert((due, self.sequence), key);
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let key = entry.remove();
            self.due.remove(&key);
            self.add(key);
        }
    }
}

impl Work {
    pub fn key(&self) -> &str {
        &self.key
    }

    /// It worked: its back-off is forgotten.
    pub fn done(self) {
        self.queue.0.state.lock().backoff.remove(&self.key);
    }

    /// It worked, and is due again after `delay`.
    pub fn again_after(self, delay: Duration) {
        self.queue.0.state.lock().backoff.remove(&self.key);
        self.queue.add_after(&self.key, delay);
    }

    /// It failed: the key returns after its back-off, which is returned.
    pub fn failed(self) -> Duration {
        let shared = &self.queue.0;
        let delay = {
            let mut state = shared.state.lock();
            state.backoff.entry(self.key.clone()).or_insert_with(|| Backoff::new(shared.first, shared.max)).next()
        };
        self.queue.add_after(&self.key, delay);
        delay
    }

    /// How often the key failed in a row.
    pub fn failures(&self) -> u32 {
        self.queue.0.state.lock().backoff.get(&self.key).map_or(0, Backoff::failures)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut state = self.queue.0.state.lock();
        state.working.remove(&self.key);
        if state.dirty.contains(&self.key) {
            state.ready.push_back(self.key.clone());
            drop(state);
            self.queue.0.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_is_worked_on_once() {
        let queue = WorkQueue::new(Duration::from_millis(5), Duration::from_secs(1000));
        queue.add("a");
        queue.add("a");
        let work = queue.next().await;
        queue.add("a");
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err(), "a is being worked on");
        work.done();
        assert_eq!(queue.next().await.key(), "a");
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_and_success_forgets() {
        let queue = WorkQueue::new(Duration::from_millis(5), Duration::from_secs(1000));
        queue.add("a");
        assert_eq!(queue.next().await.failed(), Duration::from_millis(5));
        let start = Instant::now();
        let work = queue.next().await;
        assert!(start.elapsed() >= Duration::from_millis(5));
        assert_eq!(work.failed(), Duration::from_millis(10));
        queue.next().await.done();
        queue.add("a");
        assert_eq!(queue.next().await.failed(), Duration::from_millis(5));
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_delays_the_earlier_counts() {
        let queue = WorkQueue::new(Duration::from_millis(5), Duration::from_secs(1000));
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(10));
        let start = Instant::now();
        queue.next().await.done();
        assert_eq!(start.elapsed().as_secs(), 10);
        assert!(queue.is_empty());
    }
}
