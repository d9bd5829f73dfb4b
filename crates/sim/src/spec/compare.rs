//! Whether an object holds what a spec expects of it: a subset of its fields. Pure.

use regex::Regex;
use serde_json::Value;

/// Why `actual` does not hold `expected`; empty if it does.
///
/// A mapping holds its own keys' values and may have more; `null` is a key that is absent. Each item of a list is held
/// by
/// an item of its own in the actual list, in any order; an empty list is an empty or absent list. A text
/// `/^...$/` is a regular expression.
pub fn differences(expected: &Value, actual: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", expected, Some(actual), &mut found);
    found
}

fn compare(path: &str, expected: &Value, actual: Option<&Value>, found: &mut Vec<String>) {
    let actual = actual.unwrap_or(&Value::Null);
    match (expected, actual) {
        (Value::Object(expected), Value::Object(own)) => {
            for (key, value) in expected {
                compare(&format!("{path}.{key}"), value, own.get(key), found);
            }
        }
        (Value::Array(expected), Value::Array(own)) if !expected.is_empty() => list(path, expected, own, found),
        (Value::Array(expected), Value::Null) if expected.is_empty() => {}
        (Value::String(text), _) if pattern(text).is_some() => {
            let shown = match actual {
                Value::String(own) => own.clone(),
                other => other.to_string(),
            };
            if !pattern(text).is_some_and(|pattern| pattern.is_match(&shown)) {
                found.push(format!("{}: expected {text}, is {actual}", shown_path(path)));
            }
        }
        _ if same(expected, actual) => {}
        _ => found.push(format!("{}: expected {expected}, is {actual}", shown_path(path))),
    }
}

fn shown_path(path: &str) -> &str {
    path.strip_prefix('.').unwrap_or(if path.is_empty() { "the object" } else { path })
}

/// Equal; numbers by value.
fn same(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => expected == actual,
    }
}

fn pattern(text: &str) -> Option<Regex> {
    let inner = text.strip_prefix('/').and_then(|text| text.strip_suffix('/'))?;
    (inner.starts_with('^') && inner.ends_with('$')).then(|| Regex::new(inner).ok()).flatten()
}

/// Each expected item takes the first actual item that holds it and is not taken yet.
fn list(path: &str, expected: &[Value], own: &[Value], found: &mut Vec<String>) {
    let mut taken = vec![false; own.len()];
    for (index, item) in expected.iter().enumerate() {
        let holds = |(at, actual): (usize, &Value)| !taken[at] && differences(item, actual).is_empty();
        let holder = own.iter().enumerate().position(holds);
        if let Some(at) = holder {
            taken[at] = true;
            continue;
        }
        // The nearest one tells most.
        let free = own.iter().enumerate().filter(|(at, _)| !taken[*at]);
        let nearest = free.map(|(at, actual)| (at, differences(item, actual))).min_by_key(|(_, why)| why.len());
        match nearest {
            Some((at, why)) if item.is_object() => {
                found.push(format!("{}[{index}]: no item is like {item}; nearest is [{at}]:", shown_path(path)));
                found.extend(why.into_iter().map(|line| format!("    {line}")));
            }
            _ => found.push(format!("{}[{index}]: no item is like {item}", shown_path(path))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn subsets_hold_and_differences_are_told() {
        let actual = json!({"a": 1, "b": {"c": "x-12"}, "l": [{"t": "A", "s": "F"}, {"t": "B", "s": "T"}]});
        let holds = |expected: Value| differences(&expected, &actual).is_empty();
        assert!(holds(json!({"a": 1.0})));
        assert!(holds(json!({"b": {"c": "/^x-[0-9]+$/"}, "d": null, "e": []})));
        assert!(holds(json!({"l": [{"t": "B"}, {"t": "A"}]})));
        assert!(!holds(json!({"a": null})));
        assert!(!holds(json!({"l": []})));
        assert!(!holds(json!({"l": [{"t": "A"}, {"t": "A"}]})));
        assert!(!holds(json!({"b": {"c": "/^y$/"}})));
        assert_eq!(differences(&json!({"b": {"c": "y"}}), &actual), [r#"b.c: expected "y", is "x-12""#]);
    }
}
