//! YAML text to value trees: events of a YAML 1.2 parser, scalars by YAML 1.1's rules (`sigs.k8s.io/yaml`).

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError};
use serde_json::{Map, Number, Value};

use super::{DecodeError, Parsed, Step, Trail};

/// Deeper documents are refused; the JSON decoder has the same bound.
const DEPTH_MAX: usize = 128;
/// How many nodes aliases may add to a document.
const ALIAS_NODES_MAX: usize = 200_000;

/// A collection that is not finished.
enum Frame {
    Sequence { items: Vec<Value>, anchor: usize },
    Mapping { map: Map<String, Value>, key: Option<Key>, merged: Vec<Value>, anchor: usize },
}

enum Key {
    Name(String),
    /// `<<`: the value's entries join the mapping.
    Merge,
}

#[derive(Default)]
struct Builder {
    frames: Vec<Frame>,
    trail: Trail,
    anchors: HashMap<usize, (Value, usize)>,
    alias_nodes: usize,
    document: Parsed,
}

fn nodes(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(nodes).sum::<usize>(),
        _ => 1,
    }
}

fn problem(text: impl Into<String>) -> DecodeError {
    DecodeError::Yaml(text.into())
}

impl From<ScanError> for DecodeError {
    fn from(error: ScanError) -> Self {
        problem(format!("yaml: line {}: {}", error.marker().line(), error.info()))
    }
}

impl Builder {
    /// Takes in one event; true at a document's end.
    fn take(&mut self, event: Event<'_>) -> Result<bool, DecodeError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let suffix = tag.as_deref().map(|tag| tag.core_suffix().unwrap_or("str").to_owned());
                let plain = style == ScalarStyle::Plain;
                if self.wants_key() {
                    let merge = plain && tag.is_none() && text == "<<";
                    let key = if merge { Key::Merge } else { Key::Name(key_text(&text, plain, suffix.as_deref())?) };
                    return self.key(key).map(|()| false);
                }
                let value = scalar(&text, plain, suffix.as_deref())?;
                self.value(value, anchor)?;
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open(Frame::Sequence { items: Vec::new(), anchor })?;
                self.trail.0.push(Step::Index(0));
            }
            Event::MappingStart(_, anchor, _) => {
                self.open(Frame::Mapping { map: Map::new(), key: None, merged: Vec::new(), anchor })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(id) => {
                let (value, size) = self.anchors.get(&id).cloned().ok_or_else(|| problem("yaml: unknown anchor"))?;
                self.alias_nodes += size;
                if self.alias_nodes > ALIAS_NODES_MAX {
                    return Err(problem("yaml: document contains excessive aliasing"));
                }
                if self.wants_key() {
                    let Value::String(name) = value else {
                        return Err(problem("unsupported map key: an alias of something that is no string"));
                    };
                    return self.key(Key::Name(name)).map(|()| false);
                }
                self.value(value, 0)?;
            }
            Event::DocumentEnd => return Ok(true),
            _ => {}
        }
        Ok(false)
    }

    fn wants_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame::Mapping { key: None, .. }))
    }

    fn open(&mut self, frame: Frame) -> Result<(), DecodeError> {
        if self.wants_key() {
            return Err(problem("unsupported map key: a collection"));
        }
        if self.frames.len() >= DEPTH_MAX {
            return Err(problem("yaml: exceeded max depth"));
        }
        self.frames.push(frame);
        Ok(())
    }

    fn key(&mut self, name: Key) -> Result<(), DecodeError> {
        let Some(Frame::Mapping { map, key, .. }) = self.frames.last_mut() else {
            return Err(problem("yaml: key outside of a mapping"));
        };
        let text = match &name {
            Key::Name(text) => text.clone(),
            Key::Merge => "<<".to_owned(),
        };
        if map.contains_key(&text) {
            self.document.duplicates.push(self.trail.at(&text));
        }
        *key = Some(name);
        self.trail.0.push(Step::Key(text));
        Ok(())
    }

    /// A finished node goes into the collection around it.
    fn value(&mut self, value: Value, anchor: usize) -> Result<(), DecodeError> {
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), nodes(&value)));
        }
        match self.frames.last_mut() {
            None => self.document.value = value,
            Some(Frame::Sequence { items, .. }) => {
                items.push(value);
                if let Some(Step::Index(index)) = self.trail.0.last_mut() {
                    *index += 1;
                }
            }
            Some(Frame::Mapping { map, key, merged, .. }) => {
                self.trail.0.pop();
                match key.take() {
                    Some(Key::Name(name)) => drop(map.insert(name, value)),
                    Some(Key::Merge) => match value {
                        Value::Array(items) => merged.extend(items),
                        other => merged.push(other),
                    },
                    None => return Err(problem("yaml: value without a key")),
                }
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), DecodeError> {
        let (value, anchor) = match self.frames.pop() {
            Some(Frame::Sequence { items, anchor }) => {
                self.trail.0.pop();
                (Value::Array(items), anchor)
            }
            Some(Frame::Mapping { mut map, merged, anchor, .. }) => {
                for source in merged {
                    let Value::Object(source) = source else {
                        return Err(problem("yaml: map merge requires map or sequence of maps as the value"));
                    };
                    for (key, value) in source {
                        map.entry(key).or_insert(value);
                    }
                }
                (Value::Object(map), anchor)
            }
            None => return Err(problem("yaml: end without a start")),
        };
        self.value(value, anchor)
    }
}

/// The documents of a text, at most `limit` of them.
pub(super) fn parse(bytes: &[u8], limit: Option<usize>) -> Result<Vec<Parsed>, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| problem("yaml: invalid leading UTF-8 octet"))?;
    let options = granit_parser::options! { emit_comments: false };
    let mut documents = Vec::new();
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, _) = next?;
        if builder.take(event)? {
            documents.push(std::mem::take(&mut builder).document);
            if limit.is_some_and(|limit| documents.len() >= limit) {
                break;
            }
        }
    }
    Ok(documents)
}

/// A mapping's key: what is not a string is turned into one.
fn key_text(text: &str, plain: bool, tag: Option<&str>) -> Result<String, DecodeError> {
    Ok(match scalar(text, plain, tag)? {
        Value::String(text) => text,
        Value::Null => return Err(problem("unsupported map key of type: %!s(<nil>)")),
        other => other.to_string(),
    })
}

/// A scalar's value. Quoted text is a string unless tagged otherwise.
fn scalar(text: &str, plain: bool, tag: Option<&str>) -> Result<Value, DecodeError> {
    if tag == Some("str") || !plain && tag.is_none() {
        return Ok(Value::String(text.to_owned()));
    }
    let value = resolve(text)?;
    let cannot = |kind: &str, as_what: &str| {
        Err(problem(format!("yaml: unmarshal errors:\n  cannot decode !!{kind} `{text}` as a !!{as_what}")))
    };
    match (tag, &value) {
        (Some("int"), Value::Number(number)) if number.is_f64() => cannot("float", "int"),
        (Some(tag @ ("int" | "float" | "bool" | "null")), found) => {
            let (kind, fits) = match found {
                Value::Null => ("null", tag == "null"),
                Value::Bool(_) => ("bool", tag == "bool"),
                Value::Number(_) => ("int", matches!(tag, "int" | "float")),
                _ => ("str", false),
            };
            if fits { Ok(value) } else { cannot(kind, tag) }
        }
        _ => Ok(value),
    }
}

/// A plain scalar by YAML 1.1's rules as `go-yaml` v2 reads them. What looks like a time stays a string.
fn resolve(text: &str) -> Result<Value, DecodeError> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Ok(true.into()),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Ok(false.into());
        }
        ".nan" | ".NaN" | ".NAN" => return Err(problem("json: unsupported value: NaN")),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Err(problem("json: unsupported value: +Inf")),
        "-.inf" | "-.Inf" | "-.INF" => return Err(problem("json: unsupported value: -Inf")),
        _ => {}
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return Ok(Value::String(text.to_owned()));
    }
    let plain = text.replace('_', "");
    Ok(integer(&plain).or_else(|| float(&plain)).unwrap_or_else(|| Value::String(text.to_owned())))
}

/// An integer in base 10, 16 (`0x`), 8 (`0644`, `0o644`) or 2 (`0b`), within 64 bits.
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(digits) = lower.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (2, digits)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (8, digits)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    if !negative {
        return Some(value.into());
    }
    i64::try_from(-i128::from(value)).ok().map(Value::from)
}

/// A decimal float; a whole one becomes an integer, as Go's JSON writes it.
fn float(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let some = !whole.is_empty() || !fraction.is_empty();
    if !some || !digits(whole) || !digits(fraction) || exponent.is_some_and(|text| text.is_empty() || !digits(text)) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Some((value as i64).into());
    }
    Number::from_f64(value).map(Value::Number)
}
