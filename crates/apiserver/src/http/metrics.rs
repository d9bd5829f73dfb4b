//! The server's own figures, under upstream's names, as Prometheus text.
//!
//! Upstream: apiserver/pkg/endpoints/metrics.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The component that all of these are of.
const COMPONENT: &str = "apiserver";

/// What a request was about. `verb` is as upstream's figures have it: `POST`, `LIST`, `APPLY` ...
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Subject {
    pub component: &'static str,
    pub group: String,
    pub resource: String,
    /// `resource`, `namespace`, `cluster`, or nothing for other paths.
    pub scope: &'static str,
    /// The subresource, or one of the server's own paths.
    pub subresource: String,
    pub verb: &'static str,
    pub version: String,
}

impl Subject {
    /// Of this server, otherwise empty.
    pub fn new() -> Self {
        Self { component: COMPONENT, ..Self::default() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Counted {
    code: u16,
    component: &'static str,
    dry_run: &'static str,
    group: String,
    resource: String,
    scope: &'static str,
    subresource: String,
    verb: &'static str,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    component: &'static str,
    dry_run: &'static str,
    group: String,
    resource: String,
    scope: &'static str,
    subresource: String,
    verb: &'static str,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    group: String,
    resource: String,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiServiceLabels {
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LostLabels {
    name: String,
    reason: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn seconds() -> Histogram {
    Histogram::new([
        0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0,
        30.0, 45.0, 60.0,
    ])
}

/// From a kilobyte to a gigabyte.
fn bytes() -> Histogram {
    Histogram::new([1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9])
}

/// What is counted of requests about one subject, found once.
struct OfSubject {
    subject: Subject,
    requests: Mutex<Vec<((u16, &'static str), Counter)>>,
    /// Of real requests, and of dry runs.
    durations: [std::sync::OnceLock<Histogram>; 2],
    sli_durations: std::sync::OnceLock<Histogram>,
    sizes: std::sync::OnceLock<Histogram>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub code: u16,
    pub dry_run: bool,
    /// `None`: watches and streams, whose duration says nothing.
    pub took: Option<Duration>,
    /// Of that, what was spent waiting for a turn and for webhooks.
    pub away: Duration,
}

tokio::task_local! {
    /// How long the request under way has waited for others: its turn, webhooks.
    static AWAY: Cell<Duration>;
}

/// Answers a request; how long it waited for others meanwhile comes with its answer.
pub async fn measured<T>(request: impl Future<Output = T>) -> (T, Duration) {
    AWAY.scope(Cell::default(), async {
        let answer = request.await;
        (answer, AWAY.with(Cell::get))
    })
    .await
}

/// Waits for others on a request's behalf: not the server's own time.
pub async fn away<T>(clock: base::Clock, waiting: impl Future<Output = T>) -> T {
    let began = clock.monotonic();
    let answer = waiting.await;
    let took = clock.monotonic() - began;
    // Requests in this process are not measured.
    let _unmeasured = AWAY.try_with(|sum| sum.set(sum.get() + took));
    answer
}

/// All figures.
pub struct Metrics {
    registry: Registry,
    subjects: RwLock<HashMap<Subject, Arc<OfSubject>>>,
    requests: Family<Counted, Counter>,
    durations: Histograms<Timed>,
    sli_durations: Histograms<Subject>,
    sizes: Histograms<Subject>,
    long: Family<Subject, Gauge>,
    watch_events: Family<WatchLabels, Counter>,
    panics: Counter<u64, AtomicU64>,
    unavailable: Family<ApiServiceLabels, Gauge>,
    lost: Family<LostLabels, Counter>,
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
        let mut metrics = Self {
            subjects: RwLock::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(seconds as fn() -> Histogram),
            sli_durations: Family::new_with_constructor(seconds as fn() -> Histogram),
            sizes: Family::new_with_constructor(bytes as fn() -> Histogram),
            long: Family::default(),
            watch_events: Family::default(),
            panics: Counter::default(),
            unavailable: Family::default(),
            lost: Family::default(),
            registry,
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let help = "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, \
                    scope, component, and HTTP response code";
        registry.register("apiserver_request", help, self.requests.clone());
        let help = "Response latency distribution in seconds for each verb, dry run value, group, version, resource, \
                    subresource, scope and component";
        registry.register("apiserver_request_duration_seconds", help, self.durations.clone());
        let help = "Response latency distribution (not counting webhook duration and priority & fairness queue wait \
                    times) in seconds for each verb, group, version, resource, subresource, scope and component";
        registry.register("apiserver_request_sli_duration_seconds", help, self.sli_durations.clone());
        let help = "Response size distribution in bytes for each group, version, verb, resource, subresource, scope \
                    and component";
        registry.register("apiserver_response_sizes", help, self.sizes.clone());
        let help = "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, \
                    scope and component";
        registry.register("apiserver_longrunning_requests", help, self.long.clone());
        registry.register(
            "apiserver_watch_events",
            "Number of events sent in watch clients",
            self.watch_events.clone(),
        );
        let help = "Gauge of APIServices which are marked as unavailable broken down by APIService name";
        registry.register("aggregator_unavailable_apiservice", help, self.unavailable.clone());
        let help = "Counter of APIServices which are marked as unavailable broken down by APIService name and reason";
        registry.register("aggregator_unavailable_apiservice", help, self.lost.clone());
        registry.register("apiserver_panics", "Number of requests that panicked", self.panics.clone());
    }

    fn of(&self, subject: &Subject) -> Arc<OfSubject> {
        if let Some(found) = self.subjects.read().get(subject) {
            return found.clone();
        }
        let new = || {
            Arc::new(OfSubject {
                subject: subject.clone(),
                requests: Mutex::default(),
                durations: Default::default(),
                sli_durations: Default::default(),
                sizes: Default::default(),
            })
        };
        self.subjects.write().entry(subject.clone()).or_insert_with(new).clone()
    }

    /// A request was answered.
    pub fn answered(&self, subject: &Subject, ended: Ended) {
        let of = self.of(subject);
        let dry_run = if ended.dry_run { "All" } else { "" };
        self.count(&of, ended.code, dry_run);
        let Some(took) = ended.took else { return };
        let duration = of.durations[usize::from(ended.dry_run)].get_or_init(|| {
            let Subject { component, group, resource, scope, subresource, verb, version } = of.subject.clone();
            let labels = Timed { component, dry_run, group, resource, scope, subresource, verb, version };
            self.durations.get_or_create_owned(&labels)
        });
        duration.observe(took.as_secs_f64());
        let sli = of.sli_durations.get_or_init(|| self.sli_durations.get_or_create_owned(&of.subject));
        sli.observe(took.saturating_sub(ended.away).as_secs_f64());
    }

    fn count(&self, of: &OfSubject, code: u16, dry_run: &'static str) {
        let mut known = of.requests.lock();
        let at = known.iter().position(|(own, _)| *own == (code, dry_run)).unwrap_or_else(|| {
            let Subject { component, group, resource, scope, subresource, verb, version } = of.subject.clone();
            let labels = Counted { code, component, dry_run, group, resource, scope, subresource, verb, version };
            known.push(((code, dry_run), self.requests.get_or_create_owned(&labels)));
            known.len() - 1
        });
        known[at].1.inc();
    }

    /// Where the size of the answer to a read is to be noted.
    pub fn response_size(&self, subject: &Subject) -> Histogram {
        let of = self.of(subject);
        of.sizes.get_or_init(|| self.sizes.get_or_create_owned(&of.subject)).clone()
    }

    /// Counts a watch or stream for as long as what comes back lives.
    pub fn long(&self, subject: &Subject) -> Long {
        let gauge = self.long.get_or_create_owned(subject);
        gauge.inc();
        Long(gauge)
    }

    /// Whether another API server can be reached.
    pub fn api_service(&self, name: &str, available: bool) {
        let gauge = self.unavailable.get_or_create_owned(&ApiServiceLabels { name: name.to_owned() });
        gauge.set(i64::from(!available));
    }

    /// An API server that could be reached cannot be any more.
    pub fn api_service_lost(&self, name: &str, reason: &'static str) {
        self.lost.get_or_create_owned(&LostLabels { name: name.to_owned(), reason }).inc();
    }

    /// Nobody asks for that API server any more.
    pub fn forget_api_service(&self, name: &str) {
        self.unavailable.remove(&ApiServiceLabels { name: name.to_owned() });
    }

    /// A request panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Where the events of watches of a resource are counted.
    pub fn watch_events(&self, group: &str, version: &str, resource: &str) -> Counter {
        let labels =
            WatchLabels { group: group.to_owned(), resource: resource.to_owned(), version: version.to_owned() };
        self.watch_events.get_or_create_owned(&labels)
    }

    /// Prometheus text.
    pub fn text(&self) -> String {
        let mut text = Prometheus::default();
        // Writing into memory does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text.out
    }
}

/// From OpenMetrics to the older format, in which a counter is called as its samples are, and nothing marks the end.
/// Line by line as it is written: with thousands of resources it is tens of megabytes.
#[derive(Default)]
struct Prometheus {
    out: String,
    /// The line that is not over.
    line: String,
    help: Option<String>,
}

impl Prometheus {
    fn put(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn take_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        if line.starts_with("# HELP ") {
            self.help = Some(line);
            return;
        }
        if line != "# EOF" {
            let counter = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter"));
            match (self.help.take(), counter) {
                (Some(help), Some(name)) => {
                    self.put(&help.replacen(&format!(" {name} "), &format!(" {name}_total "), 1));
                    self.put(&format!("# TYPE {name}_total counter"));
                }
                (help, _) => {
                    help.iter().for_each(|help| self.put(help));
                    self.put(&line);
                }
            }
        }
        line.clear();
        self.line = line;
    }
}

impl std::fmt::Write for Prometheus {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for part in text.split_inclusive('\n') {
            match part.strip_suffix('\n') {
                Some(end) => {
                    self.line.push_str(end);
                    self.take_line();
                }
                None => self.line.push_str(part),
            }
        }
        Ok(())
    }
}

/// A watch or stream under way.
pub struct Long(Gauge);

impl Drop for Long {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn counters_are_called_as_their_samples() {
        let text = "# HELP a_b Some.\n# TYPE a_b counter\na_b_total{x=\"1\"} 2\n# HELP a_b Now.\n\
                    # TYPE a_b gauge\na_b 1\n# EOF\n";
        let expected = "# HELP a_b_total Some.\n# TYPE a_b_total counter\na_b_total{x=\"1\"} 2\n# HELP a_b Now.\n\
                        # TYPE a_b gauge\na_b 1\n";
        let mut whole = Prometheus::default();
        whole.write_str(text).unwrap();
        assert_eq!(whole.out, expected);
        let mut pieces = Prometheus::default();
        text.chars().for_each(|one| pieces.write_char(one).unwrap());
        assert_eq!(pieces.out, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_waited_for_is_no_time_of_the_server() {
        let clock = base::Clock::system();
        let waiting = async {
            away(clock, tokio::time::sleep(Duration::from_secs(2))).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            "done"
        };
        assert_eq!(measured(waiting).await, ("done", Duration::from_secs(2)));
    }
}
