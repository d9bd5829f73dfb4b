//! A schema's JSON as OpenAPI serves it.

use serde_json::{Map, Value};

/// The members whose value is a schema.
const ONE: &[&str] = &["not", "items", "additionalProperties"];
/// The members whose value is a list of schemas.
const MANY: &[&str] = &["allOf", "anyOf", "oneOf"];

/// Applies a change to a schema and all below it, those above first.
fn walk(schema: &mut Value, change: &dyn Fn(&mut Map<String, Value>)) {
    let Value::Object(map) = schema else { return };
    change(map);
    for name in ONE {
        if let Some(below) = map.get_mut(*name) {
            walk(below, change);
        }
    }
    for name in MANY {
        map.get_mut(*name).and_then(Value::as_array_mut).into_iter().flatten().for_each(|below| walk(below, change));
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(|below| walk(below, change));
    }
}

pub(crate) fn v3(mut schema: Value) -> Value {
    walk(&mut schema, &|map| {
        if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
            map.shift_remove("type");
        }
    });
    schema
}

pub(crate) fn v2(mut schema: Value) -> Value {
    walk(&mut schema, &|map| {
        for name in ["oneOf", "anyOf", "not", "nullable", "default"] {
            let is_kept = name == "default" && map.get("nullable") != Some(&Value::Bool(true));
            if !is_kept && name != "nullable" {
                map.shift_remove(name);
            }
        }
        let is_nullable = map.shift_remove("nullable") == Some(Value::Bool(true));
        let is = |name: &str| map.get(name) == Some(&Value::Bool(true));
        if is_nullable || is("x-kubernetes-int-or-string") || is("x-kubernetes-preserve-unknown-fields") {
            // clients of v2 check types that v2 cannot say, so none is said
            for name in ["type", "items", "properties", "format"] {
                map.shift_remove(name);
            }
        }
    });
    schema
}
