//! From client-side to server-side apply: what kubectl last applied at the client is in an annotation. When it applies
//! at the server, under its own name, those fields are its own; and the annotation follows, for clients that still read
//! it.

use serde_json::{Map, Value};

use super::{Set, Types, Writer, check_config, walk};

/// The annotation in which `kubectl apply` keeps its last configuration.
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The only manager for which this is done; who wants it otherwise takes another name.
const MANAGER: &str = "kubectl";
/// Annotations beyond this are refused: rather than that, this one goes.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

fn last_of(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// The fields of the last configuration that are still as they were applied. `None`: there is none that counts.
pub(super) fn fields(live: &Value, types: Types<'_>, writer: &Writer<'_>) -> Option<Set> {
    if writer.manager != MANAGER {
        return None;
    }
    let mut last: Value = serde_json::from_str(last_of(live)?).ok()?;
    check_config(&mut last, types, writer).ok()?;
    let mut fields = walk::fields(&last, types, writer.ignored);
    let changes = walk::compare(&last, live, types, writer.ignored);
    fields.subtract(&changes.modified);
    fields.subtract(&changes.added);
    fields.subtract(&changes.removed);
    Some(fields)
}

/// Writes the configuration into the annotation, if the object has it.
pub(super) fn follow(object: &mut Value, mut config: Value, writer: &Writer<'_>) {
    if writer.manager != MANAGER || last_of(object).is_none() {
        return;
    }
    if let Some(own) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        own.shift_remove(ANNOTATION);
    }
    let text = format!("{}\n", sorted(config));
    let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else { return };
    annotations.insert(ANNOTATION.to_owned(), text.into());
    let len = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(len).sum::<usize>() > ANNOTATIONS_BYTES_MAX {
        annotations.shift_remove(ANNOTATION);
    }
}

/// As Go writes maps: by key.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<(String, Value)> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}
