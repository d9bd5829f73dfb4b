//! What can go wrong in this crate, by what the caller can do about it.

/// Errors of the node's network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting cannot work. Not retryable: the configuration has to change.
    #[error("{0}")]
    Invalid(String),
    /// A program or plugin this node needs is not installed. Not retryable until it is.
    #[error("{what} not found at {path}: {hint}")]
    Missing {
        /// What it is, e.g. `CNI plugin "bridge"`.
        what: String,
        /// Where it was looked for.
        path: String,
        /// How to get it.
        hint: String,
    },
    /// A command (nft, ip, conntrack, a CNI plugin) refused. Retryable after a back-off; the kernel is unchanged by it.
    #[error("{command}: {message}")]
    Command {
        /// The command and its arguments.
        command: String,
        /// What it printed on its standard error.
        message: String,
    },
    /// The operating system refused. Retryable after a back-off.
    #[error("{context}")]
    Io {
        /// What was being done.
        context: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Wraps an operating-system error with what was being done.
    pub(crate) fn io(context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let context = context.into();
        move |source| Self::Io { context, source }
    }
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
