//! How many seats a priority level asks for over time: average, deviation and peak between two looks.
//!
//! Pure.

use std::time::Duration;

/// A step function of time, integrated.
#[derive(Debug, Clone, Default)]
pub struct Integrator {
    value: f64,
    since: Duration,
    began: Duration,
    sum: f64,
    squares: f64,
    peak: f64,
}

/// What was seen between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Seen {
    pub average: f64,
    pub deviation: f64,
    pub peak: f64,
}

impl Integrator {
    /// From `now` on it is `value`.
    pub fn set(&mut self, now: Duration, value: f64) {
        self.advance(now);
        self.value = value;
        self.peak = self.peak.max(value);
    }

    /// What was seen since the last look.
    pub fn look(&mut self, now: Duration) -> Seen {
        self.advance(now);
        let took = now.saturating_sub(self.began).as_secs_f64();
        let seen = if took > 0.0 {
            let average = self.sum / took;
            let deviation = (self.squares / took - average * average).max(0.0).sqrt();
            Seen { average, deviation, peak: self.peak }
        } else {
            Seen { average: self.value, deviation: 0.0, peak: self.peak }
        };
        *self = Self { value: self.value, since: now, began: now, peak: self.value, ..Self::default() };
        seen
    }

    fn advance(&mut self, now: Duration) {
        let took = now.saturating_sub(self.since).as_secs_f64();
        self.sum += self.value * took;
        self.squares += self.value * self.value * took;
        self.since = self.since.max(now);
    }
}

/// Demand as it is planned for: it rises at once and sinks slowly.
#[derive(Debug, Clone, Copy, Default)]
pub struct Smoothed(pub f64);

/// How much of the past stays at each look; five minutes halve it (upstream's coefficient for looks every 10 s).
const KEPT: f64 = 0.977;

impl Smoothed {
    pub fn update(&mut self, seen: Seen) {
        let envelope = seen.average + seen.deviation;
        self.0 = envelope.max(KEPT * self.0 + (1.0 - KEPT) * envelope);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn averages_weigh_by_time() {
        let mut demand = Integrator::default();
        demand.set(seconds(0), 4.0);
        demand.set(seconds(5), 0.0);
        let seen = demand.look(seconds(10));
        assert_eq!(seen, Seen { average: 2.0, deviation: 2.0, peak: 4.0 });
        assert_eq!(demand.look(seconds(20)), Seen::default());
    }

    #[test]
    fn demand_rises_at_once_and_sinks_slowly() {
        let mut smoothed = Smoothed::default();
        smoothed.update(Seen { average: 90.0, deviation: 10.0, peak: 120.0 });
        assert!((smoothed.0 - 100.0).abs() < 1e-9);
        for _ in 0..30 {
            smoothed.update(Seen::default());
        }
        assert!((45.0..55.0).contains(&smoothed.0), "{}", smoothed.0);
    }
}
