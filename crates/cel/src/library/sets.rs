//! Lists taken as sets.

use crate::error::EvalError;
use crate::functions::{Declaration, Outcome};
use crate::value::{List, Value};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    ("sets.contains list_sets_contains_list (list(A),list(A)) bool", |args| {
        compare(args, |a, b| b.iter().all(|item| has(a, &item)))
    }),
    ("sets.equivalent list_sets_equivalent_list (list(A),list(A)) bool", |args| {
        compare(args, |a, b| a.iter().all(|item| has(b, &item)) && b.iter().all(|item| has(a, &item)))
    }),
    ("sets.intersects list_sets_intersects_list (list(A),list(A)) bool", |args| {
        compare(args, |a, b| a.iter().any(|item| has(b, &item)))
    }),
];

fn has(list: &List<'_>, item: &Value<'_>) -> bool {
    list.iter().any(|found| found == *item)
}

fn compare<'a>(args: &[Value<'a>], holds: fn(&List<'a>, &List<'a>) -> bool) -> Outcome<'a> {
    match args {
        [Value::List(a), Value::List(b)] => Ok(Value::Bool(holds(a, b))),
        _ => Err(EvalError::no_overload()),
    }
}
