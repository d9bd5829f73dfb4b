//! `matches`, `find`, `findAll`. Patterns that stand in the expression are compiled with it.

use ::regex::Regex;

use super::{int, text};
use crate::error::EvalError;
use crate::functions::{Declaration, Outcome};
use crate::value::Value;

pub(crate) const FUNCTIONS: &[Declaration] = &[
    ("matches matches (string,string) bool", |args| on_the_fly("matches", args)),
    ("matches matches_string string.(string) bool", |args| on_the_fly("matches", args)),
    ("find string_find_string string.(string) string", |args| on_the_fly("find", args)),
    ("findAll string_find_all_string string.(string) list(string)", |args| on_the_fly("findAll", args)),
    ("findAll string_find_all_string_int string.(string,int) list(string)", |args| on_the_fly("findAll", args)),
];

fn on_the_fly<'a>(function: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let pattern = crate::pattern::compile(text(args, 1)?).map_err(|error| {
        EvalError::runtime(if function == "matches" { error } else { format!("Illegal regex: {error}") })
    })?;
    run(function, &pattern, args)
}

pub(crate) fn run<'a>(function: &str, pattern: &Regex, args: &[Value<'a>]) -> Outcome<'a> {
    let subject = text(args, 0)?;
    match function {
        "matches" => Ok(Value::Bool(pattern.is_match(subject))),
        "find" => Ok(Value::string(pattern.find(subject).map_or("", |found| found.as_str()))),
        _ => {
            let most = if args.len() > 2 { usize::try_from(int(args, 2)?).unwrap_or(usize::MAX) } else { usize::MAX };
            let found = pattern.find_iter(subject).take(most).map(|found| Value::string(found.as_str()));
            Ok(Value::list(found.collect()))
        }
    }
}
