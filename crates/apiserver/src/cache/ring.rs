//! The latest events of one resource, bounded in number and bytes. Every watcher reads the same ring.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use super::Entry;

/// The ring keeps at least this many events, if the bytes allow.
pub const EVENTS_LEN_MIN: usize = 1024;
/// It never keeps more than this many.
pub const EVENTS_LEN_MAX: usize = 100_000;
/// Events younger than this are kept if the bounds allow (upstream's `eventFreshDuration`).
const FRESH_SECONDS: i64 = 75;
/// How many bytes of objects the ring keeps alive at most; one event is always kept.
pub const EVENTS_BYTES_MAX: usize = 48 << 20;

/// What happened to an object.
#[derive(Debug, Clone)]
pub enum Change {
    Put { entry: Arc<Entry>, previous: Option<Arc<Entry>> },
    Delete { previous: Arc<Entry> },
}

/// One event, shared by all watchers.
#[derive(Debug)]
pub struct Event {
    pub revision: u64,
    pub change: Change,
    at_second: i64,
    gone: OnceLock<Arc<Entry>>,
}

impl Event {
    pub fn new(revision: u64, change: Change, at_second: i64) -> Self {
        Self { revision, change, at_second, gone: OnceLock::new() }
    }

    /// What was there before, under the event's revision: what a DELETED event shows.
    pub fn gone(&self) -> Option<Arc<Entry>> {
        let previous = match &self.change {
            Change::Put { previous, .. } => previous.as_ref()?,
            Change::Delete { previous } => previous,
        };
        Some(self.gone.get_or_init(|| Arc::new(previous.at_revision(self.revision))).clone())
    }

    fn bytes(&self) -> usize {
        let entry = match &self.change {
            Change::Put { entry, .. } => entry,
            Change::Delete { previous } => previous,
        };
        entry.stored().len()
    }
}

/// The ring: events number `first ..` in the order of their revisions.
#[derive(Debug)]
pub struct Ring {
    first: u64,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// The revision up to which events are not (or no longer) here.
    forgotten: u64,
    /// Raised when the cache was filled anew: cursors from before are worthless.
    pub epoch: u64,
}

impl Ring {
    /// No events; they start after `revision`.
    pub fn new(revision: u64) -> Self {
        Self { first: 0, events: VecDeque::new(), bytes: 0, forgotten: revision, epoch: 0 }
    }

    /// Forgets everything up to `revision`; all cursors end.
    pub fn restart(&mut self, revision: u64) {
        self.first = self.next();
        self.events.clear();
        self.bytes = 0;
        self.forgotten = revision;
        self.epoch += 1;
    }

    /// The number of the event to come.
    pub fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The revision up to which events are not here.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Appends an event, and forgets what is over the bounds.
    pub fn push(&mut self, event: Arc<Event>) {
        let now_second = event.at_second;
        self.bytes += event.bytes();
        self.events.push_back(event);
        while self.events.len() > 1 && self.over(now_second) {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes -= oldest.bytes();
            self.forgotten = oldest.revision;
            self.first += 1;
        }
    }

    fn over(&self, now_second: i64) -> bool {
        let len = self.events.len();
        let stale = self.events.front().is_some_and(|event| now_second - event.at_second > FRESH_SECONDS);
        len > EVENTS_LEN_MAX || self.bytes > EVENTS_BYTES_MAX || (len > EVENTS_LEN_MIN && stale)
    }

    /// The number of the first event after `revision`; `None` if events after it are forgotten.
    pub fn cursor_after(&self, revision: u64) -> Option<u64> {
        if revision < self.forgotten {
            return None;
        }
        Some(self.first + self.events.partition_point(|event| event.revision <= revision) as u64)
    }

    /// Up to `len_max` events from number `cursor` on; `None` if some were forgotten.
    pub fn from(&self, cursor: u64, len_max: usize) -> Option<Vec<Arc<Event>>> {
        let skip = usize::try_from(cursor.checked_sub(self.first)?).ok()?;
        Some(self.events.iter().skip(skip).take(len_max).cloned().collect())
    }
}
