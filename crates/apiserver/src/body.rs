//! Request bodies to typed objects: parsed, checked against the schema as strictly as asked, decoded.

use std::sync::Arc;

use api::call::FieldValidation;
use api::codec::{self, Parsed};
use api::{Body, Kind, Object, Status, schema};
use serde_json::Value;

use crate::catalog::Resource;
use crate::custom::Version;

/// An object out of a body, and what the client is to be warned of.
#[derive(Debug)]
pub struct Decoded {
    pub object: Box<dyn Object>,
    pub warnings: Vec<String>,
}

/// Decodes a body that is to be of `kind`; `None` if there is no body.
///
/// # Errors
/// 400 in upstream's words.
pub fn decode(kind: &'static Kind, body: &Body, validation: FieldValidation) -> Result<Option<Decoded>, Status> {
    decode_as(kind, None, body, validation)
}

/// As [`decode`], for a resource, built in or defined at run time.
///
/// # Errors
/// As [`decode`].
pub fn decode_for(resource: &Resource, body: &Body, validation: FieldValidation) -> Result<Option<Decoded>, Status> {
    decode_as(resource.kind(), resource.custom.as_deref(), body, validation)
}

fn decode_as(
    kind: &'static Kind,
    custom: Option<&Version>,
    body: &Body,
    validation: FieldValidation,
) -> Result<Option<Decoded>, Status> {
    let (parsed, text) = match body {
        Body::None | Body::Delete(_) | Body::Patch(..) => return Ok(None),
        Body::Object(object) => return shared(kind, object).map(Some),
        Body::Json(text) => (codec::parse_json(text), text),
        Body::Yaml(text) => (codec::parse_yaml(text), text),
    };
    let parsed = parsed.map_err(|error| unrecognized(kind, &error.to_string(), text))?;
    let value = &parsed.value;
    if !value.is_object() {
        let why = if value.is_null() { "EOF".to_owned() } else { "json: cannot unmarshal into Go value".to_owned() };
        return Err(unrecognized(kind, &format!("couldn't get version/kind; json parse error: {why}"), text));
    }
    check_kind(kind, value)?;
    from_tree(kind, custom, parsed, validation).map(Some)
}

fn from_tree(
    kind: &'static Kind,
    custom: Option<&Version>,
    parsed: Parsed,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let Some(version) = custom else { return from_parsed(kind, parsed, validation) };
    let read = version.read(parsed, validation).map_err(|why| unhandled(kind, &why))?;
    Ok(Decoded { object: Box::new(read.object), warnings: read.problems })
}

/// As [`from_parsed`], for a resource, built in or defined at run time.
///
/// # Errors
/// As [`from_parsed`].
pub fn from_parsed_for(resource: &Resource, parsed: Parsed, validation: FieldValidation) -> Result<Decoded, Status> {
    from_tree(resource.kind(), resource.custom.as_deref(), parsed, validation)
}

fn shared(kind: &'static Kind, object: &Arc<dyn Object>) -> Result<Decoded, Status> {
    if object.kind() != kind {
        return Err(wrong_kind(kind, object.kind().api_version, object.kind().kind));
    }
    Ok(Decoded { object: object.boxed_clone(), warnings: Vec::new() })
}

/// From a value tree whose kind has been checked.
///
/// # Errors
/// 400 if a field has the wrong type, and under strict validation for unknown and repeated fields.
pub fn from_parsed(kind: &'static Kind, mut parsed: Parsed, validation: FieldValidation) -> Result<Decoded, Status> {
    let mut warnings = Vec::new();
    if let Some(definition) = schema::definition(kind.definition) {
        let checked = schema::check(&parsed.value, definition);
        if let Some(error) = &checked.type_error {
            return Err(unhandled(kind, error));
        }
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => {
                warnings.extend(checked.strict_problems());
                warnings.extend(parsed.strict_problems());
            }
            FieldValidation::Strict => {
                if let Some(problems) = schema::strict_message(&parsed, &checked) {
                    return Err(unhandled(kind, &problems));
                }
            }
        }
        schema::normalize(&mut parsed.value, definition);
    }
    let value = with_kind(kind, parsed.value);
    let object = kind.decode_value(value).map_err(|error| unhandled(kind, &error.to_string()))?;
    Ok(Decoded { object, warnings })
}

/// A body may leave out its kind: the path says it.
fn with_kind(kind: &Kind, mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.entry("apiVersion").or_insert_with(|| kind.api_version.into());
        map.entry("kind").or_insert_with(|| kind.kind.into());
    }
    value
}

fn check_kind(kind: &Kind, value: &Value) -> Result<(), Status> {
    let text = |key| value[key].as_str().unwrap_or_default();
    let (api_version, name) = (text("apiVersion"), text("kind"));
    if !api_version.is_empty() && api_version != kind.api_version {
        if api::kinds::find(api_version, name).is_none() {
            return Err(no_kind_match(api_version, name));
        }
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            kind.api_version
        )));
    }
    if !name.is_empty() && name != kind.kind {
        return Err(wrong_kind(kind, if api_version.is_empty() { kind.api_version } else { api_version }, name));
    }
    Ok(())
}

fn no_kind_match(api_version: &str, kind: &str) -> Status {
    Status::bad_request(format!("no kind {kind:?} is registered for version {api_version:?} in scheme"))
}

fn wrong_kind(kind: &Kind, api_version: &str, name: &str) -> Status {
    let version = api_version.rsplit('/').next().unwrap_or_default();
    Status::bad_request(format!(
        "{name} in version {version:?} cannot be handled as a {}: converting ({version}.{name}) to ({}.{}): \
         unknown conversion",
        kind.kind, kind.version, kind.kind
    ))
}

fn unhandled(kind: &Kind, why: &str) -> Status {
    Status::bad_request(format!("{0} in version {1:?} cannot be handled as a {0}: {why}", kind.kind, kind.version))
}

fn unrecognized(kind: &Kind, why: &str, text: &[u8]) -> Status {
    const SHOWN: usize = 1024;
    let shown = &text[..text.len().min(SHOWN)];
    let dots = if text.len() > SHOWN { " ..." } else { "" };
    let summary = match std::str::from_utf8(shown) {
        Ok(printable) if !printable.contains(char::is_control) => printable.to_owned(),
        _ => hex::encode(shown),
    };
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {why} ({summary}{dots})",
        kind.kind
    ))
}
