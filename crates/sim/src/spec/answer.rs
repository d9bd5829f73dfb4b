//! A server's answer as the JSON a client gets.

use anyhow::Result;
use api::Status;
use apiserver::{Answer, Entry, Payload, Resource};
use serde_json::{Value, json};

/// What came back: the HTTP code, the body, the warnings.
#[derive(Debug, Clone, Default)]
pub struct Got {
    pub code: u16,
    pub body: Value,
    pub warnings: Vec<String>,
}

impl Got {
    /// From what the server answered.
    ///
    /// # Errors
    /// If a stored object cannot be decoded.
    pub fn new(answered: Result<Answer, Status>) -> Result<Self> {
        let answer = match answered {
            Ok(answer) => answer,
            Err(status) => return Ok(Self::refused(&status)),
        };
        let (code, warnings) = (answer.code, answer.warnings.clone());
        let body = match answer.payload {
            Payload::Entry(resource, entry) => stored(&resource, &entry)?,
            Payload::Object(object) => object.to_value(),
            Payload::Status(status) => status_value(&status),
            Payload::List(resource, listed) => {
                let mut metadata = json!({"resourceVersion": listed.revision.to_string()});
                if !listed.continue_token.is_empty() {
                    metadata["continue"] = listed.continue_token.into();
                }
                if let Some(remaining) = listed.remaining {
                    metadata["remainingItemCount"] = remaining.into();
                }
                let items = listed.entries.iter().map(|entry| stored(&resource, entry)).collect::<Result<Vec<_>>>()?;
                let kind = resource.kind();
                json!({
                    "apiVersion": kind.api_version,
                    "kind": format!("{}List", kind.kind),
                    "metadata": metadata,
                    "items": items,
                })
            }
        };
        Ok(Self { code, body, warnings })
    }

    /// From a refusal.
    pub fn refused(status: &Status) -> Self {
        Self { code: status.code(), body: status_value(status), warnings: status.warnings().to_vec() }
    }

    /// Whether the server did what was asked.
    pub fn succeeded(&self) -> bool {
        self.code < 300
    }

    /// A Status' message, or the body.
    pub fn message(&self) -> String {
        self.body["message"].as_str().map_or_else(|| self.body.to_string(), str::to_owned)
    }
}

/// What goes on the wire; the typed form that parts of one process share lacks `managedFields`.
fn stored(resource: &Resource, entry: &Entry) -> Result<Value> {
    let mut bytes = Vec::new();
    resource.write(entry, &mut bytes);
    Ok(serde_json::from_slice(&bytes)?)
}

fn status_value(status: &Status) -> Value {
    let mut value = serde_json::from_slice(&status.encode()).unwrap_or(Value::Null);
    if let Some(fields) = value.as_object_mut() {
        fields.entry("kind").or_insert_with(|| "Status".into());
        fields.entry("apiVersion").or_insert_with(|| "v1".into());
    }
    value
}
