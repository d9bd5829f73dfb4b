//! `meta.k8s.io/v1` `Table`: columns and rows by the resource's strategy.

use api::{Object, Status, Timestamp};

use super::write::write_partial;
use crate::cache::Entry;
use crate::catalog::Resource;

/// What of the object a row carries (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Included {
    None,
    #[default]
    Metadata,
    Object,
}

impl Included {
    /// From the parameter.
    ///
    /// # Errors
    /// 400 for other values.
    pub fn parse(text: Option<&str>) -> Result<Self, Status> {
        match text.unwrap_or_default() {
            "None" => Ok(Self::None),
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            other => Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

/// Everything up to the rows.
pub fn head(
    resource: &Resource,
    revision: &str,
    continue_token: &str,
    remaining: Option<u64>,
    columns: bool,
    out: &mut Vec<u8>,
) {
    let mut metadata = serde_json::json!({"resourceVersion": revision});
    if !continue_token.is_empty() {
        metadata["continue"] = continue_token.into();
    }
    if let Some(remaining) = remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    let columns = if columns { serde_json::to_vec(&resource.strategy.columns()) } else { Ok(b"null".to_vec()) };
    out.extend_from_slice(br#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":"#);
    out.extend_from_slice(metadata.to_string().as_bytes());
    out.extend_from_slice(br#","columnDefinitions":"#);
    out.extend_from_slice(&columns.expect("columns are plain text"));
    out.extend_from_slice(br#","rows":["#);
}

/// One row.
///
/// # Errors
/// 500 if the object cannot be decoded.
pub fn row(
    resource: &Resource,
    entry: &Entry,
    include: Included,
    now: Timestamp,
    out: &mut Vec<u8>,
) -> Result<(), Status> {
    let object = resource.object_to_look_at(entry)?;
    row_of(resource, &*object, include, now, out, |include, out| match include {
        Included::Object => resource.write(entry, out),
        _ => write_partial(entry, true, out),
    });
    Ok(())
}

/// One row of an object; `show` appends the object, whole or its metadata.
pub fn row_of(
    resource: &Resource,
    object: &dyn Object,
    include: Included,
    now: Timestamp,
    out: &mut Vec<u8>,
    show: impl FnOnce(Included, &mut Vec<u8>),
) {
    let cells = resource.strategy.cells(object, now);
    out.extend_from_slice(br#"{"cells":"#);
    out.extend_from_slice(&serde_json::to_vec(&cells).expect("values always encode"));
    if include != Included::None {
        out.extend_from_slice(br#","object":"#);
        show(include, out);
    }
    out.push(b'}');
}

/// The end.
pub fn tail(out: &mut Vec<u8>) {
    out.extend_from_slice(b"]}");
}
