//! What every schema of a definition must keep to, structural or not, and what its defaults must be.

use api::FieldErrors;
use api::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, JSONSchemaPropsOrStringArray,
};
use api::field::Path;
use serde_json::Value;

use crate::node::Node;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

/// Checks a schema and all below it. Defaults may stand only where structure does (`may_default`).
pub(super) fn check(props: &JSONSchemaProps, path: &Path, may_default: bool, errors: &mut FieldErrors) {
    unsupported(props, path, errors);
    if props.default.as_ref().is_some_and(|default| !default.0.is_null()) && !may_default {
        errors.forbidden(&path.child("default"), "must be undefined to be structural");
    }
    if props.unique_items == Some(true) {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.forbidden(&path.child("uniqueItems"), why);
    }
    list_type(props, path, errors);
    map_type(props, path, errors);
    let has_properties = props.properties.as_ref().is_some_and(|properties| !properties.is_empty());
    match &props.additional_properties {
        Some(JSONSchemaPropsOrBool::Bool(false)) => {
            let why = if has_properties {
                "additionalProperties and properties are mutual exclusive"
            } else {
                "additionalProperties cannot be set to false"
            };
            errors.forbidden(&path.child("additionalProperties"), why);
        }
        Some(JSONSchemaPropsOrBool::Schema(below)) => {
            let path = path.child("additionalProperties");
            if has_properties {
                errors.forbidden(&path, "additionalProperties and properties are mutual exclusive");
            }
            check(below, &path, false, errors);
        }
        _ => {}
    }
    for (name, below) in props.properties.iter().flatten() {
        check(below, &path.child("properties").key(name), may_default, errors);
    }
    if let Some(below) = &props.not {
        check(below, &path.child("not"), false, errors);
    }
    for (name, list) in [("allOf", &props.all_of), ("oneOf", &props.one_of), ("anyOf", &props.any_of)] {
        for (index, below) in list.iter().flatten().enumerate() {
            check(below, &path.child(name).index(index), false, errors);
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(below)) = &props.items {
        check(below, &path.child("items"), may_default, errors);
    }
}

fn unsupported(props: &JSONSchemaProps, path: &Path, errors: &mut FieldErrors) {
    let is_set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let has_dependencies = props.dependencies.iter().flatten().any(|(_, dependency)| {
        matches!(dependency, JSONSchemaPropsOrStringArray::Schema(_) | JSONSchemaPropsOrStringArray::Strings(_))
    });
    let found = [
        ("id", is_set(&props.id)),
        ("additionalItems", props.additional_items.is_some()),
        ("patternProperties", props.pattern_properties.as_ref().is_some_and(|map| !map.is_empty())),
        ("definitions", props.definitions.as_ref().is_some_and(|map| !map.is_empty())),
        ("dependencies", has_dependencies),
        ("$ref", props.ref_path.is_some()),
    ];
    for (name, _) in found.iter().filter(|(_, found)| *found) {
        errors.forbidden(&path.child(name), format!("{name} is not supported"));
    }
    match props.type_.as_deref() {
        None | Some("") => {}
        Some("null") => {
            errors.forbidden(&path.child("type"), "type cannot be set to null, use nullable as an alternative")
        }
        Some(name) if TYPES.contains(&name) => {}
        Some(name) => errors.not_supported(&path.child("type"), name, TYPES),
    }
    if matches!(props.items, Some(JSONSchemaPropsOrArray::Schemas(_))) {
        errors.forbidden(&path.child("items"), "items must be a schema object and not an array");
    }
}

/// `type` must be the one that an extension is for.
fn must_be(props: &JSONSchemaProps, path: &Path, type_: &str, extension: &str, errors: &mut FieldErrors) {
    let why = format!("must be {type_} if {extension} is specified");
    match props.type_.as_deref() {
        Some(name) if name == type_ => {}
        None | Some("") => errors.required(&path.child("type"), why),
        Some(name) => errors.invalid(&path.child("type"), name, why),
    }
}

fn map_type(props: &JSONSchemaProps, path: &Path, errors: &mut FieldErrors) {
    let Some(map_type) = props.x_kubernetes_map_type.as_deref() else { return };
    if !matches!(map_type, "atomic" | "granular") {
        errors.not_supported(&path.child("x-kubernetes-map-type"), map_type, &["atomic", "granular"]);
    }
    must_be(props, path, "object", "x-kubernetes-map-type", errors);
}

fn list_type(props: &JSONSchemaProps, path: &Path, errors: &mut FieldErrors) {
    let keys = props.x_kubernetes_list_map_keys.as_deref().unwrap_or_default();
    let list_path = path.child("x-kubernetes-list-type");
    let list_type = props.x_kubernetes_list_type.as_deref();
    if !keys.is_empty() && list_type != Some("map") {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            None => errors.required(&list_path, why),
            Some(other) => errors.invalid(&list_path, other, why),
        }
    }
    let Some(list_type) = list_type else { return };
    must_be(props, path, "array", "x-kubernetes-list-type", errors);
    match list_type {
        "atomic" => {}
        "set" => set(props, path, errors),
        "map" => map(props, keys, path, errors),
        other => errors.not_supported(&list_path, other, &["atomic", "map", "set"]),
    }
}

fn set(props: &JSONSchemaProps, path: &Path, errors: &mut FieldErrors) {
    let Some(JSONSchemaPropsOrArray::Schema(items)) = &props.items else { return };
    let path = path.child("items");
    if items.nullable == Some(true) {
        errors.forbidden(&path.child("nullable"), "cannot be nullable when x-kubernetes-list-type is set");
    }
    let atomic = "must be atomic as item of a list with x-kubernetes-list-type=set";
    match items.type_.as_deref() {
        Some("object") if items.x_kubernetes_map_type.as_deref() != Some("atomic") => {
            match items.x_kubernetes_map_type.as_deref() {
                Some(other) => errors.invalid(&path.child("x-kubernetes-map-type"), other, atomic),
                None => errors.required(&path.child("x-kubernetes-map-type"), atomic),
            }
        }
        Some("array") if items.x_kubernetes_list_type.as_deref().is_some_and(|list| list != "atomic") => {
            let list = items.x_kubernetes_list_type.as_deref();
            errors.invalid(&path.child("x-kubernetes-list-type"), list, atomic);
        }
        _ => {}
    }
}

fn map(props: &JSONSchemaProps, keys: &[String], path: &Path, errors: &mut FieldErrors) {
    let keys_path = path.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.required(&keys_path, "must not be empty if x-kubernetes-list-type is map");
    }
    let items_path = path.child("items");
    let Some(JSONSchemaPropsOrArray::Schema(items)) = &props.items else {
        errors.required(&items_path, "must have a schema if x-kubernetes-list-type is map");
        return;
    };
    if items.nullable == Some(true) {
        errors.forbidden(&items_path.child("nullable"), "cannot be nullable when x-kubernetes-list-type is map");
    }
    match items.type_.as_deref() {
        Some("object") => {}
        other => {
            let why = "must be object if parent array's x-kubernetes-list-type is map";
            errors.invalid(&items_path.child("type"), other.unwrap_or_default(), why);
        }
    }
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].contains(key) {
            errors.duplicate(&keys_path.index(index), key.as_str());
        }
        let property = items.properties.as_ref().and_then(|properties| properties.get(key));
        let Some(property) = property else {
            errors.invalid(&keys_path.index(index), key.as_str(), "entries must all be names of item properties");
            continue;
        };
        let path = items_path.child("properties").key(key);
        if matches!(property.type_.as_deref(), Some("array" | "object")) {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.invalid(&path.child("type"), property.type_.as_deref(), why);
        }
        if property.nullable == Some(true) {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&path.child("nullable"), why);
        }
        let is_required = items.required.iter().flatten().any(|name| name == key);
        if !is_required && property.default.is_none() {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                       property";
            errors.required(&path.child("default"), why);
        }
    }
}

/// Every default must be valid, and hold nothing that its own schema would prune.
pub(super) fn check_defaults(node: &Node, path: &Path, errors: &mut FieldErrors) {
    if let Some(default) = node.default.as_deref() {
        let path = path.child("default");
        let mut pruned = default.clone();
        if !crate::prune::prune_default(&mut pruned, node).is_empty() {
            errors.invalid(&path, default.clone(), "must not have unknown fields");
        }
        errors.extend(crate::validate::validate_at(default, node, &path));
    }
    if let Some(items) = node.items.as_deref() {
        check_defaults(items, &path.child("items"), errors);
    }
    for (name, below) in &node.properties {
        check_defaults(below, &path.child("properties").key(name), errors);
    }
}

/// The JSON of a schema, to see whether it says anything at all.
pub(super) fn shown(props: &JSONSchemaProps) -> Value {
    serde_json::to_value(props).unwrap_or(Value::Null)
}
