//! Validation of `metadata`, the same for every kind.

use std::collections::BTreeSet;

use api::field::{FieldErrors, Path};
use api::meta::v1::{ObjectMeta, OwnerReference};

use crate::checks;
use crate::strategy::Scope;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Finalizers that need no domain before them.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", ORPHAN, FOREGROUND];

/// All problems of the metadata of a new object whose name was already generated. `validate_name` is the strategy's
/// rule of names (upstream's `ValidateObjectMeta`).
pub fn validate_metadata(
    metadata: &ObjectMeta,
    scope: Scope,
    validate_name: impl Fn(&str, bool) -> Vec<String>,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("metadata");
    if let Some(prefix) = metadata.generate_name.as_deref().filter(|prefix| !prefix.is_empty()) {
        checks::problems(&mut errors, &path.child("generateName"), prefix, validate_name(prefix, true));
    }
    match metadata.name.as_deref() {
        None | Some("") => errors.required(&path.child("name"), "name or generateName is required"),
        Some(name) => checks::problems(&mut errors, &path.child("name"), name, validate_name(name, false)),
    }
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let namespace_path = path.child("namespace");
    match (scope, namespace) {
        (Scope::Namespaced, "") => errors.required(&namespace_path, ""),
        (Scope::Namespaced, name) => checks::dns_label(&mut errors, &namespace_path, name),
        (Scope::Cluster, "") => {}
        (Scope::Cluster, _) => errors.forbidden(&namespace_path, "not allowed on this type"),
    }
    checks::not_negative(&mut errors, &path.child("generation"), metadata.generation.unwrap_or_default());
    validate_lists(&mut errors, &path, metadata);
    errors
}

/// All problems of the metadata of an update (upstream's `ValidateObjectMetaUpdate`).
pub fn validate_metadata_update(new: &ObjectMeta, old: &ObjectMeta) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("metadata");
    if old.deletion_timestamp.is_some() {
        let old: BTreeSet<&String> = old.finalizers.iter().flatten().collect();
        let added: BTreeSet<&String> = new.finalizers.iter().flatten().filter(|name| !old.contains(name)).collect();
        if !added.is_empty() {
            let names: Vec<String> = added.iter().map(|name| format!("{name:?}")).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                names.join(", ")
            );
            errors.forbidden(&path.child("finalizers"), why);
        }
    }
    let version = new.resource_version.as_deref().unwrap_or_default();
    if version.is_empty() {
        errors.invalid(&path.child("resourceVersion"), version, "must be specified for an update");
    }
    let generation = new.generation.unwrap_or_default();
    if generation < old.generation.unwrap_or_default() {
        errors.invalid(&path.child("generation"), generation, "must not be decremented");
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    checks::immutable(&mut errors, &path.child("name"), &text(&new.name), &text(&old.name));
    checks::immutable(&mut errors, &path.child("namespace"), &text(&new.namespace), &text(&old.namespace));
    checks::immutable(&mut errors, &path.child("uid"), &text(&new.uid), &text(&old.uid));
    let created = path.child("creationTimestamp");
    checks::immutable(&mut errors, &created, &new.creation_timestamp, &old.creation_timestamp);
    let deleted = path.child("deletionTimestamp");
    checks::immutable(&mut errors, &deleted, &new.deletion_timestamp, &old.deletion_timestamp);
    let grace = path.child("deletionGracePeriodSeconds");
    checks::immutable(&mut errors, &grace, &new.deletion_grace_period_seconds, &old.deletion_grace_period_seconds);
    validate_lists(&mut errors, &path, new);
    errors
}

/// Takes back what a write of `/status` may not change (upstream's `ResetObjectMetaForStatus`).
pub fn keep_for_status(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    new.generation = old.generation;
    new.self_link.clone_from(&old.self_link);
    new.labels.clone_from(&old.labels);
    new.annotations.clone_from(&old.annotations);
    new.owner_references.clone_from(&old.owner_references);
    new.finalizers.clone_from(&old.finalizers);
}

fn validate_lists(errors: &mut FieldErrors, path: &Path, metadata: &ObjectMeta) {
    checks::labels(errors, &path.child("labels"), metadata.labels.as_ref());
    checks::annotations(errors, &path.child("annotations"), metadata.annotations.as_ref());
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    validate_owners(errors, &path.child("ownerReferences"), owners);
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
    validate_finalizers(errors, &path.child("finalizers"), finalizers);
    validate_managed_fields(errors, &path.child("managedFields"), metadata);
}

fn validate_owners(errors: &mut FieldErrors, path: &Path, owners: &[OwnerReference]) {
    let mut controller: Option<String> = None;
    for owner in owners {
        let version = owner.api_version.rsplit('/').next().unwrap_or_default();
        if version.is_empty() {
            let why = "version must not be empty";
            errors.invalid(&path.child("apiVersion"), owner.api_version.as_str(), why);
        }
        for (name, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
            if value.is_empty() {
                errors.invalid(&path.child(name), value.as_str(), "must not be empty");
            }
        }
        if owner.api_version == "v1" && owner.kind == "Event" {
            errors.invalid(path, checks::shown(owner), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.controller == Some(true) {
            let this = format!("{}/{}", owner.kind, owner.name);
            match &controller {
                Some(first) => errors.invalid(
                    path,
                    checks::shown(&owners),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                         and {this}"
                    ),
                ),
                None => controller = Some(this),
            }
        }
    }
}

/// Finalizers' names, and that no two contradict each other.
fn validate_finalizers(errors: &mut FieldErrors, path: &Path, finalizers: &[String]) {
    for name in finalizers {
        checks::qualified(errors, path, name);
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has(ORPHAN) && has(FOREGROUND) {
        let why = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.invalid(path, checks::shown(&finalizers), why);
    }
    for (index, name) in finalizers.iter().enumerate() {
        validate_finalizer_domain(errors, &path.index(index), name);
    }
}

/// A finalizer without a domain must be one of the standard ones.
pub(crate) fn validate_finalizer_domain(errors: &mut FieldErrors, path: &Path, name: &str) {
    if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        errors.invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

fn validate_managed_fields(errors: &mut FieldErrors, path: &Path, metadata: &ObjectMeta) {
    for (index, entry) in metadata.managed_fields.iter().flatten().enumerate() {
        let path = path.index(index);
        match entry.operation.as_deref().unwrap_or_default() {
            "Apply" | "Update" => {}
            other => errors.invalid(&path.child("operation"), other, "must be `Apply` or `Update`"),
        }
        if let Some(fields) = entry.fields_type.as_deref().filter(|fields| !fields.is_empty() && *fields != "FieldsV1")
        {
            errors.invalid(&path.child("fieldsType"), fields, "must be `FieldsV1`");
        }
        if entry.subresource.as_ref().is_some_and(|subresource| subresource.len() > 256) {
            errors.too_long(&path.child("subresource"), 256);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn metadata(value: Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    fn texts(errors: &FieldErrors) -> Vec<String> {
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_new_object_needs_a_name_and_its_scope() {
        let check = |value, scope| texts(&validate_metadata(&metadata(value), scope, api::name::dns1123_subdomain));
        assert!(check(json!({"name": "a", "namespace": "b"}), Scope::Namespaced).is_empty());
        assert_eq!(
            check(json!({}), Scope::Namespaced),
            ["metadata.name: Required value: name or generateName is required", "metadata.namespace: Required value",]
        );
        assert_eq!(
            check(json!({"name": "a", "namespace": "b"}), Scope::Cluster),
            ["metadata.namespace: Forbidden: not allowed on this type"]
        );
        assert_eq!(
            check(json!({"name": "a", "finalizers": ["x", "orphan", "foregroundDeletion"]}), Scope::Cluster),
            [
                "metadata.finalizers: Invalid value: [\"x\",\"orphan\",\"foregroundDeletion\"]: finalizer orphan and \
                 foregroundDeletion cannot be both set",
                "metadata.finalizers[0]: Invalid value: \"x\": name is neither a standard finalizer name nor is it \
                 fully qualified",
            ]
        );
        let owner = |name: &str| {
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u",
            "controller": true})
        };
        let found = check(json!({"name": "a", "ownerReferences": [owner("x"), owner("y")]}), Scope::Cluster);
        assert!(
            found[0].ends_with(
                "Only one reference can have Controller set to true. Found \"true\" in references for ReplicaSet/x \
                 and ReplicaSet/y"
            ),
            "{found:?}"
        );
    }

    #[test]
    fn an_update_keeps_the_identity() {
        let old = json!({"name": "a", "uid": "1", "resourceVersion": "5", "generation": 2,
            "deletionTimestamp": "2026-01-01T00:00:00Z"});
        let check = |new: Value| texts(&validate_metadata_update(&metadata(new), &metadata(old.clone())));
        assert!(check(old.clone()).is_empty());
        assert_eq!(
            check(json!({"name": "a", "uid": "2", "generation": 1, "finalizers": ["a/b"],
                "deletionTimestamp": "2026-01-01T00:00:00Z"})),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found \
                 new finalizers []string{\"a/b\"}",
                "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
                "metadata.generation: Invalid value: 1: must not be decremented",
                "metadata.uid: Invalid value: \"2\": field is immutable",
            ]
        );
    }
}
