//! What a watch returns.

use std::sync::Arc;

use crate::{Entry, Revision};

/// One write. A clone shares keys and values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The key was created or changed.
    Put {
        /// As written; `entry.modified` is the event's revision.
        entry: Entry,
        /// What it replaced; `None` if the key was created.
        previous: Option<Entry>,
    },
    /// The key was deleted, or its time to live ended.
    Delete {
        /// What was deleted.
        previous: Entry,
        /// The event's revision.
        revision: Revision,
    },
}

impl Event {
    /// The write's revision: no two events share one.
    pub fn revision(&self) -> Revision {
        match self {
            Event::Put { entry, .. } => entry.modified,
            Event::Delete { revision, .. } => *revision,
        }
    }

    /// The key written to.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Event::Put { entry, .. } => &entry.key,
            Event::Delete { previous, .. } => &previous.key,
        }
    }

    /// What was under the key before.
    pub fn previous(&self) -> Option<&Entry> {
        match self {
            Event::Put { previous, .. } => previous.as_ref(),
            Event::Delete { previous, .. } => Some(previous),
        }
    }
}

/// The next stretch of a watch: what happened in its range up to `revision`. Without events it tells progress: nothing
/// happened in the range up to there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// The watch has now seen all up to here.
    pub revision: Revision,
    /// In revision order; each later than the previous batch's `revision`.
    pub events: Vec<Event>,
}
