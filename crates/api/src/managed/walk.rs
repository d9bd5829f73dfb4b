//! Walks of typed value trees: which fields a value has, how two values differ, how a configuration merges, and what
//! goes with fields that nobody owns any more.

use serde_json::{Map, Value};

use super::Set;
use crate::schema::{Definition, ListType, Property, Type};

/// Fields of every object that have no owner.
const UNOWNED: &[&str] = &["apiVersion", "kind"];
const UNOWNED_METADATA: &[&str] = &[
    "clusterName",
    "creationTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];
/// Optional struct fields that upstream holds by value: they are always there, so nobody adds them.
const ALWAYS_THERE: &[&str] = &["metadata", "resources", "spec", "status", "strategy", "template", "updateStrategy"];

/// A value's type, with what its field says of it.
#[derive(Clone, Copy)]
struct Place<'a> {
    type_: &'a Type,
    property: Option<&'a Property>,
}

/// What a value consists of.
enum Parts<'a> {
    /// Nothing that is owned apart from the rest.
    Leaf,
    Struct(&'static Definition),
    Map(Place<'a>),
    Set,
    /// Items told apart by these keys.
    Keyed(&'a [&'static str], Place<'a>),
}

impl<'a> Place<'a> {
    fn root(definition: &'a Definition) -> Self {
        Self { type_: &definition.type_, property: None }
    }

    fn parts(self) -> Parts<'a> {
        let atomic = self.property.is_some_and(|property| property.map_atomic);
        match self.type_ {
            Type::Struct(_) => match self.type_.definition() {
                Some(definition) if !atomic && !definition.map_atomic => Parts::Struct(definition),
                _ => Parts::Leaf,
            },
            Type::Map(of) if !atomic => Parts::Map(Self { type_: of, property: None }),
            Type::List(of) => match self.property {
                Some(property) if property.list_type == Some(ListType::Set) => Parts::Set,
                Some(property) if property.list_type == Some(ListType::Map) => {
                    Parts::Keyed(&property.list_map_keys, Self { type_: of, property: None })
                }
                _ => Parts::Leaf,
            },
            _ => Parts::Leaf,
        }
    }

    /// Whether adding a value here adds the place itself, beside what is in it.
    fn is_added(self) -> bool {
        let Some(property) = self.property else { return true };
        !(property.required || matches!(self.type_, Type::Struct(_)) && ALWAYS_THERE.contains(&property.name))
    }
}

/// The step to an item of a keyed list. Keys that are left out have the API's default.
fn key_step(item: &Value, keys: &[&str]) -> String {
    let mut map = Map::new();
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    for key in keys {
        let value = match (item.get(key), key) {
            (Some(value), _) => value.clone(),
            (None, "protocol") => "TCP".into(),
            (None, "name") => "".into(),
            (None, _) => continue,
        };
        map.insert(key.to_owned(), value);
    }
    format!("k:{}", Value::Object(map))
}

/// A value's children with their steps; `None` if it is owned as a whole.
fn children<'a>(value: &'a Value, place: Place<'a>) -> Option<Vec<(String, &'a Value, Place<'a>)>> {
    let leaf = Place { type_: &Type::Any, property: None };
    match (place.parts(), value) {
        (Parts::Struct(definition), Value::Object(map)) => {
            let child = |(key, value): (&'a String, &'a Value)| {
                let property = definition.property(key)?;
                Some((format!("f:{key}"), value, Place { type_: &property.type_, property: Some(property) }))
            };
            Some(map.iter().filter_map(child).collect())
        }
        (Parts::Map(of), Value::Object(map)) => {
            Some(map.iter().map(|(key, value)| (format!("f:{key}"), value, of)).collect())
        }
        (Parts::Set, Value::Array(items)) => Some(items.iter().map(|item| (format!("v:{item}"), item, leaf)).collect()),
        (Parts::Keyed(keys, of), Value::Array(items)) => {
            Some(items.iter().map(|item| (key_step(item, keys), item, of)).collect())
        }
        _ => None,
    }
}

fn is_unowned(depth: usize, inside_metadata: bool, step: &str, ignored: &[&str]) -> bool {
    let name = step.strip_prefix("f:").unwrap_or_default();
    match depth {
        0 => UNOWNED.contains(&name) || ignored.contains(&name),
        1 => inside_metadata && UNOWNED_METADATA.contains(&name),
        _ => false,
    }
}

/// Where a walk is, to leave out what nobody owns.
#[derive(Clone, Copy)]
struct Depth<'a> {
    depth: usize,
    metadata: bool,
    ignored: &'a [&'a str],
}

impl<'a> Depth<'a> {
    fn top(ignored: &'a [&'a str]) -> Self {
        Self { depth: 0, metadata: false, ignored }
    }

    fn skips(self, step: &str) -> bool {
        is_unowned(self.depth, self.metadata, step, self.ignored)
    }

    fn below(self, step: &str) -> Self {
        Self { depth: self.depth + 1, metadata: self.depth == 0 && step == "f:metadata", ..self }
    }
}

/// The fields that a configuration sets.
pub(super) fn fields(config: &Value, definition: &'static Definition, ignored: &[&str]) -> Set {
    applied(config, Place::root(definition), Depth::top(ignored))
}

fn applied(value: &Value, place: Place<'_>, at: Depth<'_>) -> Set {
    let mut set = Set::default();
    let items = matches!(place.parts(), Parts::Map(_) | Parts::Set | Parts::Keyed(..));
    for (step, child, place) in children(value, place).into_iter().flatten() {
        if at.skips(&step) {
            continue;
        }
        let below = applied(child, place, at.below(&step));
        let empty = children(child, place).is_none_or(|children| children.is_empty());
        if items || empty {
            set.insert(&step);
        }
        set.graft(&step, below);
    }
    set
}

/// How two values differ.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

/// Compares two objects; null is the absent one.
pub(super) fn compare(old: &Value, new: &Value, definition: &'static Definition, ignored: &[&str]) -> Changes {
    differ(old, new, Place::root(definition), Depth::top(ignored))
}

fn differ(old: &Value, new: &Value, place: Place<'_>, at: Depth<'_>) -> Changes {
    let mut changes = Changes::default();
    if old == new {
        return changes;
    }
    let mut before = children(old, place).unwrap_or_default();
    for (step, new, place) in children(new, place).into_iter().flatten() {
        if at.skips(&step) {
            continue;
        }
        let old = before.iter().position(|(other, ..)| *other == step).map(|index| before.swap_remove(index).1);
        let Some(old) = old else {
            whole(&step, new, place, at.below(&step), &mut changes.added);
            continue;
        };
        if children(old, place).is_none() || children(new, place).is_none() {
            if old != new {
                changes.modified.insert(&step);
            }
            continue;
        }
        let below = differ(old, new, place, at.below(&step));
        changes.added.graft(&step, below.added);
        changes.modified.graft(&step, below.modified);
        changes.removed.graft(&step, below.removed);
    }
    for (step, old, place) in before {
        if !at.skips(&step) {
            whole(&step, old, place, at.below(&step), &mut changes.removed);
            changes.removed.insert(&step);
        }
    }
    changes
}

/// A value that is new as a whole, or gone.
fn whole(step: &str, value: &Value, place: Place<'_>, at: Depth<'_>, set: &mut Set) {
    let mut below = Set::default();
    let mut empty = true;
    for (step, child, place) in children(value, place).into_iter().flatten() {
        empty = false;
        if !at.skips(&step) {
            whole(&step, child, place, at.below(&step), &mut below);
        }
    }
    if empty || place.is_added() {
        set.insert(step);
    }
    set.graft(step, below);
}

/// Merges a configuration into an object: what it sets wins, what it does not mention stays.
pub(super) fn merge(object: &mut Value, config: &Value, definition: &'static Definition, ignored: &[&str]) {
    let mut config = config.clone();
    if let Value::Object(map) = &mut config {
        map.retain(|name, _| !ignored.contains(&name.as_str()));
    }
    merge_value(object, &config, Place::root(definition));
}

fn merge_value(object: &mut Value, config: &Value, place: Place<'_>) {
    let merges = !matches!(place.parts(), Parts::Leaf);
    match (object, config) {
        (Value::Object(object), Value::Object(config)) if merges => {
            for (key, value) in config {
                let place = match place.parts() {
                    Parts::Struct(definition) => match definition.property(key) {
                        Some(property) => Place { type_: &property.type_, property: Some(property) },
                        None => continue,
                    },
                    Parts::Map(of) => of,
                    _ => continue,
                };
                match object.get_mut(key) {
                    Some(current) => merge_value(current, value, place),
                    None => drop(object.insert(key.clone(), value.clone())),
                }
            }
        }
        (Value::Array(object), Value::Array(config)) if merges => merge_list(object, config, place),
        (object, config) => *object = config.clone(),
    }
}

/// The configuration's items in its order; the others where they stood among them.
fn merge_list(object: &mut Vec<Value>, config: &[Value], place: Place<'_>) {
    let (keys, of): (&[&str], _) = match place.parts() {
        Parts::Keyed(keys, of) => (keys, of),
        _ => (&[], Place { type_: &Type::Any, property: None }),
    };
    let step = |item: &Value| if keys.is_empty() { item.to_string() } else { key_step(item, keys) };
    let live: Vec<String> = object.iter().map(step).collect();
    let wanted: Vec<String> = config.iter().map(step).collect();
    let mut rest: Vec<(usize, Value)> = std::mem::take(object).into_iter().enumerate().collect();
    let mut merged: Vec<(Option<usize>, Value)> = Vec::with_capacity(rest.len() + config.len());
    for (item, wanted) in config.iter().zip(&wanted) {
        let found = rest.iter().position(|(index, _)| live.get(*index) == Some(wanted));
        merged.push(match found.map(|found| rest.remove(found)) {
            Some((index, mut current)) => {
                merge_value(&mut current, item, of);
                (Some(index), current)
            }
            None => (None, item.clone()),
        });
    }
    let mut rest = rest.into_iter().peekable();
    for (index, item) in merged {
        while let (Some(index), Some((other, _))) = (index, rest.peek()) {
            if *other > index {
                break;
            }
            object.extend(rest.next().map(|(_, item)| item));
        }
        object.push(item);
    }
    object.extend(rest.map(|(_, item)| item));
}

/// Takes out what was in `last` and is not in `owned` any more, with all that is below it.
pub(super) fn prune(object: &mut Value, last: &Set, owned: &Set, definition: &'static Definition) {
    let Some(map) = object.as_object_mut() else { return };
    // an object's name is in its metadata, which therefore always stays
    if let (Some(metadata), Some(last)) = (map.get_mut("metadata"), last.below("f:metadata"))
        && let Some(property) = definition.property("metadata")
    {
        let place = Place { type_: &property.type_, property: Some(property) };
        prune_value(metadata, last, owned.below("f:metadata").unwrap_or(&Set::default()), place);
    }
    let mut last = last.clone();
    last.remove("f:metadata");
    prune_value(object, &last, owned, Place::root(definition));
}

fn prune_value(value: &mut Value, last: &Set, owned: &Set, place: Place<'_>) {
    let stays = |step: &str, child: &mut Value, place: Place<'_>| {
        if !last.touches(step) {
            return true;
        }
        if let (Some(last), Some(owned)) = (last.below(step), owned.below(step)) {
            prune_value(child, last, owned, place);
        }
        owned.touches(step)
    };
    match (place.parts(), value) {
        (Parts::Struct(definition), Value::Object(map)) => map.retain(|key, child| {
            let Some(property) = definition.property(key) else { return true };
            stays(&format!("f:{key}"), child, Place { type_: &property.type_, property: Some(property) })
        }),
        (Parts::Map(of), Value::Object(map)) => map.retain(|key, child| stays(&format!("f:{key}"), child, of)),
        (Parts::Set, Value::Array(items)) => {
            items.retain(|item| !last.has(&format!("v:{item}")) || owned.has(&format!("v:{item}")));
        }
        (Parts::Keyed(keys, of), Value::Array(items)) => items.retain_mut(|item| {
            let step = key_step(item, keys);
            // items that stay keep the keys they are told apart by, even where nobody owns these
            let kept: Vec<Option<Value>> = keys.iter().map(|key| item.get(*key).cloned()).collect();
            let stays = stays(&step, item, of);
            for (key, value) in keys.iter().zip(kept) {
                if let (Value::Object(item), Some(value)) = (&mut *item, value) {
                    item.entry(*key).or_insert(value);
                }
            }
            stays
        }),
        _ => {}
    }
}
