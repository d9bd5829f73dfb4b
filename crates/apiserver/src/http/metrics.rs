//! The server's own figures, under upstream's names, as Prometheus text.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What a request was, for counting.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    pub code: u16,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub verb: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    group: String,
    resource: String,
    verb: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    group: String,
    resource: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiServiceLabels {
    name: String,
}

fn seconds() -> Histogram {
    Histogram::new([0.001, 0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0])
}

/// All figures.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    watches: Family<WatchLabels, Gauge>,
    watch_events: Family<WatchLabels, Counter>,
    /// Requests under way that will end by themselves.
    pub inflight: Gauge,
    panics: Counter<u64, AtomicU64>,
    unavailable: Family<ApiServiceLabels, Gauge>,
}

impl Metrics {
    /// The server's figures, with those of flow control, of the audit log and of others.
    pub fn new(
        flow: &crate::flow::figures::Figures,
        audit: &crate::audit::Figures,
        others: impl FnOnce(&mut Registry),
    ) -> Self {
        let mut registry = Registry::default();
        flow.register(&mut registry);
        audit.register(&mut registry);
        others(&mut registry);
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(seconds as fn() -> Histogram),
            watches: Family::default(),
            watch_events: Family::default(),
            inflight: Gauge::default(),
            panics: Counter::default(),
            unavailable: Family::default(),
            registry: Registry::default(),
        };
        registry.register(
            "apiserver_request",
            "Counter of apiserver requests broken out for each verb, group, version, resource, subresource, and code",
            metrics.requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, group and resource",
            metrics.durations.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Gauge of all active long-running requests broken out by group and resource",
            metrics.watches.clone(),
        );
        registry.register(
            "apiserver_watch_events",
            "Number of events sent in watch clients",
            metrics.watch_events.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Number of requests the server is working on",
            metrics.inflight.clone(),
        );
        registry.register(
            "aggregator_unavailable_apiservice",
            "Gauge of APIServices which are marked as unavailable broken down by APIService name",
            metrics.unavailable.clone(),
        );
        registry.register("apiserver_panics", "Number of requests that panicked", metrics.panics.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// A request was answered.
    pub fn answered(&self, labels: &RequestLabels, took: Duration) {
        self.requests.get_or_create(labels).inc();
        let durations =
            DurationLabels { group: labels.group.clone(), resource: labels.resource.clone(), verb: labels.verb };
        self.durations.get_or_create(&durations).observe(took.as_secs_f64());
    }

    /// Whether another API server can be reached.
    pub fn api_service(&self, name: &str, available: bool) {
        let gauge = self.unavailable.get_or_create_owned(&ApiServiceLabels { name: name.to_owned() });
        gauge.set(i64::from(!available));
    }

    /// Nobody asks for that API server any more.
    pub fn forget_api_service(&self, name: &str) {
        self.unavailable.remove(&ApiServiceLabels { name: name.to_owned() });
    }

    /// A request panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Counts one watch for as long as the guard lives.
    pub fn watching(&self, group: &str, resource: &str) -> Watching {
        let labels = WatchLabels { group: group.to_owned(), resource: resource.to_owned() };
        let active = self.watches.get_or_create_owned(&labels);
        let events = self.watch_events.get_or_create_owned(&labels);
        active.inc();
        Watching { active, events }
    }

    /// Prometheus text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// One watch under way.
pub struct Watching {
    active: Gauge,
    events: Counter,
}

impl Watching {
    /// Events were sent.
    pub fn sent(&self, count: u64) {
        self.events.inc_by(count);
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.active.dec();
    }
}
