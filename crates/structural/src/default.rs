//! Fills in a schema's defaults.

use serde_json::Value;

use crate::node::Node;

/// Whether a null stands where none may.
fn is_stray_null(value: &Value, node: &Node) -> bool {
    value.is_null() && !node.nullable
}

/// The default, where a value is missing.
fn fill(value: &mut Value, node: &Node) {
    if let Some(default) = node.default.as_deref()
        && is_stray_null(value, node)
    {
        *value = default.clone();
    }
    default(value, node);
}

pub(crate) fn default(value: &mut Value, node: &Node) {
    if !node.has_defaults {
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, node) in &node.properties {
                match (map.get_mut(&**name), node.default.as_deref()) {
                    (Some(value), _) => fill(value, node),
                    (None, Some(value)) => {
                        let mut value = value.clone();
                        default(&mut value, node);
                        map.insert(name.to_string(), value);
                    }
                    (None, None) => {}
                }
            }
            if let Some(values) = node.values() {
                map.iter_mut().filter(|(name, _)| node.property(name).is_none()).for_each(|(_, v)| fill(v, values));
            }
        }
        Value::Array(list) => {
            if let Some(items) = node.items.as_deref() {
                list.iter_mut().for_each(|item| fill(item, items));
            }
        }
        _ => {}
    }
}

/// Removes nulls of fields that may not be null and have no default.
pub(crate) fn prune_nulls(value: &mut Value, node: &Node) {
    match value {
        Value::Object(map) => map.retain(|name, value| {
            let Some(node) = node.field(name) else { return true };
            if is_stray_null(value, node) && node.default.is_none() {
                return false;
            }
            prune_nulls(value, node);
            true
        }),
        Value::Array(list) => {
            if let Some(items) = node.items.as_deref() {
                list.iter_mut().for_each(|item| prune_nulls(item, items));
            }
        }
        _ => {}
    }
}
