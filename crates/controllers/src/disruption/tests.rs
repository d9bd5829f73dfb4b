//! What a budget counts, and when it forgets.

use super::*;
use crate::harness::Op;
use api::Typed;
use serde_json::{Value, json};

const NOW: &str = "2026-01-01T00:10:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
    let value = json!({"metadata": {"name": "b", "namespace": "n", "generation": 3}, "spec": spec, "status": status});
    PodDisruptionBudget::from_value(value).unwrap()
}

fn pod(name: &str, owner: Option<&str>, ready: bool) -> Arc<Pod> {
    let owners: Vec<Value> = owner
        .map(|uid| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": uid, "uid": uid, "controller": true}))
        .into_iter()
        .collect();
    let ready = if ready { "True" } else { "False" };
    let value = json!({"metadata": {"name": name, "namespace": "n", "ownerReferences": owners},
        "status": {"conditions": [{"type": "Ready", "status": ready}]}});
    Arc::new(Pod::from_value(value).unwrap())
}

fn status_of(plan: &Plan) -> Value {
    let Some(Op::UpdateStatus(object)) = plan.steps.first().map(|step| &step.op) else { return Value::Null };
    object.to_value()["status"].take()
}

fn planned(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], replicas: i32) -> (Value, Plan) {
    let plan = plan(budget, pods, |owner| Ok(Some((owner.uid.clone(), replicas))), now());
    (status_of(&plan), plan)
}

fn numbers(status: &Value) -> [i64; 4] {
    ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"]
        .map(|name| status[name].as_i64().unwrap())
}

#[test]
fn counts_and_shares() {
    let pods = [pod("a", Some("x"), true), pod("b", Some("x"), true), pod("c", Some("x"), false)];
    let cases = [
        (json!({"minAvailable": 1}), [3, 1, 2, 1]),
        (json!({"minAvailable": 2}), [3, 2, 2, 0]),
        (json!({"minAvailable": "25%"}), [5, 2, 2, 0]),
        (json!({"maxUnavailable": "50%"}), [5, 2, 2, 0]),
        (json!({"maxUnavailable": 4}), [5, 1, 2, 1]),
        (json!({"maxUnavailable": 9}), [5, 0, 2, 2]),
        (json!({}), [0, 0, 2, 0]),
    ];
    for (spec, expected) in cases {
        let (status, _) = planned(&budget(spec.clone(), json!({})), &pods, 5);
        assert_eq!(numbers(&status), expected, "{spec}");
        let allowed = expected[3] > 0;
        let condition = &status["conditions"][0];
        assert_eq!(condition["status"], if allowed { "True" } else { "False" });
        assert_eq!(condition["reason"], if allowed { "SufficientPods" } else { "InsufficientPods" });
        assert_eq!((&condition["observedGeneration"], &status["observedGeneration"]), (&json!(3), &json!(3)));
    }
}

#[test]
fn what_is_written_already_is_left_alone() {
    let pods = [pod("a", Some("x"), true)];
    let (status, _) = planned(&budget(json!({"minAvailable": 0}), json!({})), &pods, 1);
    let (again, plan) = planned(&budget(json!({"minAvailable": 0}), status), &pods, 1);
    assert_eq!(again, Value::Null);
    assert!(plan.steps.is_empty() && plan.requeue_after.is_none());
}

#[test]
fn a_granted_eviction_counts_for_two_minutes() {
    let pods = [pod("a", Some("x"), true), pod("b", Some("x"), true), pod("c", Some("x"), true)];
    let granted = json!({"disruptedPods": {
        "a": "2026-01-01T00:09:00Z", "b": "2026-01-01T00:07:00Z", "gone": "2026-01-01T00:09:59Z"}});
    let (status, plan) = planned(&budget(json!({"minAvailable": 1}), granted), &pods, 3);
    assert_eq!(status["disruptedPods"], json!({"a": "2026-01-01T00:09:00Z"}));
    assert_eq!(numbers(&status), [3, 1, 2, 1]);
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(61)));
}

#[test]
fn who_cannot_count_allows_nothing() {
    let before = json!({"disruptionsAllowed": 2, "currentHealthy": 4});
    let budget = budget(json!({"maxUnavailable": 1}), before);
    let lost = plan(&budget, &[pod("a", Some("x"), true)], |_| Ok(None), now());
    let status = status_of(&lost);
    assert_eq!((&status["disruptionsAllowed"], &status["currentHealthy"]), (&json!(0), &json!(4)));
    assert_eq!(status["conditions"][0]["reason"], "SyncFailed");
    assert_eq!(status["conditions"][0]["message"], "found no controllers for pod \"a\"");
    assert_eq!(lost.events[0].1, "CalculateExpectedPodCountFailed");
}

#[test]
fn pods_without_a_controller_are_told_of() {
    let (status, plan) = planned(&budget(json!({"maxUnavailable": 1}), json!({})), &[pod("a", None, true)], 7);
    assert_eq!(numbers(&status), [0, 0, 1, 0]);
    assert_eq!(plan.events[0].1, "UnmanagedPods");
}
