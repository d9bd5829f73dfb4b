//! Probes: one task per running container and kind of probe, telling its pod's worker when a verdict changes.
//!
//! Upstream: kubelet `prober/worker.go`, `prober/prober.go`.

mod check;
mod grpc;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Container, Pod, Probe};
use base::{TaskGroup, Timestamp};
use jiff::SignedDuration;
use parking_lot::Mutex;

use crate::agent::Agent;
use crate::events::Severity;
use crate::inbox::{Inbox, Signal};
use crate::pod_worker::plan::Probed;
use crate::state;

pub use check::{Outcome, Subject, check, http_request};

/// What a probe is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// Pauses between the first tries of a readiness or startup probe.
const WARM_UP_PAUSES_MILLIS: [u64; 6] = [25, 50, 100, 200, 400, 800];
/// The first liveness probe comes so much later: upstream's notices a new container about as late.
const LIVENESS_LAG: Duration = Duration::from_secs(1);

/// The verdicts on a pod's containers, by container id. Written by its probes, read by its worker.
pub type Verdicts = Arc<Mutex<BTreeMap<String, Probed>>>;

/// The probes of one pod. Dropped with their worker.
pub struct Probes {
    agent: Arc<Agent>,
    inbox: Arc<Inbox>,
    verdicts: Verdicts,
    running: HashMap<(String, Kind), TaskGroup>,
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.running.values().for_each(TaskGroup::cancel);
    }
}

impl Probes {
    /// None yet.
    pub fn new(agent: Arc<Agent>, inbox: Arc<Inbox>) -> Self {
        Self { agent, inbox, verdicts: Verdicts::default(), running: HashMap::new() }
    }

    /// The verdicts so far.
    pub fn verdicts(&self) -> BTreeMap<String, Probed> {
        self.verdicts.lock().clone()
    }

    /// What is known of a container that ran before the node agent started.
    pub fn adopt(&self, container_id: &str, probed: Probed) {
        self.verdicts.lock().insert(container_id.to_owned(), probed);
    }

    /// Probes these running containers and no others. A pod that ends is asked for readiness only.
    pub fn sync(&mut self, p: &Arc<Pod>, containers: &[(Container, state::Container)], ips: &[String], ending: bool) {
        let mut wanted = Vec::new();
        for (spec, current) in containers {
            let startup = self.verdicts.lock().get(&current.id).and_then(|v| v.startup);
            let started = spec.startup_probe.is_none() || startup == Some(true);
            let kinds: &[Kind] = match (ending, started) {
                (true, true) => &[Kind::Readiness],
                (true, false) => &[],
                (false, true) => &[Kind::Liveness, Kind::Readiness],
                (false, false) => &[Kind::Startup],
            };
            for &kind in kinds.iter().filter(|kind| kind.of(spec).is_some()) {
                wanted.push((current.id.clone(), kind));
                let key = (current.id.clone(), kind);
                if self.running.contains_key(&key) {
                    continue;
                }
                let tasks = self.agent.tasks.child();
                let task = Task {
                    agent: self.agent.clone(),
                    pod: p.clone(),
                    container: spec.clone(),
                    id: current.id.clone(),
                    started_at: current.started_at,
                    ips: ips.to_vec(),
                    kind,
                    inbox: self.inbox.clone(),
                    verdicts: self.verdicts.clone(),
                };
                tasks.spawn("probe", task.run());
                self.running.insert(key, tasks);
            }
        }
        self.running.retain(|key, tasks| {
            let keep = wanted.contains(key);
            if !keep {
                tasks.cancel();
            }
            keep
        });
        let ids: Vec<&str> = containers.iter().map(|(_, c)| c.id.as_str()).collect();
        self.verdicts.lock().retain(|id, _| ids.contains(&id.as_str()));
    }
}

struct Task {
    agent: Arc<Agent>,
    pod: Arc<Pod>,
    container: Container,
    id: String,
    started_at: Option<Timestamp>,
    ips: Vec<String>,
    kind: Kind,
    inbox: Arc<Inbox>,
    verdicts: Verdicts,
}

/// Seconds of a probe's field, with upstream's default.
fn seconds(value: Option<i32>, default: u64) -> u64 {
    value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
}

impl Task {
    async fn run(self) {
        let Some(probe) = self.kind.of(&self.container).cloned() else { return };
        let period = Duration::from_secs(seconds(probe.period_seconds, 10));
        let delay = SignedDuration::from_secs(i64::from(probe.initial_delay_seconds.unwrap_or(0).max(0)));
        if let Some(started_at) = self.started_at {
            self.agent.clock.sleep_until(started_at + delay).await;
        }
        let mut run = Run::default();
        if self.warm_up(&probe).await
            && let Some(verdict) = run.count(true, seconds(probe.success_threshold, 1))
        {
            self.report(verdict);
            if self.kind == Kind::Startup {
                return;
            }
            self.agent.clock.sleep(period).await;
        }
        loop {
            let begun = self.agent.clock.monotonic();
            let Some(succeeded) = self.once(&probe).await else {
                // A question that could not be asked is no answer.
                self.agent.clock.sleep(period).await;
                continue;
            };
            let threshold =
                if succeeded { seconds(probe.success_threshold, 1) } else { seconds(probe.failure_threshold, 3) };
            if let Some(verdict) = run.count(succeeded, threshold) {
                self.report(verdict);
                // A container that is to be restarted is not asked again.
                if !verdict && self.kind != Kind::Readiness {
                    return;
                }
                if verdict && self.kind == Kind::Startup {
                    return;
                }
            }
            let spent = self.agent.clock.monotonic().duration_since(begun);
            self.agent.clock.sleep(period.saturating_sub(spent).max(Duration::from_millis(1))).await;
        }
    }

    /// The first moments of a container, in which failures mean little: nothing listens yet. They are neither counted
    /// nor told of. `true`: it answered. Commands are too dear to be run in vain.
    async fn warm_up(&self, probe: &Probe) -> bool {
        let clock = self.agent.clock;
        if self.kind == Kind::Liveness {
            clock.sleep(LIVENESS_LAG).await;
            return false;
        }
        if probe.exec.is_some() {
            return false;
        }
        let timeout = Duration::from_secs(seconds(probe.timeout_seconds, 1));
        for pause_millis in WARM_UP_PAUSES_MILLIS {
            if matches!(check(&self.subject(), probe, timeout).await, Outcome::Success) {
                return true;
            }
            clock.sleep(Duration::from_millis(pause_millis)).await;
        }
        false
    }

    fn subject(&self) -> Subject<'_> {
        Subject { agent: &self.agent, container: &self.container, container_id: &self.id, ips: &self.ips }
    }

    async fn once(&self, probe: &Probe) -> Option<bool> {
        let timeout = Duration::from_secs(seconds(probe.timeout_seconds, 1));
        let kind = self.kind.as_str();
        let event = |reason, message: String| {
            self.agent.events.container(&self.pod, &self.container.name, Severity::Warning, reason, message);
        };
        match check(&self.subject(), probe, timeout).await {
            Outcome::Success => Some(true),
            Outcome::Warning(text) => {
                event("ProbeWarning", format!("{kind} probe warning: {text}"));
                Some(true)
            }
            Outcome::Failure(text) => {
                event("Unhealthy", format!("{kind} probe failed: {text}"));
                Some(false)
            }
            Outcome::Error(text) => {
                event("Unhealthy", format!("{kind} probe errored and resulted in unknown state: {text}"));
                None
            }
        }
    }

    fn report(&self, verdict: bool) {
        let changed = {
            let mut verdicts = self.verdicts.lock();
            let probed = verdicts.entry(self.id.clone()).or_default();
            let before = probed.clone();
            match self.kind {
                Kind::Startup => probed.startup = Some(verdict),
                Kind::Liveness => probed.liveness_failed = !verdict,
                Kind::Readiness => probed.ready = Some(verdict),
            }
            before != *probed
        };
        if changed {
            self.inbox.wake(Signal::Probe);
        }
    }
}

/// Results in a row.
#[derive(Debug, Default)]
struct Run {
    last: Option<bool>,
    length: u64,
}

impl Run {
    /// Counts a result; `Some` once there were enough of the same.
    fn count(&mut self, succeeded: bool, threshold: u64) -> Option<bool> {
        if self.last == Some(succeeded) {
            self.length += 1;
        } else {
            self.last = Some(succeeded);
            self.length = 1;
        }
        (self.length >= threshold).then_some(succeeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_need_results_in_a_row() {
        let mut run = Run::default();
        assert_eq!(run.count(false, 3), None);
        assert_eq!(run.count(false, 3), None);
        assert_eq!(run.count(true, 1), Some(true));
        assert_eq!(run.count(false, 3), None);
        assert_eq!(run.count(false, 3), None);
        assert_eq!(run.count(false, 3), Some(false));
    }
}
