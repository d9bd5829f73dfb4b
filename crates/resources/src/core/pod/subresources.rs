//! The pod's writable subresources beside its status: ephemeral containers and resize.

use std::collections::BTreeMap;

use api::Quantity;
use api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use api::field::{FieldErrors, Path};
use api::quantity::amount;

use super::{bump_generation, update, validate_pod};
use crate::checks;
use crate::core::pod_template::resources;

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Metadata that only the main endpoint may change is kept.
fn keep_metadata(new: &mut Pod, old: &Pod) {
    new.metadata.deletion_timestamp.clone_from(&old.metadata.deletion_timestamp);
    new.metadata.labels.clone_from(&old.metadata.labels);
    new.metadata.annotations.clone_from(&old.metadata.annotations);
    new.metadata.finalizers.clone_from(&old.metadata.finalizers);
    new.metadata.owner_references.clone_from(&old.metadata.owner_references);
}

/// Keeps everything but the ephemeral containers.
pub fn prepare_ephemeral_containers(new: &mut Pod, old: &Pod) {
    let containers = new.spec.take().and_then(|spec| spec.ephemeral_containers);
    new.spec.clone_from(&old.spec);
    new.spec.get_or_insert_default().ephemeral_containers = containers;
    new.status.clone_from(&old.status);
    keep_metadata(new, old);
    bump_generation(new, old);
}

/// All problems of new ephemeral containers: old ones may neither change nor go.
pub fn validate_ephemeral_containers(new: &Pod, old: &Pod) -> FieldErrors {
    let mut errors = validate_pod(new);
    update::validate_annotation_changes(&mut errors, new, old);
    if old.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        let mut errors = FieldErrors::new();
        errors.forbidden(&Path::default(), "static pods do not support ephemeral containers");
        return errors;
    }
    let path = Path::new("spec").child("ephemeralContainers");
    let list = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.clone()).unwrap_or_default();
    let after = list(new);
    for before in list(old) {
        let name = &before.name;
        match after.iter().find(|container| container.name == *name) {
            None => errors.forbidden(&path, format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(now) if !checks::same(now, &before) => {
                let difference = update::difference(&checks::shown(&before), &checks::shown(now));
                let why = format!("existing ephemeral containers {name:?} may not be changed\n{difference}");
                errors.forbidden(&path, why);
            }
            Some(_) => {}
        }
    }
    errors
}

/// Keeps everything but the containers' resources and resize policies.
pub fn prepare_resize(new: &mut Pod, old: &Pod) {
    let (Some(wished), Some(before)) = (new.spec.clone(), old.spec.clone()) else { return };
    let mut spec = before;
    let same_names =
        |a: &[Container], b: &[Container]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name == b.name);
    let (wished_init, init) =
        (wished.init_containers.as_deref().unwrap_or_default(), spec.init_containers.as_deref().unwrap_or_default());
    if !same_names(&wished.containers, &spec.containers) || !same_names(wished_init, init) {
        // Validation says what is wrong.
        return;
    }
    let take = |to: &mut [Container], from: &[Container]| {
        for (to, from) in to.iter_mut().zip(from) {
            to.resources.clone_from(&from.resources);
            to.resize_policy.clone_from(&from.resize_policy);
        }
    };
    take(&mut spec.containers, &wished.containers);
    take(spec.init_containers.as_deref_mut().unwrap_or_default(), wished_init);
    new.spec = Some(spec);
    new.status.clone_from(&old.status);
    keep_metadata(new, old);
    bump_generation(new, old);
}

/// All problems of a resize.
pub fn validate_resize(new: &Pod, old: &Pod) -> FieldErrors {
    let only = |why: &str| {
        let mut errors = FieldErrors::new();
        errors.forbidden(&Path::default(), why);
        errors
    };
    let empty = PodSpec::default();
    let (after, before) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
    let has_level = |spec: &PodSpec| {
        let set = |list: &Option<BTreeMap<String, Quantity>>| list.as_ref().is_some_and(|list| !list.is_empty());
        spec.resources.as_ref().is_some_and(|level| set(&level.requests) || set(&level.limits))
    };
    if has_level(after) || has_level(before) {
        return only("pods with pod-level resources cannot be resized");
    }
    if old.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        return only("static pods cannot be resized");
    }
    if before.os.as_ref().is_some_and(|os| os.name == "windows") {
        return only("windows pods cannot be resized");
    }
    let mut errors = validate_pod(new);
    let path = Path::new("spec");
    let class = old.status.as_ref().and_then(|status| status.qos_class.as_deref());
    if class.unwrap_or_else(|| resources::qos_class(before)) != resources::qos_class(after) {
        let shown = new.status.as_ref().and_then(|status| status.qos_class.clone()).unwrap_or_default();
        errors.invalid(&path, shown, "Pod QOS Class may not change as a result of resizing");
    }
    let running = old.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut running = running.filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    if running.next().is_some_and(|status| status.resources.is_none()) {
        errors.forbidden(&path, "Pod running on node without support for resize");
    }
    let lists = [
        ("initContainers", after.init_containers.as_deref(), before.init_containers.as_deref()),
        ("containers", Some(&after.containers[..]), Some(&before.containers[..])),
    ];
    for (name, after, before) in lists {
        let pairs = after.unwrap_or_default().iter().zip(before.unwrap_or_default()).enumerate();
        for (index, (after, before)) in pairs {
            let sidecar = super::display::is_restartable(before);
            let resources = path.child(name).index(index).child("resources");
            validate_container_resize(&mut errors, &resources, after, before);
            validate_unchanged(&mut errors, &path, after, before, sidecar);
        }
    }
    if errors.is_empty() && !checks::same(&without_resources(after), &without_resources(before)) {
        errors.forbidden(&path, "only cpu and memory resources are mutable");
    }
    errors
}

fn without_resources(spec: &PodSpec) -> PodSpec {
    let mut spec = spec.clone();
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container.resources = None;
        container.resize_policy = None;
    }
    spec
}

/// Beyond cpu and memory nothing of a container may change.
fn validate_unchanged(errors: &mut FieldErrors, path: &Path, after: &Container, before: &Container, sidecar: bool) {
    let mut munged = after.clone();
    let requirements = munged.resources.get_or_insert_default();
    let old = before.resources.clone().unwrap_or_default();
    put_back(&mut requirements.requests, old.requests);
    put_back(&mut requirements.limits, old.limits);
    let no_resources = Some(ResourceRequirements::default());
    let mut before = before.clone();
    before.resources = before.resources.or(no_resources);
    if !checks::same(&munged, &before) {
        let what = if sidecar { "resources for sidecar containers are" } else { "resources are" };
        errors.forbidden(path, format!("only cpu and memory {what} mutable"));
    }
}

fn put_back(new: &mut Option<BTreeMap<String, Quantity>>, old: Option<BTreeMap<String, Quantity>>) {
    let Some(old) = old else {
        *new = None;
        return;
    };
    let list = new.get_or_insert_default();
    for name in ["cpu", "memory"] {
        list.remove(name);
        if let Some(quantity) = old.get(name) {
            list.insert(name.to_owned(), quantity.clone());
        }
    }
}

fn validate_container_resize(errors: &mut FieldErrors, path: &Path, after: &Container, before: &Container) {
    let (new, old) = (after.resources.clone().unwrap_or_default(), before.resources.clone().unwrap_or_default());
    let removed = |new: &Option<BTreeMap<String, Quantity>>, old: &Option<BTreeMap<String, Quantity>>| {
        old.iter().flatten().any(|(name, _)| !new.as_ref().is_some_and(|new| new.contains_key(name)))
    };
    if removed(&new.requests, &old.requests) {
        errors.forbidden(&path.child("requests"), "resource requests cannot be removed");
    }
    if removed(&new.limits, &old.limits) {
        errors.forbidden(&path.child("limits"), "resource limits cannot be removed");
    }
    let policies = after.resize_policy.as_deref().unwrap_or_default();
    let restarts = policies
        .iter()
        .find(|policy| policy.resource_name == "memory")
        .is_some_and(|policy| policy.restart_policy == "RestartContainer");
    let limit = |requirements: &ResourceRequirements| {
        requirements.limits.as_ref().and_then(|limits| limits.get("memory")).map(amount)
    };
    if restarts {
        return;
    }
    let path = path.child("limits").key("memory");
    match (limit(&new), limit(&old)) {
        (Some(_), None) => {
            errors.forbidden(&path, "memory limits cannot be added unless resizePolicy is RestartContainer");
        }
        (Some(new), Some(old)) if new < old => {
            errors.forbidden(&path, "memory limits cannot be decreased unless resizePolicy is RestartContainer");
        }
        _ => {}
    }
}
