//! Configuration files of the group `apiserver.config.k8s.io`: read strictly, so that a misspelt field stops the start
//! instead of leaving a door open.
//!
//! Pure. Upstream: apiserver/pkg/apis/apiserver/load.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a file may hold, apart from the types of its values.
#[derive(Debug)]
pub enum Shape {
    Any,
    Object(&'static [(&'static str, &'static Shape)]),
    List(&'static Shape),
}

/// Reads a file's text as `kind` in one of these versions.
///
/// # Errors
/// In upstream's words.
pub fn decode<T: DeserializeOwned>(
    text: &[u8],
    kind: &str,
    versions: &[&str],
    shape: &'static Shape,
) -> Result<T, String> {
    if text.is_empty() {
        return Err("empty config data".to_owned());
    }
    let parsed = api::codec::parse_yaml(text).map_err(|error| error.to_string())?;
    let value = parsed.value.clone();
    let said = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    for (name, shown) in [("kind", "Kind"), ("apiVersion", "apiVersion")] {
        if said(name).is_empty() {
            return Err(format!("Object '{shown}' is missing in '{value}'"));
        }
    }
    let (version, own) = (said("apiVersion"), said("kind"));
    if own != kind || !versions.contains(&version.as_str()) {
        return Err(format!("no kind {own:?} is registered for version {version:?}"));
    }
    finish(value, parsed.strict_problems(), shape)
}

/// Reads a text that says no kind.
///
/// # Errors
/// As [`decode`].
pub fn decode_plain<T: DeserializeOwned>(text: &[u8], shape: &'static Shape) -> Result<T, String> {
    if text.is_empty() {
        return Err("empty config data".to_owned());
    }
    let parsed = api::codec::parse_yaml(text).map_err(|error| error.to_string())?;
    finish(parsed.value.clone(), parsed.strict_problems(), shape)
}

/// The kind that a text says, if it says one.
pub fn kind_of(text: &[u8]) -> Option<String> {
    api::codec::parse_yaml(text).ok()?.value.get("kind")?.as_str().map(str::to_owned)
}

fn finish<T: DeserializeOwned>(
    mut value: Value,
    mut problems: Vec<String>,
    shape: &'static Shape,
) -> Result<T, String> {
    unknown(&value, shape, "", &mut problems);
    if !problems.is_empty() {
        return Err(format!("strict decoding error: {}", problems.join(", ")));
    }
    prune(&mut value);
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Fields nobody knows.
fn unknown(value: &Value, shape: &Shape, at: &str, problems: &mut Vec<String>) {
    match (value, shape) {
        (Value::Object(fields), Shape::Object(known)) => {
            for (name, value) in fields {
                if at.is_empty() && matches!(name.as_str(), "kind" | "apiVersion") {
                    continue;
                }
                let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                match known.iter().find(|(known, _)| known == name) {
                    Some((_, shape)) => unknown(value, shape, &path, problems),
                    None => problems.push(format!("unknown field {path:?}")),
                }
            }
        }
        (Value::Array(items), Shape::List(shape)) => {
            for (index, item) in items.iter().enumerate() {
                unknown(item, shape, &format!("{at}[{index}]"), problems);
            }
        }
        _ => {}
    }
}

/// What is null was not said.
fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

/// A duration as Go writes it; `None` for a negative one.
///
/// # Errors
/// Why it is no duration.
pub fn duration(text: &str) -> Result<Option<Duration>, String> {
    let read = crate::http::parse_duration(text).map_err(|why| format!("time: {why}"))?;
    let negative = text.starts_with('-') && crate::http::parse_duration(&text[1..]).is_ok_and(|d| !d.is_zero());
    Ok((!negative).then_some(read))
}

/// A duration in Go's notation, whole milliseconds.
pub fn duration_text(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        return format!("{}ms", duration.as_millis());
    }
    let (whole, rest) = (duration.as_secs(), duration.subsec_millis());
    let tail = if rest == 0 {
        format!("{}s", whole % 60)
    } else {
        format!("{}s", (whole % 60) as f64 + f64::from(rest) / 1000.0)
    };
    match (whole / 3600, whole / 60 % 60) {
        (0, 0) => tail,
        (0, minutes) => format!("{minutes}m{tail}"),
        (hours, minutes) => format!("{hours}h{minutes}m{tail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SHAPE: Shape =
        Shape::Object(&[("list", &Shape::List(&Shape::Object(&[("a", &Shape::Any)]))), ("x", &Shape::Any)]);

    fn read(text: &str) -> Result<Value, String> {
        decode(text.as_bytes(), "Thing", &["g/v1"], &SHAPE)
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(read("apiVersion: g/v1\nkind: Thing\nlist: [{a: 1}]\nx: null\n").unwrap()["list"][0]["a"], 1);
        for (text, why) in [
            ("", "empty config data"),
            ("{}", "Object 'Kind' is missing in '{}'"),
            ("kind: Thing\n", "Object 'apiVersion' is missing in '{\"kind\":\"Thing\"}'"),
            ("apiVersion: g/v2\nkind: Thing\n", "no kind \"Thing\" is registered for version \"g/v2\""),
            ("apiVersion: g/v1\nkind: Other\n", "no kind \"Other\" is registered for version \"g/v1\""),
            ("apiVersion: g/v1\nkind: Thing\nlist: [{b: 1}]\n", "strict decoding error: unknown field \"list[0].b\""),
            ("apiVersion: g/v1\nkind: Thing\nz: 1\n", "strict decoding error: unknown field \"z\""),
        ] {
            assert_eq!(read(text).unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn durations_both_ways() {
        for (text, read) in
            [("5m0s", Some(300_000)), ("-1s", None), ("100ms", Some(100)), ("1h0m1.5s", Some(3_601_500))]
        {
            assert_eq!(duration(text), Ok(read.map(Duration::from_millis)), "{text}");
            if let Some(read) = read {
                assert_eq!(duration_text(Duration::from_millis(read)), text);
            }
        }
        assert_eq!(duration("x").unwrap_err(), "time: invalid duration \"x\"");
    }
}
