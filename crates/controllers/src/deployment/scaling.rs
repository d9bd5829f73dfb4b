//! Scaling ReplicaSets: one by a rollout, or several in proportion when the Deployment itself is scaled meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Object;
use api::apps::v1::{Deployment, ReplicaSet};

use super::replica_sets::{DESIRED_REPLICAS, MAX_REPLICAS, ReplicaSets, available, desired, revision};
use super::{bounds, replicas, strategy_type};
use crate::harness::{Plan, Step};

/// Writes down for how many replicas a set was sized.
pub fn annotate(annotations: &mut BTreeMap<String, String>, desired: i32, max: i32) {
    annotations.insert(DESIRED_REPLICAS.into(), desired.to_string());
    annotations.insert(MAX_REPLICAS.into(), max.to_string());
}

/// Scales one set, with its event; nothing if it has that size.
pub fn resize(plan: &mut Plan, deployment: &Deployment, set: &ReplicaSet, to: i32) {
    let from = desired(set);
    let mut new = set.clone();
    new.spec.replicas = Some(to);
    let max = replicas(deployment) + bounds(deployment).0;
    annotate(new.metadata.annotations.get_or_insert_default(), replicas(deployment), max);
    if new == *set {
        return;
    }
    let mut step = Step::update(new);
    if from != to {
        let way = if from < to { "up" } else { "down" };
        step = step.tells("ScalingReplicaSet", format!("Scaled {way} replica set {} from {from} to {to}", set.name()));
    }
    plan.push(step);
}

/// Whether `spec.replicas` changed since the sets were last sized.
pub fn is_scaling(deployment: &Deployment, sets: &ReplicaSets) -> bool {
    let sized = |set: &ReplicaSet| set.annotation(DESIRED_REPLICAS).and_then(|text| text.parse::<i32>().ok());
    sets.all().any(|set| desired(set) > 0 && sized(set).is_some_and(|sized| sized != replicas(deployment)))
}

/// Follows a change of `spec.replicas`.
pub fn scale(deployment: &Deployment, sets: &ReplicaSets) -> Plan {
    let mut plan = Plan::default();
    let active: Vec<&Arc<ReplicaSet>> = sets.all().filter(|set| desired(set) > 0).collect();
    let only = match active.as_slice() {
        [] => sets.new.as_ref().or_else(|| sets.old.iter().max_by_key(|set| revision(&***set))),
        [one] => Some(*one),
        _ => None,
    };
    if let Some(set) = only {
        resize(&mut plan, deployment, set, replicas(deployment));
        return plan;
    }
    if sets.new.as_ref().is_some_and(|set| is_saturated(deployment, set)) {
        for set in sets.old.iter().filter(|set| desired(set) > 0) {
            resize(&mut plan, deployment, set, 0);
        }
        return plan;
    }
    if strategy_type(&deployment.spec) == "RollingUpdate" {
        proportionally(&mut plan, deployment, active);
    }
    plan
}

/// The new set has all the pods, and they are available.
fn is_saturated(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let sized = set.annotation(DESIRED_REPLICAS).and_then(|text| text.parse::<i32>().ok());
    let wanted = replicas(deployment);
    desired(set) == wanted && sized == Some(wanted) && available(set) == wanted
}

/// Spreads the difference over the sets by their size, the rest to the largest.
fn proportionally(plan: &mut Plan, deployment: &Deployment, mut sets: Vec<&Arc<ReplicaSet>>) {
    let allowed = if replicas(deployment) > 0 { replicas(deployment) + bounds(deployment).0 } else { 0 };
    let to_add = allowed - sets.iter().map(|set| desired(set)).sum::<i32>();
    // Growing favours newer sets among equals, shrinking older ones.
    sets.sort_by_key(|set| {
        let age = set.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
        (std::cmp::Reverse(desired(set)), if to_add > 0 { -age } else { age })
    });
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(sets.len());
    for set in &sets {
        let share = if to_add == 0 { 0 } else { proportion(deployment, set, to_add, added) };
        added += share;
        sizes.push(desired(set) + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (set, size) in sets.into_iter().zip(sizes) {
        resize(plan, deployment, set, size);
    }
}

/// One set's share of the difference, never more than what is left of it.
fn proportion(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if desired(set) == 0 {
        return 0;
    }
    let fraction = if replicas(deployment) == 0 {
        -desired(set)
    } else {
        let max = set.annotation(MAX_REPLICAS).and_then(|text| text.parse::<i32>().ok()).filter(|max| *max > 0);
        let before = max.or_else(|| deployment.status.as_ref()?.replicas).unwrap_or(1).max(1);
        let now = f64::from(replicas(deployment) + bounds(deployment).0);
        #[allow(clippy::cast_possible_truncation)] // far below 2^31
        let size = (f64::from(desired(set)) * now / f64::from(before)).round() as i32;
        size - desired(set)
    };
    let left = to_add - added;
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}
