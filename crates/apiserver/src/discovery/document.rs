//! A finished answer, and what it takes to negotiate one.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, HOST};
use sha2::{Digest, Sha512};

/// The request headers that documents depend on; absent ones are `""`.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    pub accept: String,
    pub accept_encoding: String,
    pub host: String,
}

impl From<&HeaderMap> for Headers {
    fn from(map: &HeaderMap) -> Self {
        let joined = |name| {
            let values: Vec<&str> = map.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
            values.join(",")
        };
        Self { accept: joined(ACCEPT), accept_encoding: joined(ACCEPT_ENCODING), host: joined(HOST) }
    }
}

/// One media type that the client takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MediaType<'a> {
    pub name: &'a str,
    parameters: &'a str,
}

impl MediaType<'_> {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.split(';').find_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// In which form discovery is wanted; `None`: in none that there is.
    pub fn discovery(&self) -> Option<(Syntax, Shape)> {
        let of = |name| self.parameter(name).unwrap_or_default();
        let shape = match (of("as"), of("g"), of("v")) {
            ("", "", "") => Shape::Plain,
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Shape::Aggregated,
            _ => return None,
        };
        let syntax = match self.name {
            "application/json" | "application/*" | "*/*" => Syntax::Json,
            "application/yaml" => Syntax::Yaml,
            "application/vnd.kubernetes.protobuf" => Syntax::Protobuf,
            _ => return None,
        };
        Some((syntax, shape))
    }

    /// JSON, or anything, in no special form.
    pub fn is_plain_json(&self) -> bool {
        matches!(self.name, "application/json" | "application/*" | "*/*") && self.parameter("as").is_none()
    }

    fn quality(&self) -> f32 {
        self.parameter("q").map_or(1.0, |text| text.parse().unwrap_or(0.0))
    }
}

/// One document a group and version, or one for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Plain,
    Aggregated,
}

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    Json,
    Yaml,
    Protobuf,
}

impl Headers {
    /// What the client takes, the dearest first; no header means anything.
    pub(crate) fn accepted(&self) -> Vec<MediaType<'_>> {
        let accept = if self.accept.trim().is_empty() { "*/*" } else { &self.accept };
        let media_type = |text| {
            let (name, parameters) = split_parameters(text);
            MediaType { name, parameters }
        };
        let mut all: Vec<_> = accept.split(',').map(media_type).filter(|wanted| wanted.quality() > 0.0).collect();
        all.sort_by(|a, b| b.quality().total_cmp(&a.quality()));
        all
    }

    /// Whether the client takes gzip.
    pub(crate) fn takes_gzip(&self) -> bool {
        self.accept_encoding.split(',').any(|text| {
            let (name, rest) = split_parameters(text);
            matches!(name, "gzip" | "*") && rest.trim() != "q=0"
        })
    }
}

fn split_parameters(text: &str) -> (&str, &str) {
    let (name, parameters) = text.split_once(';').unwrap_or((text, ""));
    (name.trim(), parameters)
}

/// A 200 as it goes on the wire, but for `If-None-Match`, which the transport turns into 304.
#[derive(Debug, Clone)]
pub struct Document {
    pub content_type: &'static str,
    pub bytes: Bytes,
    /// Quoted.
    pub etag: Option<String>,
    /// `Content-Encoding`: the bytes are compressed already, and the client takes that.
    pub encoding: Option<&'static str>,
    /// `Cache-Control`.
    pub cache_control: &'static str,
}

impl Document {
    pub(crate) fn new(content_type: &'static str, bytes: Bytes) -> Self {
        Self { content_type, bytes, etag: None, encoding: None, cache_control: "no-cache, private" }
    }

    pub(crate) fn tagged(mut self, etag: &str, cache_control: &'static str) -> Self {
        self.etag = Some(etag.to_owned());
        self.cache_control = cache_control;
        self
    }
}

/// The quoted ETag of a text.
pub(crate) fn etag(body: &[u8]) -> String {
    format!("\"{}\"", hex::encode_upper(Sha512::digest(body)))
}
