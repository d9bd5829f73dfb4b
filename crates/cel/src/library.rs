//! The functions: CEL's standard ones, the extensions Kubernetes enables, and Kubernetes' own.

pub mod authorizer;
pub mod cidr;
mod conversions;
pub mod format;
mod format_text;
mod jsonpatch;
mod lists;
mod operators;
mod optional;
mod quantity;
pub(crate) mod regex;
pub mod semver;
mod sets;
mod strings;
pub mod time;
pub mod url;

use crate::error::EvalError;
use crate::functions::Declaration;
use crate::value::Value;

/// Every library's declarations.
pub(crate) const ALL: &[&[Declaration]] = &[
    operators::FUNCTIONS,
    conversions::FUNCTIONS,
    time::FUNCTIONS,
    strings::FUNCTIONS,
    optional::FUNCTIONS,
    lists::FUNCTIONS,
    sets::FUNCTIONS,
    regex::FUNCTIONS,
    url::FUNCTIONS,
    quantity::FUNCTIONS,
    cidr::FUNCTIONS,
    semver::FUNCTIONS,
    format::FUNCTIONS,
    authorizer::FUNCTIONS,
    jsonpatch::FUNCTIONS,
];

/// The text at this place.
pub(crate) fn text<'v>(args: &'v [Value<'_>], at: usize) -> Result<&'v str, EvalError> {
    args.get(at).and_then(Value::as_str).ok_or_else(EvalError::no_overload)
}

pub(crate) fn int(args: &[Value<'_>], at: usize) -> Result<i64, EvalError> {
    match args.get(at) {
        Some(Value::Int(value)) => Ok(*value),
        _ => Err(EvalError::no_overload()),
    }
}

pub(crate) fn flag(args: &[Value<'_>], at: usize) -> Result<bool, EvalError> {
    args.get(at).and_then(Value::as_bool).ok_or_else(EvalError::no_overload)
}
