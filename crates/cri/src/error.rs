//! What can go wrong between Pintle and a container runtime, by what the caller can do about it.

/// The result of a call to the runtime.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call to the runtime failed. The texts are the runtime's own: users read them in events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The sandbox, container or image is not there. Do not retry; look again.
    #[error("{0}")]
    NotFound(String),
    /// The runtime cannot be reached, or is starting. Retry with a back-off.
    #[error("{0}")]
    Unavailable(String),
    /// This runtime does not know the call. Fall back; do not retry.
    #[error("the container runtime does not implement this call")]
    Unimplemented,
    /// The request makes no sense to the runtime. Retrying it unchanged is in vain.
    #[error("{0}")]
    Invalid(String),
    /// Pintle itself does not support what was asked for.
    #[error("{0}")]
    Unsupported(String),
    /// The runtime tried and failed. Retry with a back-off.
    #[error("{message}")]
    Failed {
        /// The gRPC status code; 2 (unknown) for what did not come over gRPC.
        code: i32,
        /// The runtime's message.
        message: String,
    },
    /// No answer in time: it may or may not have been done.
    #[error("context deadline exceeded")]
    Deadline,
}

impl Error {
    /// A failure that has no gRPC code.
    pub(crate) fn failed(message: impl std::fmt::Display) -> Self {
        Self::Failed { code: tonic::Code::Unknown as i32, message: message.to_string() }
    }

    /// The error as Go's gRPC prints it, which is what upstream's events hold: `rpc error: code = NotFound desc = ...`.
    pub fn as_rpc(&self) -> String {
        let (code, message) = match self {
            Self::NotFound(message) => ("NotFound".to_owned(), message.clone()),
            Self::Unavailable(message) => ("Unavailable".to_owned(), message.clone()),
            Self::Unimplemented | Self::Unsupported(_) => ("Unimplemented".to_owned(), self.to_string()),
            Self::Invalid(message) => ("InvalidArgument".to_owned(), message.clone()),
            Self::Deadline => ("DeadlineExceeded".to_owned(), self.to_string()),
            Self::Failed { code, message } if *code == tonic::Code::Cancelled as i32 => {
                ("Canceled".to_owned(), message.clone())
            }
            Self::Failed { code, message } => (format!("{:?}", tonic::Code::from(*code)), message.clone()),
        };
        format!("rpc error: code = {code} desc = {message}")
    }

    /// Whether the thing asked for is gone.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            tonic::Code::NotFound => Self::NotFound(message),
            tonic::Code::Unavailable => Self::Unavailable(message),
            tonic::Code::Unimplemented => Self::Unimplemented,
            tonic::Code::InvalidArgument => Self::Invalid(message),
            tonic::Code::DeadlineExceeded => Self::Deadline,
            // A connection that breaks during a call has no code of its own, but a cause.
            _ if std::error::Error::source(&status).is_some() => Self::Unavailable(message),
            code => Self::Failed { code: code as i32, message },
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_upstreams() {
        let failed = Error::from(tonic::Status::new(tonic::Code::FailedPrecondition, "no"));
        assert_eq!(failed.as_rpc(), "rpc error: code = FailedPrecondition desc = no");
        let deadline = Error::from(tonic::Status::new(tonic::Code::DeadlineExceeded, "late"));
        assert_eq!(deadline.as_rpc(), "rpc error: code = DeadlineExceeded desc = context deadline exceeded");
        let gone = Error::from(tonic::Status::new(tonic::Code::NotFound, "gone"));
        assert!(gone.is_not_found());
        assert_eq!(gone.as_rpc(), "rpc error: code = NotFound desc = gone");
    }
}
