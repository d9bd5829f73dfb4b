//! The metadata of custom resources and of resources embedded in them: which fields it has, and what they may hold.

use api::FieldErrors;
use api::field::Path;
use serde_json::Value;

use crate::node::Node;

/// What a metadata field holds.
#[derive(Clone, Copy, PartialEq)]
enum Holds {
    Text,
    Integer,
    Texts,
    TextMap,
    Objects,
}

const FIELDS: &[(&str, Holds)] = &[
    ("annotations", Holds::TextMap),
    ("creationTimestamp", Holds::Text),
    ("deletionGracePeriodSeconds", Holds::Integer),
    ("deletionTimestamp", Holds::Text),
    ("finalizers", Holds::Texts),
    ("generateName", Holds::Text),
    ("generation", Holds::Integer),
    ("labels", Holds::TextMap),
    ("managedFields", Holds::Objects),
    ("name", Holds::Text),
    ("namespace", Holds::Text),
    ("ownerReferences", Holds::Objects),
    ("resourceVersion", Holds::Text),
    ("selfLink", Holds::Text),
    ("uid", Holds::Text),
];

/// Removes fields that no metadata has.
pub(crate) fn prune(metadata: &mut Value, path: &str, unknown: &mut Vec<String>) {
    let Value::Object(map) = metadata else { return };
    map.retain(|name, _| {
        let known = FIELDS.iter().any(|(known, _)| known == name);
        if !known {
            unknown.push(format!("{path}.{name}"));
        }
        known
    });
}

fn fits(value: &Value, holds: Holds) -> bool {
    match (holds, value) {
        (_, Value::Null) | (Holds::Text, Value::String(_)) => true,
        (Holds::Integer, Value::Number(number)) => number.is_i64(),
        (Holds::Texts, Value::Array(items)) => items.iter().all(|item| item.is_string() || item.is_null()),
        (Holds::Objects, Value::Array(items)) => items.iter().all(|item| item.is_object() || item.is_null()),
        (Holds::TextMap, Value::Object(map)) => map.values().all(|item| item.is_string() || item.is_null()),
        _ => false,
    }
}

/// The types of `apiVersion`, `kind` and `metadata`.
pub(crate) fn check_types(object: &Value, path: &Path, errors: &mut FieldErrors) {
    for name in ["apiVersion", "kind"] {
        if let Some(value) = object.get(name)
            && !value.is_string()
        {
            errors.invalid(&path.child(name), value.clone(), "must be string");
        }
    }
    match object.get("metadata") {
        None => {}
        Some(Value::Object(map)) => {
            for (name, holds) in FIELDS {
                if let Some(value) = map.get(*name)
                    && !fits(value, *holds)
                {
                    errors.invalid(&path.child("metadata").child(name), value.clone(), "must be of its declared type");
                }
            }
        }
        Some(other) => errors.invalid(&path.child("metadata"), other.clone(), "must be object"),
    }
}

fn problems(errors: &mut FieldErrors, path: &Path, value: &str, problems: Vec<String>) {
    problems.into_iter().for_each(|problem| errors.invalid(path, value, problem));
}

/// An embedded resource's identity and metadata.
fn check_embedded(object: &Value, path: &Path, errors: &mut FieldErrors) {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text(object, "apiVersion"), text(object, "kind"));
    if api_version.is_empty() {
        errors.required(&path.child("apiVersion"), "must not be empty");
    } else if api_version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {api_version}");
        errors.invalid(&path.child("apiVersion"), api_version, why);
    }
    if kind.is_empty() {
        errors.required(&path.child("kind"), "must not be empty");
    } else {
        let found = api::name::dns1035_label(&kind.to_lowercase(), false);
        if !found.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", found.join(","));
            errors.invalid(&path.child("kind"), kind, why);
        }
    }
    let Some(metadata) = object.get("metadata") else { return };
    let path = path.child("metadata");
    let (name, generate_name) = (text(metadata, "name"), text(metadata, "generateName"));
    problems(errors, &path.child("name"), &name, api::name::path_segment(&name, false));
    problems(errors, &path.child("generateName"), &generate_name, api::name::path_segment(&generate_name, true));
    let namespace = text(metadata, "namespace");
    if !namespace.is_empty() {
        problems(errors, &path.child("namespace"), &namespace, api::name::dns1123_label(&namespace, false));
    }
    for (key, value) in metadata.get("labels").and_then(Value::as_object).into_iter().flatten() {
        problems(errors, &path.child("labels"), key, api::name::label_key(key));
        let value = value.as_str().unwrap_or_default();
        problems(errors, &path.child("labels"), value, api::name::label_value(value));
    }
    for key in metadata.get("annotations").and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key) {
        problems(errors, &path.child("annotations"), key, api::name::qualified(&key.to_ascii_lowercase()));
    }
}

/// Checks every embedded resource below a value.
pub(crate) fn check(value: &Value, node: &Node, path: &Path, is_root: bool, errors: &mut FieldErrors) {
    match value {
        Value::Object(map) => {
            if is_root || node.embedded {
                check_types(value, path, errors);
            }
            if node.embedded && !is_root {
                check_embedded(value, path, errors);
            }
            for (name, value) in map {
                if let Some(node) = node.property(name) {
                    check(value, node, &path.child(name), false, errors);
                } else if let Some(node) = node.values() {
                    check(value, node, &path.key(name), false, errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(node) = node.items.as_deref() else { return };
            items.iter().enumerate().for_each(|(index, item)| check(item, node, &path.index(index), false, errors));
        }
        _ => {}
    }
}
