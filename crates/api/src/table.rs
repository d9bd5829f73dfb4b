//! `meta.k8s.io/v1` `Table` and `PartialObjectMetadata`: what `kubectl get` prints. Not part of the generated types.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::codec::DecodeError;

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColumnDefinition {
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    #[serde(rename = "type")]
    pub type_: String,
    /// For example `name`; may be empty.
    pub format: String,
    pub description: String,
    /// 0 is always shown; more only with `-o wide`.
    pub priority: i32,
}

/// One row: its cells in the columns' order, and the object as JSON text (whole, or its metadata).
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub cells: Vec<Value>,
    pub object: Box<RawValue>,
}

/// An object's `PartialObjectMetadata` from its JSON text: the metadata's text as it stands, nothing decoded.
pub fn partial_object_metadata(object: &[u8]) -> Result<Vec<u8>, DecodeError> {
    #[derive(serde::Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        metadata: Option<&'a RawValue>,
    }
    let head: Head<'_> = serde_json::from_slice(object)?;
    let metadata = head.metadata.map_or("{}", RawValue::get);
    Ok(format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{metadata}}}"#)
        .into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_passes_through() {
        let object = br#"{"kind":"Pod","metadata":{"name":"a", "x":1},"spec":{"y":[{}]}}"#;
        let text = String::from_utf8(partial_object_metadata(object).expect("valid")).expect("text");
        assert_eq!(
            text,
            r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"a", "x":1}}"#
        );
    }
}
