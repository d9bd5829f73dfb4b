//! The database: every entry under its key, and the revision; no history. Read once, at the start, then only written.
//!
//! ```text
//! m                  the revision (u64, little endian)
//! k<key>             created, modified (u64), expiry (i64, milliseconds since 1970, the largest for never), the value
//! ```
//!
//! The database is fjall, a log-structured merge tree. A group is one batch of its journal, written and synced before
//! fjall's own memory takes it, so a failed group is not seen. When memory is written out to tables is decided here and
//! not by fjall: its own way is to halt the writing thread while four tables wait, for ever if its worker has failed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use bytes::Bytes;
use fjall::config::{BlockSizePolicy, FilterPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::embedded::directory::is_full;
use crate::state::{State, Stored};
use crate::{Entry, Revision};

/// How much the database keeps in memory before it writes a table.
const UNWRITTEN_BYTES: usize = 8 << 20;

/// How much it may hold while the previous table is still being written; then writes wait.
const UNWRITTEN_BYTES_MAX: usize = 64 << 20;

/// Blocks are read only in full scans, never looked up, so they may be large and the cache small.
const BLOCK_BYTES: u32 = 32 << 10;
const CACHE_BYTES: u64 = 1 << 20;

/// What an entry costs beside key and value: in the table, and in the journal.
const ENTRY_OVERHEAD_BYTES: usize = 64;

const HEADER_BYTES: usize = 24;
const NEVER: i64 = i64::MAX;
const REVISION_KEY: &[u8] = b"m";
const ENTRY_PREFIX: u8 = b'k';

/// Why the disk refused.
#[derive(Debug)]
pub enum Fault {
    /// No space: try again when there is some.
    Full(String),
    /// The database stopped itself after its background work failed: opening it again may help.
    Stopped(String),
    /// The disk failed. What it holds of the last group is unknown, so nothing may be written after it.
    Broken(String),
}

impl From<fjall::Error> for Fault {
    fn from(error: fjall::Error) -> Self {
        let io = match &error {
            fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => Some(io),
            _ => None,
        };
        match (io, &error) {
            (Some(io), _) if is_full(io) => Fault::Full(io.to_string()),
            (Some(io), _) => Fault::Broken(io.to_string()),
            (None, fjall::Error::Poisoned | fjall::Error::Locked) => {
                Fault::Stopped("the database stopped after an error".into())
            }
            (None, _) => Fault::Broken(error.to_string()),
        }
    }
}

/// The open database.
pub struct Disk {
    database: Database,
    entries: Keyspace,
    /// Bytes written since the last table.
    unwritten_bytes: usize,
}

impl Disk {
    /// Opens the database, creating it if it is not there.
    pub fn open(path: &Path) -> Result<Disk, Fault> {
        let database = Database::builder(path)
            .worker_threads(1)
            .cache_size(CACHE_BYTES)
            .journal_compression(fjall::CompressionType::None)
            .manual_journal_persist(true)
            .open()?;
        let entries = database.keyspace("entries", || {
            KeyspaceCreateOptions::default()
                .manual_journal_persist(true)
                .max_memtable_size(u64::MAX)
                .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
                .filter_policy(FilterPolicy::disabled())
        })?;
        // At worst all that is in the journal: then a table is written a little early.
        let unwritten_bytes = usize::try_from(database.journal_disk_space()?).unwrap_or(usize::MAX);
        Ok(Disk { database, entries, unwritten_bytes })
    }

    /// Reads everything.
    pub fn load(&self) -> Result<State, Fault> {
        let revision = match self.entries.get(REVISION_KEY)? {
            Some(bytes) => Revision(u64::from_le_bytes(
                bytes.as_ref().try_into().map_err(|_| Fault::Broken("the revision is not a number".into()))?,
            )),
            None => Revision::FIRST,
        };
        let mut state = State::empty(revision);
        for item in self.entries.prefix([ENTRY_PREFIX]) {
            let (key, value) = item.into_inner()?;
            let (entry, expires) = decode(&key, &value)
                .ok_or_else(|| Fault::Broken(format!("the entry `{}` is damaged", key.escape_ascii())))?;
            state.load(entry, expires);
        }
        Ok(state)
    }

    /// Makes what `state` has under `keys`, and its revision, durable, all or nothing.
    pub fn commit<'a>(&mut self, state: &State, keys: impl Iterator<Item = &'a Arc<str>>) -> Result<(), Fault> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        let mut bytes = 0;
        for key in keys {
            let name = [&[ENTRY_PREFIX], key.as_bytes()].concat();
            bytes += name.len() + ENTRY_OVERHEAD_BYTES;
            match state.get(key) {
                Some(stored) => {
                    let record = encode(stored);
                    bytes += record.len();
                    batch.insert(&self.entries, name, record);
                }
                None => batch.remove(&self.entries, name),
            }
        }
        batch.insert(&self.entries, REVISION_KEY, state.revision().0.to_le_bytes());
        batch.commit()?;
        self.unwritten_bytes += bytes + ENTRY_OVERHEAD_BYTES;
        Ok(())
    }

    /// Has a table written in the background when there is enough for one. Waits only while far too much is unwritten.
    pub fn tidy(&mut self) -> Result<(), Fault> {
        if self.unwritten_bytes < UNWRITTEN_BYTES {
            return Ok(());
        }
        while self.database.outstanding_flushes() > 0 {
            if self.unwritten_bytes < UNWRITTEN_BYTES_MAX {
                return Ok(());
            }
            // fjall tells of no event to wait for; this asks it whether its worker still lives.
            self.database.persist(PersistMode::Buffer)?;
            std::thread::park_timeout(Duration::from_millis(5));
        }
        self.entries.rotate_memtable()?;
        self.unwritten_bytes = 0;
        Ok(())
    }
}

fn encode(stored: &Stored) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER_BYTES + stored.entry.value.len());
    record.extend_from_slice(&stored.entry.created.0.to_le_bytes());
    record.extend_from_slice(&stored.entry.modified.0.to_le_bytes());
    record.extend_from_slice(&stored.expires.map_or(NEVER, |at| at.as_millisecond()).to_le_bytes());
    record.extend_from_slice(&stored.entry.value);
    record
}

fn decode(key: &[u8], record: &[u8]) -> Option<(Entry, Option<Timestamp>)> {
    let (created, rest) = record.split_first_chunk()?;
    let (modified, rest) = rest.split_first_chunk()?;
    let (expires, value) = rest.split_first_chunk()?;
    let expires = match i64::from_le_bytes(*expires) {
        NEVER => None,
        milliseconds => Some(Timestamp::from_millisecond(milliseconds).ok()?),
    };
    let entry = Entry {
        key: std::str::from_utf8(key.strip_prefix(&[ENTRY_PREFIX])?).ok()?.into(),
        value: Bytes::copy_from_slice(value),
        created: Revision(u64::from_le_bytes(*created)),
        modified: Revision(u64::from_le_bytes(*modified)),
    };
    Some((entry, expires))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_encoded_is_decoded(key: String, value: Vec<u8>, created: u64, modified: u64, at: Option<u32>) {
            let expires = at.map(|at| Timestamp::from_millisecond(i64::from(at)).expect("in range"));
            let entry = Entry {
                key: key.as_str().into(), value: value.into(),
                created: Revision(created), modified: Revision(modified),
            };
            let record = encode(&Stored { entry: entry.clone(), expires });
            let name = [&[ENTRY_PREFIX], key.as_bytes()].concat();
            proptest::prop_assert_eq!(decode(&name, &record), Some((entry, expires)));
            proptest::prop_assert_eq!(decode(&name, &record[..HEADER_BYTES - 1]), None);
        }
    }
}
