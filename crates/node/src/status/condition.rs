//! The conditions the node owns, in upstream's reasons and words. Those of others are kept.

use api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use api::meta::v1::Time;

use super::{View, whole_seconds};
use crate::pod;
use crate::pod_worker::plan::actual_resources;
use crate::resize;
use crate::state::Phase;

/// Condition types written by the node.
pub const OWNED: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
];

struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes(reason: &'static str) -> Self {
        Self { holds: true, reason, message: String::new() }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self { holds: false, reason, message }
    }
}

/// All conditions of the new status.
pub fn conditions(view: &View<'_>, new: &PodStatus) -> Vec<PodCondition> {
    let (p, phase) = (view.pod, new.phase.as_deref().unwrap_or_default());
    let network = view.state.ready_sandbox().is_some_and(|s| s.host_network || !s.ips.is_empty());
    let ready_to_start = if network { Verdict::yes("") } else { Verdict::no("", String::new()) };
    let containers_ready = containers_ready(p, new, phase);
    let ready = ready(p, view.old, &containers_ready);
    let mut conditions = vec![
        condition(view, "PodReadyToStartContainers", ready_to_start),
        condition(view, "Initialized", initialized(p, new, phase)),
        condition(view, "Ready", ready),
        condition(view, "ContainersReady", containers_ready),
        condition(view, "PodScheduled", Verdict::yes("")),
    ];
    conditions.extend(resize_condition(view));
    conditions.extend(of_others(view));
    conditions
}

/// Those that the node does not own.
pub fn of_others(view: &View<'_>) -> Vec<PodCondition> {
    let all = view.old.conditions.iter().flatten();
    all.filter(|condition| !OWNED.contains(&condition.type_.as_str())).cloned().collect()
}

/// How a resize stands, while it is not done.
fn resize_condition(view: &View<'_>) -> Option<PodCondition> {
    let pending = resize::resizable(view.pod).any(|container| {
        let current = view.state.active_container(&container.name).filter(|c| c.phase == Phase::Running);
        current.is_some_and(|current| {
            let actual = actual_resources(view.resized, current);
            !actual.is_empty() && actual != resize::fingerprint(container)
        })
    });
    if !pending || view.finished {
        return None;
    }
    let (type_, reason, message) = match view.resize_refused {
        Some((reason, message)) => ("PodResizePending", reason, message),
        None => ("PodResizeInProgress", "", ""),
    };
    let mut made = condition(view, type_, Verdict::yes(""));
    made.reason = (!reason.is_empty()).then(|| reason.to_owned());
    made.message = (!message.is_empty()).then(|| message.to_owned());
    Some(made)
}

/// The condition, with its old transition time while its status stays the same.
fn condition(view: &View<'_>, type_: &str, verdict: Verdict) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let old = view.old.conditions.iter().flatten().find(|c| c.type_ == type_ && c.status == status);
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: some(verdict.reason),
        message: some(&verdict.message),
        last_transition_time: old
            .and_then(|c| c.last_transition_time.clone())
            .or_else(|| Some(Time(whole_seconds(view.now)))),
        observed_generation: view.pod.metadata.generation,
        last_probe_time: None,
    }
}

fn find<'a>(list: &'a Option<Vec<ContainerStatus>>, name: &str) -> Option<&'a ContainerStatus> {
    list.as_ref()?.iter().find(|s| s.name == name)
}

fn listed(what: &str, names: &[&str]) -> Option<String> {
    (!names.is_empty()).then(|| format!("containers with {what} status: [{}]", names.join(" ")))
}

fn joined(unknown: &[&str], what: &str, others: &[&str]) -> String {
    [listed("unknown", unknown), listed(what, others)].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn containers_ready(p: &Pod, new: &PodStatus, phase: &str) -> Verdict {
    if new.container_statuses.is_none() && !pod::containers(p).is_empty() {
        return Verdict::no("UnknownContainerStatuses", String::new());
    }
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    let sidecars = pod::init_containers(p).iter().filter(|c| pod::is_sidecar(c));
    let of_sidecars = sidecars.map(|c| (c, find(&new.init_container_statuses, &c.name)));
    let of_regular = pod::containers(p).iter().map(|c| (c, find(&new.container_statuses, &c.name)));
    for (container, status) in of_sidecars.chain(of_regular) {
        match status {
            None => unknown.push(container.name.as_str()),
            Some(s) if !s.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    match phase {
        "Succeeded" if unknown.is_empty() => return Verdict::no("PodCompleted", String::new()),
        "Failed" if unknown.is_empty() => return Verdict::no("PodFailed", String::new()),
        _ => {}
    }
    let message = joined(&unknown, "unready", &unready);
    if message.is_empty() { Verdict::yes("") } else { Verdict::no("ContainersNotReady", message) }
}

fn ready(p: &Pod, old: &PodStatus, containers: &Verdict) -> Verdict {
    if !containers.holds {
        return Verdict { holds: false, reason: containers.reason, message: containers.message.clone() };
    }
    let mut messages = Vec::new();
    for gate in pod::spec(p).readiness_gates.iter().flatten() {
        let name = &gate.condition_type;
        match old.conditions.iter().flatten().find(|c| c.type_ == *name) {
            None => messages.push(format!("corresponding condition of pod readiness gate {name:?} does not exist.")),
            Some(c) if c.status != "True" => {
                messages.push(format!("the status of pod readiness gate {name:?} is not \"True\", but {}", c.status));
            }
            Some(_) => {}
        }
    }
    if messages.is_empty() { Verdict::yes("") } else { Verdict::no("ReadinessGatesNotReady", messages.join(", ")) }
}

fn initialized(p: &Pod, new: &PodStatus, phase: &str) -> Verdict {
    let init = pod::init_containers(p);
    if init.is_empty() {
        return Verdict::yes(if phase == "Succeeded" { "PodCompleted" } else { "" });
    }
    if new.container_statuses.is_none() {
        return Verdict::no("UnknownContainerStatuses", String::new());
    }
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in init {
        match find(&new.init_container_statuses, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(s) if pod::is_sidecar(container) => {
                if s.started != Some(true) {
                    incomplete.push(container.name.as_str());
                }
            }
            Some(s) if !s.ready => incomplete.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Verdict::yes("PodCompleted");
    }
    let regular_started = new.container_statuses.iter().flatten().any(|s| {
        s.started == Some(true)
            || s.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
            || s.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
    });
    if regular_started && unknown.is_empty() {
        return Verdict::yes("");
    }
    let message = joined(&unknown, "incomplete", &incomplete);
    if message.is_empty() { Verdict::yes("") } else { Verdict::no("ContainersNotInitialized", message) }
}
