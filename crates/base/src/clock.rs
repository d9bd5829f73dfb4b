//! The one clock. Wall time is an epoch plus tokio's monotonic time, so a paused tokio clock pauses wall time too.

#![allow(clippy::disallowed_methods)] // this file is what the others are told to use

use std::time::Duration;

use tokio::time::Instant;

/// A point on the UTC time line, nanosecond precision.
pub type Timestamp = jiff::Timestamp;

/// Tells the time. Cheap to clone; every component is handed one.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    epoch: Timestamp,
    start: Instant,
    /// `false`: wall time is read from the system at each call, so that steps of the system clock are seen.
    simulated: bool,
}

impl Clock {
    /// The system's clock. May be called outside a tokio runtime.
    pub fn system() -> Self {
        Self { epoch: Timestamp::now(), start: Instant::now(), simulated: false }
    }

    /// A clock that starts at `epoch` and moves only as tokio's clock does (`tokio::time::pause`).
    pub fn simulated(epoch: Timestamp) -> Self {
        Self { epoch, start: Instant::now(), simulated: true }
    }

    /// Wall time, for what is written into objects and certificates.
    pub fn now(&self) -> Timestamp {
        if self.simulated {
            let elapsed = jiff::SignedDuration::try_from(self.start.elapsed()).unwrap_or(jiff::SignedDuration::MAX);
            self.epoch.checked_add(elapsed).unwrap_or(Timestamp::MAX)
        } else {
            Timestamp::now()
        }
    }

    /// Monotonic time, for intervals and deadlines.
    pub fn monotonic(&self) -> Instant {
        Instant::now()
    }

    /// Sleeps for `duration` of this clock's time.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Sleeps until wall time reaches `deadline`; returns at once if it has passed.
    pub async fn sleep_until(&self, deadline: Timestamp) {
        let wait = deadline.duration_since(self.now());
        if let Ok(wait) = Duration::try_from(wait) {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn simulated_time_moves_with_tokio() {
        let epoch: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a valid time");
        let clock = Clock::simulated(epoch);
        clock.sleep(Duration::from_secs(90)).await;
        assert_eq!(clock.now().to_string(), "2026-01-01T00:01:30Z");
    }
}
