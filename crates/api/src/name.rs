//! What names, labels and keys may look like, and upstream's words for why one may not
//! (`apimachinery/pkg/util/validation` and `pkg/api/validate/content`).
//!
//! Every check answers the list of what is wrong; an empty list means the name is fine.

/// The longest DNS-1123 and DNS-1035 label.
pub const LABEL_LEN_MAX: usize = 63;
/// The longest DNS-1123 subdomain, and with it the longest object name.
pub const SUBDOMAIN_LEN_MAX: usize = 253;
/// The longest port name (`IANA_SVC_NAME`).
pub const PORT_NAME_LEN_MAX: usize = 15;

const LABEL_PATTERN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_1035_PATTERN: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_PATTERN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const WILDCARD_PATTERN: &str = r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const KEY_PATTERN: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const VALUE_PATTERN: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} characters")
}

fn too_many_bytes(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

/// A failed pattern with its examples, as upstream's `RegexError`.
fn pattern(message: &str, examples: &[&str], pattern: &str) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{pattern}')");
    }
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

/// Whether every byte is allowed by `inner` and the first and last also by `edge`; empty text is not.
fn shaped(text: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    edge(*first) && edge(*last) && bytes.iter().all(|byte| inner(*byte))
}

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn lower_dash(byte: u8) -> bool {
    lower(byte) || byte == b'-'
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn is_label(text: &str) -> bool {
    shaped(text, lower, lower_dash)
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// For `generateName`: a trailing dash counts as a letter, for a suffix will follow it.
fn masked(name: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    match name.strip_suffix('-') {
        Some(stem) if prefix && !stem.is_empty() => format!("{stem}a").into(),
        _ => name.into(),
    }
}

/// Why `name` is no DNS-1123 label; `prefix`: a trailing `-` is allowed (`generateName`).
pub fn dns1123_label(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut problems = Vec::new();
    if name.len() > LABEL_LEN_MAX {
        problems.push(too_long(LABEL_LEN_MAX));
    }
    if !is_label(&name) {
        problems.push(if is_subdomain(&name) {
            "must not contain dots".to_owned()
        } else {
            let message = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                           start and end with an alphanumeric character";
            pattern(message, &["my-name", "123-abc"], LABEL_PATTERN)
        });
    }
    problems
}

fn subdomain_pattern_problem() -> String {
    let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
                   start and end with an alphanumeric character";
    pattern(message, &["example.com"], SUBDOMAIN_PATTERN)
}

/// Why `name` is no DNS-1123 subdomain; `prefix`: a trailing `-` is allowed (`generateName`).
pub fn dns1123_subdomain(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut problems = Vec::new();
    if name.len() > SUBDOMAIN_LEN_MAX {
        problems.push(too_long(SUBDOMAIN_LEN_MAX));
    }
    if !is_subdomain(&name) {
        problems.push(subdomain_pattern_problem());
    }
    problems
}

/// Why `name` is no wildcard DNS-1123 subdomain (`*.example.com`, RFC 1034 section 4.3.3).
pub fn wildcard_dns1123_subdomain(name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if name.len() > SUBDOMAIN_LEN_MAX {
        problems.push(too_long(SUBDOMAIN_LEN_MAX));
    }
    if !name.strip_prefix("*.").is_some_and(is_subdomain) {
        let message = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
                       consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        problems.push(pattern(message, &["*.example.com"], WILDCARD_PATTERN));
    }
    problems
}

/// Why `name` is no DNS-1035 label (service names); `prefix`: a trailing `-` is allowed (`generateName`).
pub fn dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut problems = Vec::new();
    if name.len() > LABEL_LEN_MAX {
        problems.push(too_long(LABEL_LEN_MAX));
    }
    if !(is_label(&name) && name.starts_with(|first: char| first.is_ascii_lowercase())) {
        let message = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
                       character, and end with an alphanumeric character";
        problems.push(pattern(message, &["my-name", "abc-123"], LABEL_1035_PATTERN));
    }
    problems
}

/// Why `key` is no qualified name: a name of at most 63 bytes, with an optional subdomain and `/` before it. The form
/// of label keys, annotation keys (in lower case), finalizers, taint keys, resource names and condition types.
pub fn qualified(key: &str) -> Vec<String> {
    let message = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let shape = || pattern(message, &["MyName", "my.name", "123-abc"], KEY_PATTERN);
    let mut problems = Vec::new();
    let name = match key.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                if prefix.len() > SUBDOMAIN_LEN_MAX {
                    problems.push(format!("prefix part {}", too_many_bytes(SUBDOMAIN_LEN_MAX)));
                }
                if !is_subdomain(prefix) {
                    problems.push(format!("prefix part {}", subdomain_pattern_problem()));
                }
            }
            *name
        }
        _ => {
            let shape = shape();
            return vec![format!(
                "a valid label key {shape} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_LEN_MAX {
        problems.push(format!("name part {}", too_many_bytes(LABEL_LEN_MAX)));
    }
    if !shaped(name, alphanumeric, key_byte) {
        problems.push(format!("name part {}", shape()));
    }
    problems
}

/// Why `key` is no label key; the same as [`qualified`].
pub fn label_key(key: &str) -> Vec<String> {
    qualified(key)
}

/// Why `value` is no label value.
pub fn label_value(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > LABEL_LEN_MAX {
        problems.push(too_many_bytes(LABEL_LEN_MAX));
    }
    if !value.is_empty() && !shaped(value, alphanumeric, key_byte) {
        let message = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
                       must start and end with an alphanumeric character";
        problems.push(pattern(message, &["MyValue", "my_value", "12345"], VALUE_PATTERN));
    }
    problems
}

/// Why `name` cannot stand in a URL's path (RBAC names); `prefix` as for `generateName`.
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    if !prefix && matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"].iter().filter(|part| name.contains(**part)).map(|part| format!("may not contain '{part}'")).collect()
}

/// Why `name` is no port name (`IANA_SVC_NAME`, RFC 6335).
pub fn port_name(name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if name.len() > PORT_NAME_LEN_MAX {
        problems.push(too_long(PORT_NAME_LEN_MAX));
    }
    if name.is_empty() || !name.bytes().all(lower_dash) {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        problems.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_owned());
    }
    problems
}

/// Why `number` is no port.
pub fn port_number(number: i64) -> Vec<String> {
    in_range(number, 1, 65535)
}

/// Why `number` is not within the bounds, both included.
pub fn in_range(number: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&number) {
        Vec::new()
    } else {
        vec![format!("must be between {low} and {high}, inclusive")]
    }
}

/// Why `name` is no environment variable name: printable ASCII without `=`.
pub fn env_var(name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if name.is_empty() {
        problems.push("environment variable name must be non-empty".to_owned());
    }
    if !name.bytes().all(|byte| (byte.is_ascii_graphic() || byte == b' ') && byte != b'=') {
        problems.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    problems
}

/// Why `key` is no key of a ConfigMap or Secret.
pub fn config_map_key(key: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if key.len() > SUBDOMAIN_LEN_MAX {
        problems.push(too_long(SUBDOMAIN_LEN_MAX));
    }
    if key.is_empty() || !key.bytes().all(key_byte) {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        problems.push(pattern(message, &["key.name", "KEY_NAME", "key-name"], "[-._a-zA-Z0-9]+"));
    }
    match key {
        "." | ".." => problems.push(format!("must not be '{key}'")),
        _ if key.starts_with("..") => problems.push("must not start with '..'".to_owned()),
        _ => {}
    }
    problems
}

/// Why `text` is no percentage (`25%`).
pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    let message = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![pattern(message, &["1%", "93%"], "[0-9]+%")]
}

/// Why `reason` is no reason of a condition.
pub fn condition_reason(reason: &str) -> Vec<String> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b',' | b':');
    let ends = reason.starts_with(|first: char| first.is_ascii_alphabetic())
        && reason.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '_');
    if ends && reason.bytes().all(inner) {
        return Vec::new();
    }
    let message = "a condition reason must start with alphabetic character, optionally followed by a string of \
                   alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
    let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
    vec![pattern(message, &examples, "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")]
}

/// Why `name` is no HTTP header name.
pub fn http_header(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Vec::new();
    }
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![pattern(message, &["X-Header-Name"], "[-A-Za-z0-9]+")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "0", "a-b", "1-2-3", &"x".repeat(63)] {
            assert_eq!(dns1123_label(good, false), Vec::<String>::new(), "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a_b", "ä", &"x".repeat(64)] {
            assert_eq!(dns1123_label(bad, false).len(), 1, "{bad}");
        }
        assert_eq!(dns1123_label("a.b", false), ["must not contain dots"]);
        assert_eq!(
            dns1123_label("A", false),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
              end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
              '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert!(dns1035_label("a1", false).is_empty());
        assert_eq!(dns1035_label("1a", false).len(), 1);
    }

    #[test]
    fn generate_name_may_end_in_a_dash() {
        assert!(dns1123_subdomain("web-", true).is_empty());
        assert_eq!(dns1123_subdomain("web-", false).len(), 1);
        assert_eq!(dns1123_subdomain("-", true).len(), 1);
        assert_eq!(dns1123_subdomain("web--.", true).len(), 1);
        assert!(dns1123_subdomain("a.b-c.d", false).is_empty());
        assert_eq!(dns1123_subdomain("a..b", false).len(), 1);
        assert!(path_segment("..", true).is_empty());
        assert_eq!(path_segment("..", false), ["may not be '..'"]);
        assert_eq!(path_segment("a/b%", false), ["may not contain '/'", "may not contain '%'"]);
    }

    #[test]
    fn keys_and_values() {
        for good in ["a", "example.com/Name", "a_b.c-d", "kubernetes.io/hostname"] {
            assert_eq!(qualified(good), Vec::<String>::new(), "{good}");
        }
        assert_eq!(qualified("/a"), ["prefix part must be non-empty"]);
        assert_eq!(qualified("").len(), 2);
        assert_eq!(qualified("a/b/c").len(), 1);
        assert!(qualified("A/b")[0].starts_with("prefix part a lowercase RFC 1123 subdomain must"));
        assert!(label_value("").is_empty());
        assert_eq!(label_value("a b").len(), 1);
        assert_eq!(label_value(&"x".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(config_map_key(".."), ["must not be '..'"]);
        assert_eq!(config_map_key("..a"), ["must not start with '..'"]);
        assert_eq!(port_name("").len(), 2);
        assert!(port_name("http-8080").is_empty());
        assert_eq!(port_name("80"), ["must contain at least one letter (a-z)"]);
        assert_eq!(env_var("A=B").len(), 1);
        assert!(percent("10%").is_empty() && !percent("%").is_empty());
    }
}
