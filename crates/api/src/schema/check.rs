//! Whether a value has a definition's form: fields it does not know, and the first value of a wrong type, both in the
//! words of Go's decoder (`sigs.k8s.io/json`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Definition, Type};
use crate::codec::Parsed;
use crate::quantity::Amount;

/// Upstream stops counting strict errors here.
const UNKNOWN_MAX: usize = 100;

/// What [`check`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// Paths of unknown fields, `spec.template.spec.containers[0].imagee`.
    pub unknown: Vec<String>,
    /// Why the value cannot be decoded, as Go says it:
    /// `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`.
    pub type_error: Option<String>,
}

impl Checked {
    /// What strict field validation says, `unknown field "spec.foo"`.
    pub fn strict_problems(&self) -> Vec<String> {
        self.unknown.iter().map(|path| format!("unknown field {path:?}")).collect()
    }
}

/// The strict decoding error of a body: `strict decoding error: unknown field "spec.foo", duplicate field "spec.a"`;
/// `None` if there is nothing to say. With `fieldValidation=Warn` the same problems are warnings, one each.
pub fn strict_message(parsed: &Parsed, checked: &Checked) -> Option<String> {
    let mut problems = checked.strict_problems();
    problems.extend(parsed.strict_problems());
    (!problems.is_empty()).then(|| format!("strict decoding error: {}", problems.join(", ")))
}

/// Checks a value against a definition. Null is tolerated everywhere, as in Go.
pub fn check(value: &Value, definition: &Definition) -> Checked {
    let mut walk = Walk::default();
    walk.value(value, &definition.type_);
    walk.checked
}

#[derive(Default)]
struct Walk {
    checked: Checked,
    /// With indexes, for unknown fields.
    path: String,
    /// Field names only, for type errors.
    fields: Vec<String>,
    /// The innermost struct's name.
    inside: &'static str,
}

/// A value's kind as Go's decoder names it.
fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) => format!("number {number}"),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// A type as Go writes it.
fn go_type(type_: &Type) -> String {
    match type_ {
        Type::String | Type::Time => "string".to_owned(),
        Type::Bytes => "[]uint8".to_owned(),
        Type::Boolean => "bool".to_owned(),
        Type::Int32 | Type::IntOrString => "int32".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Double => "float64".to_owned(),
        Type::Quantity => "resource.Quantity".to_owned(),
        Type::Object | Type::Any => "map[string]interface {}".to_owned(),
        Type::List(item) => format!("[]{}", go_type(item)),
        Type::Map(value) => format!("map[string]{}", go_type(value)),
        Type::Struct(_) => {
            let name = type_.definition().map_or("", |definition| definition.name);
            name.rsplitn(3, '.').take(2).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(".")
        }
    }
}

impl Walk {
    fn mismatch(&mut self, value: &Value, type_: &Type) {
        let what = match (value, type_) {
            // only numbers that are no integers, or too large, are shown
            (Value::Number(_), Type::Int32 | Type::Int64) => found(value),
            (Value::Number(_), _) => "number".to_owned(),
            _ => found(value),
        };
        let go_type = go_type(type_);
        // types with their own decoder do not know where they are
        let own = matches!(type_, Type::Time | Type::IntOrString);
        self.fail(if own || self.fields.is_empty() {
            format!("json: cannot unmarshal {what} into Go value of type {go_type}")
        } else {
            let field = self.fields.join(".");
            format!("json: cannot unmarshal {what} into Go struct field {}.{field} of type {go_type}", self.inside)
        });
    }

    fn fail(&mut self, error: String) {
        self.checked.type_error.get_or_insert(error);
    }

    /// Walks into `value` with `step` added to the path.
    fn below(&mut self, step: &str, value: &Value, type_: &Type) {
        let len = self.path.len();
        self.path.push_str(step);
        self.value(value, type_);
        self.path.truncate(len);
    }

    fn value(&mut self, value: &Value, type_: &Type) {
        match (type_, value) {
            (_, Value::Null) | (Type::Any, _) => {}
            (Type::String, Value::String(_)) | (Type::Boolean, Value::Bool(_)) | (Type::Object, Value::Object(_)) => {}
            (Type::Int64, Value::Number(number)) if number.is_i64() => {}
            (Type::Int32, Value::Number(number)) if is_i32(number) => {}
            (Type::Double, Value::Number(_)) | (Type::IntOrString, Value::String(_)) => {}
            (Type::IntOrString, Value::Number(number)) if is_i32(number) => {}
            (Type::Bytes, Value::String(text)) => self.bytes(text),
            (Type::Time, Value::String(text)) => self.time(text),
            (Type::Quantity, Value::String(text)) => self.quantity(text),
            (Type::Quantity, Value::Number(number)) => self.quantity(&number.to_string()),
            (Type::Quantity, other) => self.quantity(&other.to_string()),
            (Type::List(item), Value::Array(items)) => {
                for (index, value) in items.iter().enumerate() {
                    self.below(&format!("[{index}]"), value, item);
                }
            }
            (Type::Map(of), Value::Object(map)) => {
                for (key, value) in map {
                    let step = if self.path.is_empty() { key.clone() } else { format!(".{key}") };
                    self.below(&step, value, of);
                }
            }
            (Type::Struct(_), Value::Object(map)) => {
                if let Some(definition) = type_.definition() {
                    self.fields_of(map, definition);
                }
            }
            _ => self.mismatch(value, type_),
        }
    }

    fn fields_of(&mut self, map: &serde_json::Map<String, Value>, definition: &'static Definition) {
        let outside = std::mem::replace(&mut self.inside, definition.short_name());
        for (key, value) in map {
            let step = if self.path.is_empty() { key.clone() } else { format!(".{key}") };
            let Some(property) = definition.property(key) else {
                if self.checked.unknown.len() < UNKNOWN_MAX {
                    self.checked.unknown.push(format!("{}{step}", self.path));
                }
                continue;
            };
            self.fields.push(key.clone());
            self.below(&step, value, &property.type_);
            self.fields.pop();
        }
        self.inside = outside;
    }

    fn quantity(&mut self, text: &str) {
        if let Err(error) = Amount::parse(text) {
            self.fail(error.to_string());
        }
    }

    fn bytes(&mut self, text: &str) {
        let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        match STANDARD.decode(&text) {
            Ok(_) => {}
            Err(base64::DecodeError::InvalidByte(offset, _) | base64::DecodeError::InvalidLastSymbol(offset, _)) => {
                self.fail(format!("illegal base64 data at input byte {offset}"));
            }
            Err(_) => self.fail(format!("illegal base64 data at input byte {}", text.len() / 4 * 4)),
        }
    }

    fn time(&mut self, text: &str) {
        if !is_rfc3339(text) {
            self.fail(format!(
                "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
            ));
        }
    }
}

fn is_i32(number: &serde_json::Number) -> bool {
    number.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
}

/// Date, `T`, time and an offset, all present.
fn is_rfc3339(text: &str) -> bool {
    text.as_bytes().get(10) == Some(&b'T') && text.parse::<jiff::Timestamp>().is_ok()
}
