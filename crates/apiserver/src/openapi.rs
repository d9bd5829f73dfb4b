//! OpenAPI: what the API looks like, for clients that check, explain and merge without knowing the types.
//!
//! v3 is one document a group and version, found through an index whose links carry a hash, so that clients may keep
//! a document for ever. v2 is one document for all, as JSON or as protobuf (`gnostic`). Types and merge rules come
//! from [`api::schema`], texts from the generated types, operations from the resources.
//!
//! What other API servers say of theirs is merged into v2; their v3 documents are asked for there, or made of their v2.
//!
//! A document is written when it is first asked for and kept compressed; nothing else is kept.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use api::Status;
use api::schema::Descriptions;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::discovery::document::{Document, Headers, etag};
use crate::discovery::{Elsewhere, Served};

pub(crate) mod foreign;
mod gnostic;
mod paths;
mod schemas;
#[cfg(test)]
mod tests;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The same, as older clients ask for it.
const PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Which OpenAPI a text is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// Where schemas are, as references name it.
    const fn schemas(self) -> &'static str {
        match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        }
    }

    fn reference(self, name: &str) -> Value {
        json!({"$ref": format!("{}{name}", self.schemas())})
    }
}

/// A document as it is kept.
struct Kept {
    gzipped: Bytes,
    etag: String,
}

impl Kept {
    fn document(&self, content_type: &'static str, cache_control: &'static str, headers: &Headers) -> Document {
        let mut document = if headers.takes_gzip() {
            let mut document = Document::new(content_type, self.gzipped.clone());
            document.encoding = Some("gzip");
            document
        } else {
            let mut bytes = Vec::with_capacity(self.gzipped.len() * 10);
            // what was compressed into memory can be read from memory
            let _ = GzDecoder::new(&*self.gzipped).read_to_end(&mut bytes);
            Document::new(content_type, Bytes::from(bytes))
        };
        document = document.tagged(&self.etag, cache_control);
        document
    }
}

/// Text that is compressed as it is written.
struct Writer(GzEncoder<Vec<u8>>);

impl Writer {
    fn new() -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::new(6)))
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        // writing into memory does not fail
        let _ = self.0.write_all(bytes);
    }

    /// The members of an object, one after another.
    fn members(&mut self, members: impl Iterator<Item = (String, Value)>) {
        for (index, (name, value)) in members.enumerate() {
            if index > 0 {
                self.text(",");
            }
            self.text(&Value::String(name).to_string());
            self.text(":");
            self.text(&value.to_string());
        }
    }

    fn finish(self) -> Kept {
        let gzipped = self.0.finish().unwrap_or_default();
        Kept { etag: etag(&gzipped), gzipped: Bytes::from(gzipped) }
    }
}

/// One group and version.
struct Version {
    served: Vec<Arc<Served>>,
    /// `api/v1`, `apis/apps/v1`.
    path: String,
    /// Of what goes into the document, so that the index can be written without it.
    hash: String,
    kept: OnceLock<Kept>,
    /// Another server's, which has no v3 of its own.
    foreign: Option<Arc<foreign::Share>>,
}

/// Paths of other servers, and definitions.
type Merged<'a> = (Vec<(String, Value)>, Box<dyn Iterator<Item = (String, Value)> + 'a>);

/// The documents for one set of resources.
pub struct OpenApi {
    served: Vec<Arc<Served>>,
    versions: Vec<Version>,
    /// Documents that other servers have: path below `/openapi/v3/`, and where the index says it is.
    links: Vec<(String, String)>,
    /// Of other servers, for v2.
    shares: Vec<Arc<foreign::Share>>,
    v2_json: OnceLock<Kept>,
    v2_protobuf: OnceLock<Kept>,
}

impl OpenApi {
    /// Writes nothing yet.
    pub fn new(served: Vec<Arc<Served>>, elsewhere: &[Arc<Elsewhere>]) -> Self {
        let mut all: BTreeMap<(&str, &str), Vec<Arc<Served>>> = BTreeMap::new();
        for one in &served {
            all.entry((&one.group, &one.version)).or_default().push(one.clone());
        }
        let version = |((group, version), served): ((&str, &str), Vec<Arc<Served>>)| {
            let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            let mut digest = Sha256::new_with_prefix(env!("CARGO_PKG_VERSION"));
            served.iter().for_each(|one| digest.update(one.digest()));
            let hash = hex::encode_upper(digest.finalize());
            Version { served, path, hash, kept: OnceLock::new(), foreign: None }
        };
        let mut versions: Vec<Version> = all.into_iter().map(version).collect();
        let (mut links, mut shares) = (Vec::new(), Vec::new());
        for one in elsewhere {
            let path = format!("apis/{}/{}", one.group, one.version);
            match (&one.openapi.link, &one.openapi.v2) {
                (Some(link), _) => links.push((path, link.clone())),
                (None, Some(share)) => versions.push(Version {
                    served: Vec::new(),
                    path,
                    hash: hex::encode_upper(Sha256::digest(format!("{share:?}"))),
                    kept: OnceLock::new(),
                    foreign: Some(share.clone()),
                }),
                (None, None) => {}
            }
            shares.extend(one.openapi.v2.clone());
        }
        Self { served, versions, links, shares, v2_json: OnceLock::new(), v2_protobuf: OnceLock::new() }
    }

    /// Answers a `GET` of `/openapi/v2`, `/openapi/v3` or what is below; `None` if there is no such document.
    ///
    /// # Errors
    /// 406 if the client takes neither JSON nor, for v2, protobuf.
    pub fn answer(&self, path: &str, query: Option<&str>, headers: &Headers) -> Option<Result<Document, Status>> {
        if path == "/openapi/v2" {
            return Some(self.v2(headers));
        }
        let below = path.strip_prefix("/openapi/v3")?;
        if !headers.accepted().iter().any(|wanted| wanted.is_plain_json()) {
            return Some(Err(Status::not_acceptable(&[JSON])));
        }
        if below.is_empty() {
            return Some(Ok(self.index()));
        }
        let version = self.versions.iter().find(|version| below.strip_prefix('/') == Some(&version.path))?;
        let kept = version.kept.get_or_init(|| self.write_v3(version));
        let hash = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("hash="));
        let cache_control =
            if hash == Some(&version.hash) { "public, immutable, max-age=31536000" } else { "no-cache, private" };
        Some(Ok(kept.document(JSON, cache_control, headers)))
    }

    /// The paths of the v3 documents.
    pub fn paths(&self) -> Vec<String> {
        let links = self.links.iter().map(|(path, _)| path);
        self.versions
            .iter()
            .map(|version| &version.path)
            .chain(links)
            .map(|path| format!("/openapi/v3/{path}"))
            .collect()
    }

    fn index(&self) -> Document {
        let entry = |version: &Version| {
            let url = format!("/openapi/v3/{}?hash={}", version.path, version.hash);
            (version.path.clone(), json!({"serverRelativeURL": url}))
        };
        let mut paths: serde_json::Map<String, Value> = self.versions.iter().map(entry).collect();
        let links = self.links.iter().map(|(path, url)| (path.clone(), json!({"serverRelativeURL": url})));
        paths.extend(links);
        let bytes = Bytes::from(json!({"paths": paths}).to_string());
        let tag = etag(&bytes);
        Document::new(JSON, bytes).tagged(&tag, "no-cache, private")
    }

    fn write_v3(&self, version: &Version) -> Kept {
        if let Some(share) = &version.foreign {
            let mut writer = Writer::new();
            writer.text(&foreign::v3(share).to_string());
            return writer.finish();
        }
        let own: Vec<&Served> = version.served.iter().map(|one| &**one).collect();
        let texts = descriptions(&own);
        let mut writer = Writer::new();
        writer.text(r#"{"openapi":"3.0.0","info":{"title":"Kubernetes","version":"v1.37.0"},"paths":{"#);
        writer.members(own.iter().flat_map(|one| paths::of(one, Dialect::V3)));
        writer.text(r#"},"components":{"schemas":{"#);
        writer.members(schemas::all(&own, &texts, Dialect::V3));
        writer.text(
            r#"},"securitySchemes":{"BearerToken":{"type":"apiKey","description":"Bearer Token authentication","#,
        );
        writer.text(r#""name":"authorization","in":"header"}}}}"#);
        writer.finish()
    }

    fn v2(&self, headers: &Headers) -> Result<Document, Status> {
        for wanted in headers.accepted() {
            if wanted.is_plain_json() {
                let kept = self.v2_json.get_or_init(|| self.write_v2_json());
                return Ok(kept.document(JSON, "no-cache, private", headers));
            }
            if matches!(wanted.name, PROTOBUF | PROTOBUF_OLD) {
                let kept = self.v2_protobuf.get_or_init(|| self.write_v2_protobuf());
                return Ok(kept.document(PROTOBUF, "no-cache, private", headers));
            }
        }
        Err(Status::not_acceptable(&[JSON, PROTOBUF, PROTOBUF_OLD]))
    }

    fn write_v2_json(&self) -> Kept {
        let all: Vec<&Served> = self.served.iter().map(|one| &**one).collect();
        let texts = descriptions(&all);
        let mut writer = Writer::new();
        writer.text(r#"{"swagger":"2.0","info":{"title":"Kubernetes","version":"v1.37.0"},"paths":{"#);
        let (foreign_paths, definitions) = self.merged(&all, &texts);
        writer.members(all.iter().flat_map(|one| paths::of(one, Dialect::V2)).chain(foreign_paths));
        writer.text(r#"},"definitions":{"#);
        writer.members(definitions);
        writer.text(r#"},"securityDefinitions":{"BearerToken":{"description":"Bearer Token authentication","#);
        writer.text(r#""in":"header","name":"authorization","type":"apiKey"}},"security":[{"BearerToken":[]}]}"#);
        writer.finish()
    }

    fn write_v2_protobuf(&self) -> Kept {
        let all: Vec<&Served> = self.served.iter().map(|one| &**one).collect();
        let texts = descriptions(&all);
        let mut writer = Writer::new();
        writer.bytes(&gnostic::head("Kubernetes", "v1.37.0"));
        let (foreign_paths, definitions) = self.merged(&all, &texts);
        let paths = all.iter().flat_map(|one| paths::of(one, Dialect::V2));
        writer.bytes(&gnostic::paths(paths.chain(foreign_paths)));
        writer.bytes(&gnostic::definitions(definitions));
        writer.finish()
    }

    /// Other servers' paths for v2, and everybody's definitions.
    fn merged<'a>(&'a self, all: &[&'a Served], texts: &'a Descriptions) -> Merged<'a> {
        let own = schemas::all(all, texts, Dialect::V2);
        if self.shares.is_empty() {
            return (Vec::new(), Box::new(own));
        }
        let mut definitions: BTreeMap<String, Value> = own.collect();
        let paths = foreign::merge(&mut definitions, &self.shares);
        (paths.into_iter().collect(), Box::new(definitions.into_iter()))
    }
}

/// The texts of the resources' kinds and of the kinds that their subresources speak.
fn descriptions(served: &[&Served]) -> Descriptions {
    let mut kinds: Vec<&api::Kind> = served.iter().filter_map(|one| one.built_in).collect();
    for sub in served.iter().flat_map(|one| &one.subresources) {
        let api_version =
            if sub.group.is_empty() { sub.version.to_string() } else { format!("{}/{}", sub.group, sub.version) };
        kinds.extend(api::kinds::find(&api_version, &sub.kind));
    }
    Descriptions::of(&kinds)
}
