//! Why a call failed, by what the caller can do about it.

use api::{Reason, Status};

/// The error of every call.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The server said no; its code and reason say whether to retry (see [`Error::is_retryable`]).
    #[error(transparent)]
    Status(#[from] Status),
    /// The server was not reached, or the connection broke before the answer. Retryable; a write may have happened.
    #[error("the API server cannot be reached: {0}")]
    Unavailable(String),
    /// The answer was not what the API promises. Not retryable.
    #[error("the API server's answer cannot be read: {0}")]
    Malformed(String),
}

impl Error {
    fn is(&self, reason: Reason) -> bool {
        matches!(self, Self::Status(status) if status.is(reason))
    }

    pub fn is_not_found(&self) -> bool {
        self.is(Reason::NotFound)
    }

    pub fn is_already_exists(&self) -> bool {
        self.is(Reason::AlreadyExists)
    }

    /// The object changed since it was read, or a precondition does not hold.
    pub fn is_conflict(&self) -> bool {
        self.is(Reason::Conflict)
    }

    /// 410: the watch or the continue token is too old.
    pub fn is_expired(&self) -> bool {
        self.is(Reason::Expired) || self.is(Reason::Gone)
    }

    pub fn is_forbidden(&self) -> bool {
        self.is(Reason::Forbidden)
    }

    /// Whether the same call may succeed later without change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Malformed(_) => false,
            Self::Status(status) => matches!(status.code(), 429 | 500 | 503 | 504),
        }
    }
}
