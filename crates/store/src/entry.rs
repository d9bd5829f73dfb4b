//! What a read returns: entries, the revision they were read at, pages of them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// A point in the store's history: the number of the latest write. Starts at 1 (etcd's `header.revision`), 0 is "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of an empty store.
    pub const FIRST: Revision = Revision(1);

    /// The revision of the write after this one.
    pub const fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key and its value. A clone shares both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// The value.
    pub value: Bytes,
    /// The write that created the key (etcd's `create_revision`).
    pub created: Revision,
    /// The write that last changed it (etcd's `mod_revision`); what compare-and-swap compares.
    pub modified: Revision,
}

/// A value and the revision at which it held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot<T> {
    /// The revision.
    pub revision: Revision,
    /// The value.
    pub value: T,
}

/// Which state a range is read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// The latest.
    Latest,
    /// Exactly this one.
    Revision(Revision),
}

/// Some of a range's entries, in key order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether the range has entries after these.
    pub more: bool,
    /// How many.
    pub remaining: usize,
}
