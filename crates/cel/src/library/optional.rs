//! Values that may be absent.

use crate::error::EvalError;
use crate::functions::{Declaration, Outcome};
use crate::value::Value;

fn apart<'a>(_: &[Value<'a>]) -> Outcome<'a> {
    Err(EvalError::no_overload())
}

pub(crate) const FUNCTIONS: &[Declaration] = &[
    ("optional.of optional_of (A) optional(A)", |args| Ok(Value::some(args[0].clone()))),
    ("optional.none optional_none () optional(A)", |_| Ok(Value::Optional(None))),
    ("optional.ofNonZeroValue optional_ofNonZeroValue (A) optional(A)", of_non_zero),
    ("hasValue optional_hasValue optional(A).() bool", |args| match &args[0] {
        Value::Optional(found) => Ok(Value::Bool(found.is_some())),
        _ => Err(EvalError::no_overload()),
    }),
    ("value optional_value optional(A).() A", |args| match &args[0] {
        Value::Optional(Some(value)) => Ok((**value).clone()),
        Value::Optional(None) => Err(EvalError::runtime("optional.none() dereference")),
        _ => Err(EvalError::no_overload()),
    }),
    // evaluated apart: what stands behind is looked at only when it is needed
    ("or optional_or_optional optional(A).(optional(A)) optional(A)", apart),
    ("orValue optional_orValue_value optional(A).(A) A", apart),
];

fn of_non_zero<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let zero = match &args[0] {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Int(value) => *value == 0,
        Value::Uint(value) => *value == 0,
        Value::Double(value) => *value == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::Duration(nanos) => *nanos == 0,
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Optional(found) => found.is_none(),
        _ => false,
    };
    Ok(if zero { Value::Optional(None) } else { Value::some(args[0].clone()) })
}
