//! What can go wrong with keys and certificates, by what the caller can do about it.

use std::path::{Path, PathBuf};

/// This crate's error. Tokens have their own, [`crate::token::Error`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written. Retry once the disk or the permissions are mended.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried: "read", "write" ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The input is not what it should be. The same input fails again.
    #[error("{what}: {reason}")]
    Malformed {
        /// What was read: "certificate", "kubeconfig" ...
        what: &'static str,
        /// Why it is not one.
        reason: String,
    },
    /// The input is well formed but must not be accepted: not ours, expired, not signed by its key.
    #[error("{0}")]
    Refused(String),
    /// The crypto library refused work that should always succeed (no randomness, no memory).
    #[error("the crypto library could not {0}")]
    Crypto(&'static str),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn malformed(what: &'static str, reason: impl ToString) -> Self {
        Self::Malformed { what, reason: reason.to_string() }
    }

    pub(crate) fn file(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }

    /// Whether the error is a file that does not exist.
    pub fn is_missing_file(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}
