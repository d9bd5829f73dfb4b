//! Operators: arithmetic that never wraps, comparison across kinds of numbers, membership, indexes.

use std::cmp::Ordering;

use crate::error::EvalError;
use crate::functions::Outcome;
use crate::library::time;
use crate::node::Operator;
use crate::types::{ListKind, Type};
use crate::value::{List, Value, numbers};

const OVERFLOW: &str = "integer overflow";
const UNSIGNED_OVERFLOW: &str = "unsigned integer overflow";

fn or_error<'a>(value: Option<Value<'a>>, message: &'static str) -> Outcome<'a> {
    value.ok_or_else(|| EvalError::runtime(message))
}

pub(crate) fn unary<'a>(operator: Operator, value: &Value<'a>) -> Outcome<'a> {
    match (operator, value) {
        (Operator::Not, Value::Bool(value)) => Ok(Value::Bool(!value)),
        (Operator::Negate, Value::Int(value)) => or_error(value.checked_neg().map(Value::Int), OVERFLOW),
        (Operator::Negate, Value::Double(value)) => Ok(Value::Double(-value)),
        (Operator::Negate, Value::Duration(value)) => {
            or_error(value.checked_neg().map(Value::Duration), "duration overflow")
        }
        _ => Err(EvalError::no_overload()),
    }
}

pub(crate) fn binary<'a>(operator: Operator, left: Value<'a>, right: Value<'a>) -> Outcome<'a> {
    match operator {
        Operator::Equal => Ok(Value::Bool(left == right)),
        Operator::NotEqual => Ok(Value::Bool(left != right)),
        Operator::Less => compare(&left, &right, Ordering::is_lt),
        Operator::LessEqual => compare(&left, &right, Ordering::is_le),
        Operator::Greater => compare(&left, &right, Ordering::is_gt),
        Operator::GreaterEqual => compare(&left, &right, Ordering::is_ge),
        Operator::In => contains(&left, &right),
        Operator::Add => add(left, right),
        Operator::Subtract => subtract(&left, &right),
        Operator::Multiply | Operator::Divide | Operator::Modulo => multiply(operator, &left, &right),
        Operator::Negate | Operator::Not => Err(EvalError::no_overload()),
    }
}

/// The order of two values of one kind; outer `None` if they have none, inner `None` for NaN.
pub(crate) fn order(left: &Value<'_>, right: &Value<'_>) -> Option<Option<Ordering>> {
    Some(match (left, right) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some(a.as_str().cmp(b.as_str())),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            numbers(left, right)
        }
        _ => return None,
    })
}

fn compare<'a>(left: &Value<'a>, right: &Value<'a>, holds: fn(Ordering) -> bool) -> Outcome<'a> {
    match order(left, right) {
        Some(order) => Ok(Value::Bool(order.is_some_and(holds))),
        None => Err(EvalError::no_overload()),
    }
}

fn contains<'a>(item: &Value<'a>, within: &Value<'a>) -> Outcome<'a> {
    match within {
        Value::List(list) => Ok(Value::Bool(list.iter().any(|found| found == *item))),
        Value::Map(map) => Ok(Value::Bool(map.get(item).is_some())),
        _ => Err(EvalError::no_overload()),
    }
}

fn add<'a>(left: Value<'a>, right: Value<'a>) -> Outcome<'a> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => or_error(a.checked_add(b).map(Value::Int), OVERFLOW),
        (Value::Uint(a), Value::Uint(b)) => or_error(a.checked_add(b).map(Value::Uint), UNSIGNED_OVERFLOW),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => {
            let mut text = String::with_capacity(a.len() + b.len());
            text.push_str(&a);
            text.push_str(&b);
            Ok(Value::string(text))
        }
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes([&a[..], &b[..]].concat().into())),
        (Value::List(a), Value::List(b)) => Ok(Value::list(joined(&a, &b))),
        (Value::Duration(a), Value::Duration(b)) => {
            or_error(a.checked_add(b).map(Value::Duration), "duration overflow")
        }
        (Value::Timestamp(at), Value::Duration(by)) | (Value::Duration(by), Value::Timestamp(at)) => {
            or_error(time::shifted(at, i128::from(by)).map(Value::Timestamp), "timestamp overflow")
        }
        _ => Err(EvalError::no_overload()),
    }
}

/// Lists one after the other; a set takes what it has not, a list by keys has what is there replaced.
fn joined<'a>(left: &List<'a>, right: &List<'a>) -> Vec<Value<'a>> {
    let mut items: Vec<Value<'a>> = left.iter().collect();
    for item in right.iter() {
        let place = match left.kind() {
            ListKind::Atomic => None,
            ListKind::Set => items.iter().position(|found| *found == item),
            ListKind::Map(keys) => items.iter().position(|found| same_keys(keys, found, &item)),
        };
        match place {
            Some(at) => items[at] = item,
            None => items.push(item),
        }
    }
    items
}

fn same_keys(keys: &[String], a: &Value<'_>, b: &Value<'_>) -> bool {
    let (Value::Map(a), Value::Map(b)) = (a, b) else { return false };
    keys.iter().all(|key| {
        let key = Value::borrowed(key);
        a.get(&key) == b.get(&key)
    })
}

fn subtract<'a>(left: &Value<'a>, right: &Value<'a>) -> Outcome<'a> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => or_error(a.checked_sub(*b).map(Value::Int), OVERFLOW),
        (Value::Uint(a), Value::Uint(b)) => or_error(a.checked_sub(*b).map(Value::Uint), UNSIGNED_OVERFLOW),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Duration(a), Value::Duration(b)) => {
            or_error(a.checked_sub(*b).map(Value::Duration), "duration overflow")
        }
        (Value::Timestamp(at), Value::Duration(by)) => {
            or_error(time::shifted(*at, -i128::from(*by)).map(Value::Timestamp), "timestamp overflow")
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            let nanos = i64::try_from(a.as_nanosecond() - b.as_nanosecond()).ok();
            or_error(nanos.map(Value::Duration), "duration overflow")
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn multiply<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>) -> Outcome<'a> {
    let zero = matches!(right, Value::Int(0) | Value::Uint(0));
    match (operator, left, right) {
        (Operator::Multiply, Value::Int(a), Value::Int(b)) => or_error(a.checked_mul(*b).map(Value::Int), OVERFLOW),
        (Operator::Multiply, Value::Uint(a), Value::Uint(b)) => {
            or_error(a.checked_mul(*b).map(Value::Uint), UNSIGNED_OVERFLOW)
        }
        (Operator::Multiply, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
        (Operator::Divide, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
        (Operator::Divide, Value::Int(_), Value::Int(_)) | (Operator::Divide, Value::Uint(_), Value::Uint(_))
            if zero =>
        {
            Err(EvalError::runtime("division by zero"))
        }
        (Operator::Modulo, Value::Int(_), Value::Int(_)) | (Operator::Modulo, Value::Uint(_), Value::Uint(_))
            if zero =>
        {
            Err(EvalError::runtime("modulus by zero"))
        }
        (Operator::Divide, Value::Int(a), Value::Int(b)) => or_error(a.checked_div(*b).map(Value::Int), OVERFLOW),
        (Operator::Divide, Value::Uint(a), Value::Uint(b)) => Ok(Value::Uint(a / b)),
        (Operator::Modulo, Value::Int(a), Value::Int(b)) => or_error(a.checked_rem(*b).map(Value::Int), OVERFLOW),
        (Operator::Modulo, Value::Uint(a), Value::Uint(b)) => Ok(Value::Uint(a % b)),
        _ => Err(EvalError::no_overload()),
    }
}

/// As messages write a key.
pub(crate) fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::String(text) => text.as_str().to_owned(),
        other => other.type_name().to_owned(),
    }
}

/// A number as a place in a list.
fn place(index: &Value<'_>) -> Option<i64> {
    match index {
        Value::Int(value) => Some(*value),
        Value::Uint(value) => i64::try_from(*value).ok(),
        Value::Double(value) if value.fract() == 0.0 && value.abs() < 9e15 => Some(*value as i64),
        _ => None,
    }
}

pub(crate) fn index<'a>(value: &Value<'a>, index: &Value<'a>) -> Outcome<'a> {
    match value {
        Value::List(list) => {
            let Some(at) = place(index) else {
                return Err(EvalError::runtime(format!("unsupported index type '{}' in list", index.type_name())));
            };
            let found = usize::try_from(at).ok().and_then(|at| list.get(at));
            found.ok_or_else(|| EvalError::runtime(format!("index out of bounds: {at}")))
        }
        Value::Map(map) => {
            map.get(index).or_else(|| by_escaped(value, index)).ok_or_else(|| EvalError::no_key(shown(index)))
        }
        _ => Err(EvalError::no_overload()),
    }
}

/// Of objects of known types, fields are named as expressions name them.
fn by_escaped<'a>(value: &Value<'a>, index: &Value<'a>) -> Option<Value<'a>> {
    let (Value::Map(map @ crate::value::Map::Json(_, Some(Type::Object(_)))), Value::String(name)) = (value, index)
    else {
        return None;
    };
    map.get(&Value::string(crate::escape::unescape(name)?))
}

pub(crate) fn index_optional<'a>(value: &Value<'a>, index: &Value<'a>) -> Outcome<'a> {
    let found = match value {
        Value::List(list) => place(index).and_then(|at| usize::try_from(at).ok()).and_then(|at| list.get(at)),
        Value::Map(map) => map.get(index).or_else(|| by_escaped(value, index)),
        _ => return Err(EvalError::no_overload()),
    };
    Ok(Value::Optional(found.map(std::sync::Arc::new)))
}
