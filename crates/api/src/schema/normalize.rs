//! A value as Go would have read it, so that the generated types read it the same way.

use serde_json::{Number, Value};

use super::{Definition, Property, Type};
use crate::quantity;

/// Brings a value into the form that the generated types decode and that upstream would store: null fields go, nulls
/// in lists and maps become their type's zero value, quantities take their canonical form, base64 loses its line
/// breaks, optional lists and maps without entries go. What does not fit is left alone; [`super::check`] reports it.
pub fn normalize(value: &mut Value, definition: &Definition) {
    walk(value, &definition.type_, Empty::Goes);
}

/// As [`normalize`] for what a client applies: who applies an empty list or map owns it, so it stays.
pub fn normalize_applied(value: &mut Value, definition: &Definition) {
    walk(value, &definition.type_, Empty::Stays);
}

/// What becomes of optional lists and maps without entries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    Goes,
    Stays,
}

impl Empty {
    fn drops(self, value: &Value, property: &Property) -> bool {
        let empty = match (&property.type_, value) {
            (Type::List(_), Value::Array(items)) => items.is_empty(),
            (Type::Map(_), Value::Object(map)) => map.is_empty(),
            _ => false,
        };
        empty && self == Self::Goes && !property.required && !property.kept
    }
}

fn zero(type_: &Type) -> Value {
    match type_ {
        Type::String | Type::Bytes => Value::String(String::new()),
        Type::Boolean => Value::Bool(false),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => Value::Number(Number::from(0)),
        Type::Quantity => Value::String("0".to_owned()),
        Type::List(_) => Value::Array(Vec::new()),
        Type::Map(_) | Type::Struct(_) | Type::Object => Value::Object(serde_json::Map::new()),
        Type::Time | Type::Any => Value::Null,
    }
}

fn fill(value: &mut Value, type_: &Type, empty: Empty) {
    if value.is_null() {
        *value = zero(type_);
    } else {
        walk(value, type_, empty);
    }
}

fn walk(value: &mut Value, type_: &Type, empty: Empty) {
    match (type_, value) {
        (Type::Quantity, Value::String(text)) => {
            if let Ok(canonical) = quantity::canonical(text) {
                *text = canonical;
            }
        }
        (Type::Quantity, value @ Value::Number(_)) => {
            if let Ok(canonical) = quantity::canonical(&value.to_string()) {
                *value = Value::String(canonical);
            }
        }
        (Type::Bytes, Value::String(text)) => text.retain(|c| !matches!(c, '\r' | '\n')),
        (Type::List(item), Value::Array(items)) => items.iter_mut().for_each(|value| fill(value, item, empty)),
        (Type::Map(of), Value::Object(map)) => map.values_mut().for_each(|value| fill(value, of, empty)),
        (Type::Struct(_), Value::Object(map)) => {
            let Some(definition) = type_.definition() else { return };
            map.retain(|key, value| {
                let Some(property) = definition.property(key) else { return !value.is_null() };
                if value.is_null() || empty.drops(value, property) {
                    return false;
                }
                walk(value, &property.type_, empty);
                true
            });
        }
        _ => {}
    }
}
