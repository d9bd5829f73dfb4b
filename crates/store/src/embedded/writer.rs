//! The one writer: a thread that takes the waiting writes as a group, decides, commits, publishes and answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::embedded::Options;
use crate::embedded::directory::Directory;
use crate::embedded::disk::{Disk, Fault};
use crate::history::History;
use crate::shared::Shared;
use crate::state::{State, Write};
use crate::{Error, Event};

/// A group's bounds; what does not fit is the next group.
const GROUP_LEN_MAX: usize = 1024;
const GROUP_BYTES_MAX: usize = 8 << 20;

/// How many expired entries one group deletes.
const EXPIRED_LEN_MAX: usize = 1024;

/// The least free space with which a database that ran out of it is opened again.
const REOPEN_FREE_BYTES_MIN: u64 = 1 << 20;

/// How long a database that could not be opened again is left alone.
const REOPEN_DELAY: Duration = Duration::from_secs(1);

/// Where the answer to a write goes.
type Answer = oneshot::Sender<Result<Event, Error>>;

/// What the writer is asked.
#[derive(Debug)]
pub enum Request {
    /// One write, answered when it is durable.
    Write { write: Write, answer: Answer },
    /// Delete what is over. Answers `false` if the disk refused.
    Expire { done: oneshot::Sender<bool> },
    /// End, after what was asked before.
    Close,
}

/// The writer and all it owns. The fields are dropped in this order: the lock outlives the database.
pub struct Writer {
    clock: Clock,
    options: Options,
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
    next_expiry: watch::Sender<Option<Timestamp>>,
    access: Access,
    directory: Directory,
}

/// Whether the database can be written to.
enum Access {
    /// It can.
    Open(Disk),
    /// It had to be closed. Of the groups that failed these keys may or may not have been written: when it is open
    /// again they are first set to what is published. It is tried again from `retry_at` on, or (`None`) when there is
    /// space.
    Down { reason: String, unsure: BTreeSet<Arc<str>>, retry_at: Option<Instant> },
    /// It stays closed until the process is started again.
    Broken { reason: String },
}

/// Requests answered together.
#[derive(Default)]
struct Group {
    writes: Vec<(Write, Answer)>,
    expired: Vec<oneshot::Sender<bool>>,
    closing: bool,
    bytes: usize,
}

impl Group {
    fn add(&mut self, request: Request) {
        match request {
            Request::Write { write, answer } => {
                self.bytes += write.bytes();
                self.writes.push((write, answer));
            }
            Request::Expire { done } => self.expired.push(done),
            Request::Close => self.closing = true,
        }
    }

    fn is_full(&self) -> bool {
        self.writes.len() >= GROUP_LEN_MAX || self.bytes >= GROUP_BYTES_MAX || self.closing
    }
}

impl Writer {
    /// Opens the directory and reads the database.
    pub fn open(
        options: Options,
        clock: Clock,
        requests: mpsc::Receiver<Request>,
        next_expiry: watch::Sender<Option<Timestamp>>,
    ) -> Result<Writer, Error> {
        let directory = Directory::open(&options.dir)?;
        let started = clock.monotonic();
        let disk = Disk::open(&directory.database()).map_err(refusal)?;
        let state = disk.load().map_err(refusal)?;
        directory.complete()?;
        tracing::info!(
            dir = %options.dir.display(),
            entries = state.len(),
            revision = state.revision().0,
            milliseconds = clock.monotonic().duration_since(started).as_millis(),
            "the store is open"
        );
        next_expiry.send_replace(state.next_expiry());
        let history = History::new(state.revision());
        let shared = Arc::new(Shared::new(state, history));
        Ok(Writer { clock, options, shared, requests, next_expiry, access: Access::Open(disk), directory })
    }

    /// What readers see.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Serves until it is told to close or nobody is left to ask.
    pub fn run(mut self) {
        while let Some(first) = self.requests.blocking_recv() {
            let mut group = Group::default();
            group.add(first);
            while !group.is_full() {
                let Ok(next) = self.requests.try_recv() else { break };
                group.add(next);
            }
            let closing = group.closing;
            self.serve(group);
            if closing {
                return;
            }
        }
    }

    /// Decides a group, makes it durable, publishes it, answers it.
    fn serve(&mut self, group: Group) {
        let now = self.clock.now();
        let free_bytes = free_bytes(&self.options);
        let mut state = State::clone(&self.shared.state());
        let mut events = Vec::new();
        let may_delete = self.room(free_bytes, self.options.free_bytes_min / 2);
        if may_delete.is_ok() {
            events.extend(std::iter::from_fn(|| state.expire(now)).take(EXPIRED_LEN_MAX));
        }
        let may_put = self.room(free_bytes, self.options.free_bytes_min);
        let mut answers = Vec::with_capacity(group.writes.len());
        for (write, answer) in group.writes {
            let room = if matches!(write, Write::Delete { .. }) { &may_delete } else { &may_put };
            let decided = room.clone().and_then(|()| state.apply(&write, now));
            events.extend(decided.as_ref().ok().cloned());
            answers.push((answer, decided));
        }
        let mut kept = may_delete;
        if !events.is_empty() {
            kept = self.commit(&state, &events);
            match &kept {
                Ok(()) => self.shared.publish(state, events, self.clock.monotonic()),
                // All that was decided may rest on a write of this group that did not happen.
                Err(error) => answers.iter_mut().for_each(|(_, decided)| *decided = Err(error.clone())),
            }
        }
        self.tell_next_expiry();
        // An error of a send means that the caller has stopped waiting.
        for (answer, decided) in answers {
            let _ = answer.send(decided);
        }
        for done in group.expired {
            let _ = done.send(kept.is_ok());
        }
        if let Access::Open(disk) = &mut self.access
            && let Err(fault) = disk.tidy()
        {
            self.close_database(fault, []);
        }
    }

    fn tell_next_expiry(&self) {
        let at = self.shared.state().next_expiry();
        self.next_expiry.send_if_modified(|next| std::mem::replace(next, at) != at);
    }

    fn room(&self, free_bytes: u64, free_bytes_min: u64) -> Result<(), Error> {
        if free_bytes >= free_bytes_min {
            return Ok(());
        }
        let dir = self.directory.path().display();
        Err(Error::Full(format!("{free_bytes} bytes are free in {dir}, at least {free_bytes_min} are needed")))
    }

    /// Makes `state`, to which `events` led, durable.
    fn commit(&mut self, state: &State, events: &[Event]) -> Result<(), Error> {
        let keys: BTreeSet<Arc<str>> = events.iter().map(|event| event.key().clone()).collect();
        let mut tried_again = false;
        loop {
            let disk = self.database()?;
            match disk.commit(state, keys.iter()) {
                Ok(()) => return Ok(()),
                Err(fault @ Fault::Stopped(_)) if !tried_again => {
                    // It refused before it wrote anything: an earlier table could not be written.
                    tried_again = true;
                    self.close_database(fault, []);
                    if let Access::Down { retry_at, .. } = &mut self.access {
                        *retry_at = Some(self.clock.monotonic());
                    }
                }
                Err(fault) => return Err(self.close_database(fault, keys)),
            }
        }
    }

    /// The open database; it is opened again if it was closed and may work now.
    fn database(&mut self) -> Result<&mut Disk, Error> {
        match &self.access {
            Access::Open(_) => {}
            Access::Broken { reason } => return Err(Error::Unavailable(reason.clone())),
            Access::Down { reason, retry_at: None, .. } => {
                if free_bytes(&self.options) < REOPEN_FREE_BYTES_MIN {
                    return Err(Error::Full(reason.clone()));
                }
                self.reopen()?;
            }
            Access::Down { reason, retry_at: Some(at), .. } => {
                if self.clock.monotonic() < *at {
                    return Err(Error::Unavailable(reason.clone()));
                }
                self.reopen()?;
            }
        }
        match &mut self.access {
            Access::Open(disk) => Ok(disk),
            Access::Down { .. } | Access::Broken { .. } => unreachable!("it was just opened"),
        }
    }

    /// Opens the database again and takes back what failed groups may have left in it.
    fn reopen(&mut self) -> Result<(), Error> {
        let unsure = match &self.access {
            Access::Down { unsure, .. } => unsure.clone(),
            Access::Open(_) | Access::Broken { .. } => return Ok(()),
        };
        let published = self.shared.state();
        let opened = Disk::open(&self.directory.database()).and_then(|mut disk| {
            disk.commit(&published, unsure.iter())?;
            Ok(disk)
        });
        match opened {
            Ok(disk) => {
                tracing::info!(dir = %self.directory.path().display(), "the store takes writes again");
                self.access = Access::Open(disk);
                Ok(())
            }
            Err(fault) => Err(self.close_database(fault, unsure)),
        }
    }

    /// After a fault: closes the database and says what to answer. `unsure` are the keys of the group that failed.
    fn close_database(&mut self, fault: Fault, unsure: impl IntoIterator<Item = Arc<str>>) -> Error {
        tracing::error!(dir = %self.directory.path().display(), ?fault, "the store cannot write");
        let mut keys: BTreeSet<Arc<str>> = unsure.into_iter().collect();
        if let Access::Down { unsure, .. } = &mut self.access {
            keys.append(unsure);
        }
        let (access, error) = match fault {
            Fault::Full(reason) => {
                (Access::Down { reason: reason.clone(), unsure: keys, retry_at: None }, Error::Full(reason))
            }
            Fault::Stopped(reason) => {
                let retry_at = Some(self.clock.monotonic() + REOPEN_DELAY);
                (Access::Down { reason: reason.clone(), unsure: keys, retry_at }, Error::Unavailable(reason))
            }
            Fault::Broken(reason) => {
                let reason = format!("{reason}; it takes writes again when it has been started anew");
                (Access::Broken { reason: reason.clone() }, Error::Unavailable(reason))
            }
        };
        self.access = access;
        error
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests.close();
        self.shared.close();
    }
}

/// What is answered when the store cannot be opened.
fn refusal(fault: Fault) -> Error {
    match fault {
        Fault::Full(reason) => Error::Full(reason),
        Fault::Stopped(reason) | Fault::Broken(reason) => Error::Unavailable(reason),
    }
}

/// What this process may still write to the disk; endless if the file system does not say.
fn free_bytes(options: &Options) -> u64 {
    rustix::fs::statvfs(&options.dir).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}
