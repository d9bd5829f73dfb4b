//! What the audit log counts, under upstream's names, and what became of events that are in no log: nothing is lost
//! without a number.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::policy::Level;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Plugin {
    plugin: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AtLevel {
    level: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Dropped {
    backend: &'static str,
    reason: &'static str,
}

/// The counters. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    events: Counter,
    errors: Family<Plugin, Counter>,
    levels: Family<AtLevel, Counter>,
    rejected: Counter,
    dropped: Family<Dropped, Counter>,
}

impl Figures {
    /// Shows the counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "apiserver_audit_event",
            "Counter of audit events generated and sent to the audit backend",
            self.events.clone(),
        );
        registry.register(
            "apiserver_audit_error",
            "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the \
             error",
            self.errors.clone(),
        );
        registry.register(
            "apiserver_audit_level",
            "Counter of policy levels for audit events (1 per request)",
            self.levels.clone(),
        );
        registry.register(
            "apiserver_audit_requests_rejected",
            "Counter of apiserver requests rejected due to an error in audit logging backend: always 0, auditing does \
             not block",
            self.rejected.clone(),
        );
        registry.register(
            "pintle_audit_dropped_events",
            "Counter of audit events that a backend did not take, and why",
            self.dropped.clone(),
        );
    }

    pub(super) fn decided(&self, level: Level) {
        self.levels.get_or_create(&AtLevel { level: level.as_str() }).inc();
    }

    pub(super) fn made(&self) {
        self.events.inc();
    }

    /// `count` events are lost; `plugin` is upstream's name for what lost them.
    pub(super) fn lost(&self, plugin: &'static str, backend: &'static str, reason: &'static str, count: usize) {
        self.errors.get_or_create(&Plugin { plugin }).inc_by(count as u64);
        self.dropped.get_or_create(&Dropped { backend, reason }).inc_by(count as u64);
    }
}
