//! The two strategies, and what is cleaned up when they are done.

use std::sync::Arc;

use api::apps::v1::{Deployment, ReplicaSet};
use api::{Object, Timestamp};

use super::replica_sets::{self, ReplicaSets, available, current, desired, revision};
use super::scaling::resize;
use super::{bounds, max_unavailable, old_pods_running, replicas, status};
use crate::harness::{Plan, Step, View};

/// Grows the new set and shrinks the old ones, within `maxSurge` and `maxUnavailable`.
pub fn rolling(deployment: &Deployment, sets: &ReplicaSets, view: &View<'_>, now: Timestamp) -> Plan {
    let create = new_replicas(deployment, sets);
    replica_sets::sync_new(deployment, sets, Some(create), view, now)
        .or_else(|| grow_new(deployment, sets))
        .or_else(|| shrink_old(deployment, sets))
        .or_else(|| if status::is_complete(deployment, sets) { clean_up(deployment, sets) } else { Plan::default() })
        .or_else(|| status::report(deployment, sets, view, now))
}

/// Stops all old pods before it starts the new ones.
pub fn recreate(deployment: &Deployment, sets: &ReplicaSets, view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = replica_sets::sync_new(deployment, sets, None, view, now);
    if !plan.steps.is_empty() {
        return plan;
    }
    for set in sets.old.iter().filter(|set| desired(set) > 0) {
        resize(&mut plan, deployment, set, 0);
    }
    if !plan.steps.is_empty() {
        return plan;
    }
    if old_pods_running(sets, view) {
        return status::report(deployment, sets, view, now);
    }
    replica_sets::sync_new(deployment, sets, Some(replicas(deployment)), view, now)
        .or_else(|| grow_new(deployment, sets))
        .or_else(|| if status::is_complete(deployment, sets) { clean_up(deployment, sets) } else { Plan::default() })
        .or_else(|| status::report(deployment, sets, view, now))
}

/// How large the new set may be now.
fn new_replicas(deployment: &Deployment, sets: &ReplicaSets) -> i32 {
    let size = sets.new.as_ref().map_or(0, |set| desired(set));
    if super::strategy_type(&deployment.spec) == "Recreate" {
        return replicas(deployment);
    }
    let total: i32 = sets.all().map(|set| desired(set)).sum();
    let room = replicas(deployment) + bounds(deployment).0 - total;
    if room <= 0 { size } else { size + room.min(replicas(deployment) - size) }
}

fn grow_new(deployment: &Deployment, sets: &ReplicaSets) -> Plan {
    let mut plan = Plan::default();
    let Some(set) = &sets.new else { return plan };
    if desired(set) > replicas(deployment) {
        resize(&mut plan, deployment, set, replicas(deployment));
    } else if desired(set) < replicas(deployment) {
        let size = new_replicas(deployment, sets);
        if size != desired(set) {
            resize(&mut plan, deployment, set, size);
        }
    }
    plan
}

/// Takes pods from the old sets: first those that are not available anyway, then as many as the new ones replace.
fn shrink_old(deployment: &Deployment, sets: &ReplicaSets) -> Plan {
    let mut plan = Plan::default();
    if sets.old.iter().all(|set| desired(set) == 0) {
        return plan;
    }
    let min_available = replicas(deployment) - max_unavailable(deployment);
    let total: i32 = sets.all().map(|set| desired(set)).sum();
    let new_unavailable = sets.new.as_ref().map_or(0, |set| desired(set) - available(set));
    let mut budget = total - min_available - new_unavailable;
    if budget <= 0 {
        return plan;
    }
    let mut sizes: Vec<(&Arc<ReplicaSet>, i32)> = sets.old.iter().map(|set| (set, desired(set))).collect();
    for (set, size) in &mut sizes {
        let unhealthy = (*size - available(set)).max(0).min(budget);
        *size -= unhealthy;
        budget -= unhealthy;
    }
    let mut surplus = sets.all().map(|set| available(set)).sum::<i32>() - min_available;
    for (_, size) in &mut sizes {
        let fewer = (*size).min(surplus).max(0);
        *size -= fewer;
        surplus -= fewer;
    }
    for (set, size) in sizes {
        if size != desired(set) {
            resize(&mut plan, deployment, set, size);
        }
    }
    plan
}

/// Deletes the oldest empty sets beyond `revisionHistoryLimit`.
pub fn clean_up(deployment: &Deployment, sets: &ReplicaSets) -> Plan {
    let mut plan = Plan::default();
    let Some(limit) = deployment.spec.revision_history_limit.filter(|limit| *limit != i32::MAX) else { return plan };
    let alive = sets.old.iter().filter(|set| !set.is_terminating());
    let mut alive: Vec<&Arc<ReplicaSet>> = alive.collect();
    let limit = usize::try_from(limit).unwrap_or(0);
    let Some(surplus) = alive.len().checked_sub(limit).filter(|surplus| *surplus > 0) else { return plan };
    alive.sort_by_key(|set| revision(&***set));
    for set in alive.into_iter().take(surplus) {
        let observed = set.status.as_ref().and_then(|status| status.observed_generation);
        let settled = set.metadata.generation <= observed;
        if current(set) == 0 && desired(set) == 0 && settled {
            plan.push(Step::delete(&**set));
        }
    }
    plan
}
