//! A histogram over time: each nanosecond counts for the value at it, so that a scrape shows how a number was spread
//! since the last one, however seldom it is looked at.
//!
//! Upstream: component-base/metrics/prometheusextension (timing histograms).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// How a number was spread over time, as a part of a limit.
#[derive(Debug, Clone)]
pub struct Timing(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Upper bounds, inclusive, in order; the last is infinite.
    buckets: Vec<(f64, u64)>,
    count: u64,
    sum: f64,
    value: f64,
    limit: f64,
    since: Duration,
}

impl Timing {
    /// Nothing, of a limit of 1.
    pub fn new(bounds: &[f64]) -> Self {
        let buckets = bounds.iter().copied().chain([f64::INFINITY]).map(|bound| (bound, 0)).collect();
        let inner = Inner { buckets, count: 0, sum: 0.0, value: 0.0, limit: 1.0, since: Duration::ZERO };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// From `now` on it is `value`.
    pub fn set(&self, now: Duration, value: f64) {
        let mut inner = self.0.lock();
        inner.advance(now);
        inner.value = value;
    }

    /// From `now` on it is a part of `limit`, of 1 if that is less.
    pub fn set_limit(&self, now: Duration, limit: f64) {
        let mut inner = self.0.lock();
        inner.advance(now);
        inner.limit = limit.max(1.0);
    }

    /// Counts the time up to `now`.
    pub fn advance(&self, now: Duration) {
        self.0.lock().advance(now);
    }
}

impl Inner {
    fn advance(&mut self, now: Duration) {
        let took = now.saturating_sub(self.since);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if nanoseconds == 0 {
            return;
        }
        let part = self.value / self.limit;
        if let Some((_, time)) = self.buckets.iter_mut().find(|(bound, _)| part <= *bound) {
            *time += nanoseconds;
        }
        self.count += nanoseconds;
        let weight = nanoseconds as f64;
        self.sum += part * weight;
        self.since = now;
    }
}

impl EncodeMetric for Timing {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let inner = self.0.lock();
        encoder.encode_histogram::<NoLabelSet>(inner.sum, inner.count, &inner.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Timing {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_for_the_value_at_it() {
        let timing = Timing::new(&[0.0, 0.5, 1.0]);
        timing.set_limit(Duration::ZERO, 4.0);
        timing.set(Duration::from_nanos(10), 2.0);
        timing.set(Duration::from_nanos(40), 6.0);
        timing.advance(Duration::from_nanos(100));
        let inner = timing.0.lock();
        let times: Vec<u64> = inner.buckets.iter().map(|(_, time)| *time).collect();
        assert_eq!(times, [10, 30, 0, 60]);
        assert_eq!((inner.count, inner.sum), (100, 0.5 * 30.0 + 1.5 * 60.0));
    }
}
