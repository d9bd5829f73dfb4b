//! Answers to responses: JSON, YAML or protobuf; whole objects, metadata or tables; long ones compressed if wanted.

use std::io::Write as _;

use api::{Object, Status, Timestamp};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY, WARNING};
use http::{Response, StatusCode};

use super::list;
use super::negotiate::{Form, Shape, Syntax};
use super::payload::Payload;
use super::pretty::pretty;
use super::protobuf::Writer;
use super::table::{self, Included};
use crate::answer::{self, Answer};
use crate::cache::Entry;
use crate::catalog::Resource;

/// Answers longer than this are compressed for clients that take gzip (upstream's `defaultGzipThresholdBytes`).
pub const GZIP_BYTES_MIN: usize = 128 * 1024;

/// How an answer is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Writing {
    pub form: Form,
    pub gzip: bool,
    pub include: Included,
    pub now: Timestamp,
}

/// A response with a body of the given type.
pub fn respond(code: u16, content_type: &'static str, payload: Payload) -> Response<Payload> {
    let mut response = Response::new(payload);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A failure.
pub fn failure(status: &Status, form: Form) -> Response<Payload> {
    let bytes = match form.syntax {
        Syntax::Protobuf => {
            let mut bytes = Vec::new();
            Writer::default().status(status, &mut bytes);
            bytes
        }
        _ => in_form(status.encode(), form),
    };
    let mut response = respond(status.code(), form.syntax.media_type(), bytes.into());
    if let Some(seconds) = status.0.details.as_ref().and_then(|details| details.retry_after_seconds) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    warn(&mut response, status.warnings());
    response
}

/// Adds `Warning` headers.
pub fn warn(response: &mut Response<Payload>, warnings: &[String]) {
    for warning in limited(warnings) {
        if let Ok(value) = HeaderValue::from_str(&warning_text(&warning)) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

/// A success; `resource` is what was asked for.
///
/// # Errors
/// 500 if a stored object cannot be decoded.
pub async fn answer(answer: Answer, resource: &Resource, writing: Writing) -> Result<Response<Payload>, Status> {
    let Writing { form, gzip, .. } = writing;
    let mut response = match answer.payload {
        answer::Payload::List(resource, listed) => list::answer(answer.code, resource, listed, writing).await?,
        payload => {
            let mut bytes = Vec::new();
            if form.syntax == Syntax::Protobuf {
                single_protobuf(payload, form.shape, &mut bytes)?;
            } else {
                single(payload, resource, writing, &mut bytes)?;
                bytes = in_form(bytes, form);
            }
            whole(answer.code, form.syntax.media_type(), bytes, gzip)
        }
    };
    warn(&mut response, &answer.warnings);
    Ok(response)
}

/// A body that is at hand, compressed if it is long and the client takes that.
pub fn whole(code: u16, media_type: &'static str, bytes: impl Into<Bytes>, gzip: bool) -> Response<Payload> {
    let bytes = bytes.into();
    if gzip && bytes.len() > GZIP_BYTES_MIN {
        return compressed(respond(code, media_type, gzipped(&bytes).into()));
    }
    respond(code, media_type, Payload::Bytes(bytes))
}

/// Longest text of all warnings together, and of one if there are too many, as upstream has it.
const WARNINGS_LEN_MAX: usize = 4096;
const WARNING_LEN_MAX: usize = 256;

/// Each warning once, and cut when they are too much for a header.
fn limited(warnings: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for warning in warnings {
        if !all.contains(warning) {
            all.push(warning.clone());
        }
    }
    if all.iter().map(|warning| warning.chars().count()).sum::<usize>() <= WARNINGS_LEN_MAX {
        return all;
    }
    let mut total = 0;
    let cut = all.into_iter().map(|warning| warning.chars().take(WARNING_LEN_MAX).collect::<String>());
    cut.take_while(|warning| {
        total += warning.chars().count();
        total <= WARNINGS_LEN_MAX
    })
    .collect()
}

/// `299 - "text"`, as RFC 7234 has it.
fn warning_text(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("299 - \"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""))
}

/// JSON text as it is, for people, or as YAML.
pub fn in_form(json: Vec<u8>, form: Form) -> Vec<u8> {
    if form.syntax != Syntax::Yaml {
        return if form.pretty { pretty(&json) } else { json };
    }
    let value: Result<serde_json::Value, _> = serde_json::from_slice(&json);
    let yaml = value.ok().and_then(|value| serde_saphyr::to_string(&value).ok());
    yaml.map_or(json, String::into_bytes)
}

fn single_protobuf(payload: answer::Payload, shape: Shape, out: &mut Vec<u8>) -> Result<(), Status> {
    let mut writer = Writer::default();
    match payload {
        answer::Payload::Status(status) => writer.status(&status, out),
        answer::Payload::Object(object) => writer.object(&*object, shape, out)?,
        answer::Payload::Entry(resource, entry) => writer.entry(&resource, &entry, shape, out)?,
        answer::Payload::List(..) => unreachable!("lists are written in chunks"),
    }
    Ok(())
}

fn single(payload: answer::Payload, of: &Resource, writing: Writing, out: &mut Vec<u8>) -> Result<(), Status> {
    match payload {
        answer::Payload::Status(status) => out.extend_from_slice(&status.encode()),
        answer::Payload::Object(object) => match writing.form.shape {
            Shape::Partial => partial_of(&*object, out),
            Shape::Table if object.kind() == of.kind() => {
                table::head(of, object.resource_version(), "", None, true, out);
                table::row_of(of, &*object, writing.include, writing.now, out, |include, out| match include {
                    Included::Object => out.extend_from_slice(&object.encode()),
                    _ => partial_of(&*object, out),
                });
                table::tail(out);
            }
            Shape::Table | Shape::Whole => out.extend_from_slice(&object.encode()),
        },
        answer::Payload::Entry(resource, entry) => match writing.form.shape {
            Shape::Whole => {
                out.reserve(entry.wire_len_max());
                resource.write(&entry, out);
            }
            Shape::Partial => write_partial(&entry, true, out),
            Shape::Table => {
                table::head(&resource, &entry.revision.to_string(), "", None, true, out);
                table::row(&resource, &entry, writing.include, writing.now, out)?;
                table::tail(out);
            }
        },
        answer::Payload::List(..) => unreachable!("lists are written in chunks"),
    }
    Ok(())
}

fn partial_of(object: &dyn Object, out: &mut Vec<u8>) {
    let value = object.to_value();
    out.extend_from_slice(br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#);
    out.extend_from_slice(value["metadata"].to_string().as_bytes());
    out.push(b'}');
}

/// `PartialObjectMetadata` of an entry, without decoding it.
pub fn write_partial(entry: &Entry, typed: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if typed {
        br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#
    } else {
        br#"{"metadata":"#
    });
    entry.write_metadata(out);
    out.push(b'}');
}

/// Marks a body as compressed.
pub fn compressed(mut response: Response<Payload>) -> Response<Payload> {
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// Compresses a whole body.
pub fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::new(1));
    // Writing into memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}
