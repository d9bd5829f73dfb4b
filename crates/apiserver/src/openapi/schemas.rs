//! The schemas of types.

use std::collections::BTreeSet;

use api::schema::{self, Definition, Descriptions, ListType, Property, Type};
use serde_json::{Map, Value, json};

use super::Dialect;
use crate::discovery::Served;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

/// The definition of a kind, if it is built in.
pub(super) fn definition_of(group: &str, version: &str, kind: &str) -> Option<&'static Definition> {
    schema::all().iter().find(|definition| definition.kinds.contains(&(group, version, kind)))
}

/// The name under which a resource's schema stands.
pub(super) fn name_of(one: &Served) -> String {
    match one.built_in {
        Some(kind) => kind.definition.to_owned(),
        None => {
            let mut reversed: Vec<&str> = one.group.split('.').rev().collect();
            reversed.push(&one.version);
            reversed.push(&one.kind);
            reversed.join(".")
        }
    }
}

/// The schemas of these resources, of their lists, of what their subresources speak, and of all that these are made
/// of, sorted by name.
pub(super) fn all<'a>(
    served: &[&'a Served],
    texts: &'a Descriptions,
    dialect: Dialect,
) -> impl Iterator<Item = (String, Value)> + 'a {
    let mut names: BTreeSet<&'static str> = BTreeSet::new();
    for name in ["APIResourceList", "DeleteOptions", "Patch", "Status", "WatchEvent"] {
        add(&format!("{META}{name}"), &mut names);
    }
    let mut foreign = Vec::new();
    for one in served {
        match one.built_in {
            Some(kind) => {
                add(kind.definition, &mut names);
                add(&format!("{}List", kind.definition), &mut names);
            }
            None => {
                add(&format!("{META}ObjectMeta"), &mut names);
                add(&format!("{META}ListMeta"), &mut names);
                foreign.push((name_of(one), foreign_schema(one, dialect)));
                foreign.push((format!("{}List", name_of(one)), foreign_list(one, dialect)));
            }
        }
        for sub in &one.subresources {
            if let Some(definition) = definition_of(&sub.group, &sub.version, &sub.kind) {
                add(definition.name, &mut names);
            }
        }
    }
    let built_in = names.into_iter().filter_map(schema::definition);
    let built_in = built_in.map(move |definition| (definition.name.to_owned(), describe(definition, texts, dialect)));
    built_in.chain(foreign)
}

/// Adds a definition and what it refers to.
fn add(name: &str, names: &mut BTreeSet<&'static str>) {
    let Some(definition) = schema::definition(name) else { return };
    if !names.insert(definition.name) {
        return;
    }
    for property in &definition.properties {
        match property.reference {
            Some(name) => add(name, names),
            None => add_type(&property.type_, names),
        }
    }
}

fn add_type(type_: &Type, names: &mut BTreeSet<&'static str>) {
    match type_ {
        Type::List(inner) | Type::Map(inner) => add_type(inner, names),
        _ => {
            if let Some(name) = named(type_) {
                add(name, names);
            }
        }
    }
}

/// The definition that a type is written as.
fn named(type_: &Type) -> Option<&'static str> {
    match type_ {
        Type::Quantity => Some(QUANTITY),
        Type::IntOrString => Some(INT_OR_STRING),
        Type::Time => Some("io.k8s.apimachinery.pkg.apis.meta.v1.Time"),
        _ => type_.definition().map(|definition| definition.name),
    }
}

/// A resource whose schema is not known here: an object.
fn foreign_schema(one: &Served, dialect: Dialect) -> Value {
    let mut schema = match &one.schema {
        Some(schema) if dialect == Dialect::V2 => schema.openapi_v2(),
        Some(schema) => schema.openapi_v3(),
        None => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
    };
    let properties = &mut schema["properties"];
    if !properties.is_object() {
        *properties = json!({});
    }
    properties["apiVersion"] = json!({"type": "string", "description": "The version of this object's schema."});
    properties["kind"] = json!({"type": "string", "description": "The kind of this object."});
    properties["metadata"] = dialect.reference(&format!("{META}ObjectMeta"));
    schema["x-kubernetes-group-version-kind"] = json!([{"group": one.group, "version": one.version, "kind": one.kind}]);
    schema
}

fn foreign_list(one: &Served, dialect: Dialect) -> Value {
    json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": dialect.reference(&format!("{META}ListMeta")),
            "items": {"type": "array", "items": dialect.reference(&name_of(one))},
        },
        "x-kubernetes-group-version-kind": [{"group": one.group, "version": one.version, "kind": one.list_kind}],
    })
}

fn of_type(type_: &Type, dialect: Dialect) -> Value {
    if let Some(name) = named(type_) {
        return dialect.reference(name);
    }
    match type_ {
        Type::Bytes => json!({"type": "string", "format": "byte"}),
        Type::Boolean => json!({"type": "boolean"}),
        Type::Int32 => json!({"type": "integer", "format": "int32"}),
        Type::Int64 => json!({"type": "integer", "format": "int64"}),
        Type::Double => json!({"type": "number", "format": "double"}),
        Type::Object => json!({"type": "object"}),
        Type::List(item) => json!({"type": "array", "items": of_type(item, dialect)}),
        Type::Map(value) => json!({"type": "object", "additionalProperties": of_type(value, dialect)}),
        Type::Any => json!({}),
        _ => json!({"type": "string"}),
    }
}

/// What a scalar definition is.
fn scalar(definition: &Definition, dialect: Dialect) -> Value {
    match (&definition.type_, dialect) {
        (Type::Quantity, Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        (Type::IntOrString, Dialect::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        (Type::IntOrString, Dialect::V2) => json!({"type": "string", "format": "int-or-string"}),
        (Type::Time, _) => json!({"type": "string", "format": "date-time"}),
        (Type::Object, _) => json!({"type": "object"}),
        (Type::Any, _) => json!({}),
        _ => json!({"type": "string"}),
    }
}

fn describe(definition: &Definition, texts: &Descriptions, dialect: Dialect) -> Value {
    let mut schema = if definition.is_struct() { json!({"type": "object"}) } else { scalar(definition, dialect) };
    let Value::Object(map) = &mut schema else { return schema };
    if let Some(text) = texts.definition(definition.name).map(str::to_owned).or_else(|| list_text(definition)) {
        map.insert("description".into(), text.into());
    }
    if !definition.properties.is_empty() {
        let property = |property: &Property| {
            let text = texts.property(definition.name, property.name).or_else(|| fallback(property.name));
            (property.name.to_owned(), field(property, text, dialect))
        };
        let properties: Map<String, Value> = definition.properties.iter().map(property).collect();
        map.insert("properties".into(), properties.into());
    }
    let required: Vec<&str> =
        definition.properties.iter().filter(|property| property.required).map(|property| property.name).collect();
    if !required.is_empty() {
        map.insert("required".into(), required.into());
    }
    if definition.map_atomic {
        map.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    if !definition.kinds.is_empty() {
        let kind =
            |(group, version, kind): &(&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
        map.insert("x-kubernetes-group-version-kind".into(), definition.kinds.iter().map(kind).collect());
    }
    schema
}

/// Lists are not among the generated types.
fn list_text(definition: &Definition) -> Option<String> {
    let item = definition.short_name().strip_suffix("List")?;
    definition.property("items").map(|_| format!("{item}List is a list of {item} objects."))
}

/// The texts of fields that every kind has.
fn fallback(name: &str) -> Option<&'static str> {
    Some(match name {
        "apiVersion" => "The group and version whose schema this object has.",
        "kind" => "The type of this object, in CamelCase.",
        "metadata" => "The metadata of the list: its revision, and how to get the rest.",
        "items" => "The objects.",
        _ => return None,
    })
}

fn field(property: &Property, text: Option<&str>, dialect: Dialect) -> Value {
    let mut schema = match property.reference {
        Some(name) => dialect.reference(name),
        None => of_type(&property.type_, dialect),
    };
    let mut more = Map::new();
    if let Some(text) = text {
        more.insert("description".into(), text.into());
    }
    if let Some(list_type) = property.list_type {
        let text = match list_type {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        };
        more.insert("x-kubernetes-list-type".into(), text.into());
    }
    if !property.list_map_keys.is_empty() {
        more.insert("x-kubernetes-list-map-keys".into(), property.list_map_keys.clone().into());
    }
    if property.map_atomic {
        more.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    if !property.patch_strategy.is_empty() {
        more.insert("x-kubernetes-patch-strategy".into(), property.patch_strategy.into());
    }
    if !property.patch_merge_key.is_empty() {
        more.insert("x-kubernetes-patch-merge-key".into(), property.patch_merge_key.into());
    }
    // in v3 nothing may stand beside a reference
    if dialect == Dialect::V3 && !more.is_empty() && schema.get("$ref").is_some() {
        schema = json!({"allOf": [schema]});
    }
    if let Value::Object(map) = &mut schema {
        map.extend(more);
    }
    schema
}
