//! One worker per pod: looks at the spec, the runtime and the probes, plans, acts, and tells the status. Woken by
//! events; a timer only where time itself is the event.

pub mod act;
pub mod crash;
mod end;
pub mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::core::v1::{Node, Pod, PodStatus};
use base::{Backoff, Timestamp};
use jiff::SignedDuration;

use crate::admission;
use crate::agent::Agent;
use crate::config::env;
use crate::events::Severity;
use crate::inbox::{Signal, Signals};
use crate::network;
use crate::observe::{self, Memory};
use crate::pod;
use crate::pods::Entry;
use crate::probe::Probes;
use crate::resize;
use crate::state::{Phase, PodState};
use crate::status;
use crate::status_writer::StatusWriter;
use crate::volume;
use act::{Job, Outcome};
use crash::Backoffs;
use plan::{Hold, Plan, Probed, Step, View, Waiting, plan};

/// While steps are being done the runtime is looked at no more often than this.
const LOOK_WHILE_ACTING: Duration = Duration::from_millis(250);
/// Why a pod that took too long was ended, in upstream's words.
const DEADLINE_REASON: &str = "DeadlineExceeded";
const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// The worker of one pod.
pub struct Worker {
    agent: Arc<Agent>,
    entry: Arc<Entry>,
    writer: StatusWriter,
    probes: Probes,
    memory: Memory,
    state: Arc<PodState>,
    backoffs: Backoffs,
    holds: BTreeMap<String, Hold>,
    /// The status as last told.
    told: PodStatus,
    /// Containers of whose crash back-off an event told, and when they had ended.
    backoff_told: BTreeMap<String, Option<Timestamp>>,
    /// The resources running containers were given since they were made, by container id.
    resized: BTreeMap<String, String>,
    /// The steps last done: planned again, they did not help, and are not repeated at once.
    done: Vec<Step>,
    retry: Backoff,
    retry_at: Option<Timestamp>,
    /// The runtime has to be asked again.
    stale: bool,
    renew_at: Option<Timestamp>,
    /// Labels and annotations the volumes were last made from, and the generation last acted on.
    seen: Seen,
    end: end::Progress,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Seen {
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    generation: Option<i64>,
}

impl Seen {
    fn of(p: &Pod) -> Self {
        Self {
            labels: p.metadata.labels.clone(),
            annotations: p.metadata.annotations.clone(),
            generation: p.metadata.generation,
        }
    }
}

impl Worker {
    /// A worker for the pod of `entry`.
    pub fn new(agent: Arc<Agent>, entry: Arc<Entry>) -> Self {
        let p = entry.known();
        Self {
            writer: StatusWriter::start(agent.clone(), entry.clone()),
            probes: Probes::new(agent.clone(), entry.inbox.clone()),
            memory: Memory::default(),
            state: Arc::default(),
            backoffs: Backoffs::default(),
            holds: BTreeMap::new(),
            told: p.status.clone().unwrap_or_default(),
            backoff_told: BTreeMap::new(),
            resized: BTreeMap::new(),
            done: Vec::new(),
            retry: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
            retry_at: None,
            stale: true,
            renew_at: None,
            seen: Seen::of(&p),
            end: end::Progress::default(),
            agent,
            entry,
        }
    }

    /// Works until the pod is gone and nothing of it is left on the node.
    pub async fn run(mut self) {
        self.follow_objects(&self.entry.known());
        self.observe().await;
        self.adopt();
        self.admit().await;
        self.follow_certificates(&self.entry.known());
        loop {
            let p = self.entry.known();
            let now = self.agent.clock.now();
            self.check_deadline(&p, now);
            let verdicts = self.probes.verdicts();
            let ending = self.ending(&p);
            let refused = self.refuse_resize(&p);
            let plan = plan(&View {
                pod: &p,
                state: &self.state,
                probed: &verdicts,
                backoffs: &self.backoffs,
                holds: &self.holds,
                terminate_grace_seconds: ending,
                resized: &self.resized,
                resize_allowed: refused.is_none(),
                now,
            });
            self.sync_probes(&p, ending.is_some() || plan.finished);
            self.tell(&p, &plan, &verdicts, now, refused.as_ref());
            let may_act = !self.stale && self.retry_at.is_none_or(|at| at <= now);
            if may_act && plan.finished && plan.steps.is_empty() {
                if self.finish(&p).await {
                    // A sandbox that died by itself was not stopped.
                    if let Some(network) = &self.agent.network {
                        network.release(&p);
                    }
                    return;
                }
            } else if may_act && plan.steps == self.done && !plan.steps.is_empty() {
                self.done.clear();
                self.back_off();
            } else if may_act && !plan.steps.is_empty() {
                self.done.clone_from(&plan.steps);
                self.act(p, plan, ending).await;
                continue;
            }
            self.wait(&p, plan.wake_at).await;
        }
    }

    /// `Some(grace)`: the pod is to end, within so many seconds.
    fn ending(&self, p: &Pod) -> Option<i64> {
        if p.metadata.deletion_timestamp.is_some() || self.entry.is_gone() {
            return Some(pod::deletion_grace_seconds(p));
        }
        let over = self.entry.failed().is_some() || pod::is_terminal_phase(pod::phase(p));
        let over = over || pod::is_terminal_phase(self.told.phase.as_deref().unwrap_or_default());
        let grace = pod::spec(p).termination_grace_period_seconds.unwrap_or(pod::DEFAULT_GRACE_SECONDS);
        over.then(|| grace.max(pod::MINIMUM_GRACE_SECONDS))
    }

    fn deadline(&self, p: &Pod) -> Option<Timestamp> {
        let seconds = pod::spec(p).active_deadline_seconds?;
        let start = self.told.start_time.as_ref()?.0;
        start.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    fn check_deadline(&self, p: &Pod, now: Timestamp) {
        let over = pod::is_terminal_phase(self.told.phase.as_deref().unwrap_or_default());
        if !over && self.entry.failed().is_none() && self.deadline(p).is_some_and(|at| at <= now) {
            self.agent.events.pod(p, Severity::Normal, DEADLINE_REASON, DEADLINE_MESSAGE);
            self.entry.fail(DEADLINE_REASON, DEADLINE_MESSAGE);
        }
    }

    /// Asks the runtime; when it does not answer, the old state stands and it is asked again.
    async fn observe(&mut self) {
        match observe::observe(&self.agent.runtime, &self.entry.uid, &mut self.memory).await {
            Ok(state) => {
                for id in state.sandboxes.iter().map(|s| &s.id).chain(state.containers.iter().map(|c| &c.id)) {
                    self.agent.pods.own(id, &self.entry.uid);
                }
                self.state = Arc::new(state);
                self.entry.set_state(self.state.clone());
                self.stale = false;
            }
            Err(error) => {
                tracing::debug!(%error, pod = %pod::full_name(&self.entry.known()), "the runtime does not answer");
                self.stale = true;
                self.back_off();
            }
        }
    }

    fn back_off(&mut self) {
        let delay = SignedDuration::try_from(self.retry.next()).unwrap_or(SignedDuration::MAX);
        self.retry_at = Some(self.agent.clock.now() + delay);
    }

    /// Refuses a pod that has not begun and does not fit. What runs already is never refused.
    async fn admit(&self) {
        let p = self.entry.known();
        let begun = !self.state.sandboxes.is_empty() || self.entry.is_admitted();
        let over = p.metadata.deletion_timestamp.is_some() || pod::is_terminal_phase(pod::phase(&p));
        if self.stale || begun || over || self.entry.is_gone() {
            self.entry.set_admitted();
            return;
        }
        let selects = pod::spec(&p).node_selector.as_ref().is_some_and(|selector| !selector.is_empty());
        // Labels change: they are asked for when they matter. A node that cannot be read refuses nobody.
        let node = match selects {
            true => self.agent.client.get::<Node>("", &self.agent.facts.node_name).await.ok(),
            false => None,
        };
        let labels = node.as_ref().and_then(|node| node.metadata.labels.as_ref());
        let refused = self.agent.pods.admit(&self.entry, &p, |p, others| {
            admission::admit(p, others.iter().map(|p| &**p), &self.agent.facts.allocatable, labels)
        });
        if let Err(refusal) = refused {
            self.agent.events.pod(&p, Severity::Warning, &refusal.reason, refusal.message.clone());
            self.entry.fail(&refusal.reason, &refusal.message);
        }
    }

    /// Why the node has no room for what a running pod asks for now, if it asks for more.
    fn refuse_resize(&self, p: &Pod) -> Option<(&'static str, String)> {
        let changed = resize::resizable(p).any(|container| {
            self.state.active_container(&container.name).is_some_and(|current| {
                let actual = plan::actual_resources(&self.resized, current);
                !actual.is_empty() && actual != resize::fingerprint(container)
            })
        });
        if !changed {
            return None;
        }
        let fits =
            |others: &[Arc<Pod>]| admission::admit(p, others.iter().map(|p| &**p), &self.agent.facts.allocatable, None);
        let text = |refusal: admission::Refusal| refusal.message.replace("Pod was rejected: ", "");
        match (fits(&[]), self.agent.pods.admit(&self.entry, p, |_, others| fits(others))) {
            (Err(refusal), _) => Some(("Infeasible", text(refusal))),
            (Ok(()), Err(refusal)) => Some(("Deferred", text(refusal))),
            (Ok(()), Ok(())) => None,
        }
    }

    /// Takes over what ran before the node agent started: it was ready if the API says so.
    fn adopt(&mut self) {
        let p = self.entry.known();
        self.adopt_network(&p);
        let Some(old) = &p.status else { return };
        let statuses = old.container_statuses.iter().chain(&old.init_container_statuses).flatten();
        for status in statuses {
            let Some(id) = status.container_id.as_deref().and_then(|id| id.split_once("://")).map(|(_, id)| id) else {
                continue;
            };
            if !self.state.containers.iter().any(|c| c.id == id && c.phase == Phase::Running) {
                continue;
            }
            let container = pod::find_container(&p, &status.name).unwrap_or_default();
            let started = status.started == Some(true);
            let probed = Probed {
                startup: (container.startup_probe.is_some() && started).then_some(true),
                liveness_failed: false,
                ready: (container.readiness_probe.is_some() && started).then_some(status.ready),
            };
            self.probes.adopt(id, probed);
        }
    }

    /// Tells the network of a pod that runs already; it has been isolated since before, and waits for nothing.
    fn adopt_network(&self, p: &Arc<Pod>) {
        let Some(network) = self.agent.network.clone().filter(|_| !pod::is_host_network(p)) else { return };
        if self.state.ready_sandbox().is_none() || self.state.ips().is_empty() {
            return;
        }
        let (p, ips) = (p.clone(), self.state.ips().to_vec());
        self.agent.tasks.spawn("an adopted pod's network", async move {
            let admitted = match network::addresses(&ips) {
                Ok(ips) => network.admit(p.clone(), ips).await,
                Err(error) => Err(error),
            };
            if let Err(error) = admitted {
                tracing::warn!(pod = %pod::full_name(&p), error, "a pod that runs already may not be isolated");
            }
        });
    }

    fn follow_objects(&self, p: &Pod) {
        let (mut config_maps, mut secrets) = volume::references(p);
        let (more_maps, more_secrets) = env::references(p);
        config_maps.extend(more_maps);
        secrets.extend(more_secrets);
        secrets.extend(pod::spec(p).image_pull_secrets.iter().flatten().map(|r| r.name.clone()));
        self.agent.objects.follow(&self.entry.uid, p.namespace(), &config_maps, &secrets, &self.entry.inbox);
        if volume::needs_trust_bundles(p) {
            self.agent.objects.trust_bundles().follow(&self.entry.uid, &self.entry.inbox);
        }
    }

    /// What is ending, or never began, asks for no certificates.
    fn follow_certificates(&self, p: &Arc<Pod>) {
        if self.ending(p).is_none() {
            self.agent.pod_certificates.follow(p, volume::pod_certificates(p), &self.entry.inbox);
        }
    }

    fn sync_probes(&mut self, p: &Arc<Pod>, ending: bool) {
        let ips = if pod::is_host_network(p) { &self.agent.facts.host_ips } else { self.state.ips() };
        let all = pod::containers(p).iter().chain(pod::init_containers(p).iter().filter(|c| pod::is_sidecar(c)));
        let running: Vec<_> = all
            .filter_map(|spec| {
                let current = self.state.active_container(&spec.name)?;
                (current.phase == Phase::Running).then(|| (spec.clone(), current.clone()))
            })
            .collect();
        self.probes.sync(p, &running, ips, ending);
    }

    /// Computes the status and hands it to the writer.
    fn tell(
        &mut self,
        p: &Pod,
        plan: &Plan,
        verdicts: &BTreeMap<String, Probed>,
        now: Timestamp,
        refused: Option<&(&'static str, String)>,
    ) {
        let mut waiting: BTreeMap<String, Waiting> =
            self.holds.iter().map(|(name, hold)| (name.clone(), hold.waiting.clone())).collect();
        waiting.extend(plan.crash_waiting.clone());
        self.tell_backoffs(p, plan);
        let failed = self.entry.failed();
        let old = self.old_status(p);
        let new = status::status(&status::View {
            pod: p,
            old: &old,
            state: &self.state,
            probed: verdicts,
            waiting: &waiting,
            finished: plan.finished && plan.steps.is_empty() && !self.stale,
            failed: failed.as_ref().map(|(reason, message)| (reason.as_str(), message.as_str())),
            resized: &self.resized,
            resize_refused: refused.map(|(reason, message)| (*reason, message.as_str())),
            host_ips: &self.agent.facts.host_ips,
            runtime_name: &self.agent.facts.runtime_name,
            now,
        });
        if !self.entry.is_gone() && !self.stale {
            self.writer.set(new.clone());
            self.entry.set_status(new.clone());
            self.told = new;
        }
    }

    /// What was told last, with what others have written since.
    fn old_status(&self, p: &Pod) -> PodStatus {
        let mut old = self.told.clone();
        let Some(theirs) = &p.status else { return old };
        let ours = |type_: &str| status::OWNED_CONDITIONS.contains(&type_);
        let mut conditions: Vec<_> =
            old.conditions.take().unwrap_or_default().into_iter().filter(|c| ours(&c.type_)).collect();
        conditions.extend(theirs.conditions.iter().flatten().filter(|c| !ours(&c.type_)).cloned());
        old.conditions = Some(conditions);
        if pod::is_terminal_phase(theirs.phase.as_deref().unwrap_or_default()) {
            old.phase.clone_from(&theirs.phase);
            old.reason.clone_from(&theirs.reason);
            old.message.clone_from(&theirs.message);
        }
        old
    }

    fn tell_backoffs(&mut self, p: &Pod, plan: &Plan) {
        for name in plan.crash_waiting.keys() {
            let ended = self.state.container(name).and_then(|c| c.finished_at);
            if self.backoff_told.get(name) != Some(&ended) {
                self.backoff_told.insert(name.clone(), ended);
                let text = format!("Back-off restarting failed container {name} in pod {}", pod::full_name(p));
                self.agent.events.container(p, name, Severity::Warning, "BackOff", text);
            }
        }
    }

    /// Does the steps; meanwhile the status is kept current, and a new wish to end the pod interrupts.
    async fn act(&mut self, p: Arc<Pod>, plan: Plan, ending: Option<i64>) {
        let job = Job {
            agent: self.agent.clone(),
            entry: self.entry.clone(),
            pod: p,
            state: self.state.clone(),
            steps: plan.steps.clone(),
        };
        let mut acting = Box::pin(job.run());
        let mut look_at = None;
        let (mut pod_changed, mut objects_changed) = (false, false);
        let outcome = loop {
            let clock = self.agent.clock;
            let look = async move {
                match look_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                outcome = &mut acting => break Some(outcome),
                signals = self.entry.inbox.next() => {
                    pod_changed |= signals.has(Signal::Pod);
                    objects_changed |= signals.has(Signal::Objects);
                    let p = self.entry.known();
                    if signals.has(Signal::Pod) && self.is_urgent(&p, ending) {
                        break None;
                    }
                    look_at.get_or_insert(clock.monotonic() + LOOK_WHILE_ACTING);
                }
                () = look => {
                    look_at = None;
                    self.observe().await;
                    let p = self.entry.known();
                    let verdicts = self.probes.verdicts();
                    self.sync_probes(&p, ending.is_some());
                    let so_far = Plan { steps: plan.steps.clone(), ..plan.clone() };
                    self.tell(&p, &so_far, &verdicts, clock.now(), None);
                }
            }
        };
        drop(acting);
        if let Some(outcome) = outcome {
            self.take(outcome);
        }
        self.observe().await;
        // What came in meanwhile is looked at by the next round.
        if pod_changed {
            self.entry.inbox.wake(Signal::Pod);
        }
        if objects_changed {
            self.entry.inbox.wake(Signal::Objects);
        }
    }

    /// Whether what is being done has to be dropped: the pod is to end now, or sooner than before.
    fn is_urgent(&self, p: &Pod, before: Option<i64>) -> bool {
        match (before, self.ending(p)) {
            (None, Some(_)) => true,
            (Some(before), Some(now)) => now < before,
            _ => false,
        }
    }

    fn take(&mut self, outcome: Outcome) {
        let now = self.agent.clock.now();
        for name in outcome.started {
            self.holds.remove(&name);
        }
        for (name, hash, finished_at) in outcome.restarted {
            self.backoffs.started(&name, &hash, finished_at, now);
        }
        self.holds.extend(outcome.holds);
        self.resized.extend(outcome.resized);
        self.resized.retain(|id, _| self.state.containers.iter().any(|c| c.id == *id));
        if let Some(mounted) = outcome.volumes {
            self.renew_at = mounted.renew_at;
        }
        if outcome.failed {
            self.done.clear();
            self.back_off();
        } else {
            self.retry.reset();
            self.retry_at = None;
        }
    }

    async fn wait(&mut self, p: &Arc<Pod>, wake_at: Option<Timestamp>) {
        let now = self.agent.clock.now();
        let over = self.ending(p).is_some();
        let deadline = self.deadline(p).filter(|_| !over);
        let times = [wake_at, self.retry_at.filter(|at| *at > now), deadline, self.renew_at.filter(|_| !over)];
        let first = times.into_iter().flatten().min();
        let clock = self.agent.clock;
        let timer = async move {
            match first {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let signals = tokio::select! {
            biased;
            signals = self.entry.inbox.next() => signals,
            () = timer => Signals::default(),
        };
        self.handle(signals).await;
    }

    async fn handle(&mut self, signals: Signals) {
        let p = self.entry.known();
        let now = self.agent.clock.now();
        let mut refresh = self.renew_at.is_some_and(|at| at <= now);
        if signals.has(Signal::Pod) {
            let seen = Seen::of(&p);
            if seen.generation != self.seen.generation {
                // A new image may be found where the old one was not.
                self.holds.clear();
                self.follow_objects(&p);
                self.follow_certificates(&p);
            }
            refresh |= seen.labels != self.seen.labels || seen.annotations != self.seen.annotations;
            self.seen = seen;
        }
        if signals.has(Signal::Objects) {
            refresh = true;
            self.retry_at = None;
            self.holds.retain(|_, hold| hold.waiting.reason != "CreateContainerConfigError");
        }
        if self.stale && self.retry_at.is_some_and(|at| at <= now) || signals.has(Signal::Runtime) {
            self.observe().await;
        }
        if refresh && self.ending(&p).is_none() && self.state.ready_sandbox().is_some() {
            self.refresh_volumes(&p, now).await;
        }
    }

    async fn refresh_volumes(&mut self, p: &Pod, now: Timestamp) {
        let ips = self.state.ips().to_vec();
        match self.agent.volumes.prepare(p, &self.agent.known(&ips)).await {
            Ok(mounted) => self.renew_at = mounted.renew_at,
            Err(failed) => {
                for failure in failed {
                    self.agent.events.pod(p, Severity::Warning, "FailedMount", failure.message);
                }
                self.renew_at = Some(now + SignedDuration::from_secs(60));
            }
        }
    }
}
