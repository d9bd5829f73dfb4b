//! Checks a value against a schema, with the words of go-openapi's validator as upstream translates them.

mod list;

use api::field::{FieldError, FieldErrors, Path, Problem};
use serde_json::{Map, Value};

use crate::metadata;
use crate::node::{Additional, Checks, Kind, ListType, Node};

/// What was found at a place: errors, and how many checks passed by (which decides whose errors are shown when no
/// alternative holds).
#[derive(Default)]
struct Found {
    errors: FieldErrors,
    count: usize,
}

/// Checks an object; `old` is what it was before.
pub(crate) fn validate(new: &Value, old: Option<&Value>, root: &Node) -> FieldErrors {
    let mut found = Found::default();
    check(new, old, root, &Path::default(), &mut found);
    let mut errors = found.errors;
    metadata::check(new, root, &Path::default(), true, &mut errors);
    if let Some(old) = old {
        let mut before = FieldErrors::new();
        metadata::check(old, root, &Path::default(), true, &mut before);
        errors.0.retain(|error| !before.0.contains(error));
    }
    list::check(new, old, root, &Path::default(), &mut errors);
    if root.has_rules {
        if errors.0.iter().any(hides_rules) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing \
                       errors to complete validation";
            errors.invalid(&Path::new("<nil>"), Value::Null, why);
        } else {
            errors.extend(crate::rules::evaluate(new, old, root));
        }
    }
    errors
}

/// Whether an object with this error has not the shape that rules rely on.
fn hides_rules(error: &FieldError) -> bool {
    matches!(
        error.problem,
        Problem::NotSupported { .. }
            | Problem::Required
            | Problem::TooLong { .. }
            | Problem::TooMany { .. }
            | Problem::TypeInvalid(_)
    )
}

/// Checks a value that stands at a path.
pub(crate) fn validate_at(value: &Value, node: &Node, path: &Path) -> FieldErrors {
    let mut found = Found::default();
    check(value, None, node, path, &mut found);
    found.errors
}

/// The item of `old` that is the same as this one, where items have keys.
pub(crate) fn correlate<'a>(item: &Value, old: Option<&'a Value>, node: &Node) -> Option<&'a Value> {
    let Some(ListType::Map(keys)) = &node.list else { return None };
    let old = old?.as_array()?;
    old.iter().find(|old| keys.iter().all(|key| old.get(&**key) == item.get(&**key)))
}

fn shown_path(path: &Path) -> &str {
    path.as_str()
}

fn push(found: &mut Found, path: &Path, problem: Problem, detail: impl Into<String>) {
    found.errors.0.push(FieldError { path: path.clone(), problem, detail: detail.into() });
}

fn wrong_type(found: &mut Found, path: &Path, expected: &str, actual: &str) {
    let why = format!("{} in body must be of type {expected}: {actual:?}", shown_path(path));
    push(found, path, Problem::TypeInvalid(actual.into()), why);
}

fn invalid(found: &mut Found, path: &Path, value: &Value, what: impl std::fmt::Display) {
    let value = if value.is_null() { Value::from("") } else { value.clone() };
    push(found, path, Problem::Invalid(value), format!("{} in body {what}", shown_path(path)));
}

/// Errors of alternatives have no place of their own.
fn alternative(found: &mut Found, path: &Path, what: impl std::fmt::Display) {
    let why = format!("{:?} {what}", shown_path(path));
    push(found, &Path::new("<nil>"), Problem::Invalid("".into()), why);
}

fn check(new: &Value, old: Option<&Value>, node: &Node, path: &Path, found: &mut Found) {
    found.count += 1;
    // what is as it was is not checked again
    if old == Some(new) {
        return;
    }
    if !check_type(new, node, path, found) || new.is_null() {
        return;
    }
    if let Some(checks) = node.checks.as_deref() {
        alternatives(new, old, checks, path, found);
        check_scalar(new, checks, path, found);
        if let Some(choices) = &checks.choices
            && !choices.iter().any(|choice| same(choice, new))
        {
            let supported = choices.iter().map(|choice| match choice {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            push(found, path, Problem::NotSupported { value: new.clone(), supported: supported.collect() }, "");
        }
    }
    match new {
        Value::Object(map) => check_map(map, old, node, path, found),
        Value::Array(items) => check_items(items, old, node, path, found),
        _ => {}
    }
}

/// Equality where 1 and 1.0 are the same.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64() && !(x.is_i64() && y.is_i64()),
        _ => a == b,
    }
}

fn is_whole(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0
}

/// Whether the value is of the type; the rest is checked only if it is.
fn check_type(value: &Value, node: &Node, path: &Path, found: &mut Found) -> bool {
    let (actual, format) = match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(number) if number.is_f64() => ("number", "double"),
        Value::Number(_) => ("integer", "int64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    };
    let expected: &[Kind] = match (node.int_or_string, &node.kind) {
        (true, _) => &[Kind::Integer, Kind::String],
        (false, Some(kind)) => std::slice::from_ref(kind),
        (false, None) => return true,
    };
    if value.is_null() && node.nullable {
        return true;
    }
    let whole = value.as_f64().is_some_and(is_whole);
    let fits = expected.iter().any(|kind| {
        kind.name() == actual
            || *kind == Kind::Integer && actual == "number" && whole
            || *kind == Kind::Number && actual == "integer"
    });
    if fits {
        return true;
    }
    let names: Vec<&str> = expected.iter().map(|kind| kind.name()).collect();
    let wanted = node.checks.as_deref().and_then(|checks| checks.format.as_deref());
    match wanted {
        Some(wanted) if !matches!(value, Value::Null | Value::String(_) | Value::Array(_)) => {
            wrong_type(found, path, wanted, format);
        }
        _ => wrong_type(found, path, &names.join(","), actual),
    }
    false
}

fn attempt(new: &Value, old: Option<&Value>, node: &Node, path: &Path) -> Found {
    let mut found = Found::default();
    check(new, old, node, path, &mut found);
    found
}

fn alternatives(new: &Value, old: Option<&Value>, checks: &Checks, path: &Path, found: &mut Found) {
    // the one that failed having passed most is the one that was meant
    fn keep(best: &mut Option<Found>, tried: Found) {
        if best.as_ref().is_none_or(|best| tried.count > best.count) {
            *best = Some(tried);
        }
    }
    if !checks.any_of.is_empty() {
        let mut best = None;
        let mut holds = false;
        for node in &checks.any_of {
            let tried = attempt(new, old, node, path);
            if tried.errors.is_empty() {
                holds = true;
                break;
            }
            keep(&mut best, tried);
        }
        if !holds {
            alternative(found, path, "must validate at least one schema (anyOf)");
            found.errors.extend(best.map(|best| best.errors).unwrap_or_default());
        }
    }
    if !checks.one_of.is_empty() {
        let mut best = None;
        let mut valid = 0;
        for node in &checks.one_of {
            let tried = attempt(new, old, node, path);
            if tried.errors.is_empty() {
                valid += 1;
            } else {
                keep(&mut best, tried);
            }
        }
        match valid {
            1 => {}
            0 => {
                alternative(found, path, "must validate one and only one schema (oneOf). Found none valid");
                found.errors.extend(best.map(|best| best.errors).unwrap_or_default());
            }
            many => {
                let what = format!("must validate one and only one schema (oneOf). Found {many} valid alternatives");
                alternative(found, path, what);
            }
        }
    }
    if !checks.all_of.is_empty() {
        let mut valid = 0;
        for node in &checks.all_of {
            let tried = attempt(new, old, node, path);
            valid += usize::from(tried.errors.is_empty());
            found.errors.extend(tried.errors);
        }
        if valid != checks.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            alternative(found, path, format!("must validate all the schemas (allOf){none}"));
        }
    }
    if let Some(node) = checks.not.as_deref()
        && attempt(new, old, node, path).errors.is_empty()
    {
        alternative(found, path, "must not validate the schema (not)");
    }
}

fn check_scalar(value: &Value, checks: &Checks, path: &Path, found: &mut Found) {
    match value {
        Value::String(text) => check_text(value, text, checks, path, found),
        Value::Number(number) => {
            let Some(number) = number.as_f64() else { return };
            check_number(value, number, checks, path, found);
        }
        _ => {}
    }
}

fn check_text(value: &Value, text: &str, checks: &Checks, path: &Path, found: &mut Found) {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(max) = checks.length.1.filter(|max| length > *max) {
        push(found, path, Problem::TooLong { max_bytes: usize::try_from(max).unwrap_or(0) }, "");
    }
    if let Some(min) = checks.length.0.filter(|min| length < *min) {
        invalid(found, path, value, format!("should be at least {min} chars long"));
    }
    if let Some(pattern) = checks.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
        invalid(found, path, value, format!("should match '{}'", pattern.text));
    }
    if let Some(format) = checks.format.as_deref().filter(|format| !crate::format::matches(format, text)) {
        let why = format!("{} in body must be of type {format}: {text:?}", shown_path(path));
        push(found, path, Problem::TypeInvalid(value.clone()), why);
    }
}

fn check_number(value: &Value, number: f64, checks: &Checks, path: &Path, found: &mut Found) {
    if let Some(of) = checks.multiple_of.filter(|of| *of != 0.0 && !is_multiple(number, *of)) {
        invalid(found, path, value, format!("should be a multiple of {of}"));
    }
    if let Some((max, exclusive)) = checks.maximum {
        if exclusive && number >= max {
            invalid(found, path, value, format!("should be less than {max}"));
        } else if number > max {
            invalid(found, path, value, format!("should be less than or equal to {max}"));
        }
    }
    if let Some((min, exclusive)) = checks.minimum {
        if exclusive && number <= min {
            invalid(found, path, value, format!("should be greater than {min}"));
        } else if number < min {
            invalid(found, path, value, format!("should be greater than or equal to {min}"));
        }
    }
}

fn is_multiple(number: f64, of: f64) -> bool {
    let times = if of.abs() < 1.0 { (1.0 / of) * number } else { number / of };
    (times - times.round()).abs() <= f64::EPSILON * times.abs().max(1.0)
}

fn count_of(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

fn check_map(map: &Map<String, Value>, old: Option<&Value>, node: &Node, path: &Path, found: &mut Found) {
    if let Some(checks) = node.checks.as_deref() {
        let (min, max) = checks.properties;
        if let Some(min) = min.filter(|min| count_of(map.len()) < *min) {
            let value = Value::Object(map.clone());
            invalid(found, path, &value, format!("should have at least {min} properties"));
        }
        if let Some(max) = max.filter(|max| count_of(map.len()) > *max) {
            push(found, path, Problem::TooMany { actual: map.len(), max: usize::try_from(max).unwrap_or(0) }, "");
        }
        for name in checks.required.iter().filter(|name| !map.contains_key(&***name)) {
            push(found, &path.child(name), Problem::Required, "");
        }
    }
    for (name, value) in map {
        let old = old.and_then(|old| old.get(name));
        if let Some(node) = node.property(name) {
            check(value, old, node, &path.child(name), found);
            continue;
        }
        match node.additional.as_deref() {
            Some(Additional::Of(node)) => check(value, old, node, &path.child(name), found),
            Some(Additional::Allowed(false)) => {
                let why = format!("{}.{name} in body is a forbidden property", shown_path(path));
                push(found, &path.child(name), Problem::Invalid("".into()), why);
            }
            _ => {}
        }
    }
}

fn check_items(items: &[Value], old: Option<&Value>, node: &Node, path: &Path, found: &mut Found) {
    if let Some(checks) = node.checks.as_deref() {
        let (min, max) = checks.items;
        if let Some(min) = min.filter(|min| count_of(items.len()) < *min) {
            let value = Value::Array(items.to_vec());
            invalid(found, path, &value, format!("should have at least {min} items"));
        }
        if let Some(max) = max.filter(|max| count_of(items.len()) > *max) {
            push(found, path, Problem::TooMany { actual: items.len(), max: usize::try_from(max).unwrap_or(0) }, "");
        }
        if checks.unique_items && list::has_duplicates(items) {
            let value = Value::Array(items.to_vec());
            invalid(found, path, &value, "shouldn't contain duplicates");
        }
    }
    let Some(of) = node.items.as_deref() else { return };
    for (index, item) in items.iter().enumerate() {
        check(item, correlate(item, old, node), of, &path.index(index), found);
    }
}
