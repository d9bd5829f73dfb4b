//! Walks of typed value trees: which fields a value has, how two values differ, how a configuration merges, and what
//! goes with fields that nobody owns any more.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::{Map, Value};

use super::Set;
use super::shape::{Form, Items, Shape, Types};
use crate::schema::{ListType, Property, Type};

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
enum Place<'a> {
    Typed(&'a Type, Option<&'a Property>),
    Shaped(&'a Shape),
}

/// What a value consists of.
enum Parts<'a> {
    /// Nothing that is owned apart from the rest.
    Leaf,
    Fields,
    Set,
    /// Items told apart by these keys.
    Keyed(Keys<'a>, Place<'a>),
}

/// The keys of a list's items.
#[derive(Clone, Copy)]
enum Keys<'a> {
    BuiltIn(&'a [&'static str]),
    Custom(&'a [(Box<str>, Option<Value>)]),
}

impl<'a> Keys<'a> {
    fn names(self) -> Vec<&'a str> {
        match self {
            Self::BuiltIn(names) => names.to_vec(),
            Self::Custom(keys) => keys.iter().map(|(name, _)| &**name).collect(),
        }
    }

    /// The value of a key that is left out.
    fn default_of(self, name: &str) -> Option<Value> {
        match (self, name) {
            (Self::BuiltIn(_), "protocol") => Some("TCP".into()),
            (Self::BuiltIn(_), "name") => Some("".into()),
            (Self::BuiltIn(_), _) => None,
            (Self::Custom(keys), name) => keys.iter().find(|(own, _)| **own == *name)?.1.clone(),
        }
    }
}

/// What nobody declared is owned as a whole.
const LEAF: Place<'static> = Place::Typed(&Type::Any, None);

impl<'a> Place<'a> {
    fn root(types: Types<'a>) -> Self {
        match types {
            Types::BuiltIn(definition) => Self::Typed(&definition.type_, None),
            Types::Custom(shape) => Self::Shaped(shape),
        }
    }

    /// A built-in type within a shape is what it is.
    fn resolved(self) -> Self {
        match self {
            Self::Shaped(Shape { form: Form::BuiltIn(definition), atomic: false }) => {
                Self::Typed(&definition.type_, None)
            }
            other => other,
        }
    }

    fn parts(self) -> Parts<'a> {
        match self.resolved() {
            Self::Typed(type_, property) => Self::typed_parts(type_, property),
            Self::Shaped(shape) if shape.atomic => Parts::Leaf,
            Self::Shaped(shape) => match &shape.form {
                Form::Fields(..) | Form::Any => Parts::Fields,
                Form::List(_, Items::Set) => Parts::Set,
                Form::List(of, Items::Keyed(keys)) => Parts::Keyed(Keys::Custom(keys), Self::Shaped(of)),
                _ => Parts::Leaf,
            },
        }
    }

    fn typed_parts(type_: &'a Type, property: Option<&'a Property>) -> Parts<'a> {
        let atomic = property.is_some_and(|property| property.map_atomic);
        match type_ {
            Type::Struct(_) => match type_.definition() {
                Some(definition) if !atomic && !definition.map_atomic => Parts::Fields,
                _ => Parts::Leaf,
            },
            Type::Map(_) if !atomic => Parts::Fields,
            Type::List(of) => match property {
                Some(property) if property.list_type == Some(ListType::Set) => Parts::Set,
                Some(property) if property.list_type == Some(ListType::Map) => {
                    Parts::Keyed(Keys::BuiltIn(&property.list_map_keys), Self::Typed(of, None))
                }
                _ => Parts::Leaf,
            },
            _ => Parts::Leaf,
        }
    }

    /// The place of a field, and whether it is a declared one rather than a map's.
    fn field(self, name: &str) -> Option<(Self, bool)> {
        match self.resolved() {
            Self::Typed(type_ @ Type::Struct(_), _) => {
                let property = type_.definition()?.property(name)?;
                Some((Self::Typed(&property.type_, Some(property)), true))
            }
            Self::Typed(Type::Map(of), _) => Some((Self::Typed(of, None), false)),
            Self::Typed(..) => None,
            Self::Shaped(shape) => shape.field(name).map(|(shape, is_declared)| (Self::Shaped(shape), is_declared)),
        }
    }

    /// Whether adding a value here adds the place itself, beside what is in it.
    fn is_added(self) -> bool {
        match self {
            Self::Typed(type_, Some(property)) => {
                !(property.required || matches!(type_, Type::Struct(_)) && ALWAYS_THERE.contains(&property.name))
            }
            // an object's metadata is always there
            Self::Shaped(shape) => !matches!(shape.form, Form::BuiltIn(_)),
            Self::Typed(_, None) => true,
        }
    }
}

/// The step to an item of a keyed list. Keys that are left out have the API's default.
fn key_step(item: &Value, keys: Keys<'_>) -> String {
    let mut map = Map::new();
    let mut names = keys.names();
    names.sort_unstable();
    for name in names {
        if let Some(value) = item.get(name).cloned().or_else(|| keys.default_of(name)) {
            map.insert(name.to_owned(), value);
        }
    }
    format!("k:{}", Value::Object(map))
}

/// A part of a value.
struct Child<'a> {
    step: String,
    value: &'a Value,
    place: Place<'a>,
    /// An item of a map or list, which is owned itself; not a declared field.
    is_item: bool,
}

/// A value's children with their steps; `None` if it is owned as a whole.
fn children<'a>(value: &'a Value, place: Place<'a>) -> Option<Vec<Child<'a>>> {
    let item = |step: String, value: &'a Value, place: Place<'a>| Child { step, value, place, is_item: true };
    match (place.parts(), value) {
        (Parts::Fields, Value::Object(map)) => {
            let child = |(key, value): (&'a String, &'a Value)| {
                let (place, is_declared) = place.field(key)?;
                Some(Child { step: format!("f:{key}"), value, place, is_item: !is_declared })
            };
            Some(map.iter().filter_map(child).collect())
        }
        (Parts::Set, Value::Array(items)) => {
            Some(items.iter().map(|one| item(format!("v:{one}"), one, LEAF)).collect())
        }
        (Parts::Keyed(keys, of), Value::Array(items)) => {
            Some(items.iter().map(|one| item(key_step(one, keys), one, of)).collect())
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
pub(super) fn fields(config: &Value, types: Types<'_>, ignored: &[&str]) -> Set {
    applied(config, Place::root(types), Depth::top(ignored))
}

fn applied(value: &Value, place: Place<'_>, at: Depth<'_>) -> Set {
    let mut set = Set::default();
    for Child { step, value, place, is_item } in children(value, place).into_iter().flatten() {
        if at.skips(&step) {
            continue;
        }
        let below = applied(value, place, at.below(&step));
        let empty = children(value, place).is_none_or(|children| children.is_empty());
        if is_item || empty {
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
pub(super) fn compare(old: &Value, new: &Value, types: Types<'_>, ignored: &[&str]) -> Changes {
    differ(old, new, Place::root(types), Depth::top(ignored))
}

fn differ(old: &Value, new: &Value, place: Place<'_>, at: Depth<'_>) -> Changes {
    let mut changes = Changes::default();
    if old == new {
        return changes;
    }
    let mut before = children(old, place).unwrap_or_default();
    for Child { step, value: new, place, .. } in children(new, place).into_iter().flatten() {
        if at.skips(&step) {
            continue;
        }
        let old = before.iter().position(|other| other.step == step).map(|index| before.swap_remove(index).value);
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
    for Child { step, value: old, place, .. } in before {
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
    for Child { step, value, place, .. } in children(value, place).into_iter().flatten() {
        empty = false;
        if !at.skips(&step) {
            whole(&step, value, place, at.below(&step), &mut below);
        }
    }
    if empty || place.is_added() {
        set.insert(step);
    }
    set.graft(step, below);
}

/// Merges a configuration into an object: what it sets wins, what it does not mention stays.
pub(super) fn merge(object: &mut Value, config: &Value, types: Types<'_>, ignored: &[&str]) {
    let mut config = config.clone();
    if let Value::Object(map) = &mut config {
        map.retain(|name, _| !ignored.contains(&name.as_str()));
    }
    merge_value(object, &config, Place::root(types));
}

fn merge_value(object: &mut Value, config: &Value, place: Place<'_>) {
    let merges = !matches!(place.parts(), Parts::Leaf);
    match (object, config) {
        (Value::Object(object), Value::Object(config)) if merges => {
            for (key, value) in config {
                let Some((place, _)) = place.field(key) else { continue };
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

/// The configuration's items in its order. An item that only the object has stays behind the one it stood behind, and
/// so before what the configuration puts next there; a new one that the configuration ends with comes last.
fn merge_list(object: &mut Vec<Value>, config: &[Value], place: Place<'_>) {
    let (keys, of) = match place.parts() {
        Parts::Keyed(keys, of) => (Some(keys), of),
        _ => (None, LEAF),
    };
    let step = |item: &Value| keys.map_or_else(|| item.to_string(), |keys| key_step(item, keys));
    let wanted: Vec<String> = config.iter().map(step).collect();
    let live: Vec<String> = object.iter().map(step).collect();
    let mut items: Vec<Option<Value>> = std::mem::take(object).into_iter().map(Some).collect();
    let at: HashMap<&str, usize> = live.iter().enumerate().rev().map(|(index, own)| (own.as_str(), index)).collect();
    let mentioned: HashSet<&str> = wanted.iter().map(String::as_str).collect();
    // The items of both, in the configuration's order; what was put out is taken from the front.
    let mut shared: VecDeque<&str> = wanted.iter().map(String::as_str).filter(|own| at.contains_key(own)).collect();
    let (mut left, mut right) = (0, 0);
    while left < live.len() || right < config.len() {
        if let Some(own) = live.get(left) {
            if !mentioned.contains(own.as_str()) {
                object.extend(items[left].take());
                left += 1;
                continue;
            }
            // It was put out already, or will be where the configuration has it.
            if items[left].is_none() || shared.front() != Some(&own.as_str()) {
                left += 1;
                continue;
            }
        }
        let Some((item, name)) = config.get(right).zip(wanted.get(right)) else { break };
        right += 1;
        if shared.front() == Some(&name.as_str()) {
            shared.pop_front();
        }
        let current = at.get(name.as_str()).and_then(|index| items[*index].take());
        object.push(match current {
            Some(mut current) => {
                merge_value(&mut current, item, of);
                current
            }
            None => item.clone(),
        });
    }
}

/// Takes out what was in `last` and is not in `owned` any more, with all that is below it.
pub(super) fn prune(object: &mut Value, last: &Set, owned: &Set, types: Types<'_>) {
    let root = Place::root(types);
    let Some(map) = object.as_object_mut() else { return };
    // an object's name is in its metadata, which therefore always stays
    if let (Some(metadata), Some(last)) = (map.get_mut("metadata"), last.below("f:metadata"))
        && let Some((place, _)) = root.field("metadata")
    {
        prune_value(metadata, last, owned.below("f:metadata").unwrap_or(&Set::default()), place);
    }
    let mut last = last.clone();
    last.remove("f:metadata");
    prune_value(object, &last, owned, root);
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
        (Parts::Fields, Value::Object(map)) => map.retain(|key, child| {
            let Some((place, _)) = place.field(key) else { return true };
            stays(&format!("f:{key}"), child, place)
        }),
        (Parts::Set, Value::Array(items)) => {
            items.retain(|item| !last.has(&format!("v:{item}")) || owned.has(&format!("v:{item}")));
        }
        (Parts::Keyed(keys, of), Value::Array(items)) => items.retain_mut(|item| {
            let step = key_step(item, keys);
            // items that stay keep the keys they are told apart by, even where nobody owns these
            let names = keys.names();
            let kept: Vec<Option<Value>> = names.iter().map(|name| item.get(*name).cloned()).collect();
            let stays = stays(&step, item, of);
            for (name, value) in names.into_iter().zip(kept) {
                if let (Value::Object(item), Some(value)) = (&mut *item, value) {
                    item.entry(name).or_insert(value);
                }
            }
            stays
        }),
        _ => {}
    }
}
