//! What to do next for a pod: a pure function of its spec, what the runtime has, what probes say, and the time.
//!
//! Upstream: kubelet `kuberuntime_manager.go` (`computePodActions`), `kuberuntime_container.go` (init containers),
//! `kuberuntime_gc.go` (how many dead containers are kept).

use std::collections::{BTreeMap, BTreeSet};

use api::core::v1::{Container, Pod};
use base::Timestamp;

use super::crash::{Backoffs, go_duration};
use crate::labels;
use crate::pod;
use crate::resize;
use crate::state::{self, Phase, PodState};

/// Which list of the spec a container is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Init,
    Regular,
    Ephemeral,
}

/// One thing to do. Steps are done in order; a failed one ends those that need it.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Stop one container, with its preStop hook, within `grace_seconds`.
    Kill { id: String, name: String, message: String, grace_seconds: i64 },
    /// Stop every container, then the sandbox.
    StopPod { grace_seconds: i64 },
    /// Start a sandbox.
    CreateSandbox { attempt: u32 },
    /// Pull, create and start a container. `finished_at` is when the one before it ended.
    Start { name: String, kind: Kind, restart_count: u32, finished_at: Option<Timestamp> },
    /// Give a running container the resources its spec asks for.
    Resize { id: String, name: String },
    /// Forget a dead container.
    RemoveContainer { id: String },
    /// Forget a dead sandbox.
    RemoveSandbox { id: String },
}

/// Why a container is not running yet, as its `waiting` state says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// A container that could not be started and is not to be tried before `until`.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    pub until: Timestamp,
    pub waiting: Waiting,
}

/// What probes have found out about one running container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probed {
    /// `None`: no startup probe, or no verdict yet.
    pub startup: Option<bool>,
    pub liveness_failed: bool,
    pub ready: Option<bool>,
}

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub pod: &'a Pod,
    pub state: &'a PodState,
    /// By container id.
    pub probed: &'a BTreeMap<String, Probed>,
    /// By container name.
    pub backoffs: &'a Backoffs,
    /// By container name.
    pub holds: &'a BTreeMap<String, Hold>,
    /// The resources running containers were given since they were made, by container id.
    pub resized: &'a BTreeMap<String, String>,
    /// The node has room for what the pod asks for now.
    pub resize_allowed: bool,
    /// The pod is to end, within so many seconds.
    pub terminate_grace_seconds: Option<i64>,
    pub now: Timestamp,
}

/// What to do, and when to look again though nothing happens.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub wake_at: Option<Timestamp>,
    /// Containers that wait out a crash back-off, by name.
    pub crash_waiting: BTreeMap<String, Waiting>,
    /// Nothing will ever run again in this pod.
    pub finished: bool,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// Decides the next steps.
pub fn plan(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    if let Some(grace_seconds) = view.terminate_grace_seconds {
        if view.state.is_stopped() {
            plan.finished = true;
        } else {
            plan.steps.push(Step::StopPod { grace_seconds });
        }
        return plan;
    }
    match sandbox_change(view.pod, view.state) {
        Some(attempt) => new_sandbox(view, attempt, &mut plan),
        None => in_sandbox(view, &mut plan),
    }
    if !plan.finished {
        tidy(view, &mut plan);
    }
    plan
}

/// `Some(attempt)` when the pod needs a new sandbox.
fn sandbox_change(p: &Pod, state: &PodState) -> Option<u32> {
    let Some(newest) = state.sandbox() else { return Some(0) };
    let next = Some(newest.attempt + 1);
    let several = state.sandboxes.iter().filter(|s| s.ready).count() > 1;
    let other_network = newest.host_network != pod::is_host_network(p);
    if several || !newest.ready || other_network || (!newest.host_network && newest.ips.is_empty()) {
        return next;
    }
    None
}

fn new_sandbox(view: &View<'_>, attempt: u32, plan: &mut Plan) {
    let (p, state) = (view.pod, view.state);
    plan.steps.append(&mut stop_if_needed(view));
    let ran_before = attempt != 0 && !state.containers.is_empty();
    if ran_before && !pod::restarts_on_failure(p) && !has_own_restart_policy(p) {
        plan.finished = true;
        return;
    }
    let start: Vec<&Container> = pod::containers(p)
        .iter()
        .filter(|c| match state.container(&c.name) {
            Some(last) if last.phase == Phase::Exited => pod::restarts_after(p, c, last.exit_code),
            _ => true,
        })
        .collect();
    if start.is_empty() {
        plan.finished = true;
        return;
    }
    if attempt > 0 && plan.steps.is_empty() {
        // A sandbox that died by itself still holds its network.
        plan.steps.push(Step::StopPod { grace_seconds: spec_grace_seconds(p) });
    }
    let first_init = pod::init_containers(p).first();
    let first: Vec<&Container> = first_init.map_or(start, |c| vec![c]);
    plan.steps.push(Step::CreateSandbox { attempt });
    let kind = if first_init.is_some() { Kind::Init } else { Kind::Regular };
    for container in first {
        start_container(view, container, kind, plan);
    }
}

fn has_own_restart_policy(p: &Pod) -> bool {
    pod::containers(p).iter().any(|c| c.restart_policy.is_some())
}

fn in_sandbox(view: &View<'_>, plan: &mut Plan) {
    let (p, state) = (view.pod, view.state);
    for ephemeral in pod::ephemeral_containers(p) {
        if state.active_container(&ephemeral.name).is_none() {
            start_container(view, &pod::as_container(ephemeral), Kind::Ephemeral, plan);
        }
    }
    match init_containers(view, plan) {
        Init::Failed => {
            plan.steps = stop_if_needed(view);
            plan.finished = true;
            return;
        }
        Init::Pending => return,
        Init::Done => {}
    }
    let mut alive = 0;
    let mut starting = 0;
    for container in pod::containers(p) {
        let current = state.active_container(&container.name);
        match current {
            Some(c) if c.phase == Phase::Running => match kill_reason(view, container, c) {
                None => {
                    alive += 1;
                    plan.steps.extend(resize_step(view, container, c));
                }
                Some((mut message, always)) => {
                    if always || pod::restarts_after(p, container, KILLED) {
                        message += ", will be restarted";
                    }
                    let grace_seconds = kill_grace_seconds(view, container, c);
                    let (id, name) = (c.id.clone(), c.name.clone());
                    plan.steps.push(Step::Kill { id, name, message, grace_seconds });
                }
            },
            _ => {
                if should_start(p, container, current.or_else(|| state.container(&container.name))) {
                    starting += 1;
                    start_container(view, container, Kind::Regular, plan);
                }
            }
        }
    }
    let killing = plan.steps.iter().any(|s| matches!(s, Step::Kill { .. }));
    if alive == 0 && starting == 0 && !killing {
        plan.steps = stop_if_needed(view);
        plan.wake_at = None;
        plan.finished = true;
    }
}

fn stop_if_needed(view: &View<'_>) -> Vec<Step> {
    if view.state.is_stopped() {
        Vec::new()
    } else {
        vec![Step::StopPod { grace_seconds: spec_grace_seconds(view.pod) }]
    }
}

/// Whether a container that does not run is to be started.
fn should_start(p: &Pod, container: &Container, last: Option<&state::Container>) -> bool {
    match last {
        None => true,
        Some(c) => match c.phase {
            Phase::Running => false,
            Phase::Created | Phase::Unknown => true,
            // One that was stopped because its image changed starts again whatever the policy.
            Phase::Exited => has_changed(container, c) || pod::restarts_after(p, container, c.exit_code),
        },
    }
}

/// The resources a container runs with.
pub fn actual_resources<'a>(resized: &'a BTreeMap<String, String>, current: &'a state::Container) -> &'a str {
    resized.get(&current.id).unwrap_or(&current.resources)
}

/// What a container's changed resources ask for: nothing, a change in place, or a restart.
fn resize_step(view: &View<'_>, container: &Container, current: &state::Container) -> Option<Step> {
    let actual = actual_resources(view.resized, current);
    // One made by another agent does not say what it has.
    if actual.is_empty() || !view.resize_allowed || actual == resize::fingerprint(container) {
        return None;
    }
    let (id, name) = (current.id.clone(), current.name.clone());
    if !resize::needs_restart(container, actual) {
        return Some(Step::Resize { id, name });
    }
    let message = format!("Container {name} resize requires restart, will be restarted");
    Some(Step::Kill { id, name, message, grace_seconds: spec_grace_seconds(view.pod) })
}

/// Whether the container in the runtime was made from another definition.
fn has_changed(container: &Container, current: &state::Container) -> bool {
    !current.hash.is_empty() && current.hash != labels::container_hash(container)
}

/// The exit code of a container that was stopped by force.
const KILLED: i32 = 137;

/// Why a running container has to go, and whether it is started again whatever the policy.
fn kill_reason(view: &View<'_>, container: &Container, current: &state::Container) -> Option<(String, bool)> {
    let name = &container.name;
    if has_changed(container, current) {
        return Some((format!("Container {name} definition changed"), true));
    }
    let probed = view.probed.get(&current.id)?;
    if probed.liveness_failed {
        return Some((format!("Container {name} failed liveness probe"), false));
    }
    (probed.startup == Some(false)).then(|| (format!("Container {name} failed startup probe"), false))
}

fn spec_grace_seconds(p: &Pod) -> i64 {
    pod::spec(p).termination_grace_period_seconds.unwrap_or(pod::DEFAULT_GRACE_SECONDS).max(pod::MINIMUM_GRACE_SECONDS)
}

/// The grace of a kill: the failed probe's own, or the pod's.
fn kill_grace_seconds(view: &View<'_>, container: &Container, current: &state::Container) -> i64 {
    let probed = view.probed.get(&current.id);
    let probe = if probed.is_some_and(|p| p.liveness_failed) {
        container.liveness_probe.as_ref()
    } else if probed.is_some_and(|p| p.startup == Some(false)) {
        container.startup_probe.as_ref()
    } else {
        None
    };
    probe
        .and_then(|p| p.termination_grace_period_seconds)
        .map_or_else(|| spec_grace_seconds(view.pod), |seconds| seconds.max(pod::MINIMUM_GRACE_SECONDS))
}

/// Adds the start of a container, unless a back-off holds it.
fn start_container(view: &View<'_>, container: &Container, kind: Kind, plan: &mut Plan) {
    let name = &container.name;
    if let Some(hold) = view.holds.get(name).filter(|h| h.until > view.now) {
        plan.wake(hold.until);
        return;
    }
    let last = view.state.container(name);
    let finished_at = last.filter(|c| c.phase == Phase::Exited).and_then(|c| c.finished_at);
    if let Some(finished_at) = finished_at {
        let hash = labels::container_hash(container);
        if let Some(delay) = view.backoffs.waiting(name, &hash, finished_at, view.now) {
            let message = format!(
                "back-off {} restarting failed container={name} pod={}",
                go_duration(delay),
                pod::full_name(view.pod)
            );
            plan.crash_waiting.insert(name.clone(), Waiting { reason: "CrashLoopBackOff".into(), message });
            plan.wake(finished_at + delay);
            return;
        }
    }
    let restart_count = last.map_or(0, |c| c.restart_count + 1);
    // A container that was created and never started leaves its number to the next.
    let restart_count = if last.is_some_and(|c| c.phase == Phase::Created) { restart_count - 1 } else { restart_count };
    if let Some(stale) = view.state.active_container(name).filter(|c| c.phase == Phase::Created) {
        plan.steps.push(Step::RemoveContainer { id: stale.id.clone() });
    }
    plan.steps.push(Step::Start { name: name.clone(), kind, restart_count, finished_at });
}

/// How far initialisation has come.
#[derive(Debug, PartialEq)]
enum Init {
    Pending,
    Done,
    /// One failed and may not be tried again.
    Failed,
}

/// Decides about init containers, the newest started one first: it says how far the pod has come.
fn init_containers(view: &View<'_>, plan: &mut Plan) -> Init {
    let (p, state) = (view.pod, view.state);
    let all = pod::init_containers(p);
    let Some(last_index) = all.len().checked_sub(1) else { return Init::Done };
    let regular_created = pod::containers(p).iter().any(|c| state.active_container(&c.name).is_some());
    let mut done = regular_created;
    let mut reached = regular_created;
    let mut start: BTreeSet<usize> = BTreeSet::new();
    for (index, container) in all.iter().enumerate().rev() {
        let sidecar = pod::is_sidecar(container);
        let Some(current) = state.active_container(&container.name) else {
            if reached && sidecar {
                start.insert(index);
            }
            continue;
        };
        if reached && !sidecar {
            continue;
        }
        let mut next = false;
        match current.phase {
            Phase::Created | Phase::Unknown => {
                start.insert(index);
            }
            Phase::Running if sidecar => {
                if let Some((mut message, _)) = kill_reason(view, container, current) {
                    message += ", will be restarted";
                    let grace_seconds = kill_grace_seconds(view, container, current);
                    let (id, name) = (current.id.clone(), current.name.clone());
                    plan.steps.push(Step::Kill { id, name, message, grace_seconds });
                } else {
                    plan.steps.extend(resize_step(view, container, current));
                    let startup = view.probed.get(&current.id).and_then(|probed| probed.startup);
                    next = container.startup_probe.is_none() || startup == Some(true);
                }
            }
            Phase::Running => {}
            Phase::Exited if sidecar => {
                start.insert(index);
            }
            Phase::Exited if current.exit_code == 0 => next = true,
            Phase::Exited => {
                if !pod::restarts_after(p, container, current.exit_code) {
                    return Init::Failed;
                }
                start.insert(index);
            }
        }
        if next && !reached {
            if index == last_index {
                done = true;
            } else {
                start.insert(index + 1);
            }
        }
        reached = true;
    }
    if !reached {
        start.insert(0);
    }
    for index in start {
        start_container(view, &all[index], Kind::Init, plan);
    }
    if done { Init::Done } else { Init::Pending }
}

/// Removes what is dead and no longer told of: per name the newest container and the one before it are kept, and
/// the sandboxes they are in.
fn tidy(view: &View<'_>, plan: &mut Plan) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut kept_sandboxes: BTreeSet<&str> = view.state.sandbox().map(|s| s.id.as_str()).into_iter().collect();
    let mut remove = Vec::new();
    for container in &view.state.containers {
        let count = seen.entry(container.name.as_str()).or_default();
        *count += 1;
        let already = plan.steps.iter().any(|s| matches!(s, Step::RemoveContainer { id } if *id == container.id));
        if *count > DEAD_KEPT && container.phase == Phase::Exited && !already {
            remove.push(Step::RemoveContainer { id: container.id.clone() });
        } else {
            kept_sandboxes.insert(&container.sandbox_id);
        }
    }
    plan.steps.append(&mut remove);
    for sandbox in view.state.sandboxes.iter().skip(1) {
        if !sandbox.ready && !kept_sandboxes.contains(sandbox.id.as_str()) {
            plan.steps.push(Step::RemoveSandbox { id: sandbox.id.clone() });
        }
    }
}

/// Containers of one name that are kept: the current one and the one whose end `lastState` tells.
const DEAD_KEPT: usize = 2;

#[cfg(test)]
mod tests;
