//! URLs as upstream reads them: an absolute URI, or a path from the root.

use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::text;
use crate::error::EvalError;
use crate::functions::{Declaration, Outcome};
use crate::value::{Entries, Map, Thing, Value};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    text: String,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

/// What a path has to encode.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'^')
    .add(b'|')
    .add(b'\\');

impl Url {
    pub fn parse(text: &str) -> Result<Self, String> {
        let failed = |why: &str| format!("parse {text:?}: {why}");
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return Err(failed("net/url: invalid control character in URL"));
        }
        if text.is_empty() {
            return Err(failed("empty url"));
        }
        let (scheme, rest) = scheme(text).map_err(failed)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url =
            Url { text: text.to_owned(), scheme, host: String::new(), path: String::new(), query: query.to_owned() };
        if !rest.starts_with('/') {
            // `mailto:someone` has neither a host nor a path
            return if url.scheme.is_empty() { Err(failed("invalid URI for request")) } else { Ok(url) };
        }
        let path = match rest.strip_prefix("//").filter(|_| !url.scheme.is_empty()) {
            Some(after) => {
                let end = after.find('/').unwrap_or(after.len());
                url.host = host(&after[..end]).map_err(|why| failed(&why))?;
                &after[end..]
            }
            None => rest,
        };
        if let Some(bad) = bad_escape(path) {
            return Err(failed(&format!("invalid URL escape {bad:?}")));
        }
        url.path = path.to_owned();
        Ok(url)
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    fn port(&self) -> &str {
        let after = self.host.rsplit_once(']').map_or(self.host.as_str(), |(_, after)| after);
        after.rsplit_once(':').map_or("", |(_, port)| port)
    }

    fn hostname(&self) -> &str {
        let port = self.port();
        let host = self.host.strip_suffix(port).and_then(|host| host.strip_suffix(':')).unwrap_or(&self.host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }
}

fn scheme(text: &str) -> Result<(String, &str), &'static str> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((text[..at].to_ascii_lowercase(), &text[at + 1..])),
            _ => return Ok((String::new(), text)),
        }
    }
    Ok((String::new(), text))
}

fn host(authority: &str) -> Result<String, String> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let after = if let Some(inner) = host.strip_prefix('[') {
        let (_, after) = inner.split_once(']').ok_or("missing ']' in host")?;
        after
    } else {
        host.find(':').map_or("", |at| &host[at..])
    };
    let port_fits =
        after.is_empty() || after.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    if !port_fits {
        return Err(format!("invalid port {after:?} after host"));
    }
    let odd = host.chars().find(|c| c.is_ascii() && (*c == ' ' || matches!(c, '\\' | '^' | '`' | '{' | '}' | '|')));
    if let Some(odd) = odd {
        return Err(format!("invalid character {:?} in host name", odd.to_string()));
    }
    match bad_escape(host) {
        Some(bad) => Err(format!("invalid URL escape {bad:?}")),
        None => Ok(percent_decode_str(host).decode_utf8_lossy().into_owned()),
    }
}

fn bad_escape(text: &str) -> Option<String> {
    text.match_indices('%').map(|(at, _)| &text[at..]).find_map(|rest| {
        let fits = rest.as_bytes().get(1..3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        (!fits).then(|| rest.chars().take(3).collect())
    })
}

pub(crate) const FUNCTIONS: &[Declaration] = &[
    ("url string_to_url (string) URL", |args| match Url::parse(text(args, 0)?) {
        Ok(url) => Ok(Value::thing(Thing::Url(url))),
        Err(why) => Err(EvalError::runtime(format!("URL parse error during conversion from string: {why}"))),
    }),
    ("isURL is_url_string (string) bool", |args| Ok(Value::Bool(Url::parse(text(args, 0)?).is_ok()))),
    ("getScheme url_get_scheme URL.() string", |args| Ok(Value::string(url(args)?.scheme.as_str()))),
    ("getHost url_get_host URL.() string", |args| Ok(Value::string(url(args)?.host.as_str()))),
    ("getHostname url_get_hostname URL.() string", |args| Ok(Value::string(url(args)?.hostname()))),
    ("getPort url_get_port URL.() string", |args| Ok(Value::string(url(args)?.port()))),
    ("getEscapedPath url_get_escaped_path URL.() string", |args| {
        Ok(Value::string(utf8_percent_encode(&url(args)?.path, PATH).to_string()))
    }),
    ("getQuery url_get_query URL.() map(string,list(string))", query),
];

fn url<'v>(args: &'v [Value<'_>]) -> Result<&'v Url, EvalError> {
    match args.first() {
        Some(Value::Opaque(thing)) => match &**thing {
            Thing::Url(url) => Ok(url),
            _ => Err(EvalError::no_overload()),
        },
        _ => Err(EvalError::no_overload()),
    }
}

fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    if bad_escape(&text).is_some() { None } else { Some(percent_decode_str(&text).decode_utf8_lossy().into_owned()) }
}

fn query<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let mut found: Vec<(String, Vec<Value<'a>>)> = Vec::new();
    for pair in url(args)?.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(key), Some(value)) = (decoded(key), decoded(value)) else { continue };
        match found.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(Value::string(value)),
            None => found.push((key, vec![Value::string(value)])),
        }
    }
    let mut entries = Entries::default();
    for (key, values) in found {
        entries.insert(Value::string(key), Value::list(values));
    }
    Ok(Value::Map(Map::Entries(Arc::new(entries))))
}
