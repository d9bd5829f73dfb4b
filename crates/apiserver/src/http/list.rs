//! Lists as responses: made item by item as the client takes them, in any encoding, so that a long list takes no more
//! memory than a short one.

use std::io::Write as _;
use std::sync::Arc;

use api::Status;
use api::protobuf::List;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Response;

use super::negotiate::{Form, Shape, Syntax};
use super::payload::Payload;
use super::pretty::Pretty;
use super::protobuf::Writer;
use super::table;
use super::write::{self, Writing, respond, write_partial};
use crate::cache::{Entry, Listed, push_number};
use crate::catalog::Resource;

/// Lists are made in chunks of about this size; what fits into one is not compressed.
const CHUNK_BYTES: usize = write::GZIP_BYTES_MIN;

/// A list as a response.
///
/// # Errors
/// 500 if an object cannot be written in this form.
pub async fn answer(
    code: u16,
    resource: Arc<Resource>,
    listed: Listed,
    writing: Writing,
) -> Result<Response<Payload>, Status> {
    let form = writing.form;
    let mut chunks = Chunks::new(resource, listed, writing);
    if form.syntax == Syntax::Protobuf {
        chunks.items_len = chunks.measure().await?;
    }
    let media_type = form.syntax.media_type();
    let first = chunks.plain()?;
    if chunks.ended {
        return Ok(write::whole(code, media_type, first, writing.gzip));
    }
    if !writing.gzip {
        let chunks = std::iter::once(Bytes::from(first)).chain(chunks);
        return Ok(respond(code, media_type, Payload::Chunks(Box::new(chunks))));
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(CHUNK_BYTES), Compression::new(1));
    // Writing into memory does not fail.
    let _ = encoder.write_all(&first);
    chunks.encoder = Some(encoder);
    Ok(write::compressed(respond(code, media_type, Payload::Chunks(Box::new(chunks)))))
}

/// Makes a list's text chunk by chunk.
struct Chunks {
    resource: Arc<Resource>,
    listed: Listed,
    writing: Writing,
    /// The next item; past the last the tail follows, then nothing.
    at: usize,
    begun: bool,
    ended: bool,
    /// Whether an item was written: the next follows a comma.
    filled: bool,
    encoder: Option<GzEncoder<Vec<u8>>>,
    pretty: Option<Pretty>,
    protobuf: Writer,
    /// An item in protobuf.
    message: Vec<u8>,
    /// The length of all items in protobuf.
    items_len: usize,
}

impl Chunks {
    fn new(resource: Arc<Resource>, listed: Listed, writing: Writing) -> Self {
        let pretty = (writing.form.pretty && writing.form.syntax == Syntax::Json).then(Pretty::default);
        Self {
            resource,
            listed,
            writing,
            at: 0,
            begun: false,
            ended: false,
            filled: false,
            encoder: None,
            pretty,
            protobuf: Writer::default(),
            message: Vec::new(),
            items_len: 0,
        }
    }

    /// Protobuf says the length of the whole before its parts: every item is written once to be measured, which is
    /// remembered where it stays the same.
    async fn measure(&mut self) -> Result<usize, Status> {
        let (mut sum, mut since_pause) = (0, 0);
        let mut scratch = Vec::new();
        for entry in &self.listed.entries {
            let len = self.protobuf.item_len(&self.resource, entry, self.writing.form.shape, &mut scratch)?;
            sum += len;
            since_pause += len;
            if since_pause > CHUNK_BYTES {
                since_pause = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(sum)
    }

    /// The next piece, not compressed.
    fn plain(&mut self) -> Result<Vec<u8>, Status> {
        let mut out = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
        self.fill(&mut out)?;
        let Some(pretty) = &mut self.pretty else { return Ok(out) };
        let mut shown = Vec::with_capacity(out.len() * 2);
        pretty.write(&out, &mut shown);
        Ok(shown)
    }

    fn fill(&mut self, out: &mut Vec<u8>) -> Result<(), Status> {
        if !std::mem::replace(&mut self.begun, true) {
            self.head(out)?;
        }
        while out.len() <= CHUNK_BYTES {
            let Some(entry) = self.listed.entries.get(self.at).cloned() else {
                self.tail(out);
                self.ended = true;
                return Ok(());
            };
            self.at += 1;
            match self.writing.form.syntax {
                Syntax::Json => {
                    let before = out.len();
                    if self.filled {
                        out.push(b',');
                    }
                    if self.json_item(&entry, out) {
                        self.filled = true;
                    } else {
                        out.truncate(before);
                    }
                }
                Syntax::Yaml => {
                    let mut json = Vec::with_capacity(entry.wire_len_max());
                    if self.json_item(&entry, &mut json) {
                        self.filled = true;
                        yaml_item(&json, out);
                    }
                }
                Syntax::Protobuf => {
                    let shape = self.writing.form.shape;
                    self.message.clear();
                    self.protobuf.item(&self.resource, &entry, shape, &mut self.message)?;
                    List::item(out, &self.message);
                }
            }
        }
        Ok(())
    }

    /// Appends an item as JSON; false if it has no row.
    fn json_item(&self, entry: &Entry, out: &mut Vec<u8>) -> bool {
        match self.writing.form.shape {
            Shape::Whole => self.resource.write_item(entry, out),
            Shape::Partial => write_partial(entry, true, out),
            Shape::Table => {
                if let Err(error) = table::row(&self.resource, entry, self.writing.include, self.writing.now, out) {
                    tracing::error!(key = %entry.key, %error, "an object has no row");
                    return false;
                }
            }
        }
        true
    }

    fn head(&self, out: &mut Vec<u8>) -> Result<(), Status> {
        match self.writing.form.syntax {
            Syntax::Json => json_head(&self.resource, &self.listed, self.writing.form, out),
            Syntax::Yaml => {
                let mut json = Vec::new();
                json_head(&self.resource, &self.listed, self.writing.form, &mut json);
                json.extend_from_slice(b"]}");
                let mut value: serde_json::Value = serde_json::from_slice(&json).map_err(Status::internal)?;
                let items = if self.writing.form.shape == Shape::Table { "rows" } else { "items" };
                value.as_object_mut().and_then(|list| list.remove(items));
                out.extend_from_slice(serde_saphyr::to_string(&value).map_err(Status::internal)?.as_bytes());
                out.extend_from_slice(items.as_bytes());
                out.push(b':');
            }
            Syntax::Protobuf => {
                let mut metadata = vec![b'{'];
                json_metadata(&self.listed, &mut metadata);
                metadata.push(b'}');
                let list = List::new(&metadata).map_err(Status::internal)?;
                let (api_version, kind) = self.kind();
                list.begin(api_version, &format!("{kind}List"), self.items_len, out);
            }
        }
        Ok(())
    }

    fn kind(&self) -> (&'static str, &'static str) {
        match self.writing.form.shape {
            Shape::Partial => ("meta.k8s.io/v1", "PartialObjectMetadata"),
            _ => (self.resource.kind().api_version, self.resource.kind().kind),
        }
    }

    fn tail(&self, out: &mut Vec<u8>) {
        match self.writing.form.syntax {
            Syntax::Json => out.extend_from_slice(b"]}"),
            Syntax::Yaml => out.extend_from_slice(if self.filled { b"\n" } else { b" []\n" }),
            Syntax::Protobuf => List::end(out),
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
            let out = match self.plain() {
                Ok(out) => out,
                // The head was sent: the client sees the list cut short.
                Err(error) => {
                    tracing::error!(%error, "a list ends early");
                    (self.ended, self.encoder) = (true, None);
                    return None;
                }
            };
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

/// Appends an item to a YAML sequence.
fn yaml_item(json: &[u8], out: &mut Vec<u8>) {
    let value: Result<serde_json::Value, _> = serde_json::from_slice(json);
    let text = value.ok().and_then(|value| serde_saphyr::to_string(&value).ok()).unwrap_or_default();
    for (index, line) in text.lines().enumerate() {
        out.extend_from_slice(if index == 0 { b"\n- " } else { b"\n  " });
        out.extend_from_slice(line.as_bytes());
    }
}

/// The list's own members up to its items.
fn json_head(resource: &Resource, listed: &Listed, form: Form, out: &mut Vec<u8>) {
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
    out.extend_from_slice(br#"","metadata":{"#);
    json_metadata(listed, out);
    out.extend_from_slice(br#"},"items":["#);
}

fn json_metadata(listed: &Listed, out: &mut Vec<u8>) {
    out.extend_from_slice(br#""resourceVersion":""#);
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
}
