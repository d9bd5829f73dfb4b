//! A schema's types as rules see them, with the bounds that worst-case costs are counted by.

use cel::{ListKind, ObjectType, Size, Type};

use crate::node::{Kind, ListType, Node};

/// The largest body of a request, by which lists and texts without a bound are bounded.
const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;

/// How often a value of that least size fits into a request.
pub(super) fn cardinality_max(bytes_min: u64) -> u64 {
    REQUEST_BYTES_MAX / (bytes_min + 1)
}

fn bound(limit: Option<i64>) -> Option<u64> {
    limit.map(|limit| u64::try_from(limit).unwrap_or(0))
}

/// The longest text of an enumeration.
fn longest_choice(node: &Node) -> Option<u64> {
    let choices = node.checks.as_deref()?.choices.as_deref()?;
    choices.iter().filter_map(|choice| choice.as_str()).map(|text| text.len() as u64).max()
}

/// The least size of a value as JSON.
pub(super) fn bytes_min(node: &Node) -> u64 {
    match node.kind {
        _ if node.int_or_string => 1,
        Some(Kind::Boolean) => 4,
        Some(Kind::Integer | Kind::Number) | None => 1,
        Some(Kind::Array) => 2,
        Some(Kind::String) => match node.checks.as_deref().and_then(|checks| checks.format.as_deref()) {
            Some("date") => 12,
            Some("date-time") => 22,
            _ => 2,
        },
        Some(Kind::Object) => {
            let required = node.checks.iter().flat_map(|checks| checks.required.iter());
            let fields = required.filter_map(|name| node.property(name).map(|field| (name, field)));
            let fields = fields.filter(|(_, field)| field.default.is_none());
            2 + fields.map(|(name, field)| name.len() as u64 + 4 + bytes_min(field)).sum::<u64>()
        }
    }
}

/// The type of a value; `None` if a rule cannot name it. `is_resource`: it has an identity and metadata.
pub(super) fn of(node: &Node, name: &str, is_resource: bool) -> Option<Type> {
    let checks = node.checks.as_deref();
    if node.int_or_string {
        return Some(Type::Dyn(Size::at_most(REQUEST_BYTES_MAX - 2)));
    }
    Some(match node.kind? {
        Kind::Boolean => Type::Bool,
        Kind::Integer => Type::Int,
        Kind::Number => Type::Double,
        Kind::String => text(node),
        Kind::Array => {
            let items = node.items.as_deref()?;
            let elem = of(items, &format!("{name}.@idx"), items.embedded)?;
            let declared = checks.and_then(|checks| bound(checks.items.1));
            let max = declared.unwrap_or_else(|| (REQUEST_BYTES_MAX - 2) / (bytes_min(items) + 1));
            let kind = match &node.list {
                Some(ListType::Set) => ListKind::Set,
                Some(ListType::Map(keys)) => ListKind::Map(keys.iter().map(ToString::to_string).collect()),
                Some(ListType::Atomic) | None => ListKind::Atomic,
            };
            Type::list_of(elem, Size::at_most(max), kind)
        }
        Kind::Object => match node.values() {
            Some(values) => {
                let value = of(values, &format!("{name}.@elem"), values.embedded)?;
                let declared = checks.and_then(|checks| bound(checks.properties.1));
                let max = declared.unwrap_or_else(|| (REQUEST_BYTES_MAX - 2) / (bytes_min(values) + 6));
                Type::map_of(Type::STRING, value, Size::at_most(max))
            }
            None => object(node, name, is_resource),
        },
    })
}

/// The type of a whole object, whose metadata is of a type of its own; `None` if a rule cannot name it.
pub(crate) fn root(node: &Node, name: &str, metadata: Type) -> Option<Type> {
    if !matches!(node.kind, Some(Kind::Object)) || node.values().is_some() {
        return None;
    }
    let mut fields = own_fields(node, name, true);
    let text = || Type::String(Size::at_most(REQUEST_BYTES_MAX - 2));
    fields.extend(["apiVersion", "kind"].map(|field| (field.to_owned(), text())));
    fields.push(("metadata".to_owned(), metadata));
    Some(Type::object(ObjectType::new(name, fields)))
}

fn text(node: &Node) -> Type {
    let checks = node.checks.as_deref();
    let declared = checks.and_then(|checks| bound(checks.length.1));
    let whole = REQUEST_BYTES_MAX - 2;
    match checks.and_then(|checks| checks.format.as_deref()) {
        Some("byte") => Type::Bytes(Size::at_most(declared.unwrap_or(whole))),
        Some("duration") => Type::Duration,
        Some("date" | "date-time") => Type::Timestamp,
        // a character may take four bytes
        _ => match declared {
            Some(max) => Type::String(Size::at_most(max.saturating_mul(4))),
            None => Type::String(Size::at_most(longest_choice(node).unwrap_or(whole))),
        },
    }
}

/// The fields that the schema names; `is_resource`: without those that every object has.
fn own_fields(node: &Node, name: &str, is_resource: bool) -> Vec<(String, Type)> {
    let own = |field: &str| !(is_resource && matches!(field, "apiVersion" | "kind" | "metadata"));
    let fields = node.properties.iter().filter(|(field, _)| own(field));
    fields
        .filter_map(|(field, below)| Some((field.to_string(), of(below, &format!("{name}.{field}"), below.embedded)?)))
        .collect()
}

fn object(node: &Node, name: &str, is_resource: bool) -> Type {
    let text = || Type::String(Size::at_most(REQUEST_BYTES_MAX - 2));
    let mut fields = own_fields(node, name, is_resource);
    if is_resource {
        let names = ["name", "generateName"].map(|name| (name.to_owned(), text()));
        fields.push(("apiVersion".to_owned(), text()));
        fields.push(("kind".to_owned(), text()));
        fields.push(("metadata".to_owned(), Type::object(ObjectType::new(format!("{name}.metadata"), names))));
    }
    Type::object(ObjectType::new(name, fields))
}
