//! `size`, `type`, `dyn` and conversions between scalars.

use crate::error::EvalError;
use crate::functions::{Declaration, Outcome};
use crate::library::time;
use crate::value::Value;

pub(crate) const FUNCTIONS: &[Declaration] = &[
    ("size size_string (string) int", size),
    ("size string_size string.() int", size),
    ("size size_bytes (bytes) int", size),
    ("size bytes_size bytes.() int", size),
    ("size size_list (list(A)) int", size),
    ("size list_size list(A).() int", size),
    ("size size_map (map(A,B)) int", size),
    ("size map_size map(A,B).() int", size),
    ("type type (A) type(A)", |args| Ok(Value::Type(args[0].type_name().into()))),
    ("dyn to_dyn (A) dyn", same),
    ("bool bool_to_bool (bool) bool", same),
    ("bool string_to_bool (string) bool", boolean),
    ("int int64_to_int64 (int) int", same),
    ("int uint64_to_int64 (uint) int", integer),
    ("int double_to_int64 (double) int", integer),
    ("int string_to_int64 (string) int", integer),
    ("int timestamp_to_int64 (timestamp) int", integer),
    ("int duration_to_int64 (duration) int", integer),
    ("uint uint64_to_uint64 (uint) uint", same),
    ("uint int64_to_uint64 (int) uint", unsigned),
    ("uint double_to_uint64 (double) uint", unsigned),
    ("uint string_to_uint64 (string) uint", unsigned),
    ("double double_to_double (double) double", same),
    ("double int64_to_double (int) double", double),
    ("double uint64_to_double (uint) double", double),
    ("double string_to_double (string) double", double),
    ("string string_to_string (string) string", same),
    ("string bool_to_string (bool) string", string),
    ("string int64_to_string (int) string", string),
    ("string uint64_to_string (uint) string", string),
    ("string double_to_string (double) string", string),
    ("string bytes_to_string (bytes) string", string),
    ("string timestamp_to_string (timestamp) string", string),
    ("string duration_to_string (duration) string", string),
    ("bytes bytes_to_bytes (bytes) bytes", same),
    ("bytes string_to_bytes (string) bytes", bytes),
];

fn same<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    Ok(args[0].clone())
}

fn size<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match &args[0] {
        Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => {
            Ok(Value::Int(args[0].cost_size() as i64))
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn conversion(from: &str, to: &str) -> EvalError {
    EvalError::runtime(format!("type conversion error from '{from}' to '{to}'"))
}

fn boolean<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args[0].as_str() {
        Some("true" | "TRUE" | "True" | "t" | "T" | "1") => Ok(Value::Bool(true)),
        Some("false" | "FALSE" | "False" | "f" | "F" | "0") => Ok(Value::Bool(false)),
        Some(_) => Err(conversion("string", "bool")),
        None if args[0].as_bool().is_some() => same(args),
        None => Err(EvalError::no_overload()),
    }
}

fn integer<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let overflow = || EvalError::runtime("integer overflow");
    Ok(Value::Int(match &args[0] {
        Value::Int(value) => *value,
        Value::Uint(value) => i64::try_from(*value).map_err(|_| overflow())?,
        // both bounds themselves are out: a float next to them may have been rounded there
        Value::Double(value) if *value > -(2f64.powi(63)) && *value < 2f64.powi(63) => *value as i64,
        Value::Double(_) => return Err(overflow()),
        Value::String(text) => text.parse().map_err(|_| conversion("string", "int"))?,
        Value::Timestamp(at) => at.as_second() - i64::from(at.subsec_nanosecond() < 0),
        Value::Duration(nanos) => *nanos,
        _ => return Err(EvalError::no_overload()),
    }))
}

fn unsigned<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let overflow = || EvalError::runtime("unsigned integer overflow");
    Ok(Value::Uint(match &args[0] {
        Value::Uint(value) => *value,
        Value::Int(value) => u64::try_from(*value).map_err(|_| overflow())?,
        Value::Double(value) if *value >= 0.0 && *value < 2f64.powi(64) => *value as u64,
        Value::Double(_) => return Err(overflow()),
        Value::String(text) => text.parse().map_err(|_| conversion("string", "uint"))?,
        _ => return Err(EvalError::no_overload()),
    }))
}

fn double<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Double(match &args[0] {
        Value::Double(value) => *value,
        Value::Int(value) => *value as f64,
        Value::Uint(value) => *value as f64,
        Value::String(text) => text.parse().map_err(|_| conversion("string", "double"))?,
        _ => return Err(EvalError::no_overload()),
    }))
}

/// The shortest text that reads as the same number, with an exponent where Go's `%g` writes one.
pub(crate) fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..21).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}

fn string<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    Ok(match &args[0] {
        Value::String(_) => args[0].clone(),
        Value::Bool(value) => Value::string(value.to_string()),
        Value::Int(value) => Value::string(value.to_string()),
        Value::Uint(value) => Value::string(value.to_string()),
        Value::Double(value) => Value::string(double_text(*value)),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::string(text),
            Err(_) => return Err(EvalError::runtime("invalid UTF-8 in bytes, cannot convert to string")),
        },
        Value::Timestamp(at) => Value::string(at.to_string()),
        Value::Duration(nanos) => Value::string(time::duration_text(*nanos)),
        _ => return Err(EvalError::no_overload()),
    })
}

fn bytes<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match &args[0] {
        Value::Bytes(_) => same(args),
        Value::String(text) => Ok(Value::Bytes(text.as_bytes().into())),
        _ => Err(EvalError::no_overload()),
    }
}
