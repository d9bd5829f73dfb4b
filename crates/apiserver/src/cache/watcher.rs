//! A watch: what is there already if that is asked for, then every event that concerns the selection, bookmarks in
//! between. A watcher is a cursor; nothing piles up for it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::Status;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{Cache, Caches, Change, Entry, Event, Filter};

/// How many events one step returns at most.
const BATCH_LEN_MAX: usize = 256;
/// How often a quiet watch hears of progress.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A last bookmark comes this long before the watch ends.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// What is asked for.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    pub filter: Filter,
    /// Events after this revision; `None`: the most recent state.
    pub revision: Option<u64>,
    /// `None`: initial events if `revision` is absent or 0 (what clients have always been given).
    pub send_initial_events: Option<bool>,
    pub bookmarks: bool,
    pub timeout: Duration,
    /// The reader keeps the lean form of every object, so that it is worth keeping what is at hand when one is written.
    pub lean: bool,
}

/// One event as this watcher sees it.
#[derive(Debug, Clone)]
pub enum Out {
    Added(Arc<Entry>),
    Modified(Arc<Entry>),
    Deleted(Arc<Entry>),
}

impl Out {
    /// The event's `type` and its object.
    pub fn parts(&self) -> (&'static str, &Arc<Entry>) {
        match self {
            Self::Added(entry) => ("ADDED", entry),
            Self::Modified(entry) => ("MODIFIED", entry),
            Self::Deleted(entry) => ("DELETED", entry),
        }
    }
}

/// What comes next.
#[derive(Debug)]
pub enum Step {
    Events(Vec<Out>),
    Bookmark {
        revision: u64,
        initial_events_end: bool,
    },
    /// Over: in time, or with the reason.
    End(Option<Status>),
}

/// The initial events still to be sent.
struct Initial {
    entries: std::vec::IntoIter<Arc<Entry>>,
    /// Send a bookmark with this revision after them.
    bookmark: Option<u64>,
}

/// One watch under way.
pub struct Watcher {
    caches: Arc<Caches>,
    cache: Arc<Cache>,
    filter: Filter,
    initial: Option<Initial>,
    cursor: u64,
    epoch: u64,
    /// Everything up to here was sent.
    revision: u64,
    signal: watch::Receiver<u64>,
    bookmarks: bool,
    bookmark_due: bool,
    deadline: Instant,
    /// When the next bookmark or the end is due. Kept from one event to the next, as it is to set up anew takes longer
    /// than what is done for an event; so is `ending`.
    alarm: Pin<Box<Sleep>>,
    ending: Pin<Box<WaitForCancellationFutureOwned>>,
    lean: bool,
    /// Its time is up: what there is now is told, and no more.
    last: bool,
    ended: bool,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if self.lean {
            self.cache.lean_reader_left();
        }
    }
}

fn too_old(asked: u64, oldest: u64) -> Status {
    Status::expired(format!("too old resource version: {asked} ({oldest})"))
}

impl Watcher {
    /// Starts a watch. `ending` ends it in good order.
    ///
    /// # Errors
    /// 410 if events after the revision are forgotten, 504 if initial events at a revision that does not come are asked
    /// for.
    pub async fn start(
        caches: Arc<Caches>,
        cache: Arc<Cache>,
        options: WatchOptions,
        ending: CancellationToken,
    ) -> Result<Self, Status> {
        let from_now = options.revision.is_none_or(|revision| revision == 0);
        let initial = options.send_initial_events.unwrap_or(from_now);
        match options.revision {
            None => caches.wait_fresh().await?,
            Some(revision) if initial => caches.wait_for(revision).await?,
            Some(_) => {}
        }
        if options.lean {
            cache.lean_reader_came();
        }
        let now = caches.clock.monotonic();
        let deadline = now + options.timeout;
        let signal = cache.bell.subscribe();
        let alarm_at = if options.bookmarks { next_bookmark(now, deadline) } else { deadline };
        let mut watcher = Self {
            filter: options.filter,
            initial: None,
            cursor: 0,
            epoch: 0,
            revision: 0,
            signal,
            bookmarks: options.bookmarks,
            bookmark_due: false,
            deadline,
            alarm: Box::pin(tokio::time::sleep_until(alarm_at)),
            ending: Box::pin(ending.cancelled_owned()),
            lean: options.lean,
            last: false,
            ended: false,
            caches,
            cache,
        };
        if initial || from_now {
            watcher.start_now(initial, options.bookmarks && options.send_initial_events == Some(true));
        } else {
            watcher.start_after(options.revision.unwrap_or_default())?;
        }
        Ok(watcher)
    }

    fn start_now(&mut self, initial: bool, bookmark: bool) {
        let progress = self.caches.progress();
        let (state, cursor, epoch) = {
            let ring = self.cache.ring.read();
            (self.cache.state(), ring.next(), ring.epoch)
        };
        (self.cursor, self.epoch, self.revision) = (cursor, epoch, progress.max(state.revision));
        if initial {
            let range = self.filter.range(&self.cache);
            let entries = super::list::in_range(&state, &range).filter(|entry| self.filter.matches(entry)).cloned();
            let entries = entries.collect::<Vec<_>>().into_iter();
            self.initial = Some(Initial { entries, bookmark: bookmark.then_some(self.revision) });
        }
    }

    fn start_after(&mut self, revision: u64) -> Result<(), Status> {
        let ring = self.cache.ring.read();
        self.cursor = ring.cursor_after(revision).ok_or_else(|| too_old(revision, ring.forgotten()))?;
        (self.epoch, self.revision) = (ring.epoch, revision);
        Ok(())
    }

    /// Waits for what comes next. Dropping the future loses nothing. After [`Step::End`] it is `End(None)` for ever.
    pub async fn next(&mut self) -> Step {
        loop {
            if self.ended {
                return Step::End(None);
            }
            if let Some(step) = self.next_initial() {
                return step;
            }
            self.signal.borrow_and_update();
            // Before it was closed, what was deleted last is told.
            let closed = self.cache.is_closed();
            // Read before the ring: what is not in the ring now is later than this.
            let progress = self.caches.progress();
            match self.read() {
                Err(status) => {
                    self.ended = true;
                    return Step::End(Some(status));
                }
                Ok(Some(events)) => {
                    self.ended = self.last;
                    let out: Vec<Out> = events.iter().filter_map(|event| self.seen_as(event)).collect();
                    if !out.is_empty() {
                        return Step::Events(out);
                    }
                    tokio::task::consume_budget().await;
                    continue;
                }
                Ok(None) if closed || self.last => {
                    self.ended = true;
                    continue;
                }
                Ok(None) => self.revision = self.revision.max(progress),
            }
            if std::mem::take(&mut self.bookmark_due) {
                return Step::Bookmark { revision: self.revision, initial_events_end: false };
            }
            tokio::select! {
                biased;
                () = &mut self.ending => self.ended = true,
                _ = self.signal.changed() => {}
                () = &mut self.alarm => {
                    let now = self.caches.clock.monotonic();
                    if now >= self.deadline {
                        self.last = true;
                        continue;
                    }
                    self.bookmark_due = self.bookmarks;
                    let next = if self.bookmarks { next_bookmark(now, self.deadline) } else { self.deadline };
                    self.alarm.as_mut().reset(next);
                }
            }
        }
    }

    /// The next of the initial events; `None` once they are all sent.
    pub fn next_initial(&mut self) -> Option<Step> {
        let initial = self.initial.as_mut()?;
        let batch: Vec<Out> = initial.entries.by_ref().take(BATCH_LEN_MAX).map(Out::Added).collect();
        if !batch.is_empty() {
            return Some(Step::Events(batch));
        }
        let bookmark = initial.bookmark;
        self.initial = None;
        bookmark.map(|revision| Step::Bookmark { revision, initial_events_end: true })
    }

    /// The next events of the ring, `None` if there are none yet.
    fn read(&mut self) -> Result<Option<Vec<Arc<Event>>>, Status> {
        let ring = self.cache.ring.read();
        let events = if ring.epoch == self.epoch { ring.from(self.cursor, BATCH_LEN_MAX) } else { None };
        let Some(events) = events else { return Err(too_old(self.revision, ring.forgotten())) };
        drop(ring);
        let Some(last) = events.last() else { return Ok(None) };
        self.cursor += events.len() as u64;
        // A watch may start after a revision that has not come yet.
        let after = self.revision;
        self.revision = after.max(last.revision);
        Ok(Some(if after >= events[0].revision {
            events.into_iter().filter(|event| event.revision > after).collect()
        } else {
            events
        }))
    }

    /// The event in this watcher's eyes: an object that comes into the selection is ADDED, one that leaves is DELETED.
    fn seen_as(&self, event: &Event) -> Option<Out> {
        match &event.change {
            Change::Delete { previous } => {
                self.filter.matches(previous).then(|| event.gone().map(Out::Deleted)).flatten()
            }
            Change::Put { entry, previous } => {
                let before = previous.as_ref().is_some_and(|previous| self.filter.matches(previous));
                match (before, self.filter.matches(entry)) {
                    (false, false) => None,
                    (false, true) => Some(Out::Added(entry.clone())),
                    (true, true) => Some(Out::Modified(entry.clone())),
                    (true, false) => event.gone().map(Out::Deleted),
                }
            }
        }
    }
}

fn next_bookmark(now: Instant, deadline: Instant) -> Instant {
    let before_end = deadline.checked_sub(BOOKMARK_BEFORE_END).filter(|at| *at > now).unwrap_or(deadline);
    (now + BOOKMARK_EVERY).min(before_end)
}
