//! What can go wrong, by what the caller can do about it.

use std::path::PathBuf;

use crate::{Entry, Revision};

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There is no such key. Not retryable.
    #[error("the key does not exist")]
    NotFound,
    /// The key exists already. Not retryable.
    #[error("the key exists already")]
    Exists,
    /// The entry is not the one the write was made against: decide anew from `current` and retry.
    #[error("the entry has changed since it was read")]
    Conflict {
        /// What there is; `None` if the key does not exist.
        current: Option<Entry>,
    },
    /// The revision asked for is older than the history kept: list again and watch from there.
    #[error("the required revision has been compacted; the oldest kept is {oldest}")]
    Compacted {
        /// The oldest revision that can be asked for.
        oldest: Revision,
    },
    /// The revision asked for has not come yet: retry when it has.
    #[error("the required revision is in the future; the store is at {current}")]
    Future {
        /// The latest revision.
        current: Revision,
    },
    /// The watch fell further behind than the history reaches: list again and watch from there.
    #[error("the watch fell behind the history kept")]
    TooSlow,
    /// Key or value is longer than the store takes. Not retryable.
    #[error("{what} of {bytes} bytes is too large: the store takes {bytes_max}")]
    TooLarge {
        /// `key` or `value`.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The disk has no room: the write did not happen. Reads go on; retry when there is space.
    #[error("no space left for the store: {0}")]
    Full(String),
    /// The store cannot write now, or is closed. The write may or may not have happened if the process ended in
    /// between.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Another process has the store open.
    #[error("the store in {} is in use by {holder}", dir.display())]
    Locked {
        /// The store's directory.
        dir: PathBuf,
        /// Who holds it, as far as known.
        holder: String,
    },
    /// A newer version of the program wrote the store; nothing was touched. Start that version.
    #[error("the store in {} has format {found}, this version reads up to {supported}", dir.display())]
    NewerFormat {
        /// The store's directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format this version knows.
        supported: u32,
    },
}
