//! Keeps the number of pods of each ReplicaSet at `spec.replicas`.
//!
//! Upstream: pkg/controller/replicaset. Claims pods by selector (adopts orphans, releases those that no longer
//! match), creates in slow-start batches, deletes the least worthy pods first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use api::core::v1;
use api::lean::Pod;
use api::meta::v1::{ObjectMeta, Time};
use api::{LabelSelector, Object, Timestamp};
use client::{Change, Reflectors};

use crate::harness::{Plan, Read, Step, View, Write};
use crate::pod;

/// Pods created or deleted in one reconcile at most (upstream's burst).
const BURST_LEN_MAX: usize = 500;

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "replicaset-controller";
    type Primary = ReplicaSet;
    const WORKERS: usize = 8;

    fn reads() -> Vec<Read> {
        vec![Read::owned::<Pod, ReplicaSet>(), Read::mapped::<Pod>(orphan)]
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<Pod>(&["create", "delete", "patch"]), Write::status::<ReplicaSet>()]
    }

    fn plan(&self, set: &Arc<ReplicaSet>, view: &View<'_>, now: Timestamp) -> Plan {
        plan(set, view, now)
    }
}

/// A pod without a controller may be one that a ReplicaSet of its namespace can adopt.
fn orphan(change: &Change<Pod>, reflectors: &Reflectors, keys: &mut BTreeSet<String>) {
    let Some(pod) = &change.new else { return };
    if api::owner::controller_of(&**pod).is_some() || pod.is_terminating() {
        return;
    }
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    for set in reflectors.of::<ReplicaSet>().in_namespace(pod.namespace()) {
        if selector(&set).is_some_and(|selector| !selector.is_everything() && selector.matches(&labels)) {
            keys.insert(set.key());
        }
    }
}

fn selector(set: &ReplicaSet) -> Option<LabelSelector> {
    LabelSelector::from_api(Some(&set.spec.selector)).ok()
}

fn plan(set: &Arc<ReplicaSet>, view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(selector) = selector(set) else { return plan };
    let (claimed, claims) = pod::claim(&**set, &selector, view);
    plan.steps.extend(claims);
    let (active, inactive): (Vec<Arc<Pod>>, Vec<Arc<Pod>>) = claimed.into_iter().partition(|pod| pod::is_active(pod));
    let spec = &set.spec;
    let desired = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    // Pods with a deletion timestamp that have not yet finished.
    let terminating = inactive.iter().filter(|pod| pod.is_terminating() && !pod::is_finished(pod)).count();
    let status = status(set, &active, terminating, view.failure(), now);
    if Some(&status) != set.status.as_ref() {
        let mut new = ReplicaSet::clone(set);
        new.status = Some(status);
        plan.push(Step::update_status(new));
    }
    // After the status, which would not be written when a pod is refused: it is what tells of that.
    if !set.is_terminating() {
        scale(&mut plan, set, &active, desired, view);
    }
    if let Some(delay) = next_available(&active, spec.min_ready_seconds.unwrap_or(0), now) {
        plan.requeue_within(delay);
    }
    plan
}

fn scale(plan: &mut Plan, set: &Arc<ReplicaSet>, active: &[Arc<Pod>], desired: usize, view: &View<'_>) {
    if active.len() < desired {
        for _ in 0..(desired - active.len()).min(BURST_LEN_MAX) {
            let step = Step::create(new_pod(set)).in_batch(0);
            plan.push(
                step.on_success("SuccessfulCreate", "Created pod: ").on_failure("FailedCreate", "Error creating: "),
            );
        }
    } else if active.len() > desired {
        let surplus = (active.len() - desired).min(BURST_LEN_MAX);
        for pod in least_worthy(active, surplus, &related(set, view)) {
            let failure = format!("Error deleting pod {}: ", pod.name());
            plan.push(
                Step::delete(&**pod)
                    .in_batch(1)
                    .on_success("SuccessfulDelete", "Deleted pod: ")
                    .on_failure("FailedDelete", failure),
            );
        }
    }
}

/// Active pods per node over all ReplicaSets of the same owner: of pods alike, those on crowded nodes go first.
fn related(set: &ReplicaSet, view: &View<'_>) -> std::collections::HashMap<String, usize> {
    let mut by_node = std::collections::HashMap::new();
    let siblings = match api::owner::controller_of(set) {
        Some(owner) => view.owned::<ReplicaSet>(&owner.uid),
        None => vec![Arc::new(set.clone())],
    };
    for sibling in siblings {
        for pod in view.owned::<Pod>(sibling.uid()) {
            if pod::is_active(&pod) {
                *by_node.entry(pod::node_name(&pod).to_owned()).or_insert(0) += 1;
            }
        }
    }
    by_node
}

/// The pods to delete first: unassigned, then not running, not ready, of low deletion cost, on crowded nodes, young,
/// often restarted (upstream's `ActivePodsWithRanks`).
fn least_worthy<'a>(
    pods: &'a [Arc<Pod>],
    count: usize,
    by_node: &std::collections::HashMap<String, usize>,
) -> Vec<&'a Arc<Pod>> {
    let cost = |pod: &Pod| {
        let cost = pod.annotation("controller.kubernetes.io/pod-deletion-cost");
        cost.and_then(|cost| cost.parse::<i32>().ok()).unwrap_or(0)
    };
    let phase = |pod: &Pod| match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Running") => 2,
        Some("Unknown") => 1,
        _ => 0,
    };
    let mut pods: Vec<&Arc<Pod>> = pods.iter().collect();
    pods.sort_by_cached_key(|pod| {
        let crowd = by_node.get(pod::node_name(pod)).copied().unwrap_or(0);
        let ready = pod::ready_since(pod).map(|since| std::cmp::Reverse(since.as_second()));
        (
            !pod::node_name(pod).is_empty(),
            phase(pod),
            pod::is_ready(pod),
            cost(pod),
            std::cmp::Reverse(crowd),
            ready,
            std::cmp::Reverse(pod::restarts(pod)),
            pod.metadata.creation_timestamp.as_ref().map(|time| std::cmp::Reverse(time.0.as_second())),
            pod.key(),
        )
    });
    pods.truncate(count);
    pods
}

fn new_pod(set: &ReplicaSet) -> v1::Pod {
    let template = set.spec.template.clone().unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    v1::Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name())),
            namespace: set.metadata.namespace.clone(),
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            owner_references: Some(vec![api::owner::controller_reference(set)]),
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    }
}

fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    terminating: usize,
    failure: Option<&str>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let spec = &set.spec;
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let template = spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let template_labels = template.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let labeled = active.iter().filter(|pod| {
        let labels = pod.metadata.labels.as_ref();
        template_labels.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    });
    let min_ready_seconds = spec.min_ready_seconds.unwrap_or(0);
    let ready = active.iter().filter(|pod| pod::is_ready(pod)).count();
    let available = active.iter().filter(|pod| pod::is_available(pod, min_ready_seconds, now)).count();
    let old = set.status.clone().unwrap_or_default();
    let desired = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: Some(count(labeled.count())).filter(|n| *n > 0),
        ready_replicas: Some(count(ready)).filter(|n| *n > 0),
        available_replicas: Some(count(available)).filter(|n| *n > 0),
        terminating_replicas: Some(count(terminating)),
        observed_generation: set.metadata.generation,
        conditions: conditions(active.len(), desired, old.conditions, failure, now),
    }
}

/// `ReplicaFailure` says that the last attempt to create or delete pods failed; success clears it.
fn conditions(
    active: usize,
    desired: usize,
    old: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&str>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    let known = conditions.iter().any(|condition| condition.type_.as_deref() == Some("ReplicaFailure"));
    match failure {
        Some(message) if active != desired && !known => conditions.push(ReplicaSetCondition {
            type_: Some("ReplicaFailure".into()),
            status: Some("True".into()),
            reason: Some(if active < desired { "FailedCreate" } else { "FailedDelete" }.into()),
            message: Some(message.to_owned()),
            last_transition_time: Some(Time(now)),
        }),
        None => conditions.retain(|condition| condition.type_.as_deref() != Some("ReplicaFailure")),
        Some(_) => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// When the next ready pod has been ready for long enough to be available.
fn next_available(active: &[Arc<Pod>], min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if min_ready_seconds == 0 {
        return None;
    }
    let waiting = active.iter().filter(|pod| !pod::is_available(pod, min_ready_seconds, now));
    let seconds = waiting.filter_map(|pod| {
        let since = pod::ready_since(pod)?;
        Some(i64::from(min_ready_seconds) - now.duration_since(since).as_secs())
    });
    seconds.min().map(|seconds| Duration::from_secs(u64::try_from(seconds.max(0)).unwrap_or(0) + 1))
}
