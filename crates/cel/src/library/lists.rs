//! Kubernetes' functions on lists: order, sums, extremes, places.

use std::cmp::Ordering;

use crate::error::EvalError;
use crate::functions::{Declaration, Outcome};
use crate::node::Operator;
use crate::operators::{binary, order};
use crate::value::{List, Value};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    ("isSorted list_int_is_sorted_bool list(int).() bool", sorted),
    ("isSorted list_uint_is_sorted_bool list(uint).() bool", sorted),
    ("isSorted list_double_is_sorted_bool list(double).() bool", sorted),
    ("isSorted list_bool_is_sorted_bool list(bool).() bool", sorted),
    ("isSorted list_string_is_sorted_bool list(string).() bool", sorted),
    ("isSorted list_bytes_is_sorted_bool list(bytes).() bool", sorted),
    ("isSorted list_timestamp_is_sorted_bool list(timestamp).() bool", sorted),
    ("isSorted list_duration_is_sorted_bool list(duration).() bool", sorted),
    ("sum list_int_sum_int list(int).() int", |args| sum(args, Value::Int(0))),
    ("sum list_uint_sum_uint list(uint).() uint", |args| sum(args, Value::Uint(0))),
    ("sum list_double_sum_double list(double).() double", |args| sum(args, Value::Double(0.0))),
    ("sum list_duration_sum_duration list(duration).() duration", |args| sum(args, Value::Duration(0))),
    ("min list_int_min_int list(int).() int", min),
    ("min list_uint_min_uint list(uint).() uint", min),
    ("min list_double_min_double list(double).() double", min),
    ("min list_bool_min_bool list(bool).() bool", min),
    ("min list_string_min_string list(string).() string", min),
    ("min list_bytes_min_bytes list(bytes).() bytes", min),
    ("min list_timestamp_min_timestamp list(timestamp).() timestamp", min),
    ("min list_duration_min_duration list(duration).() duration", min),
    ("max list_int_max_int list(int).() int", max),
    ("max list_uint_max_uint list(uint).() uint", max),
    ("max list_double_max_double list(double).() double", max),
    ("max list_bool_max_bool list(bool).() bool", max),
    ("max list_string_max_string list(string).() string", max),
    ("max list_bytes_max_bytes list(bytes).() bytes", max),
    ("max list_timestamp_max_timestamp list(timestamp).() timestamp", max),
    ("max list_duration_max_duration list(duration).() duration", max),
    ("indexOf list_a_index_of_int list(A).(A) int", |args| {
        let found = list(args)?.iter().position(|item| item == args[1]);
        Ok(Value::Int(found.map_or(-1, |at| at as i64)))
    }),
    ("lastIndexOf list_a_last_index_of_int list(A).(A) int", |args| {
        let found = list(args)?.iter().collect::<Vec<_>>().iter().rposition(|item| *item == args[1]);
        Ok(Value::Int(found.map_or(-1, |at| at as i64)))
    }),
];

fn list<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v List<'a>, EvalError> {
    match &args[0] {
        Value::List(list) => Ok(list),
        _ => Err(EvalError::no_overload()),
    }
}

fn sorted<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let mut before: Option<Value<'a>> = None;
    for item in list(args)?.iter() {
        if let Some(before) = &before
            && order(before, &item).ok_or_else(EvalError::no_overload)? == Some(Ordering::Greater)
        {
            return Ok(Value::Bool(false));
        }
        before = Some(item);
    }
    Ok(Value::Bool(true))
}

/// `zero` is of an empty list; any other sum is of the kind of its items.
fn sum<'a>(args: &[Value<'a>], zero: Value<'a>) -> Outcome<'a> {
    let mut items = list(args)?.iter();
    let Some(first) = items.next() else { return Ok(zero) };
    items.try_fold(first, |sum, item| binary(Operator::Add, sum, item))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Outcome<'a> {
    let mut items = list(args)?.iter();
    let empty = || EvalError::runtime(format!("{name} called on empty list"));
    let mut best = items.next().ok_or_else(empty)?;
    for item in items {
        if order(&item, &best).ok_or_else(EvalError::no_overload)? == Some(wanted) {
            best = item;
        }
    }
    Ok(best)
}

fn min<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    extreme(args, "min", Ordering::Less)
}

fn max<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    extreme(args, "max", Ordering::Greater)
}
