//! The recent past: a ring of the latest events, one for each revision, bounded in number, bytes and age.
//!
//! Watches hold no queue of their own, only a cursor into this ring; one that falls off its end was too slow. A read at
//! an earlier revision is the current state with the events since then undone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use std::time::Duration;

use tokio::time::Instant;

use crate::{Entry, Event, Range, Revision};

/// How many events are kept. At 10,000 writes a second a watch may lag 10 s; a paginated list may go on for as long.
pub const EVENTS_LEN_MAX: usize = 100_000;

/// How many bytes the ring may keep alive that the current state does not.
pub const EVENTS_BYTES_MAX: usize = 64 << 20;

/// How long an event is kept, unless there are few. Upstream forgets after 5 to 10 minutes (kube-apiserver's
/// `--etcd-compaction-interval`); without this a quiet cluster's leases would fill the ring in the end.
pub const EVENTS_AGE_MAX: Duration = Duration::from_secs(600);

/// So many events are kept whatever their age, so that a client that was away from a quiet cluster may go on.
pub const EVENTS_LEN_KEPT: u64 = 4096;

/// How exactly ages are known.
const MARK_INTERVAL: Duration = Duration::from_secs(10);

/// How many events one call of [`History::after`] looks at, so that the lock around the history is held briefly.
const SCAN_LEN_MAX: usize = 4096;

/// How many events one call of [`History::after`] returns.
const BATCH_LEN_MAX: usize = 1024;

/// The ring. Holds exactly the events with the revisions `oldest + 1 ..= oldest + events.len()`.
pub struct History {
    oldest: Revision,
    events: VecDeque<Event>,
    bytes: usize,
    /// When the store was at which revision.
    marks: VecDeque<(Instant, Revision)>,
    len_max: usize,
    bytes_max: usize,
}

impl History {
    /// No events; they start after `oldest`.
    pub fn new(oldest: Revision) -> Self {
        Self::bounded(oldest, EVENTS_LEN_MAX, EVENTS_BYTES_MAX)
    }

    /// As [`History::new`] with other bounds.
    pub fn bounded(oldest: Revision, len_max: usize, bytes_max: usize) -> Self {
        Self { oldest, events: VecDeque::new(), bytes: 0, marks: VecDeque::new(), len_max, bytes_max }
    }

    /// The revision before the first event kept.
    pub fn oldest(&self) -> Revision {
        self.oldest
    }

    /// The revision of the last event.
    pub fn latest(&self) -> Revision {
        Revision(self.oldest.0 + self.events.len() as u64)
    }

    /// Appends the next event, forgetting the oldest if a bound is reached.
    pub fn push(&mut self, event: Event) {
        assert_eq!(event.revision(), self.latest().next(), "each revision has exactly one event");
        self.bytes += kept_bytes(&event);
        self.events.push_back(event);
        while self.events.len() > self.len_max || self.bytes > self.bytes_max {
            self.pop();
        }
    }

    /// Forgets the events up to and including `revision`.
    pub fn forget(&mut self, revision: Revision) {
        while self.oldest < revision && self.pop() {}
        if self.events.capacity() > 4 * self.events.len() + BATCH_LEN_MAX {
            self.events.shrink_to(2 * self.events.len());
        }
    }

    /// Forgets what is too old. To be called after each change, with the time of it.
    pub fn forget_old(&mut self, now: Instant) {
        if self.marks.back().is_none_or(|(at, _)| now.duration_since(*at) >= MARK_INTERVAL) {
            self.marks.push_back((now, self.latest()));
        }
        while let Some((at, revision)) = self.marks.front().copied()
            && now.duration_since(at) >= EVENTS_AGE_MAX
        {
            self.marks.pop_front();
            self.forget(revision.min(Revision(self.latest().0.saturating_sub(EVENTS_LEN_KEPT))));
        }
    }

    fn pop(&mut self) -> bool {
        let Some(event) = self.events.pop_front() else { return false };
        self.bytes -= kept_bytes(&event);
        self.oldest = self.oldest.next();
        true
    }

    /// The events of `range` after `after`, and the revision up to which they are complete (`after` itself if nothing
    /// has happened since). `None` if events after `after` are forgotten.
    pub fn after(&self, range: &Range, after: Revision) -> Option<(Revision, Vec<Event>)> {
        let start = usize::try_from(after.0.checked_sub(self.oldest.0)?).ok()?;
        let mut upto = after;
        let mut found = Vec::new();
        for event in self.events.iter().skip(start).take(SCAN_LEN_MAX) {
            if range.contains(event.key()) {
                found.push(event.clone());
            }
            upto = event.revision();
            if found.len() == BATCH_LEN_MAX {
                break;
            }
        }
        Some((upto, found))
    }

    /// What the keys of `range` that have changed since `since` were then. `None` if that is forgotten.
    pub fn undo(&self, range: &Range, since: Revision) -> Option<BTreeMap<Arc<str>, Option<Entry>>> {
        let start = usize::try_from(since.0.checked_sub(self.oldest.0)?).ok()?;
        let mut then = BTreeMap::new();
        for event in self.events.iter().skip(start).filter(|event| range.contains(event.key())) {
            if !then.contains_key(event.key()) {
                then.insert(event.key().clone(), event.previous().cloned());
            }
        }
        Some(then)
    }
}

/// What an event keeps alive that would be freed without it: itself and the entry it replaced.
fn kept_bytes(event: &Event) -> usize {
    size_of::<Event>() + event.previous().map_or(0, |previous| previous.value.len() + previous.key.len())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // time that tokio has paused
mod tests {
    use bytes::Bytes;

    use super::*;

    fn put(revision: u64, key: &str, previous: Option<Entry>) -> Event {
        let revision = Revision(revision);
        let created = previous.as_ref().map_or(revision, |p| p.created);
        let value = Bytes::from(vec![b'x'; 100]);
        Event::Put { entry: Entry { key: key.into(), value, created, modified: revision }, previous }
    }

    fn written(event: &Event) -> Option<Entry> {
        match event {
            Event::Put { entry, .. } => Some(entry.clone()),
            Event::Delete { .. } => None,
        }
    }

    #[test]
    fn the_oldest_are_forgotten_at_either_bound() {
        let mut few = History::bounded(Revision(1), 3, usize::MAX);
        for revision in 2..=6 {
            few.push(put(revision, "k", None));
        }
        assert_eq!((few.oldest(), few.latest()), (Revision(3), Revision(6)));
        assert!(few.after(&Range::all(), Revision(2)).is_none());
        assert_eq!(few.after(&Range::all(), Revision(3)).map(|(r, e)| (r.0, e.len())), Some((6, 3)));

        let mut small = History::bounded(Revision(1), usize::MAX, 3 * (size_of::<Event>() + 101));
        let mut last = put(2, "k", None);
        small.push(last.clone());
        for revision in 3..=9 {
            last = put(revision, "k", written(&last));
            small.push(last.clone());
        }
        assert_eq!((small.oldest(), small.latest()), (Revision(6), Revision(9)));
        small.forget(Revision(20));
        assert_eq!((small.oldest(), small.bytes), (Revision(9), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn old_events_are_forgotten_but_the_last_few() {
        let mut history = History::new(Revision(1));
        let write = |history: &mut History, count: u64| {
            for _ in 0..count {
                history.push(put(history.latest().next().0, "k", None));
            }
            history.forget_old(Instant::now());
        };
        write(&mut history, 10_000);
        tokio::time::advance(EVENTS_AGE_MAX - Duration::from_secs(1)).await;
        write(&mut history, 1);
        assert_eq!(history.oldest(), Revision(1), "nothing is old yet");
        tokio::time::advance(Duration::from_secs(1)).await;
        write(&mut history, 1);
        assert_eq!(history.latest().0 - history.oldest().0, EVENTS_LEN_KEPT, "all are old");
        write(&mut history, 10_000);
        tokio::time::advance(EVENTS_AGE_MAX - MARK_INTERVAL).await;
        write(&mut history, 1);
        assert!(history.latest().0 - history.oldest().0 > 10_000, "the many are young");
        for _ in 0..100 {
            tokio::time::advance(MARK_INTERVAL).await;
            write(&mut history, 1);
        }
        assert_eq!(history.latest().0 - history.oldest().0, EVENTS_LEN_KEPT);
        assert!(history.marks.len() as u64 <= EVENTS_AGE_MAX.as_secs() / MARK_INTERVAL.as_secs() + 1);
        assert!(history.events.capacity() < 20_000, "the room is given back");
    }

    #[test]
    fn progress_is_told_without_events_and_long_scans_are_cut() {
        let mut history = History::new(Revision(1));
        for revision in 2..=6001 {
            history.push(put(revision, "/other", None));
        }
        history.push(put(6002, "/mine", None));
        let mine = Range::key("/mine");
        let (upto, events) = history.after(&mine, Revision(1)).expect("kept");
        assert_eq!((upto, events.len()), (Revision(1 + SCAN_LEN_MAX as u64), 0));
        let (upto, events) = history.after(&mine, upto).expect("kept");
        assert_eq!((upto, events.len()), (Revision(6002), 1));
        assert_eq!(history.after(&mine, upto), Some((upto, vec![])));
        assert_eq!(history.after(&Range::all(), Revision(1)).map(|(r, e)| (r.0, e.len())), Some((1025, 1024)));
    }

    #[test]
    fn undoing_takes_the_first_change_of_each_key() {
        let mut history = History::new(Revision(1));
        let a = put(2, "/a", None);
        let a2 = put(3, "/a", written(&a));
        let b = put(4, "/b", None);
        let gone = Event::Delete { previous: written(&a2).expect("a put"), revision: Revision(5) };
        for event in [&a, &a2, &b, &gone] {
            history.push(event.clone());
        }
        let then = history.undo(&Range::all(), Revision(2)).expect("kept");
        assert_eq!(then.get("/a"), Some(&written(&a)));
        assert_eq!(then.get("/b"), Some(&None));
        assert_eq!(history.undo(&Range::prefix("/b"), Revision(4)).map(|then| then.len()), Some(0));
    }
}
