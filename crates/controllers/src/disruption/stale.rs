//! Takes back the condition `DisruptionTarget` of pods that were to be disrupted and were not.
//!
//! Upstream: pkg/controller/disruption, `syncStalePodDisruption`.

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::PodCondition;
use api::lean::Pod;
use api::meta::v1::Time;
use api::{Object, Timestamp};
use serde_json::json;

use crate::harness::{Plan, Read, View, Write};
use crate::pod;

const DISRUPTION_TARGET: &str = "DisruptionTarget";
/// The kubelet means it: however long it takes.
const BY_KUBELET: &str = "TerminationByKubelet";
/// How long after the condition was set a pod must be marked for deletion.
const DELETION_SECONDS_MAX: i64 = 120;

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "stale-disruption-controller";
    type Primary = Pod;

    fn reads() -> Vec<Read> {
        Vec::new()
    }

    fn writes() -> Vec<Write> {
        vec![Write::status::<Pod>()]
    }

    fn plan(&self, pod: &Arc<Pod>, _view: &View<'_>, now: Timestamp) -> Plan {
        plan(pod, now)
    }
}

fn is_stale_some_time(pod: &Pod, condition: &PodCondition) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    condition.type_ == DISRUPTION_TARGET
        && condition.status == "True"
        && condition.reason.as_deref() != Some(BY_KUBELET)
        && !pod.is_terminating()
        && !matches!(phase, Some("Succeeded" | "Failed"))
}

fn plan(pod: &Pod, now: Timestamp) -> Plan {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let Some(at) = conditions.iter().position(|condition| is_stale_some_time(pod, condition)) else {
        return Plan::default();
    };
    let since = conditions[at].last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let left_seconds = DELETION_SECONDS_MAX - now.duration_since(since).as_secs();
    if let Ok(left_seconds @ 1..) = u64::try_from(left_seconds) {
        return Plan::again_after(Duration::from_secs(left_seconds));
    }
    let mut plan = Plan::default();
    plan.push(pod::set_condition_as_seen(
        pod,
        &json!({
            "type": DISRUPTION_TARGET, "status": "False", "reason": null, "message": null,
            "lastTransitionTime": Time(now), "observedGeneration": pod.metadata.generation,
        }),
    ));
    plan
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use serde_json::Value;

    use super::*;
    use crate::harness::Op;

    fn planned(reason: &str, phase: &str, deleted: bool, seconds: i64) -> (Value, Option<Duration>) {
        let since = "2026-01-01T00:00:00Z";
        let mut pod = json!({"metadata": {"name": "a", "namespace": "n", "generation": 2}, "status": {"phase": phase,
            "conditions": [{"type": "Ready", "status": "True"},
                {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": since}]}});
        if deleted {
            pod["metadata"]["deletionTimestamp"] = since.into();
        }
        let start: Timestamp = since.parse().unwrap();
        let now = Timestamp::from_second(start.as_second() + seconds).unwrap();
        let plan = plan(&Pod::from_value(pod).unwrap(), now);
        let Some(Op::Patch { subresource: Some("status"), patch, .. }) = plan.steps.first().map(|step| &step.op) else {
            return (Value::Null, plan.requeue_after);
        };
        (patch["status"]["conditions"][0].clone(), plan.requeue_after)
    }

    #[test]
    fn a_condition_is_taken_back_after_two_minutes() {
        assert_eq!(
            planned("EvictionByEvictionAPI", "Running", false, 30),
            (Value::Null, Some(Duration::from_secs(90)))
        );
        let (condition, again) = planned("EvictionByEvictionAPI", "Running", false, 120);
        assert_eq!(condition["status"], "False");
        assert_eq!(condition.get("reason"), Some(&Value::Null), "it is taken out");
        assert_eq!(condition["lastTransitionTime"], "2026-01-01T00:02:00Z");
        assert_eq!(again, None);
    }

    #[test]
    fn some_are_never_stale() {
        for (reason, phase, deleted) in [
            ("TerminationByKubelet", "Running", false),
            ("EvictionByEvictionAPI", "Failed", false),
            ("EvictionByEvictionAPI", "Succeeded", false),
            ("EvictionByEvictionAPI", "Running", true),
        ] {
            assert_eq!(planned(reason, phase, deleted, 300), (Value::Null, None), "{reason} {phase} {deleted}");
        }
    }
}
