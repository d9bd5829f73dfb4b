//! Bytes to objects and back: JSON and YAML. The only door between the wire and concrete types.
//!
//! Concrete types drop fields they do not know, so a request body is first read as a value tree and checked against
//! [`crate::schema`]; what is stored was encoded by us and may be decoded directly.

use serde_json::Value;

use crate::custom::Custom;
use crate::object::{Codec, Kind, Object};

mod json;
mod yaml;

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
    pub fn decode(&'static self, bytes: &[u8]) -> Result<Box<dyn Object>, DecodeError> {
        match self.codec {
            Codec::BuiltIn { decode, .. } => decode(bytes),
            Codec::Custom => self.decode_value(serde_json::from_slice(bytes)?),
        }
    }

    /// As [`Kind::decode`], from a value tree.
    pub fn decode_value(&'static self, value: Value) -> Result<Box<dyn Object>, DecodeError> {
        match self.codec {
            Codec::BuiltIn { from_value, .. } => from_value(value),
            Codec::Custom => Ok(Box::new(Custom::from_value(self, value)?)),
        }
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

impl Parsed {
    /// What strict field validation says about the text, `duplicate field "spec.replicas"`.
    pub fn strict_problems(&self) -> Vec<String> {
        self.duplicates.iter().map(|path| format!("duplicate field {path:?}")).collect()
    }
}

/// Any JSON value from text, for callers that only look at fields.
pub fn json_value(bytes: &[u8]) -> Result<Value, DecodeError> {
    serde_json::from_slice(bytes).map_err(|error| json::error(bytes, &error))
}

/// JSON text of one value; repeated keys are noticed.
pub fn parse_json(bytes: &[u8]) -> Result<Parsed, DecodeError> {
    json::parse(bytes)
}

/// The first document of YAML text, with scalars read by YAML 1.1's rules as upstream does (`yes` is true, `0644` is
/// 420); repeated keys are noticed. No document is null.
pub fn parse_yaml(bytes: &[u8]) -> Result<Parsed, DecodeError> {
    Ok(yaml::parse(bytes, Some(1))?.into_iter().next().unwrap_or_default())
}

/// All documents of YAML text, without the empty ones.
pub fn parse_yaml_documents(bytes: &[u8]) -> Result<Vec<Parsed>, DecodeError> {
    let mut documents = yaml::parse(bytes, None)?;
    documents.retain(|document| !document.value.is_null());
    Ok(documents)
}

/// The first document of YAML text as JSON text.
pub fn yaml_to_json(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    Ok(serde_json::to_vec(&parse_yaml(bytes)?.value).expect("a value tree always encodes"))
}

/// A path within a body as strict decoding writes it: `spec.containers[0].image`.
#[derive(Debug, Default)]
struct Trail(Vec<Step>);

#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl Trail {
    fn at(&self, key: &str) -> String {
        let mut text = String::new();
        for step in &self.0 {
            match step {
                Step::Key(key) if text.is_empty() => text.push_str(key),
                Step::Key(key) => {
                    text.push('.');
                    text.push_str(key);
                }
                Step::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        if text.is_empty() { key.to_owned() } else { format!("{text}.{key}") }
    }
}

#[cfg(test)]
mod tests;

/// A pod template as JSON: what a Deployment hashes to name its ReplicaSets.
pub fn encode_template(template: &crate::core::v1::PodTemplateSpec) -> Vec<u8> {
    serde_json::to_vec(template).expect("string keys and finite numbers always encode")
}
