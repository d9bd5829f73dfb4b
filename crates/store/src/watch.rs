//! A cursor into the history. It has no queue: what it has not seen yet lies in the ring that all watches share.

use std::sync::Arc;

use tokio::sync::watch;

use crate::shared::{Shared, Signal};
use crate::{Batch, Error, Memory, Range, Revision};

/// Everything that happens in a range after a revision. Made by [`crate::Store::watch`].
#[derive(Debug)]
pub struct Watch {
    source: Source,
    range: Range,
    cursor: Revision,
    signal: watch::Receiver<Signal>,
    ended: Option<Error>,
}

/// Whose history it is. A store in memory has no task that ends entries whose time is over: its watches do that.
#[derive(Debug)]
pub enum Source {
    Memory(Memory),
    Shared(Arc<Shared>),
}

impl Source {
    fn shared(&self) -> &Shared {
        match self {
            Source::Memory(memory) => memory.shared(),
            Source::Shared(shared) => shared,
        }
    }
}

impl Watch {
    pub(crate) fn new(source: Source, range: Range, after: Revision) -> Self {
        let signal = source.shared().subscribe();
        let oldest = source.shared().oldest();
        let ended = (after < oldest).then_some(Error::Compacted { oldest });
        Self { source, range, cursor: after, signal, ended }
    }

    /// The revision up to which this watch has told everything.
    pub fn revision(&self) -> Revision {
        self.cursor
    }

    /// Waits for the store to go on and tells what happened. Writes elsewhere are told as a batch without events, many
    /// at once where they come fast. Dropping the future loses nothing.
    ///
    /// # Errors
    /// They end the watch, and every later call repeats them: [`Error::Compacted`] if it was to start before the
    /// history kept, [`Error::TooSlow`] if it fell behind that later, [`Error::Unavailable`] if the store was closed.
    pub async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            if let Some(error) = &self.ended {
                return Err(error.clone());
            }
            let signal = *self.signal.borrow_and_update();
            if signal.revision > self.cursor {
                match self.source.shared().after(&self.range, self.cursor) {
                    Some((revision, events)) => {
                        self.cursor = revision;
                        return Ok(Batch { revision, events });
                    }
                    None => self.ended = Some(Error::TooSlow),
                }
            } else if signal.closed {
                self.ended = Some(Error::Unavailable("it is closed".into()));
            } else {
                self.wait().await;
            }
        }
    }

    async fn wait(&mut self) {
        let Source::Memory(memory) = &self.source else {
            // The sender lives in `Shared`, which this watch keeps alive: an error cannot come.
            let _ = self.signal.changed().await;
            return;
        };
        memory.expire();
        tokio::select! {
            biased;
            _ = self.signal.changed() => {}
            () = memory.next_expiry() => {}
        }
    }
}
