//! Keeps the status of each PodDisruptionBudget: how many of its pods there should be, are healthy and must stay so,
//! and how many may be evicted.
//!
//! Upstream: pkg/controller/disruption. Scales of the kinds that run pods are read from these; any other controller, a
//! custom resource for one, is asked for its `scale` subresource. Who has none makes a budget that needs it fail safe:
//! nothing may be evicted.

mod stale;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use api::autoscaling::v1::Scale;
use api::core::v1::ReplicationController;
use api::lean::Pod;
use api::meta::v1::{OwnerReference, Time};
use api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use api::{IntOrString, LabelSelector, Object, Target, Timestamp, disruption};
use client::discovery::Subresource;
use client::{Change, Reflectors};

use crate::harness::{ASKED_LEN_MAX, Plan, Read, Step, View, Write};
use crate::pod;

/// How long after its eviction was granted a pod must be marked for deletion; else it is counted again.
const DELETION_SECONDS_MAX: i64 = 120;

pub use stale::Controller as Stale;

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "disruption-controller";
    type Primary = PodDisruptionBudget;

    fn reads() -> Vec<Read> {
        vec![
            Read::mapped::<Pod>(budgets_of),
            Read::only::<ReplicationController>(),
            Read::only::<Deployment>(),
            Read::only::<ReplicaSet>(),
            Read::only::<StatefulSet>(),
        ]
    }

    fn writes() -> Vec<Write> {
        vec![Write::status::<PodDisruptionBudget>(), Write { group: "*", resource: "*/scale".into(), verbs: &["get"] }]
    }

    fn asks(&self, budget: &Arc<PodDisruptionBudget>, view: &View<'_>) -> Vec<Target> {
        if !needs_scales(budget) {
            return Vec::new();
        }
        let Ok(selector) = selector(budget) else { return Vec::new() };
        let pods = view.in_namespace::<Pod>(budget.namespace());
        let selected = pods.iter().filter(|pod| selector.matches_labels(pod.metadata.labels.as_ref()));
        let mut seen = BTreeSet::new();
        let owners = selected.filter_map(|pod| api::owner::controller_of(&**pod).cloned());
        let owners = owners.filter(|owner| seen.insert(owner.uid.clone()));
        owners.filter_map(|owner| Some(scale_of(&owner, budget.namespace(), view)?.ok()?.1)).collect()
    }

    fn plan(&self, budget: &Arc<PodDisruptionBudget>, view: &View<'_>, now: Timestamp) -> Plan {
        let mut pods = view.in_namespace::<Pod>(budget.namespace());
        match selector(budget) {
            Ok(selector) => pods.retain(|pod| selector.matches_labels(pod.metadata.labels.as_ref())),
            Err(why) => {
                let mut plan = Plan::default();
                plan.warning("NoPods", format!("Failed to get pods: {why}"));
                fail_safe(&mut plan, budget, &why, now);
                return plan;
            }
        }
        plan(budget, &pods, |owner| scale(owner, budget.namespace(), view), now)
    }
}

fn selector(budget: &PodDisruptionBudget) -> Result<LabelSelector, String> {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    LabelSelector::from_api(selector).map_err(|error| error.to_string())
}

/// A pod concerns the budgets that select it, and those that did before it changed.
fn budgets_of(change: &Change<Pod>, reflectors: &Reflectors, keys: &mut BTreeSet<String>) {
    for pod in [&change.old, &change.new].into_iter().flatten() {
        for budget in reflectors.of::<PodDisruptionBudget>().in_namespace(pod.namespace()) {
            if selector(&budget).is_ok_and(|selector| selector.matches_labels(pod.metadata.labels.as_ref())) {
                keys.insert(budget.key());
            }
        }
    }
}

/// Whether the pods' number alone does not tell how many there should be.
fn needs_scales(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    spec.is_some_and(|spec| match (&spec.max_unavailable, &spec.min_available) {
        (Some(_), _) | (None, Some(IntOrString::String(_))) => true,
        (None, Some(IntOrString::Int(_)) | None) => false,
    })
}

/// Where the scale of a controller is that is of no kind followed here: its resource, as messages have it, and the
/// subresource. `None`: it is followed; an error: its kind is not served.
fn scale_of(owner: &OwnerReference, namespace: &str, view: &View<'_>) -> Option<Result<(String, Target), String>> {
    let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    if matches!((group, owner.kind.as_str()), ("", "ReplicationController") | ("apps", "StatefulSet" | "ReplicaSet")) {
        return None;
    }
    Some(match view.served().and_then(|served| served.of_kind(&owner.api_version, &owner.kind)) {
        None => Err(format!("no matches for kind {:?} in version {:?}", owner.kind, owner.api_version)),
        Some(resource) => {
            let what = api::status::qualified(resource.kind.plural, resource.kind.group);
            let scales = |sub: &&Subresource| sub.name == "scale" && sub.group == "autoscaling" && sub.kind == "Scale";
            let namespace = if resource.namespaced { namespace } else { "" };
            let target = Target::kind(resource.kind).namespaced(namespace).named(&owner.name);
            match resource.subresources.iter().find(scales) {
                Some(_) => Ok((what, target.subresource("scale"))),
                None => Err(format!("{what} does not implement the scale subresource")),
            }
        }
    })
}

/// What the API said of a controller's scale.
fn asked_scale(owner: &OwnerReference, namespace: &str, view: &View<'_>) -> Scaled {
    let (what, target) = match scale_of(owner, namespace, view) {
        Some(found) => found?,
        None => return Ok(None),
    };
    match view.answer(&target) {
        Some(Ok(object)) => {
            Ok(api::downcast::<Scale>(&**object).filter(|scale| scale.uid() == owner.uid).map(|scale| {
                let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
                (scale.uid().to_owned(), replicas)
            }))
        }
        Some(Err(error)) if error.is_not_found() => Ok(None),
        Some(Err(error)) => Err(error.to_string()),
        None => Err(format!("the scales of more than {ASKED_LEN_MAX} controllers are needed; {what} is left out")),
    }
}

/// What is known of a pod's controller: the uid of what holds its scale, and the scale.
type Scaled = Result<Option<(String, i32)>, String>;

/// The scale of the pods' controller, or of that controller's own, for replica sets of deployments.
fn scale(owner: &OwnerReference, namespace: &str, view: &View<'_>) -> Scaled {
    let key = format!("{namespace}/{}", owner.name);
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let is_it = |object: &dyn Object| object.uid() == owner.uid;
    Ok(match (group, owner.kind.as_str()) {
        ("", "ReplicationController") => {
            let found = view.get::<ReplicationController>(&key).filter(|found| is_it(&**found));
            found.map(|found| {
                let replicas = found.spec.as_ref().and_then(|spec| spec.replicas);
                (found.uid().to_owned(), replicas.unwrap_or_default())
            })
        }
        ("apps", "StatefulSet") => {
            let found = view.get::<StatefulSet>(&key).filter(|found| is_it(&**found));
            found.map(|found| (found.uid().to_owned(), found.spec.replicas.unwrap_or_default()))
        }
        ("apps", "ReplicaSet") => {
            let Some(set) = view.get::<ReplicaSet>(&key).filter(|found| is_it(&**found)) else { return Ok(None) };
            let deployment = api::owner::controller_of(&*set).filter(|owner| owner.kind == "Deployment");
            let deployment = deployment.and_then(|owner| {
                let found = view.get::<Deployment>(&format!("{namespace}/{}", owner.name));
                found.filter(|found| found.uid() == owner.uid)
            });
            Some(match deployment {
                Some(found) => (found.uid().to_owned(), found.spec.replicas.unwrap_or_default()),
                None => (set.uid().to_owned(), set.spec.replicas.unwrap_or_default()),
            })
        }
        _ => return asked_scale(owner, namespace, view),
    })
}

fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale: impl Fn(&OwnerReference) -> Scaled,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    if pods.is_empty() {
        plan.normal("NoPods", "No matching pods found");
    }
    let expected = match expected(budget, pods, scale) {
        Ok(expected) => expected,
        Err(why) => {
            let event = format!("Failed to calculate the number of expected pods: {why}");
            plan.warning("CalculateExpectedPodCountFailed", event);
            fail_safe(&mut plan, budget, &why, now);
            return plan;
        }
    };
    if expected.unmanaged {
        plan.warning("UnmanagedPods", unmanaged(budget));
    }
    let disrupted = disrupted(budget, pods, now);
    if let Some(delay) = next_look(&disrupted, now) {
        plan.requeue_within(delay);
    }
    let healthy =
        pods.iter().filter(|pod| !pod.is_terminating() && !disrupted.contains_key(pod.name()) && pod::is_ready(pod));
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    let spare = if expected.count > 0 { (healthy - expected.healthy).max(0) } else { 0 };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(expected.healthy),
        expected_pods: Some(expected.count),
        disruptions_allowed: Some(spare),
        disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: budget.status.as_ref().and_then(|status| status.conditions.clone()),
    };
    disruption::set_allowed(&mut status, now);
    write(&mut plan, budget, status);
    plan
}

fn write(plan: &mut Plan, budget: &PodDisruptionBudget, status: PodDisruptionBudgetStatus) {
    if Some(&status) != budget.status.as_ref() {
        let mut new = budget.clone();
        new.status = Some(status);
        plan.push(Step::update_status(new));
    }
}

/// Who cannot count lets nobody be evicted.
fn fail_safe(plan: &mut Plan, budget: &PodDisruptionBudget, why: &str, now: Timestamp) {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    disruption::set(&mut status, "False", "SyncFailed", why, now);
    write(plan, budget, status);
}

/// How many pods there should be, and how many healthy ones.
struct Expected {
    count: i32,
    healthy: i32,
    /// Some pods have no controller that could tell.
    unmanaged: bool,
}

fn expected(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale: impl Fn(&OwnerReference) -> Scaled,
) -> Result<Expected, String> {
    let none = Expected { count: 0, healthy: 0, unmanaged: false };
    let Some(spec) = &budget.spec else { return Ok(none) };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(unavailable), _) => {
            let (count, unmanaged) = expected_scale(pods, scale)?;
            let healthy = (count - share(unavailable, count)?).max(0);
            Ok(Expected { count, healthy, unmanaged })
        }
        (None, Some(IntOrString::Int(healthy))) => {
            let count = i32::try_from(pods.len()).unwrap_or(i32::MAX);
            Ok(Expected { count, healthy: *healthy, unmanaged: false })
        }
        (None, Some(available)) => {
            let (count, unmanaged) = expected_scale(pods, scale)?;
            Ok(Expected { count, healthy: share(available, count)?, unmanaged })
        }
        (None, None) => Ok(none),
    }
}

/// A number, or a share of all, rounded up.
fn share(value: &IntOrString, all: i32) -> Result<i32, String> {
    match value {
        IntOrString::Int(number) => Ok(*number),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|number| number.parse::<i64>().ok());
            let percent = percent.ok_or_else(|| format!("invalid value for IntOrString: invalid value {text:?}"))?;
            let scaled = (percent * i64::from(all) + 99).div_euclid(100);
            Ok(i32::try_from(scaled).unwrap_or(i32::MAX))
        }
    }
}

/// The sum of the scales of all controllers of the pods, each counted once.
fn expected_scale(pods: &[Arc<Pod>], scale: impl Fn(&OwnerReference) -> Scaled) -> Result<(i32, bool), String> {
    let mut scales: BTreeMap<String, i32> = BTreeMap::new();
    let mut asked = BTreeSet::new();
    let mut unmanaged = false;
    for pod in pods {
        let Some(owner) = api::owner::controller_of(&**pod) else {
            unmanaged = true;
            continue;
        };
        if !asked.insert(owner.uid.clone()) {
            continue;
        }
        match scale(owner)? {
            Some((uid, replicas)) => drop(scales.insert(uid, replicas)),
            None => return Err(format!("found no controllers for pod {:?}", pod.name())),
        }
    }
    Ok((scales.values().sum(), unmanaged))
}

fn unmanaged(budget: &PodDisruptionBudget) -> String {
    let selector = selector(budget).map(|selector| selector.to_string()).unwrap_or_default();
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the \
         status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for \
         these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
    )
}

fn is_stale(since: &Time, now: Timestamp) -> bool {
    now.duration_since(since.0).as_secs() > DELETION_SECONDS_MAX
}

/// The evictions granted that are still to be seen: of pods that are there, and not yet going, for two minutes.
fn disrupted(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], now: Timestamp) -> BTreeMap<String, Time> {
    let Some(granted) = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref()) else {
        return BTreeMap::new();
    };
    let waiting = pods.iter().filter(|pod| !pod.is_terminating());
    let waiting = waiting.filter_map(|pod| Some((pod.name().to_owned(), granted.get(pod.name())?.clone())));
    waiting.filter(|(_, since)| !is_stale(since, now)).collect()
}

/// When the first of them will have waited too long.
fn next_look(disrupted: &BTreeMap<String, Time>, now: Timestamp) -> Option<Duration> {
    let first = disrupted.values().map(|since| since.0).min()?;
    let left = DELETION_SECONDS_MAX - now.duration_since(first).as_secs();
    Some(Duration::from_secs(u64::try_from(left.max(0)).unwrap_or(0) + 1))
}

#[cfg(test)]
mod tests;
