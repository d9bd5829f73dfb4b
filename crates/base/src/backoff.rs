//! Exponential back-off: doubling from a first delay up to a limit, forgotten on success.

use std::time::Duration;

use crate::Random;

/// The delays of one retried thing. `next` grows, `reset` starts over.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Doubles from `first` to at most `max`.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, failures: 0 }
    }

    /// How many times `next` was called since the last reset.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The delay before the next try.
    #[allow(clippy::should_implement_trait)] // an endless series, and not for `for`
    pub fn next(&mut self) -> Duration {
        let delay = self.first.saturating_mul(2u32.saturating_pow(self.failures)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// As [`Backoff::next`], spread over `[delay/2, delay)` so that many clients do not retry in step.
    pub fn next_jittered(&mut self, random: &Random) -> Duration {
        self.next().mul_f64(0.5 + random.fraction() / 2.0)
    }

    /// The thing worked: the next delay is `first` again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_its_limit_and_forgets() {
        let mut backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));
        let delays: Vec<u64> = (0..7).map(|_| backoff.next().as_secs()).collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.next().as_secs(), 10);
    }
}
