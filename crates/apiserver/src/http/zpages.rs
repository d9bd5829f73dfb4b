//! `/flagz` and `/statusz`: what the server was told and what holds, as text for people and as objects of
//! `config.k8s.io` for programs.
//!
//! Flags have upstream's names. What may differ from what was typed (the authorizers of a configuration file, the
//! admission plugins that are on, the provider that seals) is shown as it is at the moment of asking.
//!
//! Upstream: apiserver/pkg/server/flagz and statusz.

use std::collections::BTreeMap;

use api::{Status, Timestamp};
use http::HeaderMap;
use http::Response;
use serde_json::json;

use super::handler::{HEALTH_PATHS, REQUEST_TIMEOUT};
use super::negotiate::{self, Clause, Form, Shape, Syntax};
use super::payload::Payload;
use super::write::{in_form, respond};
use crate::Server;
use crate::authn::config::Anonymous;

const NAME: &str = "kube-apiserver";
const GROUP: &str = "config.k8s.io";
const VERSIONS: &[&str] = &["v1beta1", "v1alpha1"];
const MEDIA_TYPES: &[&str] = &["application/json", "application/yaml", "text/plain"];
const TEXT: &str = "text/plain; charset=utf-8";
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility \
                       guarantees and is for debugging purposes only.";
/// What stands between a name and its value differs, so that nobody comes to rely on it.
const DELIMITERS: [&str; 4] = [":", ": ", "=", " "];
/// Paths that help in finding out what is wrong.
const PATHS: &[&str] = &["/debug", "/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version"];

/// How a page is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Text,
    Object(&'static str, Syntax),
}

/// The form that the `Accept` header takes, for the page's kind.
///
/// # Errors
/// 406: an object is had only by its whole name (`application/json;v=v1beta1;g=config.k8s.io;as=Flagz`).
fn wanted(headers: &HeaderMap, kind: &str) -> Result<Wanted, Status> {
    let clauses = negotiate::clauses(headers);
    if clauses.is_empty() {
        return Ok(Wanted::Text);
    }
    let found = clauses.iter().filter(|clause| clause.quality > 0.0).find_map(|clause| form(clause, kind));
    found.ok_or_else(|| Status::not_acceptable(MEDIA_TYPES))
}

fn form(clause: &Clause<'_>, kind: &str) -> Option<Wanted> {
    if clause.parameters.iter().all(|(key, _)| !matches!(*key, "as" | "g" | "v")) {
        return matches!(clause.media_type, "*/*" | "text/*" | "text/plain").then_some(Wanted::Text);
    }
    let of = |key: &str| clause.parameters.iter().find(|(own, _)| *own == key).map(|(_, value)| *value);
    if (of("as"), of("g")) != (Some(kind), Some(GROUP)) {
        return None;
    }
    let version = VERSIONS.iter().find(|version| of("v") == Some(**version))?;
    let syntax = [Syntax::Json, Syntax::Yaml].into_iter().find(|syntax| clause.takes(*syntax))?;
    Some(Wanted::Object(version, syntax))
}

/// The answer to such a path, or `None` if it is another.
///
/// # Errors
/// 406.
pub fn answer(server: &Server, path: &str, headers: &HeaderMap) -> Option<Result<Response<Payload>, Status>> {
    match path {
        "/flagz" => Some(wanted(headers, "Flagz").map(|wanted| flagz(server, wanted))),
        "/statusz" => Some(wanted(headers, "Statusz").map(|wanted| statusz(server, wanted))),
        _ => None,
    }
}

fn object(value: &serde_json::Value, syntax: Syntax) -> Response<Payload> {
    let bytes = in_form(value.to_string().into_bytes(), Form { syntax, shape: Shape::Whole, pretty: false });
    respond(200, syntax.media_type(), bytes.into())
}

fn delimiter(server: &Server) -> &'static str {
    let index = server.options.random.below(DELIMITERS.len() as u64);
    DELIMITERS[usize::try_from(index).unwrap_or_default()]
}

fn flagz(server: &Server, wanted: Wanted) -> Response<Payload> {
    let flags = flags(server);
    match wanted {
        Wanted::Object(version, syntax) => {
            let api_version = format!("{GROUP}/{version}");
            let value = json!({"kind": "Flagz", "apiVersion": api_version, "metadata": {"name": NAME}, "flags": flags});
            object(&value, syntax)
        }
        Wanted::Text => {
            let delimiter = delimiter(server);
            let lines: String = flags.iter().map(|(name, value)| format!("{name}{delimiter}{value}\n")).collect();
            respond(200, TEXT, format!("\n{NAME} flagz\n{WARNING}\n{lines}").into_bytes().into())
        }
    }
}

/// A list as flags show it.
fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<T> = items.into_iter().collect();
    format!("[{}]", items.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(","))
}

/// What was told, and over it what holds.
fn flags(server: &Server) -> BTreeMap<String, String> {
    let options = &server.options;
    let mut all = options.flags.clone();
    let (on, off) = options.admission.names();
    let secrets = crate::seal::Sealed { group: "", resource: "secrets" };
    let sealed = server.caches().sealing.rules().provider_names(secrets);
    let anonymous = match options.authenticator.anonymous_rule() {
        None => list(HEALTH_PATHS),
        Some(Anonymous::Nobody) => false.to_string(),
        Some(Anonymous::Everywhere) => true.to_string(),
        Some(Anonymous::On(paths)) => list(paths),
    };
    let holds = [
        ("anonymous-auth", anonymous),
        ("authorization-mode", list(options.authorizer.modes())),
        ("disable-admission-plugins", list(off)),
        ("effective-audit-levels", list(options.audit.iter().flat_map(|audit| audit.levels()))),
        ("effective-encryption-providers", list(sealed)),
        ("enable-admission-plugins", list(on)),
        ("max-mutating-requests-inflight", options.writes_len_max.to_string()),
        ("max-requests-inflight", options.reads_len_max.to_string()),
        ("profiling", false.to_string()),
        ("request-timeout", crate::configuration::duration_text(REQUEST_TIMEOUT)),
        ("service-account-extend-token-expiration", false.to_string()),
        ("service-account-lookup", true.to_string()),
    ];
    all.extend(holds.map(|(name, value)| (name.to_owned(), value)));
    all
}

fn statusz(server: &Server, wanted: Wanted) -> Response<Payload> {
    let (now, started) = (server.now(), server.started);
    let seconds = now.duration_since(started).as_secs().max(0);
    let binary = format!("1.37.0+pintle.{}", server.options.version);
    match wanted {
        Wanted::Object(version, syntax) => {
            let value = json!({
                "kind": "Statusz",
                "apiVersion": format!("{GROUP}/{version}"),
                "metadata": {"name": NAME},
                "startTime": whole_seconds(started).to_string(),
                "uptimeSeconds": seconds,
                "goVersion": "none",
                "binaryVersion": binary,
                "emulationVersion": "1.37",
                "paths": PATHS,
            });
            object(&value, syntax)
        }
        Wanted::Text => {
            let delimiter = delimiter(server);
            let lines = [
                ("Started", started.strftime("%a %b %e %H:%M:%S UTC %Y").to_string()),
                ("Up", format!("{} hr {:02} min {:02} sec", seconds / 3600, seconds / 60 % 60, seconds % 60)),
                ("Go version", "none".to_owned()),
                ("Binary version", binary),
                ("Emulation version", "1.37".to_owned()),
                ("Paths", PATHS.join(" ")),
            ];
            let lines: String = lines.iter().map(|(name, value)| format!("{name}{delimiter} {value}\n")).collect();
            respond(200, TEXT, format!("\n{NAME} statusz\n{WARNING}\n\n{lines}").into_bytes().into())
        }
    }
}

/// Times of objects have no fractions.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::ACCEPT;

    use super::*;

    #[test]
    fn text_unless_an_object_is_named_whole() {
        let cases = [
            ("", Some(Wanted::Text)),
            ("*/*", Some(Wanted::Text)),
            ("text/plain", Some(Wanted::Text)),
            ("application/json;v=v1beta1;g=config.k8s.io;as=Flagz", Some(Wanted::Object("v1beta1", Syntax::Json))),
            ("application/json;v=v1alpha1;g=config.k8s.io;as=Flagz", Some(Wanted::Object("v1alpha1", Syntax::Json))),
            ("application/yaml;v=v1beta1;g=config.k8s.io;as=Flagz", Some(Wanted::Object("v1beta1", Syntax::Yaml))),
            ("application/json;v=v9;g=config.k8s.io;as=Flagz,*/*", Some(Wanted::Text)),
            ("application/json", None),
            ("application/json;v=v1beta1;g=config.k8s.io", None),
            ("application/json;v=v1beta1;g=config.k8s.io;as=Statusz", None),
            ("application/xml", None),
        ];
        for (accept, expected) in cases {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(wanted(&headers, "Flagz").ok(), expected, "{accept}");
        }
    }
}
