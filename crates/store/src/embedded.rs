//! The store on this machine's disk: answers a write only when it is durable, reads from memory.
//!
//! One thread writes: it takes the writes that are waiting as one group, decides them in order against the latest
//! state, makes them durable with one `fdatasync`, publishes the new state and answers. The current state lives in
//! memory whole, so the database underneath is read only at the start. A slow disk makes writes slow and a full one
//! makes them fail; reads go on, and nothing acknowledged is lost, whenever the process is killed.

mod directory;
mod disk;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use base::{Clock, TaskGroup, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

use crate::embedded::writer::{Request, Writer};
use crate::shared::Shared;
use crate::state::Write;
use crate::watch::{Source, Watch};
use crate::{Error, Event, Range, Revision};

/// How many writes wait for the writer before callers wait to hand theirs over.
const REQUESTS_LEN_MAX: usize = 1024;

/// How long to wait before entries whose time is over are tried again when the disk refused their deletion.
const EXPIRY_RETRY_SECONDS: u64 = 1;

/// Where and how to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory, which belongs to the store alone. Created if missing.
    pub dir: PathBuf,
    /// Creates and updates fail with [`Error::Full`] while the disk has less free than this many bytes, deletes while
    /// it has less than half: room for the database to tidy up, so that it need not be stopped and opened again.
    pub free_bytes_min: u64,
}

impl Options {
    /// The usual options.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), free_bytes_min: 64 << 20 }
    }
}

/// A store on the disk.
#[derive(Clone, Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

impl Embedded {
    pub(crate) async fn open(options: Options, clock: Clock, tasks: TaskGroup) -> Result<Self, Error> {
        let (requests, queue) = mpsc::channel(REQUESTS_LEN_MAX);
        let (expiry, next_expiry) = watch::channel(None);
        let (opened, opening) = oneshot::channel();
        let (ending, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                base::task::catch_sync("store", move || match Writer::open(options, clock, queue, expiry) {
                    Ok(writer) => {
                        let _ = opened.send(Ok(writer.shared()));
                        writer.run();
                    }
                    Err(error) => {
                        let _ = opened.send(Err(error));
                    }
                });
                // Only now is the database closed and the lock released.
                drop(ending);
            })
            .map_err(|error| Error::Unavailable(format!("starting its thread: {error}")))?;
        let shared = opening.await.map_err(|_| closed())??;
        tasks.spawn("store expiry", expire(clock, requests.downgrade(), next_expiry));
        tasks.spawn_graceful("store close", close(tasks.clone(), requests.downgrade(), ended));
        Ok(Self { shared, requests })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn watch(&self, range: Range, after: Revision) -> Watch {
        Watch::new(Source::Shared(self.shared.clone()), range, after)
    }

    pub(crate) async fn write(&self, write: Write) -> Result<Event, Error> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Write { write, answer }).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

/// What is answered when the writer has ended.
fn closed() -> Error {
    Error::Unavailable("it is closed".into())
}

/// Tells the writer when the time of an entry is over.
async fn expire(clock: Clock, requests: mpsc::WeakSender<Request>, mut next: watch::Receiver<Option<Timestamp>>) {
    loop {
        let at = *next.borrow_and_update();
        let over = async {
            match at {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = next.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
            () = over => {}
        }
        let (done, expired) = oneshot::channel();
        let Some(requests) = requests.upgrade() else { return };
        if requests.send(Request::Expire { done }).await.is_err() {
            return;
        }
        drop(requests);
        match expired.await {
            Ok(true) => {}
            Ok(false) => clock.sleep(std::time::Duration::from_secs(EXPIRY_RETRY_SECONDS)).await,
            Err(_) => return,
        }
    }
}

/// Closes the store when its task group ends, after the writes that were handed over before. Returns when it is closed.
async fn close(tasks: TaskGroup, requests: mpsc::WeakSender<Request>, mut ended: oneshot::Receiver<()>) {
    let cancelled = tasks.cancelled();
    tokio::select! {
        biased;
        _ = &mut ended => return,
        () = cancelled.cancelled() => {}
    }
    if let Some(requests) = requests.upgrade() {
        // An error means that it is ending by itself.
        let _ = requests.send(Request::Close).await;
    }
    // Nothing is ever sent: the writer's end drops the sender.
    let _ = ended.await;
}
