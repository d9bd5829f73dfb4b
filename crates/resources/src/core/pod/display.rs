//! A pod in words: the Ready, Status and Restarts columns of `kubectl get pods`, as upstream's printer counts them.

use api::Timestamp;
use api::core::v1::{Container, ContainerState, ContainerStatus, Pod, PodCondition};
use serde_json::Value;

use crate::column::age;

/// What the columns Ready, Status and Restarts show.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary {
    /// Containers that are ready, restartable init containers included.
    pub ready: usize,
    /// Containers that could be.
    pub total: usize,
    pub status: String,
    pub restarts: i64,
    pub last_restart: Option<Timestamp>,
}

impl Summary {
    /// `3 (5m ago)`.
    pub fn restarts_text(&self, now: Timestamp) -> String {
        match self.last_restart {
            Some(last) if self.restarts != 0 => format!("{} ({} ago)", self.restarts, age(Some(last), now)),
            _ => self.restarts.to_string(),
        }
    }
}

/// Restarts and when the last one was.
#[derive(Default, Clone, Copy)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &ContainerStatus) {
        self.count += i64::from(container.restart_count);
        let finished = container
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref())
            .and_then(|terminated| terminated.finished_at.as_ref())
            .map(|time| time.0);
        self.last = self.last.max(finished);
    }
}

/// Whether the init container keeps running beside the others (a sidecar).
pub fn is_restartable(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn condition<'a>(conditions: &'a [PodCondition], type_: &str) -> Option<&'a PodCondition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn is_true(conditions: &[PodCondition], type_: &str) -> bool {
    condition(conditions, type_).is_some_and(|condition| condition.status == "True")
}

fn ended(reason: Option<&str>, signal: Option<i32>, exit_code: i32) -> String {
    match (reason, signal) {
        (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{exit_code}"),
    }
}

/// Why the init container keeps the pod from starting; `None` if it does not.
fn init_reason(state: &ContainerState, index: usize, count: usize) -> String {
    if let Some(terminated) = &state.terminated {
        let why = ended(terminated.reason.as_deref(), terminated.signal, terminated.exit_code);
        return format!("Init:{why}");
    }
    match state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref()) {
        Some(reason) if !reason.is_empty() && reason != "PodInitializing" => format!("Init:{reason}"),
        _ => format!("Init:{index}/{count}"),
    }
}

/// The pod in a few words.
pub fn summary(pod: &Pod) -> Summary {
    let empty_status = Default::default();
    let status = pod.status.as_ref().unwrap_or(&empty_status);
    let empty_spec = Default::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty_spec);
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or_default();

    let mut reason = match status.reason.as_deref() {
        Some(reason) if !reason.is_empty() => reason.to_owned(),
        _ => phase.to_owned(),
    };
    if condition(conditions, "PodScheduled").is_some_and(|c| c.reason.as_deref() == Some("SchedulingGated")) {
        "SchedulingGated".clone_into(&mut reason);
    }

    let sidecar = |name: &str| init.iter().any(|container| container.name == name && is_restartable(container));
    let total = spec.containers.len() + init.iter().filter(|container| is_restartable(container)).count();
    let (mut ready, mut restarts, mut sidecar_restarts) = (0, Restarts::default(), Restarts::default());
    let mut initializing = false;
    let no_state = ContainerState::default();
    for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
        let state = container.state.as_ref().unwrap_or(&no_state);
        let is_sidecar = sidecar(&container.name);
        restarts.add(container);
        if is_sidecar {
            sidecar_restarts.add(container);
        }
        if state.terminated.as_ref().is_some_and(|terminated| terminated.exit_code == 0) {
            continue;
        }
        if is_sidecar && container.started == Some(true) {
            ready += usize::from(container.ready);
            continue;
        }
        reason = init_reason(state, index, init.len());
        initializing = true;
        break;
    }

    if !initializing || is_true(conditions, "Initialized") {
        restarts = sidecar_restarts;
        let mut has_running = false;
        for container in status.container_statuses.iter().flatten().rev() {
            restarts.add(container);
            let state = container.state.as_ref().unwrap_or(&no_state);
            let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref());
            if let Some(waiting) = waiting.filter(|reason| !reason.is_empty()) {
                waiting.clone_into(&mut reason);
            } else if let Some(terminated) = &state.terminated {
                reason = ended(terminated.reason.as_deref(), terminated.signal, terminated.exit_code);
            } else if container.ready && state.running.is_some() {
                has_running = true;
                ready += 1;
            }
        }
        if reason == "Completed" && has_running {
            let text = if is_true(conditions, "Ready") { "Running" } else { "NotReady" };
            text.clone_into(&mut reason);
        }
    }

    if pod.metadata.deletion_timestamp.is_some() {
        if status.reason.as_deref() == Some("NodeLost") {
            "Unknown".clone_into(&mut reason);
        } else if !matches!(phase, "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut reason);
        }
    }
    Summary { ready, total, status: reason, restarts: restarts.count, last_restart: restarts.last }
}

/// A text cell, `<none>` if empty.
pub fn or_none(text: Option<&str>) -> Value {
    Value::from(text.filter(|text| !text.is_empty()).unwrap_or("<none>"))
}

/// `1/2`: how many of the pod's readiness gates are open.
pub fn readiness_gates(pod: &Pod) -> String {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let open = gates.iter().filter(|gate| is_true(conditions, &gate.condition_type)).count();
    format!("{open}/{}", gates.len())
}

#[cfg(test)]
mod tests {
    use super::summary;
    use api::Typed;
    use api::core::v1::Pod;
    use serde_json::{Value, json};

    fn pod(spec: Value, status: Value, deleted: bool) -> Pod {
        let mut metadata = json!({"name": "p"});
        if deleted {
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Pod::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }

    fn shown(spec: Value, status: Value, deleted: bool) -> String {
        let pod = pod(spec, status, deleted);
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let summary = summary(&pod);
        format!("{}/{} {} {}", summary.ready, summary.total, summary.status, summary.restarts_text(now))
    }

    fn container(name: &str, state: Value, ready: bool, restarts: i32) -> Value {
        let mut status = json!({"name": name, "image": "", "imageID": "", "ready": ready, "restartCount": restarts,
            "state": state});
        if restarts > 0 {
            status["lastState"] = json!({"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:05:00Z"}});
        }
        status
    }

    #[test]
    fn status_says_what_upstream_says() {
        let one = || json!({"containers": [{"name": "a"}]});
        let two = || json!({"containers": [{"name": "a"}, {"name": "b"}]});
        let init = || json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]});
        let sidecar =
            || json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}]});
        let running = || json!({"running": {}});
        let done = || json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let ready = || json!([{"type": "Ready", "status": "True"}]);
        let cases = [
            (one(), json!({"phase": "Pending"}), false, "0/1 Pending 0"),
            (
                one(),
                json!({"phase": "Pending",
                    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
                false,
                "0/1 SchedulingGated 0",
            ),
            (
                one(),
                json!({"phase": "Pending", "containerStatuses": [container("a", waiting("ContainerCreating"), false,
                    0)]}),
                false,
                "0/1 ContainerCreating 0",
            ),
            (
                one(),
                json!({"phase": "Running", "containerStatuses": [container("a", waiting("CrashLoopBackOff"), false,
                    4)]}),
                false,
                "0/1 CrashLoopBackOff 4 (5m ago)",
            ),
            (
                one(),
                json!({"phase": "Running", "containerStatuses": [container("a", running(), true, 0)]}),
                false,
                "1/1 Running 0",
            ),
            (
                one(),
                json!({"phase": "Running", "containerStatuses": [container("a", running(), true, 0)]}),
                true,
                "1/1 Terminating 0",
            ),
            (
                one(),
                json!({"phase": "Succeeded", "containerStatuses": [container("a", done(), false, 0)]}),
                true,
                "0/1 Completed 0",
            ),
            (
                one(),
                json!({"phase": "Failed",
                    "containerStatuses": [container("a", json!({"terminated": {"exitCode": 3}}), false, 0)]}),
                false,
                "0/1 ExitCode:3 0",
            ),
            (
                one(),
                json!({"phase": "Failed",
                    "containerStatuses": [container("a", json!({"terminated": {"exitCode": 137, "signal": 9}}),
                        false, 0)]}),
                false,
                "0/1 Signal:9 0",
            ),
            (one(), json!({"phase": "Failed", "reason": "Evicted"}), false, "0/1 Evicted 0"),
            (one(), json!({"phase": "Running", "reason": "NodeLost"}), true, "0/1 Unknown 0"),
            (
                two(),
                json!({"phase": "Running",
                    "containerStatuses": [container("a", done(), false, 0), container("b", running(), true, 0)]}),
                false,
                "1/2 NotReady 0",
            ),
            (
                two(),
                json!({"phase": "Running", "conditions": ready(),
                    "containerStatuses": [container("a", done(), false, 0), container("b", running(), true, 0)]}),
                false,
                "1/2 Running 0",
            ),
            (
                init(),
                json!({"phase": "Pending",
                    "initContainerStatuses": [container("i", running(), false, 0), container("j",
                        waiting("PodInitializing"), false, 0)],
                    "containerStatuses": [container("a", waiting("PodInitializing"), false, 0)]}),
                false,
                "0/1 Init:0/2 0",
            ),
            (
                init(),
                json!({"phase": "Pending",
                    "initContainerStatuses": [container("i", done(), true, 0), container("j",
                        waiting("ImagePullBackOff"), false, 0)]}),
                false,
                "0/1 Init:ImagePullBackOff 0",
            ),
            (
                init(),
                json!({"phase": "Pending",
                    "initContainerStatuses": [container("i", json!({"terminated": {"exitCode": 2,
                        "reason": "Error"}}), false, 1)]}),
                false,
                "0/1 Init:Error 1 (5m ago)",
            ),
            (
                sidecar(),
                json!({"phase": "Running",
                    "initContainerStatuses": [{"name": "s", "image": "", "imageID": "", "ready": true,
                        "restartCount": 0,
                        "started": true, "state": {"running": {}}}],
                    "containerStatuses": [container("a", running(), true, 2)]}),
                false,
                "2/2 Running 2 (5m ago)",
            ),
        ];
        for (spec, status, deleted, expected) in cases {
            assert_eq!(shown(spec, status.clone(), deleted), expected, "{status}");
        }
    }
}
