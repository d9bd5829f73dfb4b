//! The phase of a pod from its containers' statuses.

use api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};

use crate::pod::{self, RestartPolicy};

fn terminated(state: Option<&ContainerState>) -> Option<i32> {
    state?.terminated.as_ref().map(|t| t.exit_code)
}

fn running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.running.is_some())
}

fn waiting(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.waiting.is_some())
}

/// How many containers are in which state.
#[derive(Default)]
struct Count {
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
}

/// The phase; `finished` when nothing will run again.
pub fn phase(p: &Pod, status: &PodStatus, finished: bool) -> &'static str {
    let find = |list: &Option<Vec<ContainerStatus>>, name: &str| {
        list.as_ref().and_then(|l| l.iter().find(|s| s.name == name)).cloned()
    };
    let (mut pending_init, mut failed_init) = (0, 0);
    for container in pod::init_containers(p) {
        let Some(s) = find(&status.init_container_statuses, &container.name) else {
            pending_init += 1;
            continue;
        };
        let last = terminated(s.last_state.as_ref());
        if pod::is_sidecar(container) {
            let unstarted = running(&s) && s.started != Some(true);
            pending_init += usize::from(unstarted || (waiting(&s) && last.is_none()));
            continue;
        }
        match terminated(s.state.as_ref()).or(if waiting(&s) { last } else { None }) {
            Some(0) if !waiting(&s) => {}
            Some(code) if code != 0 => failed_init += 1,
            _ => pending_init += 1,
        }
    }
    let mut n = Count::default();
    for container in pod::containers(p) {
        let Some(s) = find(&status.container_statuses, &container.name) else {
            n.unknown += 1;
            continue;
        };
        if running(&s) {
            n.running += 1;
        } else if let Some(code) = terminated(s.state.as_ref()) {
            n.stopped += 1;
            n.succeeded += usize::from(code == 0);
        } else if waiting(&s) && terminated(s.last_state.as_ref()).is_some() {
            n.stopped += 1;
        } else if waiting(&s) {
            n.waiting += 1;
        } else {
            n.unknown += 1;
        }
    }
    if failed_init > 0 && pod::restart_policy(p) == RestartPolicy::Never {
        return "Failed";
    }
    let none_ran = n.running == 0 && n.stopped == 0;
    of_counts(p, &n, (pending_init > 0 || failed_init > 0) && none_ran, finished)
}

fn of_counts(p: &Pod, n: &Count, initializing: bool, finished: bool) -> &'static str {
    let all_stopped = n.running == 0 && n.stopped > 0 && n.unknown == 0;
    let ended = || if n.stopped == n.succeeded { "Succeeded" } else { "Failed" };
    if finished && n.running == 0 {
        // What never ran when the pod ended did not succeed.
        return if n.waiting == 0 && all_stopped { ended() } else { "Failed" };
    }
    if initializing || n.waiting > 0 {
        return "Pending";
    }
    if n.running > 0 && n.unknown == 0 {
        return "Running";
    }
    if all_stopped {
        return match pod::restart_policy(p) {
            RestartPolicy::Always => "Running",
            _ if n.stopped == n.succeeded => "Succeeded",
            RestartPolicy::Never => "Failed",
            RestartPolicy::OnFailure => "Running",
        };
    }
    "Pending"
}
