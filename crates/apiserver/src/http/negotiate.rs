//! Content negotiation: in which form a body comes, and in which form the answer is wanted.

use api::Status;
use api::call::PatchKind;
use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};

/// What request bodies may be.
pub const ACCEPTED: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// What answers may be.
const ANSWERED: &[&str] = &["application/json", "application/yaml"];

/// The syntax of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    Json,
    Yaml,
}

impl Syntax {
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
        }
    }
}

/// What of the objects is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The objects themselves.
    Whole,
    /// `PartialObjectMetadata`, alone or in a list.
    Partial,
    /// Rows and columns.
    Table,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    pub syntax: Syntax,
    pub shape: Shape,
}

/// Which shapes a request can be answered in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Objects that may also be shown as tables and metadata.
    Objects,
    /// The same, as a stream: there is no YAML stream.
    Stream,
    /// Anything that is no object of a collection.
    Plain,
}

struct Clause<'a> {
    media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

fn clause(text: &str) -> Clause<'_> {
    let mut parts = text.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let mut parameters = Vec::new();
    let mut quality = 1.0;
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        let (key, value) = (key.trim(), value.trim().trim_matches('"'));
        if key == "q" {
            quality = value.parse().unwrap_or(0.0);
        } else {
            parameters.push((key, value));
        }
    }
    Clause { media_type, parameters, quality }
}

/// The best form that the `Accept` header takes.
///
/// # Errors
/// 406 if there is none.
pub fn accept(headers: &HeaderMap, offer: Offer) -> Result<Form, Status> {
    let mut clauses: Vec<Clause<'_>> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter(|text| !text.trim().is_empty())
        .map(clause)
        .collect();
    if clauses.is_empty() {
        return Ok(Form { syntax: Syntax::Json, shape: Shape::Whole });
    }
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    let found = clauses.iter().filter(|clause| clause.quality > 0.0).find_map(|clause| form(clause, offer));
    found.ok_or_else(|| Status::not_acceptable(ANSWERED))
}

fn form(clause: &Clause<'_>, offer: Offer) -> Option<Form> {
    let syntax = match clause.media_type {
        "application/json" | "*/*" | "application/*" => Syntax::Json,
        "application/yaml" if offer != Offer::Stream => Syntax::Yaml,
        _ => return None,
    };
    let of = |key: &str| clause.parameters.iter().find(|(own, _)| *own == key).map(|(_, value)| *value);
    let meta = (of("g"), of("v")) == (Some("meta.k8s.io"), Some("v1"));
    let shape = match of("as") {
        None => Shape::Whole,
        Some("Table") if meta && offer != Offer::Plain => Shape::Table,
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") if meta && offer != Offer::Plain => Shape::Partial,
        Some(_) => return None,
    };
    Some(Form { syntax, shape })
}

fn media_type(headers: &HeaderMap) -> Result<&str, Status> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok("") };
    let text = value.to_str().map_err(|_| Status::unsupported_media_type(ACCEPTED))?;
    Ok(text.split(';').next().unwrap_or_default().trim())
}

/// Whether the body is in Kubernetes' protobuf encoding.
pub fn is_protobuf(headers: &HeaderMap) -> bool {
    media_type(headers).is_ok_and(|text| text == "application/vnd.kubernetes.protobuf")
}

/// The syntax of a request's body.
///
/// # Errors
/// 415.
pub fn content(headers: &HeaderMap) -> Result<Syntax, Status> {
    match media_type(headers)? {
        "" | "application/json" | "*/*" => Ok(Syntax::Json),
        "application/yaml" => Ok(Syntax::Yaml),
        _ => Err(Status::unsupported_media_type(ACCEPTED)),
    }
}

/// The format of a patch.
///
/// # Errors
/// 415.
pub fn patch(headers: &HeaderMap) -> Result<PatchKind, Status> {
    const TYPES: &[(&str, PatchKind)] = &[
        ("application/json-patch+json", PatchKind::Json),
        ("application/merge-patch+json", PatchKind::Merge),
        ("application/strategic-merge-patch+json", PatchKind::Strategic),
        ("application/apply-patch+yaml", PatchKind::Apply),
    ];
    let asked = media_type(headers)?;
    let found = TYPES.iter().find(|(name, _)| *name == asked).map(|(_, kind)| *kind);
    found.ok_or_else(|| {
        let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
        Status::unsupported_media_type(&names)
    })
}

/// Whether the client takes gzip.
pub fn gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(clause).any(|c| c.media_type == "gzip" && c.quality > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &'static str, offer: Offer) -> Option<(Syntax, Shape)> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, http::HeaderValue::from_static(text));
        accept(&headers, offer).ok().map(|form| (form.syntax, form.shape))
    }

    #[test]
    fn the_best_form_on_offer_is_taken() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                     application/json";
        let cases = [
            (table, Offer::Objects, Some((Syntax::Json, Shape::Table))),
            (table, Offer::Plain, Some((Syntax::Json, Shape::Whole))),
            ("*/*", Offer::Objects, Some((Syntax::Json, Shape::Whole))),
            ("application/yaml", Offer::Objects, Some((Syntax::Yaml, Shape::Whole))),
            ("application/yaml", Offer::Stream, None),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Offer::Objects,
                Some((Syntax::Json, Shape::Whole)),
            ),
            ("application/vnd.kubernetes.protobuf", Offer::Objects, None),
            ("application/json;q=0.1, application/yaml", Offer::Objects, Some((Syntax::Yaml, Shape::Whole))),
            ("application/json;as=Elephant;v=v1;g=meta.k8s.io", Offer::Objects, None),
            ("text/html", Offer::Objects, None),
        ];
        for (text, offer, expected) in cases {
            assert_eq!(accepted(text, offer), expected, "{text}");
        }
    }
}
