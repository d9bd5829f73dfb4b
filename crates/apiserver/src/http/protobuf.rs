//! Objects as protobuf, from the bytes that are stored.

use api::protobuf::{self, Encoder, List, PARTIAL};
use api::{Kind, Object, Status};

use super::negotiate::Shape;
use crate::cache::Entry;
use crate::catalog::Resource;

/// Writes objects; holds the memory that this takes.
#[derive(Debug, Default)]
pub struct Writer {
    encoder: Encoder,
    json: Vec<u8>,
}

fn failed(error: protobuf::Error) -> Status {
    Status::internal(error)
}

impl Writer {
    /// Appends the message of an entry, or of its metadata, without an envelope.
    ///
    /// # Errors
    /// 500 if the bytes are not of their kind.
    pub fn item(&mut self, resource: &Resource, entry: &Entry, shape: Shape, out: &mut Vec<u8>) -> Result<(), Status> {
        self.json.clear();
        let done = if shape == Shape::Whole {
            resource.write(entry, &mut self.json);
            self.encoder.message(resource.kind().definition, &self.json, out)
        } else {
            entry.write_metadata(&mut self.json);
            self.encoder.partial(&self.json, out)
        };
        done.map_err(failed)
    }

    /// Appends an entry, or its metadata, as a document of its own.
    ///
    /// # Errors
    /// As [`Writer::item`].
    pub fn entry(&mut self, resource: &Resource, entry: &Entry, shape: Shape, out: &mut Vec<u8>) -> Result<(), Status> {
        self.json.clear();
        let json = &mut self.json;
        let kind = resource.kind();
        let done = if shape == Shape::Whole {
            resource.write(entry, json);
            let write = |own: &mut Encoder, out: &mut Vec<u8>| own.message(kind.definition, json, out);
            self.encoder.document(kind.api_version, kind.kind, out, write)
        } else {
            entry.write_metadata(json);
            let write = |own: &mut Encoder, out: &mut Vec<u8>| own.partial(json, out);
            self.encoder.document("meta.k8s.io/v1", "PartialObjectMetadata", out, write)
        };
        done.map_err(failed)
    }

    /// Appends an object that is not stored in this form.
    ///
    /// # Errors
    /// 406 if its kind has no protobuf form.
    pub fn object(&mut self, object: &dyn Object, shape: Shape, out: &mut Vec<u8>) -> Result<(), Status> {
        let kind = object.kind();
        if shape == Shape::Whole {
            if !protobuf::has_form(kind) {
                return Err(Status::not_acceptable(&super::negotiate::MEDIA_TYPES[..2]));
            }
            let json = object.encode();
            let write = |own: &mut Encoder, out: &mut Vec<u8>| own.message(kind.definition, &json, out);
            return self.encoder.document(kind.api_version, kind.kind, out, write).map_err(failed);
        }
        let json = object.to_value()["metadata"].to_string().into_bytes();
        let write = |own: &mut Encoder, out: &mut Vec<u8>| own.partial(&json, out);
        self.encoder.document("meta.k8s.io/v1", "PartialObjectMetadata", out, write).map_err(failed)
    }

    /// Appends an object of which only the metadata is known, as JSON.
    ///
    /// # Errors
    /// 500 if that is no metadata.
    pub fn bare(&mut self, kind: &Kind, shape: Shape, metadata: &str, out: &mut Vec<u8>) -> Result<(), Status> {
        let json = format!("{{\"metadata\":{metadata}}}");
        let (api_version, name, definition) = match shape {
            Shape::Whole => (kind.api_version, kind.kind, kind.definition),
            _ => ("meta.k8s.io/v1", "PartialObjectMetadata", PARTIAL),
        };
        let write = |own: &mut Encoder, out: &mut Vec<u8>| own.message(definition, json.as_bytes(), out);
        self.encoder.document(api_version, name, out, write).map_err(failed)
    }

    /// Appends a `Status`.
    pub fn status(&mut self, status: &Status, out: &mut Vec<u8>) {
        let start = out.len();
        if let Err(error) = self.encoder.status(&status.0, out) {
            tracing::error!(%error, %status, "a status has no protobuf form");
            out.truncate(start);
        }
    }

    /// How many bytes the entry takes as an item of a list.
    ///
    /// # Errors
    /// As [`Writer::item`].
    pub fn item_len(
        &mut self,
        resource: &Resource,
        entry: &Entry,
        shape: Shape,
        scratch: &mut Vec<u8>,
    ) -> Result<usize, Status> {
        // The same for every list, unless the entry is shown in another version.
        let kept = shape == Shape::Whole && resource.convert.is_none();
        if let Some(len) = entry.protobuf_len().filter(|_| kept) {
            return Ok(List::item_len(len));
        }
        scratch.clear();
        self.item(resource, entry, shape, scratch)?;
        if kept {
            entry.keep_protobuf_len(scratch.len());
        }
        Ok(List::item_len(scratch.len()))
    }
}
