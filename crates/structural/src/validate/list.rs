//! Items of sets are unique, and so are the keys of lists of type map.

use std::collections::HashSet;

use api::FieldErrors;
use api::field::Path;
use serde_json::{Map, Value};

use super::correlate;
use crate::node::{ListType, Node};

/// A text that equal values share, whatever the order of their fields.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<(&String, String)> = map.iter().map(|(key, value)| (key, canonical(value))).collect();
            fields.sort();
            let fields: Vec<String> = fields.into_iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

pub(super) fn has_duplicates(items: &[Value]) -> bool {
    let mut seen = HashSet::new();
    !items.iter().all(|item| seen.insert(canonical(item)))
}

/// Checks every list below a value; what is as it was is not checked again.
pub(super) fn check(new: &Value, old: Option<&Value>, node: &Node, path: &Path, errors: &mut FieldErrors) {
    if old == Some(new) {
        return;
    }
    match new {
        Value::Object(map) => {
            for (name, value) in map {
                let old = old.and_then(|old| old.get(name));
                if let Some(node) = node.property(name) {
                    check(value, old, node, &path.child(name), errors);
                } else if let Some(node) = node.values() {
                    check(value, old, node, &path.key(name), errors);
                }
            }
        }
        Value::Array(items) => {
            check_unique(items, node, path, errors);
            let Some(of) = node.items.as_deref() else { return };
            for (index, item) in items.iter().enumerate() {
                check(item, correlate(item, old, node), of, &path.index(index), errors);
            }
        }
        _ => {}
    }
}

fn check_unique(items: &[Value], node: &Node, path: &Path, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let identity = match &node.list {
            Some(ListType::Set) => item.clone(),
            Some(ListType::Map(keys)) => {
                let keys = keys.iter().filter_map(|key| Some((key.to_string(), item.get(&**key)?.clone())));
                Value::Object(keys.collect::<Map<_, _>>())
            }
            _ => return,
        };
        if !seen.insert(canonical(&identity)) {
            errors.duplicate(&path.index(index), identity);
        }
    }
}
