//! JSON text to a value tree, with repeated keys noticed and errors in the words of Go's decoder.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Number, Value};

use super::{DecodeError, Parsed, Step, Trail};

/// Upstream stops counting strict errors here.
const DUPLICATES_MAX: usize = 100;

#[derive(Default)]
struct State {
    trail: Trail,
    duplicates: Vec<String>,
}

/// Builds a value while the state knows where it is.
struct Seed<'a>(&'a mut State);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            self.0.trail.0.push(Step::Index(items.len()));
            let item = access.next_element_seed(Seed(self.0))?;
            self.0.trail.0.pop();
            match item {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) && self.0.duplicates.len() < DUPLICATES_MAX {
                self.0.duplicates.push(self.0.trail.at(&key));
            }
            self.0.trail.0.push(Step::Key(key));
            let value = access.next_value_seed(Seed(self.0))?;
            let Some(Step::Key(key)) = self.0.trail.0.pop() else {
                return Err(A::Error::custom("steps are pushed and popped in pairs"));
            };
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// One JSON value and nothing after it.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, DecodeError> {
    let mut state = State::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed(&mut state)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|found| error(bytes, &found))?;
    Ok(Parsed { value, duplicates: state.duplicates })
}

/// The byte that the decoder stumbled over, as Go quotes it.
fn culprit(bytes: &[u8], error: &serde_json::Error) -> String {
    let line = bytes.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let found = line.get(error.column().saturating_sub(1)..).and_then(|rest| rest.utf8_chunks().next());
    match found.and_then(|chunk| chunk.valid().chars().next()) {
        Some('\'') => r"'\''".to_owned(),
        Some('"') => "'\"'".to_owned(),
        Some(character) => format!("{character:?}"),
        None => "'\\n'".to_owned(),
    }
}

/// An error in the words of Go's `encoding/json`.
pub(super) fn error(bytes: &[u8], error: &serde_json::Error) -> DecodeError {
    if error.classify() == Category::Eof {
        return DecodeError::Json("unexpected end of JSON input".to_owned());
    }
    if error.classify() != Category::Syntax {
        return DecodeError::Json(error.to_string());
    }
    let text = error.to_string();
    let why = text.split(" at line ").next().unwrap_or_default();
    let place = match why {
        "expected value" => "looking for beginning of value",
        "expected `,` or `}`" => "after object key:value pair",
        "expected `,` or `]`" => "after array element",
        "expected `:`" => "after object key",
        "key must be a string" => "looking for beginning of object key string",
        "trailing characters" => "after top-level value",
        "trailing comma" => "looking for beginning of value",
        "invalid number" => "in numeric literal",
        "expected ident" => "in literal",
        "control character (\\u0000-\\u001F) found while parsing a string" => "in string literal",
        "invalid escape" => "in string escape code",
        "recursion limit exceeded" => return DecodeError::Json("exceeded max depth".to_owned()),
        _ => return DecodeError::Json(text),
    };
    DecodeError::Json(format!("invalid character {} {place}", culprit(bytes, error)))
}
