//! What a Deployment's status says: counts and the conditions Available, Progressing and ReplicaFailure.

use std::time::Duration;

use api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use api::meta::v1::Time;
use api::{Object, Timestamp};

use super::replica_sets::{ReplicaSets, available, current};
use super::{max_unavailable, replicas, update_status};
use crate::harness::{Plan, View};

const AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

pub fn condition(type_: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(type_.into()),
        status: Some(status.into()),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

fn find<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|condition| condition.type_.as_deref() == Some(type_))
}

pub fn has_condition(deployment: &Deployment, type_: &str) -> bool {
    deployment.status.as_ref().is_some_and(|status| find(status, type_).is_some())
}

/// Whether `progressDeadlineSeconds` is set (the largest number means no deadline).
pub fn has_deadline(deployment: &Deployment) -> bool {
    deployment.spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX)
}

/// Sets a condition; one of the same status and reason is left as it is.
pub fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    if let Some(old) = new.type_.as_deref().and_then(|type_| find(status, type_)) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    replace(status, new);
}

fn replace(status: &mut DeploymentStatus, new: DeploymentCondition) {
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != new.type_);
    conditions.push(new);
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_.as_deref() != Some(type_));
    }
}

/// Pausing and resuming are told by the Progressing condition, so that the deadline does not run meanwhile.
pub fn paused_changed(deployment: &Deployment, now: Timestamp) -> Option<Plan> {
    if !has_deadline(deployment) {
        return None;
    }
    let mut status = deployment.status.clone().unwrap_or_default();
    let progressing = find(&status, "Progressing");
    let reason = progressing.and_then(|condition| condition.reason.as_deref());
    if reason == Some(TIMED_OUT) {
        return None;
    }
    let paused = deployment.spec.paused == Some(true);
    let new = match (paused, reason == Some("DeploymentPaused")) {
        (true, false) => condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused".into(), now),
        (false, true) => condition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed".into(), now),
        _ => return None,
    };
    set(&mut status, new);
    let mut plan = Plan::default();
    plan.push(update_status(deployment, status));
    Some(plan)
}

/// The counts, with the conditions as they were but for Available.
fn counts(deployment: &Deployment, sets: &ReplicaSets, now: Timestamp) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let total: i32 = sets.all().map(|set| current(set)).sum();
    let available_total: i32 = sets.all().map(|set| available(set)).sum();
    let ready = sets.all().map(|set| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)).sum();
    let terminating =
        sets.all().map(|set| set.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or(0)).sum();
    let some = |count: i32| (count != 0).then_some(count);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(total),
        updated_replicas: some(sets.new.as_ref().map_or(0, |set| current(set))),
        ready_replicas: some(ready),
        available_replicas: some(available_total),
        unavailable_replicas: some((total - available_total).max(0)),
        terminating_replicas: Some(terminating),
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let new = if available_total >= replicas(deployment) - max_unavailable(deployment) {
        let message = "Deployment has minimum availability.".to_owned();
        condition("Available", "True", "MinimumReplicasAvailable", message, now)
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        condition("Available", "False", "MinimumReplicasUnavailable", message, now)
    };
    set(&mut status, new);
    status
}

fn complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = replicas(deployment);
    let count = |count: Option<i32>| count.unwrap_or(0);
    count(status.updated_replicas) == wanted
        && count(status.replicas) == wanted
        && count(status.available_replicas) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

/// Whether all pods are of the new set, and available.
pub fn is_complete(deployment: &Deployment, sets: &ReplicaSets) -> bool {
    let status = counts(deployment, sets, Timestamp::UNIX_EPOCH);
    complete(deployment, &status)
}

/// Whether more is done than the last status said.
fn progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or(0);
    let stale = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || stale(new) < stale(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

/// Seconds until the rollout counts as stuck, from its last progress; `None` if it cannot.
fn seconds_left(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<i64> {
    let progressing = find(status, "Progressing")?;
    if progressing.reason.as_deref() == Some(AVAILABLE) {
        return None;
    }
    let since = progressing.last_update_time.as_ref()?.0;
    let deadline = i64::from(deployment.spec.progress_deadline_seconds?);
    Some(deadline - now.duration_since(since).as_secs())
}

/// The status as it should be now; writes it if it differs, and comes back when the deadline runs out.
pub fn report(deployment: &Deployment, sets: &ReplicaSets, _view: &View<'_>, now: Timestamp) -> Plan {
    let old = deployment.status.clone().unwrap_or_default();
    let mut status = counts(deployment, sets, now);
    let reason = find(&status, "Progressing").and_then(|condition| condition.reason.clone());
    let what = match &sets.new {
        Some(set) => format!("ReplicaSet \"{}\"", set.name()),
        None => format!("Deployment \"{}\"", deployment.name()),
    };
    let settled = status.replicas == status.updated_replicas && reason.as_deref() == Some(AVAILABLE);
    if !has_deadline(deployment) {
        remove(&mut status, "Progressing");
    } else if !settled && deployment.spec.paused != Some(true) {
        if complete(deployment, &status) {
            let message = format!("{what} has successfully progressed.");
            set(&mut status, condition("Progressing", "True", AVAILABLE, message, now));
        } else if progressed(&old, &status) {
            let message = format!("{what} is progressing.");
            let mut new = condition("Progressing", "True", "ReplicaSetUpdated", message, now);
            if let Some(old) = find(&status, "Progressing").filter(|old| old.status.as_deref() == Some("True")) {
                new.last_transition_time.clone_from(&old.last_transition_time);
            }
            replace(&mut status, new);
        } else if reason.as_deref() == Some(TIMED_OUT)
            || seconds_left(deployment, &status, now).is_some_and(|left| left < 0)
        {
            let message = format!("{what} has timed out progressing.");
            set(&mut status, condition("Progressing", "False", TIMED_OUT, message, now));
        }
    }
    replica_failure(&mut status, sets);
    let mut plan = Plan::default();
    let waiting = has_deadline(deployment)
        && deployment.spec.paused != Some(true)
        && !complete(deployment, &status)
        && find(&status, "Progressing").and_then(|condition| condition.reason.as_deref()) != Some(TIMED_OUT);
    if waiting && let Some(left) = seconds_left(deployment, &status, now) {
        plan.requeue_within(Duration::from_secs(u64::try_from(left.max(0)).unwrap_or(0) + 1));
    }
    if deployment.status.as_ref() != Some(&status) {
        plan.push(update_status(deployment, status));
    }
    plan
}

/// A ReplicaSet that cannot make its pods is the Deployment's failure too.
fn replica_failure(status: &mut DeploymentStatus, sets: &ReplicaSets) {
    let failures = |set: &api::apps::v1::ReplicaSet| {
        let conditions = set.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        conditions.into_iter().find(|condition| condition.type_.as_deref() == Some("ReplicaFailure"))
    };
    let failure = sets.new.iter().chain(&sets.old).find_map(|set| failures(set));
    match failure {
        Some(failure) => set(
            status,
            DeploymentCondition {
                type_: failure.type_,
                status: failure.status,
                reason: failure.reason,
                message: failure.message,
                last_update_time: failure.last_transition_time.clone(),
                last_transition_time: failure.last_transition_time,
            },
        ),
        None => remove(status, "ReplicaFailure"),
    }
}
