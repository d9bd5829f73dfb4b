//! Whether a schema is structural: every field has its type outside of `allOf`, `anyOf`, `oneOf` and `not`.

use api::FieldErrors;
use api::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool};
use api::field::Path;
use regex::Regex;
use serde_json::{Value, json};

use super::props::shown;

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Everything that keeps the schema from being structural, sorted.
pub fn structural(props: &JSONSchemaProps, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    invariants(props, Level::Root, path, &mut errors);
    for (place, below) in nested(props, path) {
        complete(props, below, path, &place, &mut errors);
    }
    completeness_below(props, path, &mut errors);
    errors.0.sort_by_cached_key(ToString::to_string);
    errors.0.dedup();
    errors
}

fn is_set(text: &Option<String>) -> bool {
    text.as_deref().is_some_and(|text| !text.is_empty())
}

fn items_of(props: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &props.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

fn values_of(props: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &props.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => Some(values),
        _ => None,
    }
}

/// The schemas under the junctors, with their paths.
fn nested<'a>(props: &'a JSONSchemaProps, path: &Path) -> Vec<(Path, &'a JSONSchemaProps)> {
    let mut found = Vec::new();
    for (name, list) in [("anyOf", &props.any_of), ("allOf", &props.all_of), ("oneOf", &props.one_of)] {
        for (index, below) in list.iter().flatten().enumerate() {
            found.push((path.child(name).index(index), below));
        }
    }
    found.extend(props.not.as_deref().map(|below| (path.child("not"), below)));
    found
}

/// Whether these alternatives say just integer or string.
fn is_int_or_string(list: &Option<Vec<JSONSchemaProps>>) -> bool {
    let shown: Vec<Value> = list.iter().flatten().map(shown).collect();
    shown == [json!({"type": "integer"}), json!({"type": "string"})]
}

fn invariants(props: &JSONSchemaProps, level: Level, path: &Path, errors: &mut FieldErrors) {
    let type_ = props.type_.as_deref().unwrap_or_default();
    let is = |flag: Option<bool>| flag == Some(true);
    let embedded = is(props.x_kubernetes_embedded_resource);
    let preserve = is(props.x_kubernetes_preserve_unknown_fields);
    let int_or_string = is(props.x_kubernetes_int_or_string);
    if type_ == "array" && props.items.is_none() {
        errors.required(&path.child("items"), "must be specified");
    }
    if let Some(items) = items_of(props) {
        invariants(items, Level::Item, &path.child("items"), errors);
    }
    for (name, below) in props.properties.iter().flatten() {
        invariants(below, Level::Field, &path.child("properties").key(name), errors);
    }
    if props.additional_properties.is_some() {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.forbidden(&path, "must not be used at the root");
        }
        if let Some(values) = values_of(props) {
            invariants(values, Level::Field, &path, errors);
        }
        if embedded {
            errors.forbidden(&path, "must not be used if x-kubernetes-embedded-resource is set");
        }
    }
    if int_or_string {
        let why = "must be false if x-kubernetes-int-or-string is true";
        for (name, flag) in
            [("x-kubernetes-preserve-unknown-fields", preserve), ("x-kubernetes-embedded-resource", embedded)]
        {
            if flag {
                errors.invalid(&path.child(name), true, why);
            }
        }
    }
    let skips_any_of = is_int_or_string(&props.any_of);
    let skips_all_of =
        props.all_of.as_ref().and_then(|list| list.first()).is_some_and(|first| is_int_or_string(&first.any_of));
    values(props, skips_any_of, skips_all_of, path, errors);
    if embedded && type_ != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        match type_ {
            "" => errors.required(&path.child("type"), why),
            _ => errors.invalid(&path.child("type"), type_, why),
        }
    } else if type_.is_empty() && !int_or_string && !preserve {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.required(&path.child("type"), why);
    }
    if level == Level::Root && !type_.is_empty() && type_ != "object" {
        errors.invalid(&path.child("type"), type_, "must be object at the root");
    }
    if level == Level::Root || embedded {
        identity(props, level, path, errors);
    }
    if embedded && !preserve && props.properties.as_ref().is_none_or(|properties| properties.is_empty()) {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.required(&path.child("properties"), why);
    }
}

/// What a schema may say of `apiVersion`, `kind` and `metadata`.
fn identity(props: &JSONSchemaProps, level: Level, path: &Path, errors: &mut FieldErrors) {
    let property = |name: &str| props.properties.as_ref().and_then(|properties| properties.get(name));
    let path = path.child("properties");
    for (name, expected) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        let Some(found) = property(name) else { continue };
        if found.type_.as_deref() != Some(expected) {
            let type_ = found.type_.as_deref().unwrap_or_default();
            errors.invalid(&path.key(name).child("type"), type_, format!("must be {expected}"));
        }
    }
    let Some(metadata) = property("metadata").filter(|_| level == Level::Root) else { return };
    let mut rest = metadata.clone();
    let only_names = rest.properties.iter().flatten().all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
    if only_names {
        rest.properties = None;
    }
    (rest.type_, rest.default) = (None, None);
    if shown(&rest) != json!({}) {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.forbidden(&path.key("metadata"), why);
    }
}

/// Checks what stands under the junctors, and the pattern.
fn values(props: &JSONSchemaProps, skips_any: bool, skips_all: bool, path: &Path, errors: &mut FieldErrors) {
    if !skips_any {
        for (index, below) in props.any_of.iter().flatten().enumerate() {
            no_structure(below, false, &path.child("anyOf").index(index), errors);
        }
    }
    for (index, below) in props.all_of.iter().flatten().enumerate() {
        no_structure(below, skips_all && index == 0, &path.child("allOf").index(index), errors);
    }
    for (index, below) in props.one_of.iter().flatten().enumerate() {
        no_structure(below, false, &path.child("oneOf").index(index), errors);
    }
    if let Some(below) = &props.not {
        no_structure(below, false, &path.child("not"), errors);
    }
    if let Some(pattern) = props.pattern.as_deref().filter(|pattern| !pattern.is_empty())
        && let Err(error) = Regex::new(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: {error}");
        errors.invalid(&path.child("pattern"), pattern, why);
    }
}

/// Under a junctor nothing may say what a value is.
fn no_structure(props: &JSONSchemaProps, skips_any: bool, path: &Path, errors: &mut FieldErrors) {
    values(props, skips_any, false, path, errors);
    if let Some(items) = items_of(props) {
        no_structure(items, false, &path.child("items"), errors);
    }
    for (name, below) in props.properties.iter().flatten() {
        no_structure(below, false, &path.child("properties").key(name), errors);
    }
    const EMPTY: &str = "must be empty to be structural";
    const UNDEFINED: &str = "must be undefined to be structural";
    const FALSE: &str = "must be false to be structural";
    let found = [
        ("type", is_set(&props.type_), EMPTY),
        ("additionalProperties", props.additional_properties.is_some(), UNDEFINED),
        ("title", is_set(&props.title), EMPTY),
        ("description", is_set(&props.description), EMPTY),
        ("nullable", props.nullable == Some(true), FALSE),
        ("externalDocs", props.external_docs.is_some(), UNDEFINED),
        ("x-kubernetes-preserve-unknown-fields", props.x_kubernetes_preserve_unknown_fields == Some(true), FALSE),
        ("x-kubernetes-embedded-resource", props.x_kubernetes_embedded_resource == Some(true), FALSE),
        ("x-kubernetes-int-or-string", props.x_kubernetes_int_or_string == Some(true), FALSE),
        (
            "x-kubernetes-list-map-keys",
            props.x_kubernetes_list_map_keys.as_ref().is_some_and(|keys| !keys.is_empty()),
            EMPTY,
        ),
        ("x-kubernetes-list-type", props.x_kubernetes_list_type.is_some(), UNDEFINED),
        ("x-kubernetes-map-type", props.x_kubernetes_map_type.is_some(), UNDEFINED),
        (
            "x-kubernetes-validations",
            props.x_kubernetes_validations.as_ref().is_some_and(|rules| !rules.is_empty()),
            EMPTY,
        ),
    ];
    for (name, _, why) in found.iter().filter(|(_, found, _)| *found) {
        errors.forbidden(&path.child(name), *why);
    }
    if props.properties.as_ref().is_some_and(|properties| properties.contains_key("metadata")) {
        let why = "must not be specified in a nested context";
        errors.forbidden(&path.child("properties").key("metadata"), why);
    }
}

/// Completeness of the junctors of every structural node below.
fn completeness_below(props: &JSONSchemaProps, path: &Path, errors: &mut FieldErrors) {
    let mut below: Vec<(Path, &JSONSchemaProps)> = Vec::new();
    below.extend(items_of(props).map(|items| (path.child("items"), items)));
    below.extend(values_of(props).map(|values| (path.child("additionalProperties"), values)));
    let properties = props.properties.iter().flatten();
    below.extend(properties.map(|(name, props)| (path.child("properties").key(name), props)));
    for (path, props) in below {
        for (place, nested) in nested(props, &path) {
            complete(props, nested, &path, &place, errors);
        }
        completeness_below(props, &path, errors);
    }
}

/// Every field named under a junctor must have been declared outside.
fn complete(outside: &JSONSchemaProps, inside: &JSONSchemaProps, path: &Path, at: &Path, errors: &mut FieldErrors) {
    for (place, below) in nested(inside, at) {
        complete(outside, below, path, &place, errors);
    }
    if let Some(below) = items_of(inside) {
        let (path, at) = (path.child("items"), at.child("items"));
        match items_of(outside) {
            Some(outside) => complete(outside, below, &path, &at, errors),
            None => errors.required(&path, format!("because it is defined in {at}")),
        }
    }
    for (name, below) in inside.properties.iter().flatten() {
        let (path, at) = (path.child("properties").key(name), at.child("properties").key(name));
        match outside.properties.as_ref().and_then(|properties| properties.get(name)) {
            Some(outside) => complete(outside, below, &path, &at, errors),
            None => errors.required(&path, format!("because it is defined in {at}")),
        }
    }
}
