//! The server's columns and cells, laid out as kubectl does. Pure.
//!
//! Upstream: k8s.io/cli-runtime/pkg/printers (columns are padded by three, and at least six wide).

use std::sync::Arc;

use api::{Object, Timestamp};
use serde_json::Value;

use crate::catalogue::Found;

const PADDING: usize = 3;
const WIDTH_MIN: usize = 6;

/// What is shown beside the columns of every time.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub wide: bool,
    /// A first column with the namespace.
    pub namespaces: bool,
    /// A last column with the labels.
    pub labels: bool,
    /// Names with their kind: several kinds are shown.
    pub kind: bool,
}

/// A table with its headers.
pub fn render(found: Found, objects: &[Arc<dyn Object>], now: Timestamp, options: Options) -> String {
    if objects.is_empty() {
        return String::new();
    }
    let Some(strategy) = found.strategy() else { return String::new() };
    let columns = strategy.columns();
    let mut rows = vec![Vec::new()];
    let shown: Vec<bool> = columns.iter().map(|column| options.wide || column.priority == 0).collect();
    if options.namespaces {
        rows[0].push("NAMESPACE".to_owned());
    }
    rows[0].extend(columns.iter().zip(&shown).filter(|(_, shown)| **shown).map(|(c, _)| c.name.to_uppercase()));
    if options.labels {
        rows[0].push("LABELS".to_owned());
    }
    for object in objects {
        let mut row = Vec::new();
        if options.namespaces {
            row.push(object.namespace().to_owned());
        }
        let cells = strategy.cells(&**object, now);
        for (index, cell) in cells.iter().enumerate().filter(|(index, _)| shown.get(*index) == Some(&true)) {
            let text = text(cell);
            row.push(if index == 0 && options.kind { format!("{}/{text}", found.singular()) } else { text });
        }
        if options.labels {
            row.push(labels(&**object));
        }
        rows.push(row);
    }
    lay_out(&rows)
}

fn text(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn labels(object: &dyn Object) -> String {
    let labels = object.metadata().labels.iter().flatten();
    let pairs: Vec<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

fn lay_out(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let longest = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        (longest.unwrap_or_default() + PADDING).max(WIDTH_MIN)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            if index + 1 == row.len() {
                line.push_str(cell);
            } else {
                line.push_str(&format!("{cell:<0$}", widths[index]));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
