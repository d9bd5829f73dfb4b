//! Ends a stream on which nothing moves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::Clock;
use tokio::time::Instant;

/// Upstream's `streamingConnectionIdleTimeout`.
pub const LIMIT: Duration = Duration::from_secs(4 * 60 * 60);

/// When something last moved.
#[derive(Debug)]
pub struct Idle {
    clock: Clock,
    start: Instant,
    last_ms: AtomicU64,
}

impl Idle {
    /// Starts now.
    pub fn new(clock: Clock) -> Self {
        Self { clock, start: clock.monotonic(), last_ms: AtomicU64::new(0) }
    }

    /// Something moved.
    pub fn touch(&self) {
        self.last_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// Resolves when nothing has moved for [`LIMIT`].
    pub async fn expired(&self) {
        loop {
            let idle = Duration::from_millis(self.elapsed_ms() - self.last_ms.load(Ordering::Relaxed));
            match LIMIT.checked_sub(idle) {
                Some(left) if !left.is_zero() => self.clock.sleep(left).await,
                _ => return,
            }
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.clock.monotonic().duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn four_hours_after_the_last_move() {
        let clock = Clock::system();
        let (idle, start) = (Idle::new(clock), clock.monotonic());
        tokio::join!(idle.expired(), async {
            clock.sleep(LIMIT / 2).await;
            idle.touch();
        });
        let elapsed = clock.monotonic().duration_since(start);
        assert!(elapsed >= LIMIT + LIMIT / 2 && elapsed < LIMIT * 2, "{elapsed:?}");
    }
}
