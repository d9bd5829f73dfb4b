//! Where a webhook is: a URL, or a path of a service in the cluster.

use api::field::{FieldErrors, Path};

const FORM: &str = "; desired format: https://host[/path]";

/// `https://host[:port][/path]`, without user, query and fragment.
pub fn webhook_url(errors: &mut FieldErrors, path: &Path, url: &str) {
    if url.contains(|character: char| character.is_ascii_control()) {
        let why = format!("parse {url:?}: net/url: invalid control character in URL");
        errors.required(path, format!("url must be a valid URL: {why}{FORM}"));
        return;
    }
    if url.starts_with(':') {
        let why = format!("parse {url:?}: missing protocol scheme");
        errors.required(path, format!("url must be a valid URL: {why}{FORM}"));
        return;
    }
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once(':').filter(|(scheme, _)| is_scheme(scheme)).unwrap_or(("", rest));
    let authority = rest.strip_prefix("//").map(|rest| rest.split('/').next().unwrap_or_default());
    let (user, host) = match authority.unwrap_or_default().rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority.unwrap_or_default()),
    };
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "https" {
        errors.invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        errors.invalid(path, "", format!("host must be provided{FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        errors.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        errors.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// A service, and a path on it.
pub fn webhook_service(
    errors: &mut FieldErrors,
    path: &Path,
    namespace: &str,
    name: &str,
    url_path: Option<&str>,
    port: i32,
) {
    if name.is_empty() {
        errors.required(&path.child("name"), "service name is required");
    }
    if namespace.is_empty() {
        errors.required(&path.child("namespace"), "service namespace is required");
    }
    let problems = api::name::port_number(i64::from(port));
    if !problems.is_empty() {
        errors.invalid(&path.child("port"), port, format!("port is not valid: {}", problems.join(", ")));
    }
    let path = path.child("path");
    let Some(url_path) = url_path.filter(|url_path| !matches!(*url_path, "" | "/")) else { return };
    if url_path == "//" {
        errors.invalid(&path, url_path, "segment[0] may not be empty");
        return;
    }
    if !url_path.starts_with('/') {
        errors.invalid(&path, url_path, "must start with a '/'");
    }
    // The first character is taken for the slash that it must be.
    let rest: &str = url_path.char_indices().nth(1).map_or("", |(start, _)| &url_path[start..]);
    for (index, segment) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if segment.is_empty() {
            errors.invalid(&path, url_path, format!("segment[{index}] may not be empty"));
        }
        for problem in api::name::dns1123_subdomain(segment, false).into_iter().filter(|_| !segment.is_empty()) {
            errors.invalid(&path, url_path, format!("segment[{index}]: {problem}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_https_and_nothing_more() {
        let check = |url: &str| {
            let mut errors = FieldErrors::new();
            webhook_url(&mut errors, &Path::new("u"), url);
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for good in ["https://example.com", "https://example.com:8443/a/b", "https://[::1]/x"] {
            assert_eq!(check(good), Vec::<String>::new());
        }
        assert_eq!(
            check("http://u:p@example.com/x?a=b#c"),
            [
                "u: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: \
                 https://host[/path]",
                "u: Invalid value: \"u:p\": user information is not permitted in the URL",
                "u: Invalid value: \"c\": fragments are not permitted in the URL",
                "u: Invalid value: \"a=b\": query parameters are not permitted in the URL",
            ]
        );
        assert_eq!(
            check("https:///x"),
            ["u: Invalid value: \"\": host must be provided; desired format: \
             https://host[/path]"]
        );
        assert_eq!(
            check("://x"),
            ["u: Required value: url must be a valid URL: parse \"://x\": missing protocol scheme; desired format: \
             https://host[/path]"]
        );
    }

    #[test]
    fn paths_have_no_empty_segments() {
        let check = |path: &str| {
            let mut errors = FieldErrors::new();
            webhook_service(&mut errors, &Path::new("s"), "ns", "n", Some(path), 443);
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for good in ["", "/", "/a", "/a/b/"] {
            assert_eq!(check(good), Vec::<String>::new());
        }
        assert_eq!(check("//"), ["s.path: Invalid value: \"//\": segment[0] may not be empty"]);
        assert_eq!(check("/a//b"), ["s.path: Invalid value: \"/a//b\": segment[1] may not be empty"]);
        assert!(
            check("/A")[0].starts_with("s.path: Invalid value: \"/A\": segment[0]: a lowercase RFC 1123 subdomain")
        );
    }
}
