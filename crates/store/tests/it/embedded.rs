//! The store on the disk: restarts, kills, a full disk, two processes, other formats.

mod full;
mod kill;
mod restart;

use std::path::Path;
use std::time::Duration;

use base::{Clock, TaskGroup};
use bytes::Bytes;
use store::{Error, Options, Store};

/// An open store and the directory it removes in the end.
pub struct Opened {
    pub store: Store,
    tasks: TaskGroup,
    dir: Option<tempfile::TempDir>,
}

impl Opened {
    /// A new one.
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tasks = TaskGroup::new();
        let store = open(dir.path(), &tasks).await.unwrap();
        Self { store, tasks, dir: Some(dir) }
    }

    /// Ends its tasks, which closes the store.
    pub async fn close(self) {
        assert!(self.tasks.shutdown(Duration::from_secs(30)).await, "the store did not close");
        assert_eq!(base::task::panics(), 0, "something panicked");
        drop(self.dir);
    }

    /// Closes it and opens it again, as a restart does.
    pub async fn restart(mut self) -> Self {
        let dir = self.dir.take().unwrap();
        self.close().await;
        let tasks = TaskGroup::new();
        let store = open(dir.path(), &tasks).await.unwrap();
        Self { store, tasks, dir: Some(dir) }
    }

    pub fn dir(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }
}

pub async fn open(dir: &Path, tasks: &TaskGroup) -> Result<Store, Error> {
    // The default keeps 64 MiB free, which the machine the tests run on may not have.
    let options = Options { free_bytes_min: 1 << 20, ..Options::new(dir) };
    Store::open(options, Clock::system(), tasks.clone()).await
}

pub fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
