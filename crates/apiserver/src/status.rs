//! The one translation of the store's errors into `Status`.

use api::status::MODIFIED;
use api::{Reason, Status};
use store::Error;

/// An error that is about the store rather than about one object.
pub fn of_store(error: Error) -> Status {
    match error {
        Error::Full(_) => Status::failure(Reason::InternalError, "etcdserver: mvcc: database space exceeded"),
        Error::TooLarge { .. } => Status::failure(Reason::RequestEntityTooLarge, "etcdserver: request is too large"),
        Error::Unavailable(_) | Error::Locked { .. } | Error::NewerFormat { .. } => {
            tracing::error!(%error, "the store is unavailable");
            Status::unavailable(error.to_string())
        }
        other => Status::internal(other),
    }
}

/// An error of a write or read of one object.
pub fn of_object(error: Error, group: &str, resource: &str, name: &str) -> Status {
    match error {
        Error::NotFound => Status::not_found(group, resource, name),
        Error::Exists => Status::already_exists(group, resource, name),
        Error::Conflict { current: None } => Status::not_found(group, resource, name),
        Error::Conflict { current: Some(_) } => Status::conflict(group, resource, name, MODIFIED),
        other => of_store(other),
    }
}

/// An error of a list at an exact revision.
pub fn of_store_list(error: Error, revision: u64) -> Status {
    match error {
        Error::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        Error::Future { current } => crate::cache::too_large(revision, current.0),
        other => of_store(other),
    }
}
