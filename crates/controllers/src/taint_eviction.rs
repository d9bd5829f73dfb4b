//! Deletes pods from nodes whose NoExecute taints they do not tolerate, or no longer.
//!
//! Upstream: pkg/controller/tainteviction.

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Node, Taint};
use api::lean::Pod;
use api::meta::v1::Time;
use api::{Object, Timestamp};
use serde_json::json;

use crate::harness::{Plan, Read, Step, View, Write};
use crate::{pod, taints};

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "taint-eviction-controller";
    type Primary = Pod;

    fn reads() -> Vec<Read> {
        vec![Read::mapped::<Node>(|change, reflectors, keys| {
            let no_execute = |node: Option<&Arc<Node>>| -> Vec<Taint> {
                let taints = node.map(|node| taints::of(node)).unwrap_or_default();
                taints.iter().filter(|taint| taint.effect == taints::NO_EXECUTE).cloned().collect()
            };
            if no_execute(change.old.as_ref()) == no_execute(change.new.as_ref()) {
                return;
            }
            let pods = reflectors.of::<Pod>().index(crate::harness::node_of).get(&change.key);
            keys.extend(pods.iter().map(|pod| pod.key()));
        })]
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<Pod>(&["delete"]), Write::status::<Pod>()]
    }

    fn plan(&self, pod: &Arc<Pod>, view: &View<'_>, now: Timestamp) -> Plan {
        plan(pod, view, now)
    }
}

fn plan(pod: &Arc<Pod>, view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if pod.is_terminating() || pod::node_name(pod).is_empty() {
        return plan;
    }
    let Some(node) = view.get::<Node>(pod::node_name(pod)) else { return plan };
    let no_execute = || taints::of(&node).iter().filter(|taint| taint.effect == taints::NO_EXECUTE);
    if no_execute().next().is_none() {
        return plan;
    }
    let taints::Stay::Seconds(stay) = taints::stay(pod, no_execute()) else { return plan };
    let since = no_execute().filter_map(|taint| taint.time_added.as_ref().map(|time| time.0)).min().unwrap_or(now);
    let left = stay - now.duration_since(since).as_secs();
    if left > 0 {
        return Plan::again_after(Duration::from_secs(u64::try_from(left).unwrap_or(0)));
    }
    plan.normal("TaintManagerEviction", format!("Marking for deletion Pod {}", pod.key()));
    let target = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": Time(now),
    });
    plan.push(pod::set_condition(pod, &target));
    plan.push(Step::delete(&**pod));
    plan
}
