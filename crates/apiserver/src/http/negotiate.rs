//! Content negotiation: in which form a body comes, and in which form the answer is wanted.

use api::call::PatchKind;
use api::{Kind, Status};
use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};

/// What bodies and answers may be, in the order in which they are preferred.
pub const MEDIA_TYPES: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// What bodies of kinds that are defined at run time may be.
const CUSTOM_MEDIA_TYPES: &[&str] = &["application/json", "application/yaml"];

/// What watches may be.
const STREAMS: &[&str] = &["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    Json,
    Yaml,
    Protobuf,
}

impl Syntax {
    const ALL: [Self; 3] = [Self::Json, Self::Yaml, Self::Protobuf];

    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The media type of a watch. JSON has always been without the parameter.
    pub const fn stream_type(self) -> &'static str {
        match self {
            Self::Json | Self::Yaml => "application/json",
            Self::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
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
    /// JSON for people.
    pub pretty: bool,
}

impl Form {
    /// What everybody gets who says nothing.
    pub const JSON: Self = Self { syntax: Syntax::Json, shape: Shape::Whole, pretty: false };
}

/// Which forms a request can be answered in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Objects that may also be shown as tables and metadata.
    pub shapes: bool,
    /// The objects have a protobuf form. Their metadata always has.
    pub protobuf: bool,
    /// A watch: there is no YAML stream.
    pub stream: bool,
}

/// One of the things that an `Accept` header takes.
pub struct Clause<'a> {
    pub media_type: &'a str,
    pub parameters: Vec<(&'a str, &'a str)>,
    pub quality: f32,
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

impl Clause<'_> {
    pub fn takes(&self, syntax: Syntax) -> bool {
        matches!(self.media_type, "*/*" | "application/*") || self.media_type == syntax.media_type()
    }

    /// How much it leaves open.
    fn wildness(&self) -> u8 {
        match self.media_type {
            "*/*" => 2,
            text if text.ends_with("/*") => 1,
            _ => 0,
        }
    }
}

/// What the `Accept` header takes, the dearest first.
pub fn clauses(headers: &HeaderMap) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter(|text| !text.trim().is_empty())
        .map(clause)
        .collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality).then(a.wildness().cmp(&b.wildness())));
    clauses
}

/// The best form that the `Accept` header takes.
///
/// # Errors
/// 406 if there is none.
pub fn accept(headers: &HeaderMap, offer: Offer) -> Result<Form, Status> {
    let clauses = clauses(headers);
    if clauses.is_empty() {
        return Ok(Form::JSON);
    }
    let found = clauses.iter().filter(|clause| clause.quality > 0.0).find_map(|clause| form(clause, offer));
    found.ok_or_else(|| Status::not_acceptable(if offer.stream { STREAMS } else { MEDIA_TYPES }))
}

fn form(clause: &Clause<'_>, offer: Offer) -> Option<Form> {
    let of = |key: &str| clause.parameters.iter().find(|(own, _)| *own == key).map(|(_, value)| *value);
    let meta = (of("g"), of("v")) == (Some("meta.k8s.io"), Some("v1"));
    let shape = match of("as") {
        None if of("g").is_none() && of("v").is_none() => Shape::Whole,
        Some("Table") if meta && offer.shapes => Shape::Table,
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") if meta && offer.shapes => Shape::Partial,
        _ => return None,
    };
    let stream = of("stream").unwrap_or_default();
    let serves = |syntax: &Syntax| {
        clause.takes(*syntax)
            && match syntax {
                Syntax::Json => stream.is_empty() || stream == "watch",
                Syntax::Yaml => stream.is_empty() && !offer.stream,
                Syntax::Protobuf if shape == Shape::Whole && !offer.protobuf => false,
                // Tables have no protobuf form.
                Syntax::Protobuf => shape != Shape::Table && (stream.is_empty() || stream == "watch"),
            }
    };
    let syntax = Syntax::ALL.into_iter().find(serves)?;
    Some(Form { syntax, shape, pretty: of("pretty") == Some("1") })
}

/// The form of a failure, which is in no special shape.
pub fn failure(headers: &HeaderMap) -> Form {
    let offer = Offer { shapes: true, protobuf: true, stream: false };
    accept(headers, offer).map_or(Form::JSON, |form| Form { shape: Shape::Whole, ..form })
}

/// Whether JSON is to be written for people: because they say so, or because of the program that they use.
pub fn pretty(headers: &HeaderMap, parameter: Option<&str>) -> bool {
    if let Some(text) = parameter.filter(|text| !text.is_empty()) {
        return matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|program| agent.starts_with(program))
}

fn media_type(headers: &HeaderMap) -> Result<&str, Status> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok("") };
    let text = value.to_str().map_err(|_| Status::unsupported_media_type(MEDIA_TYPES))?;
    Ok(text.split(';').next().unwrap_or_default().trim())
}

/// The syntax of a request's body.
///
/// # Errors
/// 415.
pub fn content(headers: &HeaderMap) -> Result<Syntax, Status> {
    match media_type(headers)? {
        "" | "*/*" => Ok(Syntax::Json),
        name => Syntax::ALL
            .into_iter()
            .find(|syntax| syntax.media_type().eq_ignore_ascii_case(name))
            .ok_or_else(|| Status::unsupported_media_type(MEDIA_TYPES)),
    }
}

/// As [`content`], of an object of that kind: those that are defined at run time have no numbers for protobuf.
///
/// # Errors
/// 415.
pub fn content_for(headers: &HeaderMap, kind: &Kind) -> Result<Syntax, Status> {
    match content(headers)? {
        Syntax::Protobuf if kind.is_custom() => Err(Status::unsupported_media_type(CUSTOM_MEDIA_TYPES)),
        syntax => Ok(syntax),
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

    const OBJECTS: Offer = Offer { shapes: true, protobuf: true, stream: false };
    const STREAM: Offer = Offer { stream: true, ..OBJECTS };
    const PLAIN: Offer = Offer { shapes: false, ..OBJECTS };
    const CUSTOM: Offer = Offer { protobuf: false, ..OBJECTS };

    fn accepted(text: &'static str, offer: Offer) -> Option<(Syntax, Shape)> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, http::HeaderValue::from_static(text));
        accept(&headers, offer).ok().map(|form| (form.syntax, form.shape))
    }

    #[test]
    fn the_best_form_on_offer_is_taken() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                     application/json";
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
                        application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        let protobuf = "application/vnd.kubernetes.protobuf,application/json";
        let (json, whole) = (Syntax::Json, Shape::Whole);
        let cases = [
            (table, OBJECTS, Some((json, Shape::Table))),
            (table, PLAIN, Some((json, whole))),
            ("*/*", OBJECTS, Some((json, whole))),
            ("application/yaml", OBJECTS, Some((Syntax::Yaml, whole))),
            ("application/yaml", STREAM, None),
            ("application/yaml, */*;q=0.1", STREAM, Some((json, whole))),
            (protobuf, OBJECTS, Some((Syntax::Protobuf, whole))),
            (protobuf, CUSTOM, Some((json, whole))),
            ("application/vnd.kubernetes.protobuf", CUSTOM, None),
            ("application/vnd.kubernetes.protobuf;stream=watch", STREAM, Some((Syntax::Protobuf, whole))),
            ("application/vnd.kubernetes.protobuf;stream=other", STREAM, None),
            ("application/yaml;stream=watch", OBJECTS, None),
            (metadata, CUSTOM, Some((Syntax::Protobuf, Shape::Partial))),
            (metadata, PLAIN, Some((json, whole))),
            ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", OBJECTS, None),
            ("application/json;q=0.1, application/yaml", OBJECTS, Some((Syntax::Yaml, whole))),
            ("*/*, application/yaml", OBJECTS, Some((Syntax::Yaml, whole))),
            ("application/json;as=Elephant;v=v1;g=meta.k8s.io", OBJECTS, None),
            ("application/json;g=meta.k8s.io", OBJECTS, None),
            ("application/cbor", OBJECTS, None),
            ("text/html", OBJECTS, None),
        ];
        for (text, offer, expected) in cases {
            assert_eq!(accepted(text, offer), expected, "{text}");
        }
        let of = |offer| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, http::HeaderValue::from_static("text/html"));
            accept(&headers, offer).unwrap_err().message().to_owned()
        };
        let all = "only the following media types are accepted: ";
        assert_eq!(of(OBJECTS), format!("{all}{}", MEDIA_TYPES.join(", ")));
        assert_eq!(of(STREAM), format!("{all}{}", STREAMS.join(", ")));
    }

    #[test]
    fn people_are_told_by_their_programs() {
        let mut headers = HeaderMap::new();
        assert!(!pretty(&headers, None) && pretty(&headers, Some("true")) && !pretty(&headers, Some("0")));
        headers.insert(USER_AGENT, http::HeaderValue::from_static("curl/8.5.0"));
        assert!(pretty(&headers, None) && !pretty(&headers, Some("false")));
    }
}
