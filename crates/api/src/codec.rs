//! Bytes to objects and back: JSON and YAML. The only door between the wire and concrete types.
//!
//! Concrete types drop fields they do not know, so a request body is first read as a value tree and checked against
//! [`crate::schema`]; what is stored was encoded by us and may be decoded directly.

use serde_json::Value;

use crate::object::{Kind, Object};

/// Why bytes could not become an object. The text is for the user.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or not of the type's shape.
    #[error("{0}")]
    Json(String),
    /// Not YAML.
    #[error("error converting YAML to JSON: {0}")]
    Yaml(String),
}

impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error.to_string())
    }
}

impl Kind {
    /// Decodes JSON bytes of this kind. Unknown fields are dropped; `apiVersion` and `kind` must match if present.
    pub fn decode(&self, bytes: &[u8]) -> Result<Box<dyn Object>, DecodeError> {
        (self.decode)(bytes)
    }

    /// As [`Kind::decode`], from a value tree.
    pub fn decode_value(&self, value: Value) -> Result<Box<dyn Object>, DecodeError> {
        (self.from_value)(value)
    }
}

/// A parsed request body and what was odd about its text.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The value tree; of repeated keys the last one counts.
    pub value: Value,
    /// Paths of keys that occur twice in one mapping, as upstream writes them (`spec.replicas`).
    pub duplicates: Vec<String>,
}

/// Any JSON value from text, for callers that only look at fields.
pub fn json_value(bytes: &[u8]) -> Result<Value, DecodeError> {
    Ok(serde_json::from_slice(bytes)?)
}
