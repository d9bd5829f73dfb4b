//! On whose behalf a request is passed on: the headers that another API server trusts when the front proxy's
//! certificate is shown with them.
//!
//! Upstream: client-go/transport/round_trippers.go (`SetAuthProxyHeaders`).

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::Caller;

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA_PREFIX: &str = "x-remote-extra-";

/// Takes out what a client says of itself.
pub fn clear(headers: &mut HeaderMap) {
    let said: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    for name in said {
        headers.remove(name);
    }
}

/// Says who the caller is, and nothing else about anybody.
///
/// # Errors
/// If a name cannot be said in a header (it has control characters).
pub fn set(headers: &mut HeaderMap, caller: &Caller) -> Result<(), String> {
    clear(headers);
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).map_err(|_| format!("invalid header {text:?}"));
    headers.insert(USER, value(&caller.name)?);
    if !caller.uid.is_empty() {
        headers.insert(UID, value(&caller.uid)?);
    }
    for group in &caller.groups {
        headers.append(GROUP, value(group)?);
    }
    for (key, values) in &caller.extra {
        let name = format!("{EXTRA_PREFIX}{}", escaped(key));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("invalid header {name:?}"))?;
        for text in values {
            headers.append(&name, value(text)?);
        }
    }
    Ok(())
}

/// A key as a header's name can bear it: what no name may hold, and `%`, is percent-encoded.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        let legal = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        if legal {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_caller_is_named() {
        let mut headers = HeaderMap::new();
        for name in ["x-remote-user", "x-remote-group", "x-remote-extra-scopes", "x-remote-uid", "x-other"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("forged"));
        }
        let mut caller = Caller::new("jane", &["dev"]);
        caller.extra.insert("example.com/key %".to_owned(), vec!["a".to_owned(), "b".to_owned()]);
        set(&mut headers, &caller).unwrap();
        let all = |name: &str| -> Vec<String> {
            headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(all("x-remote-user"), ["jane"]);
        assert_eq!(all("x-remote-group"), ["dev", "system:authenticated"]);
        assert_eq!(all("x-remote-extra-example.com%2fkey%20%25"), ["a", "b"]);
        assert!(all("x-remote-uid").is_empty() && all("x-remote-extra-scopes").is_empty());
        assert_eq!(all("x-other"), ["forged"]);
    }

    #[test]
    fn names_that_break_a_header_are_refused() {
        let caller = Caller::new("jane\r\nX-Remote-Group: system:masters", &[]);
        assert!(set(&mut HeaderMap::new(), &caller).is_err());
    }
}
