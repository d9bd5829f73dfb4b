//! The statuses of a pod's containers.

use api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, VolumeMountStatus,
};
use api::meta::v1::Time;

use super::{View, whole_seconds};
use crate::pod;
use crate::pod_worker::plan::{Waiting, actual_resources};
use crate::resize;
use crate::state::{self, Phase};

const UNKNOWN: &str = "ContainerStatusUnknown";
const LOST_AT_END: &str = "The container could not be located when the pod was terminated";
const LOST: &str = "The container could not be located when the pod was deleted.  The container used to be Running";

/// Statuses of regular containers (by name), init containers (in order of the spec), and ephemeral ones.
pub fn statuses(view: &View<'_>) -> (Vec<ContainerStatus>, Vec<ContainerStatus>, Vec<ContainerStatus>) {
    let p = view.pod;
    let old = view.old;
    let of = |containers: &[Container], old: &Option<Vec<ContainerStatus>>, init: bool| -> Vec<ContainerStatus> {
        let find = |name: &str| old.as_ref().and_then(|list| list.iter().find(|s| s.name == name));
        containers.iter().map(|c| status(view, c, find(&c.name), init)).collect()
    };
    let mut regular = of(pod::containers(p), &old.container_statuses, false);
    regular.sort_by(|a, b| a.name.cmp(&b.name));
    let mut init = of(pod::init_containers(p), &old.init_container_statuses, true);
    let ephemeral: Vec<Container> = pod::ephemeral_containers(p).iter().map(pod::as_container).collect();
    let mut ephemeral = of(&ephemeral, &old.ephemeral_container_statuses, false);
    for status in &mut ephemeral {
        // They are no part of the pod's work: neither ready nor unready.
        (status.ready, status.started) = (false, None);
    }
    if view.finished {
        end(&mut regular, &mut init);
    }
    (regular, init, ephemeral)
}

/// In a pod that ended, a container that was once begun and is not there any more has failed.
fn end(regular: &mut [ContainerStatus], init: &mut [ContainerStatus]) {
    let begun = |s: &ContainerStatus| {
        s.restart_count > 0
            || s.container_id.is_some()
            || s.state.as_ref().is_some_and(|state| state.terminated.is_some() || state.running.is_some())
            || s.last_state.is_some()
    };
    let initialized = init.is_empty() || regular.iter().any(begun);
    let begun_init = if initialized { init.len() } else { init.iter().rposition(begun).map_or(0, |last| last + 1) };
    let lost = if initialized { regular } else { &mut [] };
    for s in lost.iter_mut().chain(&mut init[..begun_init]) {
        if s.state.as_ref().is_none_or(|state| state.terminated.is_none()) {
            s.state = Some(terminated_unknown(LOST_AT_END));
            s.ready = false;
            s.started = Some(false);
        }
    }
}

fn terminated_unknown(message: &str) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            reason: Some(UNKNOWN.into()),
            message: Some(message.into()),
            exit_code: 137,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn waiting_state(waiting: &Waiting) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(waiting.reason.clone()),
            message: (!waiting.message.is_empty()).then(|| waiting.message.clone()),
        }),
        ..Default::default()
    }
}

fn status(view: &View<'_>, container: &Container, old: Option<&ContainerStatus>, init: bool) -> ContainerStatus {
    let mut status = match view.state.container(&container.name) {
        Some(current) => {
            let mut status = present(view, container, current);
            set_resources(view, container, current, old, &mut status);
            status
        }
        None => absent(view, container, old, init),
    };
    if let Some(waiting) = view.waiting.get(&container.name).filter(|_| !view.finished) {
        let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
        let completed = init && status.ready;
        if !running && !completed {
            if status.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
                status.last_state = status.state.take();
            }
            status.state = Some(waiting_state(waiting));
            status.ready = false;
        }
    }
    status
}

/// The status of a container the runtime does not have.
fn absent(view: &View<'_>, container: &Container, old: Option<&ContainerStatus>, init: bool) -> ContainerStatus {
    let ended_before = old.filter(|o| o.state.as_ref().is_some_and(|s| s.terminated.is_some()));
    let keep = init || view.finished || pod::is_terminal_phase(view.old.phase.as_deref().unwrap_or_default());
    if let Some(old) = ended_before.filter(|_| keep) {
        return old.clone();
    }
    let has_init = !pod::init_containers(view.pod).is_empty();
    let reason = if has_init { "PodInitializing" } else { "ContainerCreating" };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        restart_count: old.map_or(0, |o| o.restart_count),
        started: Some(false),
        state: Some(waiting_state(&Waiting { reason: reason.into(), message: String::new() })),
        last_state: old.and_then(|o| o.last_state.clone()),
        ..Default::default()
    };
    if old.is_some_and(|o| o.state.as_ref().is_some_and(|s| s.running.is_some())) {
        status.last_state = Some(terminated_unknown(LOST));
        status.restart_count += i32::from(pod::restarts_on_failure(view.pod));
    }
    status
}

/// The status of a container the runtime has.
fn present(view: &View<'_>, container: &Container, current: &state::Container) -> ContainerStatus {
    let id = container_id(view, current);
    let probed = view.probed.get(&current.id).cloned().unwrap_or_default();
    let running = current.phase == Phase::Running;
    let started = running && (container.startup_probe.is_none() || probed.startup == Some(true));
    let init = pod::init_containers(view.pod).iter().any(|c| c.name == container.name);
    let ready = if init && !pod::is_sidecar(container) {
        // An init container is "ready" once it is done.
        current.succeeded()
    } else {
        started && (container.readiness_probe.is_none() || probed.ready == Some(true))
    };
    let spec_image = container.image.clone().unwrap_or_default();
    let image = if current.image.is_empty() || current.image.starts_with("sha256:") {
        spec_image
    } else {
        current.image.clone()
    };
    let last = view.state.previous(&container.name, &current.id);
    ContainerStatus {
        name: container.name.clone(),
        image,
        image_id: current.image_id.clone(),
        container_id: Some(id),
        restart_count: i32::try_from(current.restart_count).unwrap_or(i32::MAX),
        started: Some(started),
        ready,
        state: Some(state_of(view, current)),
        last_state: last.map(|last| terminated(view, last)),
        user: current.user.as_ref().map(|user| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: user.uid,
                gid: user.gid,
                supplemental_groups: Some(user.supplemental_groups.clone()).filter(|groups| !groups.is_empty()),
            }),
        }),
        volume_mounts: mounts(container),
        ..Default::default()
    }
}

/// The resources a container has: its spec's, unless a resize is still to be done.
fn set_resources(
    view: &View<'_>,
    container: &Container,
    current: &state::Container,
    old: Option<&ContainerStatus>,
    status: &mut ContainerStatus,
) {
    if current.phase != Phase::Running || container.resources.is_none() {
        return;
    }
    let actual = actual_resources(view.resized, current);
    if actual.is_empty() || actual == resize::fingerprint(container) {
        status.resources.clone_from(&container.resources);
        status.allocated_resources = container.resources.as_ref().and_then(|r| r.requests.clone());
    } else if let Some(old) = old {
        status.resources.clone_from(&old.resources);
        status.allocated_resources.clone_from(&old.allocated_resources);
    }
}

fn container_id(view: &View<'_>, container: &state::Container) -> String {
    format!("{}://{}", view.runtime_name, container.id)
}

fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref().filter(|mounts| !mounts.is_empty())?;
    let of = mounts.iter().map(|mount| {
        let read_only = mount.read_only == Some(true);
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: read_only.then_some(true),
            recursive_read_only: read_only.then(|| "Disabled".to_owned()),
            ..Default::default()
        }
    });
    Some(of.collect())
}

fn state_of(view: &View<'_>, current: &state::Container) -> ContainerState {
    match current.phase {
        Phase::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: current.started_at.map(|at| Time(whole_seconds(at))) }),
            ..Default::default()
        },
        Phase::Exited => terminated(view, current),
        Phase::Created | Phase::Unknown => {
            waiting_state(&Waiting { reason: "ContainerCreating".into(), message: String::new() })
        }
    }
}

fn terminated(view: &View<'_>, container: &state::Container) -> ContainerState {
    let reason = match container.reason.as_str() {
        "" if container.exit_code == 0 => "Completed",
        "" => "Error",
        reason => reason,
    };
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(container_id(view, container)),
            exit_code: container.exit_code,
            reason: Some(reason.to_owned()),
            message: (!container.message.is_empty()).then(|| container.message.clone()),
            started_at: container.started_at.map(|at| Time(whole_seconds(at))),
            finished_at: container.finished_at.map(|at| Time(whole_seconds(at))),
            signal: None,
        }),
        ..Default::default()
    }
}
