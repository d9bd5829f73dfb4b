//! The store of simulations: the same model without a disk. It has no thread and no task, so it adds nothing random to
//! a run; entries whose time is over are deleted by whoever looks next.

use std::sync::Arc;

use base::{Clock, Timestamp};
use parking_lot::Mutex;

use crate::history::History;
use crate::shared::Shared;
use crate::state::{State, Write};
use crate::watch::{Source, Watch};
use crate::{Error, Event, Range, Revision};

/// A store in memory.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    shared: Shared,
    /// Held while a write is decided and published; writes are in this lock's order.
    writer: Mutex<()>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self::with_history(History::new(Revision::FIRST))
    }

    pub(crate) fn with_history(history: History) -> Self {
        let shared = Shared::new(State::empty(history.latest()), history);
        Self(Arc::new(Inner { clock: Clock::simulated(Timestamp::UNIX_EPOCH), shared, writer: Mutex::new(()) }))
    }

    /// The published side, from which what is over has been deleted.
    pub(crate) fn shared(&self) -> &Shared {
        self.expire();
        &self.0.shared
    }

    pub(crate) fn watch(&self, range: Range, after: Revision) -> Watch {
        Watch::new(Source::Memory(self.clone()), range, after)
    }

    pub(crate) fn write(&self, write: Write) -> Result<Event, Error> {
        self.expire();
        let _writing = self.0.writer.lock();
        let mut state = State::clone(&self.0.shared.state());
        let event = state.apply(&write, self.0.clock.now())?;
        self.0.shared.publish(state, [event.clone()], self.0.clock.monotonic());
        Ok(event)
    }

    /// Deletes the entries whose time is over.
    pub(crate) fn expire(&self) {
        let now = self.0.clock.now();
        if self.0.shared.state().next_expiry().is_none_or(|at| at > now) {
            return;
        }
        let _writing = self.0.writer.lock();
        let mut state = State::clone(&self.0.shared.state());
        let events: Vec<Event> = std::iter::from_fn(|| state.expire(now)).collect();
        self.0.shared.publish(state, events, self.0.clock.monotonic());
    }

    /// Returns when the next entry's time is over; never while there is none.
    pub(crate) async fn next_expiry(&self) {
        match self.0.shared.state().next_expiry() {
            Some(at) => self.0.clock.sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}
