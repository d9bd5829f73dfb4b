//! The ReplicaSets of a Deployment: which is new, which are old, and the making of the new one.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Timestamp;
use api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use api::core::v1::PodTemplateSpec;
use api::meta::v1::ObjectMeta;
use api::{Object, call::PatchKind, owner::controller_reference};
use serde_json::json;

use super::{bounds, replicas, scaling, status, update_status};
use crate::harness::{Op, Plan, Step, View};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Annotations of a Deployment that its ReplicaSets do not take over.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// The ReplicaSets a Deployment owns.
pub struct ReplicaSets {
    /// The one with the Deployment's own template.
    pub new: Option<Arc<ReplicaSet>>,
    /// All others, oldest first.
    pub old: Vec<Arc<ReplicaSet>>,
}

impl ReplicaSets {
    pub fn sort(deployment: &Deployment, mut sets: Vec<Arc<ReplicaSet>>) -> Self {
        sets.sort_by(|a, b| {
            let time = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
            time(a).cmp(&time(b)).then_with(|| a.name().cmp(b.name()))
        });
        let new = sets.iter().position(|set| same_template(deployment, set)).map(|at| sets.remove(at));
        Self { new, old: sets }
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }
}

/// Whether the set runs the Deployment's template; the hash label, which only we add, apart.
fn same_template(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let mut template = set.spec.template.clone().unwrap_or_default();
    if let Some(labels) = template.metadata.as_mut().and_then(|metadata| metadata.labels.as_mut()) {
        labels.remove(TEMPLATE_HASH);
    }
    let normal = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(metadata) = template.metadata.as_mut() {
            metadata.labels = metadata.labels.take().filter(|labels| !labels.is_empty());
        }
        template.metadata = template.metadata.filter(|metadata| *metadata != ObjectMeta::default());
        template
    };
    normal(&template) == normal(&deployment.spec.template)
}

pub fn desired(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

pub fn current(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

pub fn revision(object: &dyn Object) -> i64 {
    object.annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Brings the new ReplicaSet's metadata and the Deployment's revision up to date, or, given `create` replicas, makes
/// the set if it is missing.
pub fn sync_new(
    deployment: &Deployment,
    sets: &ReplicaSets,
    create: Option<i32>,
    view: &View<'_>,
    now: Timestamp,
) -> Plan {
    let next = sets.old.iter().map(|set| revision(&**set)).max().unwrap_or(0) + 1;
    match (&sets.new, create) {
        (Some(set), _) => update_existing(deployment, set, next, now),
        (None, Some(count)) => create_new(deployment, count, next, view, now),
        (None, None) => Plan::default(),
    }
}

fn update_existing(deployment: &Deployment, set: &Arc<ReplicaSet>, next: i64, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut new = ReplicaSet::clone(set);
    let before = revision(&**set);
    let annotations = new.metadata.annotations.get_or_insert_default();
    copy_annotations(deployment, annotations);
    if before < next {
        if before > 0 {
            let history = annotations.entry(REVISION_HISTORY.into()).or_default();
            let entry = before.to_string();
            *history = if history.is_empty() { entry } else { format!("{history},{entry}") };
        }
        annotations.insert(REVISION.into(), next.to_string());
    }
    new.spec.min_ready_seconds = deployment.spec.min_ready_seconds;
    let current = before.max(next).to_string();
    if new != **set {
        plan.push(Step::update(new));
    }
    plan.steps.extend(set_revision(deployment, &current));
    if plan.steps.is_empty() && status::has_deadline(deployment) && !status::has_condition(deployment, "Progressing") {
        let message = format!("Found new replica set \"{}\"", set.name());
        let mut status = deployment.status.clone().unwrap_or_default();
        status::set(&mut status, status::condition("Progressing", "True", "FoundNewReplicaSet", message, now));
        plan.push(update_status(deployment, status));
    }
    plan
}

/// The Deployment carries the revision of its new ReplicaSet. Written with its status, so that its generation stays.
fn set_revision(deployment: &Deployment, revision: &str) -> Option<Step> {
    if deployment.annotation(REVISION) == Some(revision) {
        return None;
    }
    Some(Step::new(Op::Patch {
        kind: deployment.kind(),
        namespace: deployment.namespace().to_owned(),
        name: deployment.name().to_owned(),
        subresource: Some("status"),
        format: PatchKind::Merge,
        patch: json!({"metadata": {"annotations": {REVISION: revision}}}),
    }))
}

fn create_new(deployment: &Deployment, count: i32, next: i64, view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(&deployment.spec.template, collisions);
    let name = format!("{}-{hash}", deployment.name());
    if view.get::<ReplicaSet>(&format!("{}/{name}", deployment.namespace())).is_some() {
        // Another template, or another owner, has that name: the count of collisions goes into the next hash.
        let mut status = deployment.status.clone().unwrap_or_default();
        status.collision_count = Some(collisions.unwrap_or(0) + 1);
        plan.push(update_status(deployment, status));
        return plan;
    }
    let mut template = deployment.spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(TEMPLATE_HASH.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = deployment.spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(TEMPLATE_HASH.into(), hash);
    let mut annotations = BTreeMap::new();
    copy_annotations(deployment, &mut annotations);
    annotations.insert(REVISION.into(), next.to_string());
    let set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..Default::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(count),
            min_ready_seconds: deployment.spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    };
    let mut step = Step::create(set).on_failure("ReplicaSetCreateError", "Failed to create new replica set: ");
    if count > 0 {
        step = step.tells("ScalingReplicaSet", format!("Scaled up replica set {name} from 0 to {count}"));
    }
    plan.push(step);
    plan.steps.extend(set_revision(deployment, &next.to_string()));
    if status::has_deadline(deployment) && plan.steps.len() == 1 {
        let message = format!("Created new replica set \"{name}\"");
        let mut status = deployment.status.clone().unwrap_or_default();
        status::set(&mut status, status::condition("Progressing", "True", "NewReplicaSetCreated", message, now));
        plan.push(update_status(deployment, status));
    }
    plan
}

fn copy_annotations(deployment: &Deployment, annotations: &mut BTreeMap<String, String>) {
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    scaling::annotate(annotations, replicas(deployment), replicas(deployment) + bounds(deployment).0);
}

/// A short name of a template: 32-bit FNV-1a of its JSON and of the count of collisions, in letters that make no
/// words. Only that equal templates give equal names matters, not which.
fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let template = api::codec::encode_template(template);
    let collisions = collisions.map(i32::to_le_bytes).unwrap_or_default();
    let hash = template
        .iter()
        .chain(&collisions)
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}
