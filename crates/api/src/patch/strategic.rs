//! Strategic merge patch: a merge patch that knows by which key the items of a list are told apart
//! (`apimachinery/pkg/util/strategicpatch`).
//!
//! Directives: `$patch: replace|delete` in maps and list items, `$retainKeys`, `$setElementOrder/<list>`,
//! `$deleteFromPrimitiveList/<list>`.

use serde_json::{Map, Value};

use super::PatchError;
use crate::go;
use crate::schema::{Definition, Type};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList";

type Object = Map<String, Value>;

/// What is known of the values of a map.
#[derive(Clone, Copy)]
enum Fields {
    Struct(&'static Definition),
    Map(&'static Type),
    Unknown,
}

/// How one field merges.
#[derive(Clone, Copy)]
struct Rule {
    fields: Fields,
    /// Of a list's items.
    items: Fields,
    strategy: Strategy,
    merge_key: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Strategy {
    Default,
    Merge,
    Replace,
}

fn fields_of(type_: &'static Type) -> Fields {
    match type_ {
        Type::Map(of) => Fields::Map(of),
        _ => type_.definition().map_or(Fields::Unknown, Fields::Struct),
    }
}

impl Fields {
    fn rule(self, key: &str) -> Rule {
        let of_type = |type_: &'static Type| {
            let items = if let Type::List(item) = type_ { fields_of(item) } else { Fields::Unknown };
            Rule { fields: fields_of(type_), items, strategy: Strategy::Default, merge_key: "" }
        };
        match self {
            Self::Unknown => {
                Rule { fields: Self::Unknown, items: Self::Unknown, strategy: Strategy::Default, merge_key: "" }
            }
            Self::Map(of) => of_type(of),
            Self::Struct(definition) => {
                let Some(property) = definition.property(key) else { return Self::Unknown.rule(key) };
                let said = |strategy: &str| property.patch_strategy.split(',').any(|word| word == strategy);
                let strategy = match () {
                    () if said("merge") => Strategy::Merge,
                    () if said("replace") => Strategy::Replace,
                    () => Strategy::Default,
                };
                Rule { strategy, merge_key: property.patch_merge_key, ..of_type(&property.type_) }
            }
        }
    }
}

fn malformed(what: &str) -> PatchError {
    PatchError::Malformed(format!("invalid patch format of {what}"))
}

fn no_merge_key(map: &Object, key: &str) -> PatchError {
    let map = go::plain(&Value::Object(map.clone()));
    PatchError::Unmergeable(format!("map: {map} does not contain declared merge key: {key}"))
}

fn unknown_directive(map: Object) -> PatchError {
    let directive = map.get(PATCH).map(go::plain).unwrap_or_default();
    let map = go::plain(&Value::Object(map));
    PatchError::Unmergeable(format!("unknown patch type: {directive} in map: {map}"))
}

fn bad_type(expected: &str, value: &Value) -> PatchError {
    let found = match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    PatchError::Unmergeable(format!("expected a {expected}, but received a {found}"))
}

/// Applies a patch to an object of a definition.
pub(super) fn apply(object: Value, patch: Value, definition: &'static Definition) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::Malformed(
            "json: cannot unmarshal value into Go value of type map[string]interface {}".to_owned(),
        ));
    };
    let object = if let Value::Object(object) = object { object } else { Object::new() };
    merge_map(object, patch, Fields::Struct(definition)).map(Value::Object)
}

fn merge_map(mut original: Object, mut patch: Object, fields: Fields) -> Result<Object, PatchError> {
    let directive = patch.get(PATCH).map(|directive| directive.as_str().unwrap_or_default().to_owned());
    match directive.as_deref() {
        None => {}
        Some("replace") => {
            patch.shift_remove(PATCH);
            return Ok(patch);
        }
        Some("delete") => return Ok(Object::new()),
        Some(_) => return Err(unknown_directive(patch)),
    }
    retain_keys(&mut original, &mut patch)?;
    let orders: Vec<String> = patch.keys().filter(|key| key.starts_with(ELEMENT_ORDER)).cloned().collect();
    for key in orders {
        let order = patch.shift_remove(&key).unwrap_or_default();
        let name = key.split_once('/').filter(|(prefix, _)| *prefix == ELEMENT_ORDER).map(|(_, name)| name);
        let name = name.ok_or_else(|| malformed("setElementOrder list"))?;
        ordered(&mut original, &mut patch, name, order, fields.rule(name))?;
    }
    for (key, value) in patch {
        if key.starts_with(DELETE_PRIMITIVES) {
            let name = key.split_once('/').filter(|(prefix, _)| *prefix == DELETE_PRIMITIVES).map(|(_, name)| name);
            delete_primitives(&mut original, name.ok_or_else(|| malformed("primitive list"))?, &value)?;
            continue;
        }
        if value.is_null() {
            original.shift_remove(&key);
            continue;
        }
        let Some(current) = original.get_mut(&key) else {
            original.insert(key, without_directives(value));
            continue;
        };
        let rule = fields.rule(&key);
        *current = match (current.take(), value) {
            (Value::Object(_), value @ Value::Object(_)) if rule.strategy == Strategy::Replace => value,
            (Value::Object(current), Value::Object(value)) => Value::Object(merge_map(current, value, rule.fields)?),
            (Value::Array(current), Value::Array(value)) if rule.strategy == Strategy::Merge => {
                Value::Array(merge_list(current, value, rule)?)
            }
            (_, value) => value,
        };
    }
    Ok(original)
}

/// `$retainKeys`: what is not listed goes, and the patch may only hold what is listed.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(keys) = patch.shift_remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else { return Err(malformed("retainKeys")) };
    let listed = |key: &str| keys.iter().any(|listed| listed == key);
    let directive = |key: &str| key.starts_with(DELETE_PRIMITIVES) || key.starts_with(ELEMENT_ORDER);
    if patch.iter().any(|(key, value)| !value.is_null() && !directive(key) && !listed(key)) {
        return Err(malformed("retainKeys"));
    }
    original.retain(|key, _| listed(key));
    Ok(())
}

fn delete_primitives(original: &mut Object, name: &str, gone: &Value) -> Result<(), PatchError> {
    let Some(current) = original.get_mut(name) else { return Ok(()) };
    let Value::Array(gone) = gone else { return Err(bad_type("[]interface {}", gone)) };
    if let Value::Array(items) = current {
        items.retain(|item| !gone.contains(item));
    }
    Ok(())
}

/// A value that comes in whole: its directives have nothing to act on and its nulls nothing to delete.
fn without_directives(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let directive = |key: &str| {
                key == PATCH
                    || key == RETAIN_KEYS
                    || key.starts_with(DELETE_PRIMITIVES)
                    || key.starts_with(ELEMENT_ORDER)
            };
            let keep = map.into_iter().filter(|(key, value)| !directive(key) && !value.is_null());
            Value::Object(keep.map(|(key, value)| (key, without_directives(value))).collect())
        }
        Value::Array(items) => {
            let directive = |item: &Value| item.get(PATCH).is_some();
            Value::Array(items.into_iter().filter(|item| !directive(item)).map(without_directives).collect())
        }
        other => other,
    }
}

/// What tells an item apart: its merge key's value, or itself.
fn identity<'a>(item: &'a Value, merge_key: &str) -> Option<&'a Value> {
    if item.is_object() { item.get(merge_key) } else { Some(item) }
}

fn position(list: &[Value], item: &Value, merge_key: &str) -> Option<usize> {
    let wanted = identity(item, merge_key)?;
    list.iter().position(|other| identity(other, merge_key) == Some(wanted))
}

/// Whether the items are maps; items of different types, and lists of lists, cannot be merged.
fn items_are_maps(lists: [&[Value]; 2]) -> Result<bool, PatchError> {
    let mut all = lists.into_iter().flatten();
    let Some(first) = all.next() else { return Ok(false) };
    if first.is_array() {
        return Err(PatchError::Unprocessable("lists of lists are not supported".to_owned()));
    }
    let same = |item: &Value| std::mem::discriminant(item) == std::mem::discriminant(first);
    if !all.all(same) {
        let lists: Vec<String> = lists.map(|list| go::plain(&list.to_vec().into())).to_vec();
        let lists = lists.join(" ");
        return Err(PatchError::Unmergeable(format!("list element types are not identical: [{lists}]")));
    }
    Ok(first.is_object())
}

/// `$setElementOrder/<name>`: the list merges with its patch, then takes the order that is asked for.
fn ordered(original: &mut Object, patch: &mut Object, name: &str, order: Value, rule: Rule) -> Result<(), PatchError> {
    let Value::Array(order) = order else { return Err(bad_type("[]interface {}", &order)) };
    let list = |value: Option<Value>| match value {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(other) => Err(bad_type("[]interface {}", &other)),
    };
    let current = list(original.get(name).cloned())?;
    let change = list(patch.shift_remove(name))?;
    if let Some(change) = &change {
        fits_order(change, &order, rule.merge_key)?;
    }
    let live = current.clone().unwrap_or_default();
    let merged = match (current, change) {
        (None, None) => return Ok(()),
        (Some(current), None) => current,
        (None, Some(change)) => match without_directives(Value::Array(change)) {
            Value::Array(items) => items,
            _ => Vec::new(),
        },
        (Some(current), Some(change)) if rule.strategy == Strategy::Merge => merge_list(current, change, rule)?,
        (Some(_), Some(change)) => change,
    };
    if merged.is_empty() {
        original.insert(name.to_owned(), Value::Array(merged));
        return Ok(());
    }
    if items_are_maps([&merged, &order])? {
        check_keys(&merged, rule.merge_key)?;
    }
    original.insert(name.to_owned(), Value::Array(arrange(merged, &order, &live, rule.merge_key)));
    Ok(())
}

/// The items of the patch must come in the order that the patch asks for.
fn fits_order(change: &[Value], order: &[Value], merge_key: &str) -> Result<(), PatchError> {
    let kept: Vec<&Value> = change.iter().filter(|item| item.get(PATCH).is_none()).collect();
    if order.is_empty() || kept.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in &kept {
        if let (Value::Object(map), None) = (item, identity(item, merge_key)) {
            return Err(no_merge_key(map, merge_key));
        }
        if !rest.any(|other| identity(other, merge_key) == identity(item, merge_key)) {
            let (change, order) = (go::plain(&change.to_vec().into()), go::plain(&order.to_vec().into()));
            return Err(PatchError::Unmergeable(format!(
                "The order in patch list:\n{change}\n doesn't match {ELEMENT_ORDER} list:\n{order}\n"
            )));
        }
    }
    Ok(())
}

fn check_keys(items: &[Value], merge_key: &str) -> Result<(), PatchError> {
    for item in items {
        let Value::Object(map) = item else { return Err(bad_type("map[string]interface {}", item)) };
        if !map.contains_key(merge_key) {
            return Err(no_merge_key(map, merge_key));
        }
    }
    Ok(())
}

fn merge_list(original: Vec<Value>, patch: Vec<Value>, rule: Rule) -> Result<Vec<Value>, PatchError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let maps = items_are_maps([&original, &patch])?;
    let live = original.clone();
    if !maps {
        let mut merged = original;
        for item in &patch {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return Ok(arrange(merged, &patch, &live, ""));
    }
    let key = rule.merge_key;
    if key.is_empty() {
        return Err(PatchError::Unmergeable("cannot merge lists without merge key for type struct".to_owned()));
    }
    let (mut merged, changes) = special_items(original, patch, key)?;
    let order = changes.clone();
    for change in changes {
        let Value::Object(change) = change else { return Err(bad_type("map[string]interface {}", &change)) };
        let Some(wanted) = change.get(key) else { return Err(no_merge_key(&change, key)) };
        match merged.iter_mut().find(|item| item.get(key) == Some(wanted)) {
            Some(item) => {
                let Value::Object(current) = item.take() else { return Err(bad_type("map[string]interface {}", item)) };
                *item = Value::Object(merge_map(current, change, rule.items)?);
            }
            None => merged.push(without_directives(Value::Object(change))),
        }
    }
    check_keys(&merged, key)?;
    Ok(arrange(merged, &order, &live, key))
}

/// Carries out the items that are directives; answers the list and the plain items of the patch.
fn special_items(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let (mut plain, mut replace) = (Vec::new(), false);
    for item in patch {
        let Value::Object(map) = &item else { return Err(bad_type("map[string]interface {}", &item)) };
        match map.get(PATCH) {
            None => plain.push(item),
            Some(Value::String(directive)) if directive == "delete" => {
                let gone = map.get(key).ok_or_else(|| no_merge_key(map, key))?;
                original.retain(|other| other.get(key) != Some(gone));
            }
            Some(Value::String(directive)) if directive == "replace" => replace = true,
            Some(Value::String(directive)) if directive == "merge" => {
                return Err(PatchError::Unmergeable("merging lists cannot yet be specified in the patch".to_owned()));
            }
            Some(_) => return Err(unknown_directive(map.clone())),
        }
    }
    Ok(if replace { (plain, Vec::new()) } else { (original, plain) })
}

/// Orders a merged list: items named by `order` among themselves in that order, the others as they were live, and the
/// two woven together so that an item comes before another where it did so live.
fn arrange(merged: Vec<Value>, order: &[Value], live: &[Value], key: &str) -> Vec<Value> {
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| position(order, item, key).is_some());
    named.sort_by_key(|item| position(order, item, key));
    others.sort_by_key(|item| position(live, item, key).unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return result,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(named)) => match (position(live, other, key), position(live, named, key)) {
                (Some(other), Some(named)) => other < named,
                _ => false,
            },
        };
        result.extend(if other_first { others.next() } else { named.next() });
    }
}
