//! A server's answer as the JSON a client gets.

use anyhow::Result;
use api::Status;
use apiserver::{Answer, Payload};
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
        let kind = match &answer.payload {
            Payload::List(resource, _) => Some(resource.kind()),
            _ => None,
        };
        let body = match answer.into_reply()? {
            api::Reply::Object(object) => object.to_value(),
            api::Reply::Status(status) => status_value(&status),
            api::Reply::List(list) => {
                let mut metadata = json!({"resourceVersion": list.resource_version});
                if !list.continue_token.is_empty() {
                    metadata["continue"] = list.continue_token.into();
                }
                if let Some(remaining) = list.remaining_item_count {
                    metadata["remainingItemCount"] = remaining.into();
                }
                let items: Vec<Value> = list.items.iter().map(|item| item.to_value()).collect();
                let kind = kind.map(|kind| (kind.api_version, format!("{}List", kind.kind)));
                let (api_version, kind) = kind.unwrap_or_default();
                json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "items": items})
            }
        };
        Ok(Self { code, body, warnings })
    }

    /// From a refusal.
    pub fn refused(status: &Status) -> Self {
        Self { code: status.code(), body: status_value(status), warnings: Vec::new() }
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

fn status_value(status: &Status) -> Value {
    let mut value = serde_json::from_slice(&status.encode()).unwrap_or(Value::Null);
    if let Some(fields) = value.as_object_mut() {
        fields.entry("kind").or_insert_with(|| "Status".into());
        fields.entry("apiVersion").or_insert_with(|| "v1".into());
    }
    value
}
