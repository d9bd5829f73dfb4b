//! Deletes Jobs some time after they finished, if they ask for that (`ttlSecondsAfterFinished`).
//!
//! Upstream: pkg/controller/ttlafterfinished.

use std::sync::Arc;
use std::time::Duration;

use api::batch::v1::Job;
use api::{Object, Timestamp};

use crate::harness::{Op, Plan, Read, Step, View, Write};

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "ttl-after-finished-controller";
    type Primary = Job;

    fn reads() -> Vec<Read> {
        Vec::new()
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<Job>(&["delete"])]
    }

    fn plan(&self, job: &Arc<Job>, _view: &View<'_>, now: Timestamp) -> Plan {
        plan(job, now)
    }
}

fn plan(job: &Job, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let ttl_seconds = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
    let (Some(ttl_seconds), Some(finished), false) = (ttl_seconds, finished_at(job), job.is_terminating()) else {
        return plan;
    };
    let left_seconds = i64::from(ttl_seconds) - now.duration_since(finished).as_secs();
    if let Ok(left_seconds @ 1..) = u64::try_from(left_seconds) {
        return Plan::again_after(Duration::from_secs(left_seconds));
    }
    let mut step = Step::delete(job);
    if let Op::Delete { options, .. } = &mut step.op {
        // The Job goes once its pods are gone.
        options.propagation_policy = Some("Foreground".to_owned());
    }
    plan.push(step);
    plan
}

/// When it completed or failed, if it did.
fn finished_at(job: &Job) -> Option<Timestamp> {
    let mut conditions = job.status.as_ref()?.conditions.iter().flatten();
    let finished = conditions
        .find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True")?;
    finished.last_transition_time.as_ref().map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;
    use serde_json::{Value, json};

    fn planned(spec: Value, status: &str) -> Plan {
        let job = json!({"metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": spec, "status": {"conditions": [
            {"type": "Suspended", "status": "True"},
            {"type": "Failed", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        plan(&Job::from_value(job).unwrap(), "2026-01-01T00:01:00Z".parse().unwrap())
    }

    #[test]
    fn a_job_goes_when_its_time_is_up() {
        let spec = |ttl: Value| json!({"template": {}, "ttlSecondsAfterFinished": ttl});
        let early = planned(spec(json!(100)), "True");
        assert!(early.steps.is_empty());
        assert_eq!(early.requeue_after, Some(Duration::from_secs(40)));
        for kept in [planned(spec(Value::Null), "True"), planned(spec(json!(0)), "False")] {
            assert!(kept.steps.is_empty() && kept.requeue_after.is_none());
        }
        let due = planned(spec(json!(60)), "True");
        let [Step { op: Op::Delete { uid, options, .. }, .. }] = &due.steps[..] else { panic!("{due:?}") };
        assert_eq!((uid.as_str(), options.propagation_policy.as_deref()), ("u", Some("Foreground")));
    }
}
