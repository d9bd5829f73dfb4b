//! Ordered keys, bytes as values, one global revision, watchable history.
//!
//! This crate knows nothing of kinds, JSON or HTTP, and never reads the system's clock: time comes from
//! [`base::Clock`]. Its words are etcd's: every write raises the one revision by one, an entry remembers the revision
//! that created it and the one that last changed it, and a watch sees every write after a revision, in order, once.
//!
//! Two backends share one model (`state`, `history`, `shared`) and one public suite of tests ([`conformance`]):
//! [`Memory`] for simulation and [`Embedded`], which answers a write only when it is on the disk.

mod entry;
mod error;
mod event;
mod range;

mod history;
mod shared;
mod state;
mod watch;

mod embedded;
mod memory;

pub mod conformance;

use std::time::Duration;

use bytes::Bytes;

pub use crate::embedded::{Embedded, Options};
pub use crate::entry::{At, Entry, Page, Revision, Snapshot};
pub use crate::error::Error;
pub use crate::event::{Batch, Event};
pub use crate::memory::Memory;
pub use crate::range::Range;
pub use crate::state::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use crate::watch::Watch;

use crate::state::Write;

/// A handle on a store. Cheap to clone; clones are the same store. The set of backends is closed.
#[derive(Clone, Debug)]
pub enum Store {
    /// In memory only, gone with its last handle.
    Memory(Memory),
    /// On this machine's disk.
    Embedded(Embedded),
}

impl Store {
    /// An empty store in memory, for simulation: its time is tokio's (paused when that is), it has no task or thread.
    pub fn memory() -> Store {
        Store::Memory(Memory::new())
    }

    /// Opens the store in `options.dir`, creating it if there is none. It runs until `tasks` ends, which waits for the
    /// writes already accepted.
    ///
    /// # Errors
    /// [`Error::Locked`] while another process has it open, [`Error::NewerFormat`] (nothing is touched) if a newer
    /// version wrote it, [`Error::Full`] or [`Error::Unavailable`] if the disk refuses.
    pub async fn open(options: Options, clock: base::Clock, tasks: base::TaskGroup) -> Result<Store, Error> {
        Embedded::open(options, clock, tasks).await.map(Store::Embedded)
    }

    /// The revision of the latest write that reads can see; 1 for a store nobody has written to.
    pub fn revision(&self) -> Revision {
        match self {
            Store::Memory(memory) => memory.shared().revision(),
            Store::Embedded(embedded) => embedded.shared().revision(),
        }
    }

    /// The oldest revision that can still be read ([`At::Revision`]) and after which a watch can still start.
    pub fn oldest(&self) -> Revision {
        match self {
            Store::Memory(memory) => memory.shared().oldest(),
            Store::Embedded(embedded) => embedded.shared().oldest(),
        }
    }

    /// The entry under `key`, and the revision at which this was so.
    ///
    /// # Errors
    /// None today; remote backends will answer [`Error::Unavailable`].
    pub async fn get(&self, key: &str) -> Result<Snapshot<Option<Entry>>, Error> {
        Ok(match self {
            Store::Memory(memory) => memory.shared().get(key),
            Store::Embedded(embedded) => embedded.shared().get(key),
        })
    }

    /// The entries of `range` in key order as they were at one revision: the latest, or exactly the one asked for,
    /// which is how a paginated list goes on. `limit` bounds the entries returned (0 only counts them).
    ///
    /// # Errors
    /// [`Error::Compacted`] below [`Store::oldest`], [`Error::Future`] above [`Store::revision`].
    pub async fn range(&self, range: &Range, at: At, limit: Option<usize>) -> Result<Snapshot<Page>, Error> {
        match self {
            Store::Memory(memory) => memory.shared().range(range, at, limit),
            Store::Embedded(embedded) => embedded.shared().range(range, at, limit),
        }
    }

    /// Writes a key that does not exist. With a `ttl` the entry is deleted that long after.
    ///
    /// # Errors
    /// [`Error::Exists`]; as every write, [`Error::TooLarge`], [`Error::Full`] and [`Error::Unavailable`].
    pub async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision, Error> {
        Ok(self.write(Write::create(key, value, ttl)?).await?.revision())
    }

    /// Replaces a value whose last change was `expect`. The time to live starts anew: without `ttl` it is unlimited.
    ///
    /// # Errors
    /// [`Error::Conflict`] with the entry there is, or `None` if there is none.
    pub async fn update(
        &self,
        key: &str,
        value: Bytes,
        expect: Revision,
        ttl: Option<Duration>,
    ) -> Result<Revision, Error> {
        Ok(self.write(Write::update(key, value, expect, ttl)?).await?.revision())
    }

    /// Deletes a key, only if its last change was `expect` when that is given. Answers with what was deleted and the
    /// revision of the delete.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`].
    pub async fn delete(&self, key: &str, expect: Option<Revision>) -> Result<Snapshot<Entry>, Error> {
        match self.write(Write::delete(key, expect)?).await? {
            Event::Delete { previous, revision } => Ok(Snapshot { revision, value: previous }),
            Event::Put { .. } => unreachable!("a delete makes no put"),
        }
    }

    /// All that happens in `range` after the revision `after`: in order, without gap or duplicate. Costs nothing until
    /// it is asked for its [`Watch::next`].
    pub fn watch(&self, range: Range, after: Revision) -> Watch {
        match self {
            Store::Memory(memory) => memory.watch(range, after),
            Store::Embedded(embedded) => embedded.watch(range, after),
        }
    }

    /// Forgets the history before `upto`. Watches that have seen that far already are not disturbed.
    ///
    /// # Errors
    /// [`Error::Compacted`] if `upto` is older than [`Store::oldest`], [`Error::Future`] if it has not come yet.
    pub async fn compact(&self, upto: Revision) -> Result<(), Error> {
        match self {
            Store::Memory(memory) => memory.shared().compact(upto),
            Store::Embedded(embedded) => embedded.shared().compact(upto),
        }
    }

    async fn write(&self, write: Write) -> Result<Event, Error> {
        match self {
            Store::Memory(memory) => memory.write(write),
            Store::Embedded(embedded) => embedded.write(write).await,
        }
    }
}
