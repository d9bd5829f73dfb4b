//! What controllers ask of pods: whether they count, since when they are ready, and whose they are.

use std::sync::Arc;

use api::call::PatchKind;
use api::core::v1::PodCondition;
use api::lean::Pod;
use api::{LabelSelector, Object, Timestamp, Typed};
use serde_json::json;

use crate::harness::{Op, Step, View};

/// Neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !pod.is_terminating()
}

/// Succeeded or Failed.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// The node it is bound to, or `""`.
pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// A condition of its status.
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

/// Whether the Ready condition is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Since when it has been ready, if it is.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Ready for at least `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    if !is_ready(pod) {
        return false;
    }
    min_ready_seconds == 0
        || ready_since(pod).is_some_and(|since| now.duration_since(since).as_secs() >= i64::from(min_ready_seconds))
}

/// Restarts of all its containers.
pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.map_or(0, |statuses| statuses.iter().map(|status| status.restart_count).max().unwrap_or(0))
}

/// The objects of kind `T` that belong to `owner`: those it controls and that still match, and orphans that match.
/// The steps adopt the latter and release the owner's that match no longer (upstream's `ControllerRefManager`).
pub fn claim<T: Typed>(owner: &dyn Object, selector: &LabelSelector, view: &View<'_>) -> (Vec<Arc<T>>, Vec<Step>) {
    let (mut claimed, mut steps) = (Vec::new(), Vec::new());
    for object in view.owned::<T>(owner.uid()) {
        if selector.matches_labels(object.metadata().labels.as_ref()) {
            claimed.push(object);
        } else if !object.is_terminating() && !owner.is_terminating() {
            steps.push(release(&*object, owner));
        }
    }
    if owner.is_terminating() || selector.is_everything() {
        return (claimed, steps);
    }
    for object in view.in_namespace::<T>(owner.namespace()) {
        let orphan = api::owner::controller_of(&*object).is_none() && !object.is_terminating();
        if orphan && selector.matches_labels(object.metadata().labels.as_ref()) {
            steps.push(adopt(&*object, owner));
            claimed.push(object);
        }
    }
    (claimed, steps)
}

/// Sets a condition of that very pod (by uid), of which only the members given change.
pub fn set_condition(pod: &Pod, condition: &serde_json::Value) -> Step {
    let change = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
    patch(pod, Some("status"), change)
}

/// As [`set_condition`], refused if the pod has changed since.
pub fn set_condition_as_seen(pod: &Pod, condition: &serde_json::Value) -> Step {
    let metadata = json!({"uid": pod.uid(), "resourceVersion": pod.resource_version()});
    patch(pod, Some("status"), json!({"metadata": metadata, "status": {"conditions": [condition]}}))
}

fn patch(object: &dyn Object, subresource: Option<&'static str>, patch: serde_json::Value) -> Step {
    Step::new(Op::Patch {
        kind: object.kind(),
        namespace: object.namespace().to_owned(),
        name: object.name().to_owned(),
        subresource,
        format: PatchKind::Strategic,
        patch,
    })
}

fn adopt(object: &dyn Object, owner: &dyn Object) -> Step {
    let reference = api::owner::controller_reference(owner);
    patch(object, None, json!({"metadata": {"uid": object.uid(), "ownerReferences": [reference]}}))
}

fn release(object: &dyn Object, owner: &dyn Object) -> Step {
    let delete = json!({"$patch": "delete", "uid": owner.uid()});
    patch(object, None, json!({"metadata": {"uid": object.uid(), "ownerReferences": [delete]}}))
}
