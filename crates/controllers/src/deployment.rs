//! Rolls Deployments out: a ReplicaSet per pod template, scaled up and down within the strategy's bounds.
//!
//! Upstream: pkg/controller/deployment. `plan` takes one step at a time (create, scale, clean up, report); the change
//! of the ReplicaSet it causes brings the Deployment back for the next.

mod replica_sets;
mod rollout;
mod scaling;
mod status;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use api::lean::Pod;
use api::{IntOrString, LabelSelector, Object, Timestamp};
use client::{Change, Reflectors};

use crate::harness::{Plan, Read, Step, View, Write};
use crate::pod;
use replica_sets::ReplicaSets;

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "deployment-controller";
    type Primary = Deployment;

    fn reads() -> Vec<Read> {
        vec![
            Read::owned::<ReplicaSet, Deployment>(),
            Read::mapped::<ReplicaSet>(orphan),
            // Recreate waits for the old pods to be gone.
            Read::mapped::<Pod>(pod_gone),
        ]
    }

    fn writes() -> Vec<Write> {
        vec![
            Write::of::<ReplicaSet>(&["create", "update", "delete", "patch"]),
            Write::of::<Deployment>(&["patch"]),
            Write::status::<Deployment>(),
        ]
    }

    fn plan(&self, deployment: &Arc<Deployment>, view: &View<'_>, now: Timestamp) -> Plan {
        plan(deployment, view, now)
    }
}

/// A ReplicaSet without a controller may be one that a Deployment of its namespace can adopt.
fn orphan(change: &Change<ReplicaSet>, reflectors: &Reflectors, keys: &mut BTreeSet<String>) {
    let Some(set) = &change.new else { return };
    if api::owner::controller_of(&**set).is_some() {
        return;
    }
    for deployment in reflectors.of::<Deployment>().in_namespace(set.namespace()) {
        let selector = LabelSelector::from_api(Some(&deployment.spec.selector));
        if selector.is_ok_and(|selector| selector.matches_labels(set.metadata.labels.as_ref())) {
            keys.insert(deployment.key());
        }
    }
}

fn pod_gone(change: &Change<Pod>, reflectors: &Reflectors, keys: &mut BTreeSet<String>) {
    let (Some(pod), None) = (&change.old, &change.new) else { return };
    let Some(set) = api::owner::controller_of(&**pod).filter(|owner| owner.kind == "ReplicaSet") else { return };
    let set = reflectors.of::<ReplicaSet>().get(&format!("{}/{}", pod.namespace(), set.name));
    if let Some(owner) = set.as_deref().and_then(|set| api::owner::controller_of(set)) {
        keys.insert(format!("{}/{}", pod.namespace(), owner.name));
    }
}

fn plan(deployment: &Arc<Deployment>, view: &View<'_>, now: Timestamp) -> Plan {
    let Ok(selector) = LabelSelector::from_api(Some(&deployment.spec.selector)) else { return Plan::default() };
    if selector.is_everything() {
        let mut plan = Plan::default();
        plan.warning("SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.");
        return plan;
    }
    let (claimed, mut steps) = pod::claim::<ReplicaSet>(&**deployment, &selector, view);
    let sets = ReplicaSets::sort(deployment, claimed);
    let mut plan = decide(deployment, &sets, view, now);
    steps.append(&mut plan.steps);
    plan.steps = steps;
    plan
}

fn decide(deployment: &Deployment, sets: &ReplicaSets, view: &View<'_>, now: Timestamp) -> Plan {
    if deployment.is_terminating() {
        return status::report(deployment, sets, view, now);
    }
    if let Some(plan) = status::paused_changed(deployment, now) {
        return plan;
    }
    if deployment.spec.paused == Some(true) {
        let mut plan = scaling::scale(deployment, sets);
        if plan.steps.is_empty() {
            plan = rollout::clean_up(deployment, sets);
        }
        return plan.or_else(|| status::report(deployment, sets, view, now));
    }
    if scaling::is_scaling(deployment, sets) {
        let plan = replica_sets::sync_new(deployment, sets, None, view, now);
        return plan
            .or_else(|| scaling::scale(deployment, sets))
            .or_else(|| status::report(deployment, sets, view, now));
    }
    match strategy_type(&deployment.spec) {
        "Recreate" => rollout::recreate(deployment, sets, view, now),
        _ => rollout::rolling(deployment, sets, view, now),
    }
}

impl Plan {
    /// This plan, or the other one if this one writes nothing.
    fn or_else(self, other: impl FnOnce() -> Plan) -> Plan {
        if self.steps.is_empty() { other() } else { self }
    }
}

fn strategy_type(spec: &DeploymentSpec) -> &str {
    spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate")
}

fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

/// How many pods beyond `replicas` there may be, and how many of them may be unavailable, in pods. Surge rounds up,
/// unavailable down; if both come to nothing, one may be unavailable, or nothing would ever move.
fn bounds(deployment: &Deployment) -> (i32, i32) {
    if strategy_type(&deployment.spec) == "Recreate" {
        return (0, 0);
    }
    let update = deployment.spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let resolve = |value: Option<&IntOrString>, up: bool| match value {
        Some(IntOrString::Int(count)) => *count,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let total = percent * i64::from(replicas(deployment));
            i32::try_from(if up { (total + 99) / 100 } else { total / 100 }).unwrap_or(i32::MAX)
        }
        None => 0,
    };
    let surge = resolve(update.and_then(|update| update.max_surge.as_ref()), true);
    let unavailable = resolve(update.and_then(|update| update.max_unavailable.as_ref()), false);
    match (surge, unavailable) {
        (0, 0) => (0, 1),
        (surge, unavailable) => (surge, unavailable.min(replicas(deployment))),
    }
}

fn max_unavailable(deployment: &Deployment) -> i32 {
    if replicas(deployment) == 0 { 0 } else { bounds(deployment).1 }
}

/// Whether pods of old ReplicaSets still exist, terminating ones included.
fn old_pods_running(sets: &ReplicaSets, view: &View<'_>) -> bool {
    sets.old.iter().any(|set| view.owned::<Pod>(set.uid()).iter().any(|pod| !pod::is_finished(pod)))
}

fn update_status(deployment: &Deployment, status: api::apps::v1::DeploymentStatus) -> Step {
    let mut new = deployment.clone();
    new.status = Some(status);
    Step::update_status(new)
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use serde_json::{Value, json};

    use super::*;

    fn deployment(replicas: i32, surge: Value, unavailable: Value) -> Deployment {
        let update = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        let spec = json!({
            "replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": {},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": update},
        });
        Deployment::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
    }

    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        let cases = [
            (10, json!("25%"), json!("25%"), (3, 2)),
            (1, json!("25%"), json!("25%"), (1, 0)),
            (4, json!(0), json!("10%"), (0, 1)),
            (4, json!(0), json!(0), (0, 1)),
            (3, json!(2), json!(9), (2, 3)),
        ];
        for (replicas, surge, unavailable, wanted) in cases {
            let deployment = deployment(replicas, surge.clone(), unavailable.clone());
            assert_eq!(bounds(&deployment), wanted, "{replicas} replicas, surge {surge}, unavailable {unavailable}");
        }
    }
}
