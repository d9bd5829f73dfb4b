//! Updates of pods: hardly anything of the spec may change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::core::v1::{
    Container, ContainerStatus, NodeAffinity, NodeSelectorTerm, Pod, PodCondition, PodSchedulingGate, PodSpec,
    PodStatus, Toleration,
};
use api::field::{FieldErrors, Path};

use super::validate_pod;
use crate::checks;
use crate::core::pod_template::{scheduling, security};

const MIRROR: &str = "kubernetes.io/config.mirror";
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                         `spec.tolerations` (only additions to existing tolerations),\
                         `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// All problems of an update of a pod.
pub fn validate(new: &Pod, old: &Pod) -> FieldErrors {
    let mut errors = validate_pod(new);
    validate_annotation_changes(&mut errors, new, old);
    let empty = PodSpec::default();
    let (new, old) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
    validate_spec(&mut errors, new, old);
    errors
}

fn validate_spec(errors: &mut FieldErrors, new: &PodSpec, old: &PodSpec) {
    let path = Path::new("spec");
    let lists = [
        ("containers", Some(&new.containers), Some(&old.containers)),
        ("initContainers", new.init_containers.as_ref(), old.init_containers.as_ref()),
    ];
    for (name, new, old) in lists {
        let path = path.child(name);
        if new.map_or(0, Vec::len) != old.map_or(0, Vec::len) {
            errors.forbidden(&path, "pod updates may not add or remove containers");
            return;
        }
        validate_images(errors, &path, new.map(Vec::as_slice).unwrap_or_default());
    }
    let deadline_path = path.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            errors.invalid(&deadline_path, seconds, "must be between 0 and 2147483647, inclusive");
            return;
        }
        (Some(seconds), Some(before)) if before < seconds => {
            errors.invalid(&deadline_path, seconds, "must be less than or equal to previous value");
            return;
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.invalid(&deadline_path, serde_json::Value::Null, why);
        }
        _ => {}
    }
    validate_tolerations(errors, &path.child("tolerations"), new, old);
    let (new_gates, old_gates) = (new.scheduling_gates.as_deref(), old.scheduling_gates.as_deref());
    validate_gates(
        errors,
        &path.child("schedulingGates"),
        new_gates.unwrap_or_default(),
        old_gates.unwrap_or_default(),
    );
    if checks::same(new, old) {
        return;
    }
    let mut munged = munge(new, old);
    if old_gates.is_some_and(|gates| !gates.is_empty()) {
        munge_gated(errors, &path, &mut munged, old);
    }
    if !checks::same(&munged, old) {
        let difference = difference(&checks::shown(old), &checks::shown(&munged));
        errors.forbidden(&path, format!("pod updates may not change fields other than {UPDATABLE}\n{difference}"));
    }
}

/// The new spec with everything that may change put back.
fn munge(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut munged = new.clone();
    let put_back = |new: &mut [Container], old: &[Container]| {
        for (new, old) in new.iter_mut().zip(old) {
            new.image.clone_from(&old.image);
        }
    };
    put_back(&mut munged.containers, &old.containers);
    if let (Some(new), Some(old)) = (&mut munged.init_containers, &old.init_containers) {
        put_back(new, old);
    }
    munged.active_deadline_seconds = old.active_deadline_seconds;
    munged.scheduling_gates.clone_from(&old.scheduling_gates);
    munged.tolerations.clone_from(&old.tolerations);
    if old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0)
        && munged.termination_grace_period_seconds == Some(1)
    {
        munged.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    munged
}

/// A pod behind gates may still be narrowed down to fewer nodes.
fn munge_gated(errors: &mut FieldErrors, path: &Path, munged: &mut PodSpec, old: &PodSpec) {
    let empty = BTreeMap::new();
    let (new_nodes, old_nodes) =
        (munged.node_selector.as_ref().unwrap_or(&empty), old.node_selector.as_ref().unwrap_or(&empty));
    if old_nodes.iter().any(|(key, value)| new_nodes.get(key) != Some(value)) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.invalid(&path.child("nodeSelector"), checks::shown(new_nodes), why);
    }
    munged.node_selector.clone_from(&old.node_selector);
    let old_affinity = old.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    let new_affinity = munged.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    if checks::same(&new_affinity, &old_affinity) {
        return;
    }
    let path = path.child("affinity").child("nodeAffinity");
    validate_narrowed_affinity(errors, &path, new_affinity.as_ref(), old_affinity.as_ref());
    let only_node = munged
        .affinity
        .as_ref()
        .is_some_and(|affinity| affinity.pod_affinity.is_none() && affinity.pod_anti_affinity.is_none());
    if old.affinity.is_none() && only_node {
        munged.affinity = None;
    } else {
        munged.affinity.get_or_insert_default().node_affinity = old_affinity;
    }
}

fn validate_narrowed_affinity(
    errors: &mut FieldErrors,
    path: &Path,
    new: Option<&NodeAffinity>,
    old: Option<&NodeAffinity>,
) {
    let terms = |affinity: Option<&NodeAffinity>| -> Vec<NodeSelectorTerm> {
        let selector =
            affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        selector.map(|selector| selector.node_selector_terms.clone()).unwrap_or_default()
    };
    let (new, old) = (terms(new), terms(old));
    if old.is_empty() {
        return;
    }
    let path = path.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
    if new.len() != old.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid(&path, checks::shown(&new), why);
        return;
    }
    for (index, (new, old)) in new.iter().zip(&old).enumerate() {
        let starts_with = |new: &Option<Vec<_>>, old: &Option<Vec<_>>| {
            new.as_deref().unwrap_or_default().starts_with(old.as_deref().unwrap_or_default())
        };
        let was_empty = old.match_expressions.iter().flatten().next().is_none()
            && old.match_fields.iter().flatten().next().is_none();
        let is_empty = new.match_expressions.iter().flatten().next().is_none()
            && new.match_fields.iter().flatten().next().is_none();
        let only_added = starts_with(&new.match_expressions, &old.match_expressions)
            && starts_with(&new.match_fields, &old.match_fields);
        if !only_added || (was_empty && !is_empty) {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.invalid(&path.index(index), checks::shown(new), why);
        }
    }
}

fn validate_images(errors: &mut FieldErrors, path: &Path, containers: &[Container]) {
    for (index, container) in containers.iter().enumerate() {
        let image = container.image.as_deref().unwrap_or_default();
        let path = path.index(index).child("image");
        if image.is_empty() {
            errors.required(&path, "");
        }
        if image.trim() != image {
            errors.invalid(&path, image, "must not have leading or trailing whitespace");
        }
    }
}

/// Tolerations may be added, and of old ones only the seconds may change.
fn validate_tolerations(errors: &mut FieldErrors, path: &Path, new: &PodSpec, old: &PodSpec) {
    let new = new.tolerations.as_deref().unwrap_or_default();
    let kept = |old: &Toleration| {
        new.iter().any(|new| {
            Toleration { toleration_seconds: None, ..new.clone() }
                == Toleration { toleration_seconds: None, ..old.clone() }
        })
    };
    if !old.tolerations.iter().flatten().all(kept) {
        errors.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
        return;
    }
    scheduling::validate_tolerations(errors, path, new);
}

fn validate_gates(errors: &mut FieldErrors, path: &Path, new: &[PodSchedulingGate], old: &[PodSchedulingGate]) {
    for (index, gate) in new.iter().enumerate() {
        if !old.iter().any(|old| old.name == gate.name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            errors.forbidden(&path.index(index).child("name"), why);
        }
    }
}

/// Annotations that say how a running pod came to be may not change.
pub(super) fn validate_annotation_changes(errors: &mut FieldErrors, new: &Pod, old: &Pod) {
    let path = Path::new("metadata").child("annotations");
    let empty = BTreeMap::new();
    let (new, old) =
        (new.metadata.annotations.as_ref().unwrap_or(&empty), old.metadata.annotations.as_ref().unwrap_or(&empty));
    for key in old.iter().filter(|(key, value)| new.get(*key) != Some(value)).map(|(key, _)| key) {
        if key.starts_with(security::APP_ARMOR) {
            errors.forbidden(&path.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for key in new.keys().filter(|key| !old.contains_key(*key)) {
        if key.starts_with(security::APP_ARMOR) {
            errors.forbidden(&path.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not add mirror pod annotation");
        }
    }
}

/// What differs, one line per field, `-` before and `+` after.
pub(crate) fn difference(old: &serde_json::Value, new: &serde_json::Value) -> String {
    fn walk(path: &Path, old: &serde_json::Value, new: &serde_json::Value, lines: &mut Vec<String>) {
        use serde_json::Value::{Array, Null, Object};
        match (old, new) {
            (old, new) if old == new => {}
            (Object(a), Object(b)) => {
                let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for key in keys {
                    walk(&path.child(key), a.get(key).unwrap_or(&Null), b.get(key).unwrap_or(&Null), lines);
                }
            }
            (Array(a), Array(b)) => {
                for index in 0..a.len().max(b.len()) {
                    walk(&path.index(index), a.get(index).unwrap_or(&Null), b.get(index).unwrap_or(&Null), lines);
                }
            }
            (old, new) => {
                if !old.is_null() {
                    lines.push(format!("- \t{path}: {old}"));
                }
                if !new.is_null() {
                    lines.push(format!("+ \t{path}: {new}"));
                }
            }
        }
    }
    let mut lines = Vec::new();
    walk(&Path::default(), old, new, &mut lines);
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Keeps everything but the status, and of the status what clients tend to drop.
pub fn prepare_status(new: &mut Pod, old: &Pod) {
    new.spec.clone_from(&old.spec);
    new.metadata.deletion_timestamp.clone_from(&old.metadata.deletion_timestamp);
    new.metadata.deletion_grace_period_seconds = old.metadata.deletion_grace_period_seconds;
    new.metadata.owner_references.clone_from(&old.metadata.owner_references);
    new.metadata.generation = old.metadata.generation;
    let status = new.status.get_or_insert_default();
    let empty = PodStatus::default();
    let old = old.status.as_ref().unwrap_or(&empty);
    if status.qos_class.as_deref().unwrap_or_default().is_empty() {
        status.qos_class.clone_from(&old.qos_class);
    }
    if status.observed_generation.unwrap_or_default() == 0 {
        status.observed_generation = old.observed_generation;
    }
    let mut generations: BTreeMap<&str, Vec<Option<i64>>> = BTreeMap::new();
    for condition in old.conditions.iter().flatten().rev() {
        generations.entry(&condition.type_).or_default().push(condition.observed_generation);
    }
    for condition in status.conditions.iter_mut().flatten() {
        let before = generations.get_mut(condition.type_.as_str()).and_then(Vec::pop).flatten();
        if condition.observed_generation.unwrap_or_default() == 0 {
            condition.observed_generation = before;
        }
    }
}

/// All problems of an update of a pod's status.
pub fn validate_status(new: &Pod, old: &Pod) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let empty_spec = PodSpec::default();
    let (new_spec, old_spec) = (new.spec.as_ref().unwrap_or(&empty_spec), old.spec.as_ref().unwrap_or(&empty_spec));
    let empty = PodStatus::default();
    let (status, before) = (new.status.as_ref().unwrap_or(&empty), old.status.as_ref().unwrap_or(&empty));
    validate_annotation_changes(&mut errors, new, old);
    validate_conditions(&mut errors, status.conditions.as_deref().unwrap_or_default());
    let path = Path::new("status");
    if new_spec.node_name != old_spec.node_name {
        errors.forbidden(&path.child("nodeName"), "may not be changed directly");
    }
    if let Some(name) = status.nominated_node_name.as_deref().filter(|name| !name.is_empty())
        && status.nominated_node_name != before.nominated_node_name
    {
        checks::dns_subdomain(&mut errors, &path.child("nominatedNodeName"), name);
    }
    checks::immutable(&mut errors, &path.child("qosClass"), &status.qos_class, &before.qos_class);
    let policy = old_spec.restart_policy.as_deref().unwrap_or_default();
    let sidecars: BTreeSet<&str> = old_spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| super::display::is_restartable(container))
        .map(|container| container.name.as_str())
        .collect();
    let lists = [
        ("containerStatuses", &status.container_statuses, &before.container_statuses, policy),
        ("initContainerStatuses", &status.init_container_statuses, &before.init_container_statuses, policy),
        (
            "ephemeralContainerStatuses",
            &status.ephemeral_container_statuses,
            &before.ephemeral_container_statuses,
            "Never",
        ),
    ];
    for (name, new, old, policy) in lists {
        let (new, old) = (new.as_deref().unwrap_or_default(), old.as_deref().unwrap_or_default());
        validate_transitions(&mut errors, &path.child(name), new, old, policy, &sidecars);
    }
    let ips: Vec<&str> = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
    validate_ips(&mut errors, &path.child("podIPs"), &ips, checks::shown(&status.pod_ips));
    let ips: Vec<&str> = status.host_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
    if let Some(first) = ips.first()
        && status.host_ip.as_deref().unwrap_or_default() != *first
    {
        errors.invalid(&path.child("hostIPs").index(0).child("ip"), *first, "must be equal to `hostIP`");
    }
    validate_ips(&mut errors, &path.child("hostIPs"), &ips, checks::shown(&status.host_ips));
    errors
}

fn validate_conditions(errors: &mut FieldErrors, conditions: &[PodCondition]) {
    let path = Path::new("metadata").child("conditions");
    for (index, condition) in conditions.iter().enumerate() {
        if !matches!(condition.type_.as_str(), "PodScheduled" | "Ready" | "Initialized") {
            checks::qualified(errors, &path.index(index).child("Type"), &condition.type_);
        }
    }
}

/// A container that ended for good may not run again.
fn validate_transitions(
    errors: &mut FieldErrors,
    path: &Path,
    new: &[ContainerStatus],
    old: &[ContainerStatus],
    policy: &str,
    sidecars: &BTreeSet<&str>,
) {
    let terminated = |status: &ContainerStatus| status.state.as_ref().and_then(|state| state.terminated.clone());
    if policy == "Always" {
        return;
    }
    for (index, before) in old.iter().enumerate() {
        let Some(ended) = terminated(before) else { continue };
        if (ended.exit_code != 0 && policy == "OnFailure") || sidecars.contains(before.name.as_str()) {
            continue;
        }
        if new.iter().any(|after| after.name == before.name && terminated(after).is_none()) {
            let why = "may not be transitioned to non-terminated state";
            errors.forbidden(&path.index(index).child("state"), why);
        }
    }
}

fn validate_ips(errors: &mut FieldErrors, path: &Path, ips: &[&str], value: serde_json::Value) {
    let parsed: Vec<IpAddr> =
        ips.iter().enumerate().filter_map(|(index, ip)| checks::ip(errors, &path.index(index), ip)).collect();
    if ips.len() < 2 {
        return;
    }
    if !checks::is_dual_stack(&parsed) || ips.len() > 2 {
        errors.invalid(path, value, "may specify no more than one IP for each IP family");
    }
    let mut seen = BTreeSet::new();
    for (index, ip) in ips.iter().enumerate() {
        if !seen.insert(ip) {
            errors.duplicate(&path.index(index), serde_json::json!({ "ip": ip }));
        }
    }
}
