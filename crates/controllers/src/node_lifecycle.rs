//! Watches nodes' heartbeats, and taints nodes by their conditions.
//!
//! Upstream: pkg/controller/nodelifecycle. A node whose lease and status are older than the grace period is Unknown
//! and tainted unreachable; the pods on it are told not to be ready, so that traffic stops; evicting them is
//! [`crate::taint_eviction`]'s.

use std::sync::Arc;
use std::time::Duration;

use api::coordination::v1::Lease;
use api::core::v1::{Node, NodeCondition, Taint};
use api::lean::Pod;
use api::meta::v1::Time;
use api::{Object, Timestamp};
use serde_json::json;

use crate::harness::{Plan, Read, Step, View, Write};
use crate::pod;
use crate::taints::{NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE, UNSCHEDULABLE, of};

/// How old a heartbeat may be (upstream's `--node-monitor-grace-period`).
const GRACE_SECONDS: i64 = 50;
const LEASE_NAMESPACE: &str = "kube-node-lease";

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "node-lifecycle-controller";
    type Primary = Node;

    fn reads() -> Vec<Read> {
        vec![
            Read::mapped::<Lease>(|change, _, keys| {
                if let Some(lease) = change.new.as_ref().filter(|lease| lease.namespace() == LEASE_NAMESPACE) {
                    keys.insert(lease.name().to_owned());
                }
            }),
            Read::only::<Pod>(),
        ]
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<Node>(&["update", "patch"]), Write::status::<Node>(), Write::status::<Pod>()]
    }

    fn plan(&self, node: &Arc<Node>, view: &View<'_>, now: Timestamp) -> Plan {
        plan(node, view, now)
    }
}

fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

fn plan(node: &Arc<Node>, view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if node.is_terminating() {
        return plan;
    }
    let lease = view.get::<Lease>(&format!("{LEASE_NAMESPACE}/{}", node.name()));
    let heard = heard(node, lease.as_deref());
    let age_seconds = now.duration_since(heard).as_secs();
    if age_seconds >= GRACE_SECONDS {
        if condition(node, "Ready").is_none_or(|ready| ready.status != "Unknown") {
            plan.normal("NodeNotReady", format!("Node {} status is now: NodeNotReady", node.name()));
            plan.push(Step::update_status(unknown(node, now)));
            return plan;
        }
    } else {
        let left = u64::try_from(GRACE_SECONDS - age_seconds).unwrap_or(0);
        plan.requeue_within(Duration::from_secs(left));
    }
    if let Some(step) = retaint(node, now) {
        plan.push(step);
    }
    if condition(node, "Ready").is_some_and(|ready| ready.status != "True") {
        mark_pods(&mut plan, node, view, now);
    }
    plan
}

/// When the node last gave a sign of life: its lease, its status, or its own creation.
fn heard(node: &Node, lease: Option<&Lease>) -> Timestamp {
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0));
    let reported = condition(node, "Ready").filter(|ready| ready.status != "Unknown");
    let reported = reported.and_then(|ready| ready.last_heartbeat_time.as_ref().map(|time| time.0));
    let created = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
    renewed.into_iter().chain(reported).chain(created).max().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The node with all its conditions Unknown.
fn unknown(node: &Node, now: Timestamp) -> Node {
    let mut new = node.clone();
    let status = new.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    for type_ in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let never = !conditions.iter().any(|condition| condition.type_ == type_);
        if never {
            conditions.push(NodeCondition {
                type_: type_.into(),
                status: String::new(),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                ..Default::default()
            });
        }
        for condition in conditions.iter_mut().filter(|c| c.type_ == type_ && c.status != "Unknown") {
            condition.status = "Unknown".into();
            let (reason, message) = if never {
                ("NodeStatusNeverUpdated", "Kubelet never posted node status.")
            } else {
                ("NodeStatusUnknown", "Kubelet stopped posting node status.")
            };
            condition.reason = Some(reason.into());
            condition.message = Some(message.into());
            condition.last_transition_time = Some(Time(now));
        }
    }
    new
}

/// Taints this controller answers for: condition, its status, the taint's key, and its effects.
const BY_CONDITION: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

/// Brings the taints that follow from conditions up to date; others are left alone.
fn retaint(node: &Node, now: Timestamp) -> Option<Step> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (type_, status, key) in BY_CONDITION {
        if condition(node, type_).is_some_and(|condition| condition.status == *status) {
            wanted.push((key, NO_SCHEDULE));
            if *type_ == "Ready" {
                wanted.push((key, NO_EXECUTE));
            }
        }
    }
    // A node that has not reported yet is not ready.
    if condition(node, "Ready").is_none() {
        wanted.push((NOT_READY, NO_SCHEDULE));
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let ours = |taint: &Taint| {
        let key = taint.key.as_str();
        key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, known)| *known == key)
    };
    let is = |taint: &Taint, (key, effect): &(&str, &str)| taint.key == *key && taint.effect == *effect;
    let mut taints: Vec<Taint> = of(node).to_vec();
    taints.retain(|taint| !ours(taint) || wanted.iter().any(|wanted| is(taint, wanted)));
    for wanted in wanted {
        if !taints.iter().any(|taint| is(taint, &wanted)) {
            taints.push(Taint {
                key: wanted.0.into(),
                effect: wanted.1.into(),
                time_added: (wanted.1 == NO_EXECUTE).then_some(Time(now)),
                value: None,
            });
        }
    }
    // The wait of pods that tolerate a taint for a time begins here: whoever adds a taint by hand leaves that out.
    for taint in taints.iter_mut().filter(|taint| taint.effect == NO_EXECUTE && taint.time_added.is_none()) {
        taint.time_added = Some(Time(now));
    }
    if taints == of(node) {
        return None;
    }
    let mut new = node.clone();
    new.spec.get_or_insert_default().taints = (!taints.is_empty()).then_some(taints);
    Some(Step::update(new))
}

/// Pods on a node that is not ready are not ready either.
fn mark_pods(plan: &mut Plan, node: &Node, view: &View<'_>, now: Timestamp) {
    for pod in view.on_node(node.name()) {
        if !pod::is_ready(&pod) {
            continue;
        }
        let not_ready = json!({"type": "Ready", "status": "False", "lastTransitionTime": Time(now)});
        plan.push(pod::set_condition(&pod, &not_ready));
        plan.warning("NodeNotReady", "Node is not ready");
    }
}
