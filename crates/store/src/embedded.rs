//! The store on this machine's disk.

use std::path::PathBuf;
use std::sync::Arc;

use crate::shared::Shared;
use crate::state::Write;
use crate::watch::Watch;
use crate::{Error, Event, Range, Revision};

/// Where and how to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory, which belongs to the store alone.
    pub dir: PathBuf,
}

/// A store on the disk.
#[derive(Clone, Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
}

impl Embedded {
    pub(crate) async fn open(options: Options, _clock: base::Clock, _tasks: base::TaskGroup) -> Result<Self, Error> {
        Err(Error::Unavailable(format!("the embedded store ({}) is not built yet", options.dir.display())))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn watch(&self, range: Range, after: Revision) -> Watch {
        Watch::new(crate::watch::Source::Shared(self.shared.clone()), range, after)
    }

    pub(crate) async fn write(&self, _write: Write) -> Result<Event, Error> {
        Err(Error::Unavailable("the embedded store is not built yet".into()))
    }
}
