//! Flow control: how many requests are worked on at once. Reads and writes have seats of their own; who finds none
//! waits a while, then is told to come back. `system:masters` never waits. Watches and streams take no seat.

use std::time::Duration;

use api::{Status, Verb};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::Caller;
use crate::authn::MASTERS;

/// How long a request waits for a seat.
const WAIT: Duration = Duration::from_secs(15);
/// How many requests wait for each seat at most; the next are refused at once.
const WAITING_PER_SEAT_MAX: usize = 16;

/// The seats.
pub struct Flow {
    reads: Seats,
    writes: Seats,
}

struct Seats {
    free: Semaphore,
    waiting: Semaphore,
}

/// Taken while a request is worked on.
pub struct Seat<'a>(#[allow(dead_code, reason = "held for its drop")] Option<SemaphorePermit<'a>>);

impl Seats {
    fn new(len_max: usize) -> Self {
        let len_max = len_max.max(1);
        Self { free: Semaphore::new(len_max), waiting: Semaphore::new(len_max * WAITING_PER_SEAT_MAX) }
    }

    async fn take(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(permit) = self.free.try_acquire() {
            return Some(permit);
        }
        let _waiting = self.waiting.try_acquire().ok()?;
        tokio::time::timeout(WAIT, self.free.acquire()).await.ok()?.ok()
    }
}

impl Flow {
    pub fn new(reads_len_max: usize, writes_len_max: usize) -> Self {
        Self { reads: Seats::new(reads_len_max), writes: Seats::new(writes_len_max) }
    }

    /// Waits for a seat.
    ///
    /// # Errors
    /// 429 if there is none in time.
    pub async fn enter(&self, caller: &Caller, verb: Verb) -> Result<Seat<'_>, Status> {
        if caller.is_in(MASTERS) {
            return Ok(Seat(None));
        }
        let seats = if matches!(verb, Verb::Get | Verb::List | Verb::Watch) { &self.reads } else { &self.writes };
        let busy = || Status::too_many_requests("too many requests, please try again later.", 1);
        seats.take().await.map(|permit| Seat(Some(permit))).ok_or_else(busy)
    }
}
