//! `meta.k8s.io/v1` `Table` and `PartialObjectMetadata`: what `kubectl get` prints. Not part of the generated types.

use serde::Serialize;
use serde_json::Value;

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
    pub object: Box<serde_json::value::RawValue>,
}
