//! Removes what a schema does not declare.

use serde_json::{Map, Value};

use crate::metadata;
use crate::node::{Additional, Node};

pub(crate) fn prune(object: &mut Value, root: &Node) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_value(object, root, true, "", &mut unknown);
    unknown.sort();
    unknown
}

/// As [`prune`], for a default: a resource only if it is an embedded one.
pub(crate) fn prune_default(value: &mut Value, node: &Node) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_value(value, node, false, "", &mut unknown);
    unknown
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn prune_value(value: &mut Value, node: &Node, is_resource: bool, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => prune_map(map, node, is_resource || node.embedded, path, unknown),
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                let path = format!("{path}[{index}]");
                match node.items.as_deref() {
                    Some(node) => prune_value(item, node, false, &path, unknown),
                    None if node.preserve => {}
                    None => prune_value(item, &Node::default(), false, &path, unknown),
                }
            }
        }
        _ => {}
    }
}

fn prune_map(map: &mut Map<String, Value>, node: &Node, is_resource: bool, path: &str, unknown: &mut Vec<String>) {
    map.retain(|name, value| {
        let path = below(path, name);
        if is_resource && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            if name == "metadata" {
                metadata::prune(value, &path, unknown);
            }
            return true;
        }
        if let Some(node) = node.property(name) {
            prune_value(value, node, false, &path, unknown);
            return true;
        }
        match node.additional.as_deref() {
            Some(Additional::Of(node)) => {
                prune_value(value, node, false, &path, unknown);
                true
            }
            // the map's values are anything, but of what is in them nothing is declared
            Some(Additional::Allowed(true)) if !node.preserve => {
                prune_value(value, &Node::default(), false, &path, unknown);
                true
            }
            _ if node.preserve => true,
            _ => {
                unknown.push(path);
                false
            }
        }
    });
}
