//! A pod's status from what the runtime and the probes say: a pure function. It never asks the runtime or the API.
//!
//! Upstream: kubelet `kubelet_pods.go` (`generateAPIPodStatus`, `getPhase`, `convertToAPIContainerStatuses`),
//! `status/generate.go`, `prober_manager.go` (`UpdatePodStatus`), `status_manager.go` (`TerminatePod`).

mod condition;
mod container;
mod phase;

use std::collections::BTreeMap;

use api::core::v1::{HostIP, Pod, PodIP, PodStatus};
use api::meta::v1::Time;
use base::Timestamp;

use crate::pod;
use crate::pod_worker::plan::{Probed, Waiting};
use crate::state::PodState;

pub use condition::OWNED as OWNED_CONDITIONS;

/// What a status is made from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub pod: &'a Pod,
    /// The status last written or read: times and what others own are taken from it.
    pub old: &'a PodStatus,
    pub state: &'a PodState,
    /// By container id.
    pub probed: &'a BTreeMap<String, Probed>,
    /// Why containers wait, by container name.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// Nothing of the pod will ever run again.
    pub finished: bool,
    /// The pod ended by decision of the node: reason and message (`DeadlineExceeded`, `Evicted`).
    pub failed: Option<(&'a str, &'a str)>,
    /// The resources running containers were given since they were made, by container id.
    pub resized: &'a BTreeMap<String, String>,
    /// Why a resize cannot be done now: reason (`Deferred`, `Infeasible`) and message.
    pub resize_refused: Option<(&'a str, &'a str)>,
    /// The node's addresses.
    pub host_ips: &'a [String],
    /// The scheme of container ids: `containerd`.
    pub runtime_name: &'a str,
    pub now: Timestamp,
}

/// The status to be shown.
pub fn status(view: &View<'_>) -> PodStatus {
    let p = view.pod;
    let mut new = PodStatus {
        qos_class: Some(pod::qos_class(p).as_str().into()),
        start_time: view.old.start_time.clone().or(Some(Time(whole_seconds(view.now)))),
        observed_generation: p.metadata.generation,
        host_ip: view.host_ips.first().cloned(),
        host_ips: (!view.host_ips.is_empty())
            .then(|| view.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        ..carried(view.old)
    };
    set_ips(view, &mut new);
    if never_taken(view) {
        new.phase = Some("Failed".to_owned());
        let (reason, message) = match view.failed {
            Some((reason, message)) => (Some(reason.to_owned()), Some(message.to_owned())),
            None => (view.old.reason.clone(), view.old.message.clone()),
        };
        (new.reason, new.message) = (reason, message);
        new.conditions = Some(condition::of_others(view)).filter(|conditions| !conditions.is_empty());
        return new;
    }
    let (regular, init, ephemeral) = container::statuses(view);
    new.container_statuses = Some(regular).filter(|s| !s.is_empty());
    new.init_container_statuses = Some(init).filter(|s| !s.is_empty());
    new.ephemeral_container_statuses = Some(ephemeral).filter(|s| !s.is_empty());

    let old_phase = view.old.phase.as_deref().unwrap_or_default();
    let phase = match view.failed {
        Some(_) => "Failed",
        None if pod::is_terminal_phase(old_phase) => old_phase,
        None => phase::phase(p, &new, view.finished),
    };
    new.phase = Some(phase.to_owned());
    if let Some((reason, message)) = view.failed {
        new.reason = Some(reason.to_owned());
        new.message = Some(message.to_owned());
    } else if phase == old_phase {
        new.reason.clone_from(&view.old.reason);
        new.message.clone_from(&view.old.message);
    }
    new.conditions = Some(condition::conditions(view, &new));
    new
}

/// Whether the node refused the pod: it failed before it had anything here. Such a pod has no containers to tell of.
fn never_taken(view: &View<'_>) -> bool {
    let failed = view.failed.is_some() || view.old.phase.as_deref() == Some("Failed");
    let told = view.old.container_statuses.is_some() || view.old.init_container_statuses.is_some();
    failed && !told && view.state.sandboxes.is_empty() && view.state.containers.is_empty()
}

/// What others wrote into the status and is kept as it is.
fn carried(old: &PodStatus) -> PodStatus {
    PodStatus {
        nominated_node_name: old.nominated_node_name.clone(),
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        extended_resource_claim_status: old.extended_resource_claim_status.clone(),
        node_allocatable_resource_claim_statuses: old.node_allocatable_resource_claim_statuses.clone(),
        ..PodStatus::default()
    }
}

/// The pod's addresses: the sandbox's, in the node's network the node's; those known before when the sandbox is gone.
fn set_ips(view: &View<'_>, new: &mut PodStatus) {
    let ips: &[String] = if pod::is_host_network(view.pod) {
        // Upstream shows them once the pod has something in the runtime.
        if view.state.sandboxes.is_empty() && view.old.pod_ip.is_none() { &[] } else { view.host_ips }
    } else {
        view.state.ips()
    };
    if ips.is_empty() {
        new.pod_ip.clone_from(&view.old.pod_ip);
        new.pod_ips.clone_from(&view.old.pod_ips);
        return;
    }
    new.pod_ip = ips.first().cloned();
    new.pod_ips = Some(ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect());
}

/// The API's times have whole seconds; comparing what was written with what is computed needs the same.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests;
