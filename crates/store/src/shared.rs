//! What readers and watches see of a store: the latest published state and the history up to it.
//!
//! Readers take no lock for the latest state. The history and the state change together under one short lock, so that a
//! watch never tells an event that a read does not see yet, nor the other way round for reads at a revision.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::history::History;
use crate::state::State;
use crate::{At, Entry, Error, Event, Page, Range, Revision, Snapshot};

/// The published side of a store.
pub struct Shared {
    state: ArcSwap<State>,
    history: RwLock<History>,
    signal: watch::Sender<Signal>,
}

/// What wakes watches: the latest revision, and whether it is the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal {
    pub revision: Revision,
    pub closed: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.load();
        f.debug_struct("Shared").field("revision", &state.revision()).field("len", &state.len()).finish_non_exhaustive()
    }
}

impl Shared {
    /// Publishes `state`; its past is unknown.
    pub fn new(state: State, history: History) -> Self {
        assert_eq!(state.revision(), history.latest(), "the history ends where the state is");
        let signal = watch::Sender::new(Signal { revision: state.revision(), closed: false });
        Self { state: ArcSwap::from_pointee(state), history: RwLock::new(history), signal }
    }

    /// Makes `state`, which `events` led to, the latest, and wakes the watches.
    pub fn publish(&self, state: State, events: impl IntoIterator<Item = Event>, now: Instant) {
        let revision = state.revision();
        {
            let mut history = self.history.write();
            events.into_iter().for_each(|event| history.push(event));
            assert_eq!(revision, history.latest(), "the events lead to the state");
            history.forget_old(now);
            self.state.store(Arc::new(state));
        }
        self.signal.send_modify(|signal| signal.revision = revision);
    }

    /// No more will be published: watches end when they have seen all.
    pub fn close(&self) {
        self.signal.send_modify(|signal| signal.closed = true);
    }

    /// Wakes at every publication.
    pub fn subscribe(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    pub fn revision(&self) -> Revision {
        self.state.load().revision()
    }

    pub fn oldest(&self) -> Revision {
        self.history.read().oldest()
    }

    pub fn get(&self, key: &str) -> Snapshot<Option<Entry>> {
        let state = self.state.load();
        Snapshot { revision: state.revision(), value: state.get(key).map(|stored| stored.entry.clone()) }
    }

    pub fn range(&self, range: &Range, at: At, limit: Option<usize>) -> Result<Snapshot<Page>, Error> {
        match at {
            At::Latest => {
                let state = self.state();
                Ok(Snapshot { revision: state.revision(), value: page(state.range(range), limit) })
            }
            At::Revision(revision) => {
                let (state, then) = self.undo(range, revision)?;
                let entries = Undone { now: state.range(range).peekable(), then: then.iter().peekable() };
                Ok(Snapshot { revision, value: page(entries, limit) })
            }
        }
    }

    fn undo(&self, range: &Range, revision: Revision) -> Result<(Arc<State>, Changes), Error> {
        let history = self.history.read();
        let state = self.state();
        if revision > state.revision() {
            return Err(Error::Future { current: state.revision() });
        }
        let then = history.undo(range, revision).ok_or(Error::Compacted { oldest: history.oldest() })?;
        Ok((state, then))
    }

    /// See [`History::after`].
    pub fn after(&self, range: &Range, after: Revision) -> Option<(Revision, Vec<Event>)> {
        self.history.read().after(range, after)
    }

    pub fn compact(&self, upto: Revision) -> Result<(), Error> {
        let mut history = self.history.write();
        if upto < history.oldest() {
            return Err(Error::Compacted { oldest: history.oldest() });
        }
        if upto > history.latest() {
            return Err(Error::Future { current: history.latest() });
        }
        history.forget(upto);
        Ok(())
    }
}

/// Keys and what they were at an earlier revision.
type Changes = BTreeMap<Arc<str>, Option<Entry>>;

/// The first entries, and how many follow.
fn page<'a>(mut entries: impl Iterator<Item = &'a Entry>, limit: Option<usize>) -> Page {
    let Some(limit) = limit else { return Page { entries: entries.cloned().collect(), more: false, remaining: 0 } };
    let first = entries.by_ref().take(limit).cloned().collect();
    let remaining = entries.count();
    Page { entries: first, more: remaining > 0, remaining }
}

/// The entries of an earlier revision: the present ones, except where a key was something else then.
struct Undone<'a, N: Iterator<Item = &'a Entry>> {
    now: std::iter::Peekable<N>,
    then: std::iter::Peekable<std::collections::btree_map::Iter<'a, Arc<str>, Option<Entry>>>,
}

impl<'a, N: Iterator<Item = &'a Entry>> Iterator for Undone<'a, N> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        loop {
            let changed_first = match (self.now.peek(), self.then.peek()) {
                (now, Some((key, _))) => now.is_none_or(|now| **key <= now.key),
                (_, None) => false,
            };
            if !changed_first {
                return self.now.next();
            }
            let (key, then) = self.then.next()?;
            self.now.next_if(|now| now.key == *key);
            if then.is_some() {
                return then.as_ref();
            }
        }
    }
}
