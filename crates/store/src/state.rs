//! The current state, and what a write does to it: decided here, purely, for every backend. Time is an argument.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use bytes::Bytes;
use imbl::OrdSet;

use crate::{Entry, Error, Event, Range, Revision};

/// The longest key taken.
pub const KEY_BYTES_MAX: usize = 4096;

/// The longest value taken. Above upstream's limit for a request (3 MiB), so that the API's own answer comes first.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// An entry and when it ends, ordered by key.
#[derive(Clone, Debug)]
pub struct Item(Arc<Stored>);

/// What is kept for a key.
#[derive(Debug)]
pub struct Stored {
    /// The entry.
    pub entry: Entry,
    /// When it is deleted.
    pub expires: Option<Timestamp>,
}

impl Item {
    fn new(entry: Entry, expires: Option<Timestamp>) -> Self {
        Self(Arc::new(Stored { entry, expires }))
    }
}

impl Borrow<str> for Item {
    fn borrow(&self) -> &str {
        &self.0.entry.key
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.entry.key.cmp(&other.0.entry.key)
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Item {}

/// A request to write. The key's and value's lengths have been checked.
#[derive(Clone, Debug)]
pub enum Write {
    /// A key that must not exist.
    Create { key: Arc<str>, value: Bytes, ttl: Option<Duration> },
    /// A key whose last change must be `expect`.
    Update { key: Arc<str>, value: Bytes, expect: Revision, ttl: Option<Duration> },
    /// A key that must exist, and whose last change must be `expect` if given.
    Delete { key: Arc<str>, expect: Option<Revision> },
}

impl Write {
    /// Checks the lengths.
    pub fn create(key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Write, Error> {
        Ok(Write::Create { key: check_key(key)?, value: check_value(value)?, ttl })
    }

    /// Checks the lengths.
    pub fn update(key: &str, value: Bytes, expect: Revision, ttl: Option<Duration>) -> Result<Write, Error> {
        Ok(Write::Update { key: check_key(key)?, value: check_value(value)?, expect, ttl })
    }

    /// Checks the lengths.
    pub fn delete(key: &str, expect: Option<Revision>) -> Result<Write, Error> {
        Ok(Write::Delete { key: check_key(key)?, expect })
    }

    /// About how many bytes the write puts on the disk.
    pub fn bytes(&self) -> usize {
        match self {
            Write::Create { key, value, .. } | Write::Update { key, value, .. } => key.len() + value.len(),
            Write::Delete { key, .. } => key.len(),
        }
    }
}

fn check_key(key: &str) -> Result<Arc<str>, Error> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Error::TooLarge { what: "a key", bytes: key.len(), bytes_max: KEY_BYTES_MAX });
    }
    Ok(key.into())
}

fn check_value(value: Bytes) -> Result<Bytes, Error> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::TooLarge { what: "a value", bytes: value.len(), bytes_max: VALUE_BYTES_MAX });
    }
    Ok(value)
}

/// All keys at one revision. A clone costs O(1) and is not changed by later writes.
#[derive(Clone)]
pub struct State {
    revision: Revision,
    items: OrdSet<Item>,
    expiries: OrdSet<(Timestamp, Arc<str>)>,
}

impl State {
    /// No keys, at `revision`.
    pub fn empty(revision: Revision) -> Self {
        Self { revision, items: OrdSet::new(), expiries: OrdSet::new() }
    }

    /// The revision of the latest write.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What is under `key`.
    pub fn get(&self, key: &str) -> Option<&Stored> {
        self.items.get(key).map(|item| &*item.0)
    }

    /// The entries of `range` in key order.
    pub fn range<'a>(&'a self, range: &'a Range) -> impl Iterator<Item = &'a Entry> {
        // A range that ends before it starts is empty here, and a panic to the set.
        let bounds = (!range.is_empty()).then(|| range.bounds());
        bounds.into_iter().flat_map(|bounds| self.items.range::<_, str>(bounds)).map(|item| &item.0.entry)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Puts back an entry read from the disk; no event.
    pub fn load(&mut self, entry: Entry, expires: Option<Timestamp>) {
        self.put(entry, expires);
    }

    /// When the next entry ends.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.expiries.get_min().map(|(at, _)| *at)
    }

    /// Does one write, or says why not and leaves the state as it was.
    pub fn apply(&mut self, write: &Write, now: Timestamp) -> Result<Event, Error> {
        let revision = self.revision.next();
        let event = match write {
            Write::Create { key, value, ttl } => {
                if self.get(key).is_some() {
                    return Err(Error::Exists);
                }
                let entry = Entry { key: key.clone(), value: value.clone(), created: revision, modified: revision };
                self.put(entry.clone(), expiry(*ttl, now));
                Event::Put { entry, previous: None }
            }
            Write::Update { key, value, expect, ttl } => {
                let previous = match self.get(key).map(|stored| &stored.entry) {
                    Some(current) if current.modified == *expect => current.clone(),
                    current => return Err(Error::Conflict { current: current.cloned() }),
                };
                let (key, created) = (previous.key.clone(), previous.created);
                let entry = Entry { key, value: value.clone(), created, modified: revision };
                self.put(entry.clone(), expiry(*ttl, now));
                Event::Put { entry, previous: Some(previous) }
            }
            Write::Delete { key, expect } => {
                let current = &self.get(key).ok_or(Error::NotFound)?.entry;
                if expect.is_some_and(|expect| expect != current.modified) {
                    return Err(Error::Conflict { current: Some(current.clone()) });
                }
                Event::Delete { previous: self.remove(key), revision }
            }
        };
        self.revision = revision;
        Ok(event)
    }

    /// Deletes the entry that ended first if it ended by `now`.
    pub fn expire(&mut self, now: Timestamp) -> Option<Event> {
        let (at, key) = self.expiries.get_min()?.clone();
        if at > now {
            return None;
        }
        self.revision = self.revision.next();
        Some(Event::Delete { previous: self.remove(&key), revision: self.revision })
    }

    fn put(&mut self, entry: Entry, expires: Option<Timestamp>) {
        let key = entry.key.clone();
        if let Some(replaced) = self.items.insert(Item::new(entry, expires)) {
            self.forget_expiry(&replaced);
        }
        if let Some(at) = expires {
            self.expiries.insert((at, key));
        }
    }

    fn remove(&mut self, key: &str) -> Entry {
        let item = self.items.remove(key).expect("the key was just found");
        self.forget_expiry(&item);
        item.0.entry.clone()
    }

    fn forget_expiry(&mut self, item: &Item) {
        if let Some(at) = item.0.expires {
            self.expiries.remove(&(at, item.0.entry.key.clone()));
        }
    }
}

/// When something written `now` ends. To the millisecond, upwards, as the disk keeps it.
fn expiry(ttl: Option<Duration>, now: Timestamp) -> Option<Timestamp> {
    let at = now.as_nanosecond().saturating_add(i128::try_from(ttl?.as_nanos()).unwrap_or(i128::MAX));
    let milliseconds = i64::try_from(at.saturating_add(999_999) / 1_000_000).unwrap_or(i64::MAX);
    Some(Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX))
}
