//! How long a container that ended waits before it is started again: 10 s doubling to 5 min, forgotten after it ran
//! for 10 min (upstream `flowcontrol.Backoff` as the kubelet uses it). Time is an argument.

use std::collections::BTreeMap;

use base::Timestamp;
use jiff::SignedDuration;

/// The first delay.
pub const FIRST: SignedDuration = SignedDuration::from_secs(10);
/// The longest delay.
pub const MAX: SignedDuration = SignedDuration::from_secs(300);
/// A container that ran for so long starts over at the first delay.
const FORGET: SignedDuration = SignedDuration::from_secs(600);

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    delay: SignedDuration,
    updated_at: Timestamp,
    hash: String,
}

/// The delays of one pod's containers, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Backoffs(BTreeMap<String, Entry>);

impl Backoffs {
    /// The delay a container that ended at `finished_at` has to wait for, if it is not over at `now`.
    pub fn waiting(&self, name: &str, hash: &str, finished_at: Timestamp, now: Timestamp) -> Option<SignedDuration> {
        let entry = self.0.get(name).filter(|e| e.hash == hash)?;
        let forgotten = finished_at.duration_since(entry.updated_at) > FORGET;
        (!forgotten && now.duration_since(finished_at) < entry.delay).then_some(entry.delay)
    }

    /// Notes that a container that ended at `finished_at` is started again at `now`.
    pub fn started(&mut self, name: &str, hash: &str, finished_at: Timestamp, now: Timestamp) {
        let delay = match self.0.get(name) {
            Some(e) if e.hash == hash && finished_at.duration_since(e.updated_at) <= FORGET => (e.delay * 2).min(MAX),
            _ => FIRST,
        };
        self.0.insert(name.to_owned(), Entry { delay, updated_at: now, hash: hash.to_owned() });
    }
}

/// A duration as Go prints it: `10s`, `1m20s`, `5m0s`, `1h0m0s`.
pub fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_five_minutes_and_forgets_after_ten() {
        let mut backoffs = Backoffs::default();
        let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut seen = Vec::new();
        assert_eq!(backoffs.waiting("a", "h", now, now), None);
        for _ in 0..7 {
            backoffs.started("a", "h", now, now);
            let delay = backoffs.waiting("a", "h", now, now).unwrap();
            seen.push(go_duration(delay));
            now += delay;
            assert_eq!(backoffs.waiting("a", "h", now - delay, now), None);
        }
        assert_eq!(seen, ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
        let much_later = now + SignedDuration::from_secs(601);
        assert_eq!(backoffs.waiting("a", "h", much_later, much_later), None);
        backoffs.started("a", "h", much_later, much_later);
        assert_eq!(backoffs.waiting("a", "h", much_later, much_later), Some(FIRST));
        assert_eq!(backoffs.waiting("a", "other", much_later, much_later), None);
    }
}
