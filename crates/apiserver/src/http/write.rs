//! Answers to responses: JSON or YAML; whole objects, metadata or tables; big lists in chunks, compressed if wanted.

use std::io::Write as _;
use std::sync::Arc;

use api::{Object, Status, Timestamp};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY, WARNING};
use http::{Response, StatusCode};

use super::negotiate::{Form, Shape, Syntax};
use super::payload::Payload;
use super::table::{self, Included};
use crate::answer::{self, Answer};
use crate::cache::{Entry, Listed, push_number};
use crate::catalog::Resource;

/// Lists are made in chunks of about this size.
const CHUNK_BYTES: usize = 128 * 1024;
/// Answers longer than this are compressed for clients that take gzip (upstream's `defaultGzipThresholdBytes`).
const GZIP_BYTES_MIN: usize = 128 * 1024;

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

/// A failure. Always JSON unless YAML is asked for.
pub fn failure(status: &Status, syntax: Syntax) -> Response<Payload> {
    let json = status.encode();
    let mut response = respond(status.code(), syntax.media_type(), in_syntax(json, syntax).into());
    if let Some(seconds) = status.0.details.as_ref().and_then(|details| details.retry_after_seconds) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A success.
///
/// # Errors
/// 500 if a stored object cannot be decoded.
pub fn answer(answer: Answer, writing: Writing) -> Result<Response<Payload>, Status> {
    let Writing { form, gzip, .. } = writing;
    let media_type = form.syntax.media_type();
    let mut response = match answer.payload {
        answer::Payload::List(resource, listed) => list(answer.code, resource, listed, writing)?,
        payload => {
            let mut bytes = Vec::new();
            single(payload, writing, &mut bytes)?;
            let bytes = in_syntax(bytes, form.syntax);
            if gzip && bytes.len() > GZIP_BYTES_MIN {
                compressed(respond(answer.code, media_type, gzipped(&bytes).into()))
            } else {
                respond(answer.code, media_type, bytes.into())
            }
        }
    };
    for warning in &answer.warnings {
        if let Ok(value) = HeaderValue::from_str(&warning_text(warning)) {
            response.headers_mut().append(WARNING, value);
        }
    }
    Ok(response)
}

/// `299 - "text"`, as RFC 7234 has it.
fn warning_text(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("299 - \"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""))
}

/// JSON text, or the same as YAML.
pub fn in_syntax(json: Vec<u8>, syntax: Syntax) -> Vec<u8> {
    if syntax == Syntax::Json {
        return json;
    }
    let value: Result<serde_json::Value, _> = serde_json::from_slice(&json);
    let yaml = value.ok().and_then(|value| serde_saphyr::to_string(&value).ok());
    yaml.map_or(json, String::into_bytes)
}

fn single(payload: answer::Payload, writing: Writing, out: &mut Vec<u8>) -> Result<(), Status> {
    match payload {
        answer::Payload::Status(status) => out.extend_from_slice(&status.encode()),
        answer::Payload::Object(object) => match writing.form.shape {
            Shape::Partial => partial_of(&*object, out),
            _ => out.extend_from_slice(&object.encode()),
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

/// The list's own members up to its items.
fn list_head(resource: &Resource, listed: &Listed, form: Form, out: &mut Vec<u8>) {
    if form.shape == Shape::Table {
        table::head(resource, &listed.revision.to_string(), &listed.continue_token, listed.remaining, true, out);
        return;
    }
    let kind = resource.kind();
    out.extend_from_slice(br#"{"kind":""#);
    if form.shape == Shape::Partial {
        out.extend_from_slice(br#"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1"#);
    } else {
        out.extend_from_slice(kind.kind.as_bytes());
        out.extend_from_slice(br#"List","apiVersion":""#);
        out.extend_from_slice(kind.api_version.as_bytes());
    }
    out.extend_from_slice(br#"","metadata":{"resourceVersion":""#);
    push_number(out, listed.revision);
    out.push(b'"');
    if !listed.continue_token.is_empty() {
        out.extend_from_slice(br#","continue":""#);
        out.extend_from_slice(listed.continue_token.as_bytes());
        out.push(b'"');
    }
    if let Some(remaining) = listed.remaining {
        out.extend_from_slice(br#","remainingItemCount":"#);
        push_number(out, remaining);
    }
    out.extend_from_slice(br#"},"items":["#);
}

/// Makes a list's text chunk by chunk.
struct Chunks {
    resource: Arc<Resource>,
    listed: Listed,
    writing: Writing,
    /// The next item; past the last the tail follows, then nothing.
    at: usize,
    ended: bool,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Chunks {
    fn fill(&mut self, out: &mut Vec<u8>) {
        if self.at == 0 {
            list_head(&self.resource, &self.listed, self.writing.form, out);
        }
        while out.len() < CHUNK_BYTES {
            let Some(entry) = self.listed.entries.get(self.at) else {
                out.extend_from_slice(b"]}");
                self.ended = true;
                return;
            };
            let before = out.len();
            if self.at > 0 {
                out.push(b',');
            }
            match self.writing.form.shape {
                Shape::Whole => self.resource.write_item(entry, out),
                Shape::Partial => write_partial(entry, true, out),
                Shape::Table => {
                    let row = table::row(&self.resource, entry, self.writing.include, self.writing.now, out);
                    if let Err(error) = row {
                        tracing::error!(key = %entry.key, %error, "an object has no row");
                        out.truncate(before);
                    }
                }
            }
            self.at += 1;
        }
    }
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                let rest = self.encoder.take()?.finish().ok()?;
                return (!rest.is_empty()).then(|| rest.into());
            }
            let mut out = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
            self.fill(&mut out);
            let Some(encoder) = &mut self.encoder else { return Some(out.into()) };
            // Writing into memory does not fail.
            let _ = encoder.write_all(&out);
            let ready = std::mem::take(encoder.get_mut());
            if !ready.is_empty() {
                return Some(ready.into());
            }
        }
    }
}

fn list(code: u16, resource: Arc<Resource>, listed: Listed, writing: Writing) -> Result<Response<Payload>, Status> {
    let Writing { form, gzip, .. } = writing;
    let bytes: usize = listed.entries.iter().map(|entry| entry.wire_len_max()).sum();
    let compress = gzip && bytes > GZIP_BYTES_MIN && form.syntax == Syntax::Json;
    let encoder = compress.then(|| GzEncoder::new(Vec::with_capacity(CHUNK_BYTES), Compression::new(1)));
    let mut chunks = Chunks { resource, listed, writing, at: 0, ended: false, encoder };
    let media_type = form.syntax.media_type();
    if compress {
        return Ok(compressed(respond(code, media_type, Payload::Chunks(Box::new(chunks)))));
    }
    if form.syntax == Syntax::Yaml {
        let mut json = Vec::new();
        while !chunks.ended {
            let mut chunk = Vec::new();
            chunks.fill(&mut chunk);
            json.extend_from_slice(&chunk);
        }
        return Ok(respond(code, media_type, in_syntax(json, form.syntax).into()));
    }
    if bytes < CHUNK_BYTES {
        return Ok(respond(code, media_type, Payload::Bytes(chunks.next().unwrap_or_default())));
    }
    Ok(respond(code, media_type, Payload::Chunks(Box::new(chunks))))
}

fn compressed(mut response: Response<Payload>) -> Response<Payload> {
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// Compresses a whole body.
pub fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::new(1));
    // Writing into memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}
