//! What authorizers count, under upstream's names (apiserver/pkg/authorization/metrics, .../cel, .../config).

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Decided {
    pub r#type: &'static str,
    pub name: String,
    pub decision: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Evaluated {
    name: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Matched {
    r#type: &'static str,
    name: String,
}

fn seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

fn short_seconds() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25])
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All figures of the authorizers of a server.
#[derive(Clone)]
pub struct Figures {
    decisions: Family<Decided, Counter>,
    evaluations: Family<Evaluated, Counter>,
    durations: Histograms<Evaluated>,
    fail_open: Family<Evaluated, Counter>,
    match_errors: Family<Matched, Counter>,
    match_exclusions: Family<Matched, Counter>,
    match_durations: Histograms<Matched>,
    /// Of the configuration file.
    pub reloads: Arc<crate::reload::Figures>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            decisions: Family::default(),
            evaluations: Family::default(),
            durations: Family::new_with_constructor(seconds as fn() -> Histogram),
            fail_open: Family::default(),
            match_errors: Family::default(),
            match_exclusions: Family::default(),
            match_durations: Family::new_with_constructor(short_seconds as fn() -> Histogram),
            reloads: Arc::default(),
        }
    }
}

const WEBHOOK: &str = "Webhook";

impl Figures {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "apiserver_authorization_decisions",
            "Total number of terminal decisions made by an authorizer split by authorizer type, name, and decision.",
            self.decisions.clone(),
        );
        registry.register(
            "apiserver_authorization_webhook_evaluations",
            "Round-trips to authorization webhooks.",
            self.evaluations.clone(),
        );
        registry.register(
            "apiserver_authorization_webhook_duration_seconds",
            "Request latency in seconds.",
            self.durations.clone(),
        );
        registry.register(
            "apiserver_authorization_webhook_evaluations_fail_open",
            "NoOpinion results due to webhook timeout or error.",
            self.fail_open.clone(),
        );
        registry.register(
            "apiserver_authorization_match_condition_evaluation_errors",
            "Total number of errors when an authorization webhook encounters a match condition error split by \
             authorizer type and name.",
            self.match_errors.clone(),
        );
        registry.register(
            "apiserver_authorization_match_condition_exclusions",
            "Total number of exclusions when an authorization webhook is skipped because match conditions exclude it.",
            self.match_exclusions.clone(),
        );
        registry.register(
            "apiserver_authorization_match_condition_evaluation_seconds",
            "Authorization match condition evaluation time in seconds, split by authorizer type and name.",
            self.match_durations.clone(),
        );
        self.reloads.register("apiserver_authorization_config_controller", "AuthorizationConfiguration", registry);
    }

    /// The two counters of an authorizer: allowed, denied.
    pub fn decisions(&self, kind: &'static str, name: &str) -> (Counter, Counter) {
        let counter = |decision| {
            let labels = Decided { r#type: kind, name: name.to_owned(), decision };
            self.decisions.get_or_create_owned(&labels)
        };
        (counter("allowed"), counter("denied"))
    }

    /// A webhook was asked: `success`, `timeout` or `error`.
    pub fn asked(&self, name: &str, result: &'static str, took: Duration) {
        let labels = Evaluated { name: name.to_owned(), result };
        self.evaluations.get_or_create(&labels).inc();
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A webhook failed and others are asked.
    pub fn failed_open(&self, name: &str, result: &'static str) {
        self.fail_open.get_or_create(&Evaluated { name: name.to_owned(), result }).inc();
    }

    /// Conditions were evaluated: `None` if that failed, else whether they matched.
    pub fn matched(&self, name: &str, matched: Option<bool>, took: Duration) {
        let labels = Matched { r#type: WEBHOOK, name: name.to_owned() };
        self.match_durations.get_or_create(&labels).observe(took.as_secs_f64());
        match matched {
            None => drop(self.match_errors.get_or_create(&labels).inc()),
            Some(false) => drop(self.match_exclusions.get_or_create(&labels).inc()),
            Some(true) => {}
        }
    }
}
