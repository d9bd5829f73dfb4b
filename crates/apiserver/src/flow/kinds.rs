//! Requests under way and waiting, reads and writes apart: the most at once in each second, and how many over time.
//!
//! Upstream: apiserver/pkg/server/filters (watermarks of priority and fairness).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::timing::Timing;

/// Upper bounds of `read_vs_write_current_requests`.
const BOUNDS: &[f64] = &[0.0, 0.001, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    request_kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPhase {
    phase: &'static str,
    request_kind: &'static str,
}

fn timing() -> Timing {
    Timing::new(BOUNDS)
}

/// A number, and the most it was in the last second that is over.
struct Watermark {
    current: i64,
    most: i64,
    last: i64,
    second: u64,
    timing: Timing,
}

impl Watermark {
    fn new(timing: Timing) -> Self {
        Self { current: 0, most: 0, last: 0, second: 0, timing }
    }

    fn roll(&mut self, now: Duration) {
        let second = now.as_secs();
        if second > self.second {
            self.last = if second == self.second + 1 { self.most } else { self.current };
            (self.most, self.second) = (self.current, second);
        }
    }

    fn add(&mut self, now: Duration, difference: i64) {
        self.roll(now);
        self.current += difference;
        self.most = self.most.max(self.current);
        self.timing.set(now, self.current as f64);
    }
}

/// Both kinds in both phases.
#[derive(Clone)]
pub struct Kinds {
    executing: [Arc<Mutex<Watermark>>; 2],
    waiting: [Arc<Mutex<Watermark>>; 2],
    inflight: Family<OfKind, Gauge>,
    inqueue: Family<OfKind, Gauge>,
    spread: Family<OfPhase, Timing, fn() -> Timing>,
}

const KINDS: [&str; 2] = ["readOnly", "mutating"];

impl Default for Kinds {
    fn default() -> Self {
        let spread: Family<OfPhase, Timing, fn() -> Timing> = Family::new_with_constructor(timing as fn() -> Timing);
        let mark = |phase, request_kind| {
            let timing = spread.get_or_create_owned(&OfPhase { phase, request_kind });
            Arc::new(Mutex::new(Watermark::new(timing)))
        };
        Self {
            executing: KINDS.map(|kind| mark("executing", kind)),
            waiting: KINDS.map(|kind| mark("waiting", kind)),
            inflight: Family::default(),
            inqueue: Family::default(),
            spread,
        }
    }
}

/// Whether a verb changes nothing.
pub fn reads(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch")
}

impl Kinds {
    pub fn register(&self, registry: &mut Registry) {
        let help = "Maximal number of currently used inflight request limit of this apiserver per request kind in last \
                    second.";
        registry.register("apiserver_current_inflight_requests", help, self.inflight.clone());
        let help = "Maximal number of queued requests in this apiserver per request kind in last second.";
        registry.register("apiserver_current_inqueue_requests", help, self.inqueue.clone());
        let help = "Requests, reads and writes apart, that wait or are under way, over time";
        registry.register("apiserver_flowcontrol_read_vs_write_current_requests", help, self.spread.clone());
    }

    pub fn executing(&self, now: Duration, writes: bool, difference: i64) {
        self.executing[usize::from(writes)].lock().add(now, difference);
    }

    pub fn waiting(&self, now: Duration, writes: bool, difference: i64) {
        self.waiting[usize::from(writes)].lock().add(now, difference);
    }

    /// Before the figures are read.
    pub fn look(&self, now: Duration) {
        for (marks, gauges) in [(&self.executing, &self.inflight), (&self.waiting, &self.inqueue)] {
            for (mark, request_kind) in marks.iter().zip(KINDS) {
                let mut mark = mark.lock();
                mark.roll(now);
                mark.timing.advance(now);
                gauges.get_or_create_owned(&OfKind { request_kind }).set(mark.last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_of_the_last_second_is_told() {
        let kinds = Kinds::default();
        let at = Duration::from_millis;
        let shown = |now| {
            kinds.look(now);
            KINDS.map(|request_kind| kinds.inflight.get_or_create_owned(&OfKind { request_kind }).get())
        };
        kinds.executing(at(100), false, 1);
        kinds.executing(at(200), false, 1);
        kinds.executing(at(300), true, 1);
        kinds.executing(at(400), false, -1);
        assert_eq!(shown(at(500)), [0, 0], "the second is not over");
        assert_eq!(shown(at(1200)), [2, 1]);
        kinds.executing(at(1300), true, -1);
        assert_eq!(shown(at(2100)), [1, 1], "what went on is of that second too");
        assert_eq!(shown(at(9000)), [1, 0]);
    }
}
