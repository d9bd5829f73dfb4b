//! Checks that many resources share: a rule of [`api::name`] applied to a field, with upstream's words.

mod address;
mod conditions;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::IntOrString;
use api::field::{FieldErrors, Path};
use api::meta::v1::{LabelSelector, ObjectMeta};
use serde::Serialize;
use serde_json::Value;

pub use address::{canonical_cidr, canonical_ip, is_strict_subset};
pub use conditions::conditions;
pub use webhook::{webhook_service, webhook_url};

/// A field may not be negative.
pub const NEGATIVE: &str = "must be greater than or equal to 0";
/// A field may not change after creation.
pub const IMMUTABLE: &str = "field is immutable";
/// A file mode is out of bounds.
pub const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// A JSON value of anything that serializes, for the bad value of an error.
pub fn shown<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// One `Invalid` error per problem.
pub fn problems(errors: &mut FieldErrors, path: &Path, value: impl Into<Value>, problems: Vec<String>) {
    let value = value.into();
    for problem in problems {
        errors.invalid(path, value.clone(), problem);
    }
}

/// A DNS-1123 label.
pub fn dns_label(errors: &mut FieldErrors, path: &Path, value: &str) {
    problems(errors, path, value, api::name::dns1123_label(value, false));
}

/// A DNS-1123 subdomain.
pub fn dns_subdomain(errors: &mut FieldErrors, path: &Path, value: &str) {
    problems(errors, path, value, api::name::dns1123_subdomain(value, false));
}

/// A qualified name.
pub fn qualified(errors: &mut FieldErrors, path: &Path, value: &str) {
    problems(errors, path, value, api::name::qualified(value));
}

/// A label key.
pub fn label_key(errors: &mut FieldErrors, path: &Path, key: &str) {
    problems(errors, path, key, api::name::label_key(key));
}

/// A port number.
pub fn port(errors: &mut FieldErrors, path: &Path, port: i32) {
    problems(errors, path, port, api::name::port_number(i64::from(port)));
}

/// A port number or the name of one.
pub fn port_or_name(errors: &mut FieldErrors, path: &Path, value: &IntOrString) {
    match value {
        IntOrString::Int(number) => port(errors, path, *number),
        IntOrString::String(name) => problems(errors, path, name.as_str(), api::name::port_name(name)),
    }
}

/// `TCP`, `UDP` or `SCTP`; required.
pub fn protocol(errors: &mut FieldErrors, path: &Path, value: Option<&str>) {
    one_of(errors, path, value, &["SCTP", "TCP", "UDP"]);
}

/// A required choice.
pub fn one_of(errors: &mut FieldErrors, path: &Path, value: Option<&str>, supported: &[&str]) {
    match value {
        None | Some("") => errors.required(path, ""),
        Some(value) if supported.contains(&value) => {}
        Some(value) => errors.not_supported(path, value, supported),
    }
}

/// A choice that may be left out.
pub fn optional_one_of(errors: &mut FieldErrors, path: &Path, value: Option<&str>, supported: &[&str]) {
    if let Some(value) = value
        && !supported.contains(&value)
    {
        errors.not_supported(path, value, supported);
    }
}

/// A choice of which even nothing is none.
pub fn one_of_listed(errors: &mut FieldErrors, path: &Path, value: &str, supported: &[&str]) {
    optional_one_of(errors, path, Some(value), supported);
}

/// Zero or more.
pub fn not_negative(errors: &mut FieldErrors, path: &Path, value: i64) {
    if value < 0 {
        errors.invalid(path, value, NEGATIVE);
    }
}

/// A user or group id.
pub fn id(errors: &mut FieldErrors, path: &Path, value: i64) {
    problems(errors, path, value, api::name::in_range(value, 0, i64::from(i32::MAX)));
}

/// A file mode, if set.
pub fn file_mode(errors: &mut FieldErrors, path: &Path, mode: Option<i32>) {
    if let Some(mode) = mode
        && !(0..=0o777).contains(&mode)
    {
        errors.invalid(path, mode, FILE_MODE);
    }
}

/// A non-negative number or percentage.
pub fn count_or_percent(errors: &mut FieldErrors, path: &Path, value: &IntOrString) {
    match value {
        IntOrString::String(text) => problems(errors, path, text.as_str(), api::name::percent(text)),
        IntOrString::Int(number) => not_negative(errors, path, i64::from(*number)),
    }
}

/// At most 100, if a percentage.
pub fn at_most_all(errors: &mut FieldErrors, path: &Path, value: &IntOrString) {
    if let IntOrString::String(text) = value
        && percentage(text).is_some_and(|percent| percent > 100)
    {
        errors.invalid(path, text.as_str(), "must not be greater than 100%");
    }
}

/// The number of `25%`; `None` if the text is no percentage.
pub fn percentage(text: &str) -> Option<i64> {
    if !api::name::percent(text).is_empty() {
        return None;
    }
    text.strip_suffix('%')?.parse().ok()
}

/// An IP address as Go's parser takes it: no leading zeros, no zone.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// An IP address; `None` if it is none.
pub fn ip(errors: &mut FieldErrors, path: &Path, value: &str) -> Option<IpAddr> {
    let ip = parse_ip(value);
    if ip.is_none() {
        errors.invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
    ip
}

/// An address and prefix length of a CIDR; host bits may be set.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let (address, length) = (parse_ip(address)?, length.parse::<u8>().ok()?);
    (length <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, length))
}

/// A CIDR.
pub fn cidr(errors: &mut FieldErrors, path: &Path, value: &str) {
    if parse_cidr(value).is_none() {
        errors.invalid(path, value, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    }
}

/// An address of a machine that can be reached: not unspecified, loopback or link-local.
pub fn non_special_ip(errors: &mut FieldErrors, path: &Path, value: &str) {
    let Some(ip) = parse_ip(value) else {
        errors.invalid(path, value, "must be a valid IP address");
        return;
    };
    if ip.is_unspecified() {
        errors.invalid(path, value, format!("may not be unspecified ({value})"));
    }
    if ip.is_loopback() {
        errors.invalid(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (unicast, multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    if unicast {
        errors.invalid(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        errors.invalid(path, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// One address of each family at most.
pub fn is_dual_stack(addresses: &[IpAddr]) -> bool {
    addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6)
}

/// A map of labels.
pub fn labels(errors: &mut FieldErrors, path: &Path, labels: Option<&BTreeMap<String, String>>) {
    for (key, value) in labels.into_iter().flatten() {
        label_key(errors, path, key);
        problems(errors, path, value.as_str(), api::name::label_value(value));
    }
}

/// A map of annotations: keys are qualified names in any case, and all together are at most 256 KiB.
pub fn annotations(errors: &mut FieldErrors, path: &Path, annotations: Option<&BTreeMap<String, String>>) {
    const SIZE_BYTES_MAX: usize = 256 * 1024;
    let mut size_bytes = 0;
    for (key, value) in annotations.into_iter().flatten() {
        problems(errors, path, key.as_str(), api::name::qualified(&key.to_ascii_lowercase()));
        size_bytes += key.len() + value.len();
    }
    if size_bytes > SIZE_BYTES_MAX {
        errors.too_long(path, SIZE_BYTES_MAX);
    }
}

/// A label selector, if there is one.
pub fn label_selector(errors: &mut FieldErrors, path: &Path, selector: Option<&LabelSelector>) {
    let Some(selector) = selector else { return };
    labels(errors, &path.child("matchLabels"), selector.match_labels.as_ref());
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values_path = path.child("values");
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&values_path, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&values_path, why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        label_key(errors, &path.child("key"), &expression.key);
        for (index, value) in values.iter().enumerate() {
            problems(errors, &values_path.index(index), value.as_str(), api::name::label_value(value));
        }
    }
}

/// A required name that can be a segment of a path.
pub fn required_segment(errors: &mut FieldErrors, path: &Path, value: &str) {
    if value.is_empty() {
        errors.required(path, "");
    } else {
        problems(errors, path, value, api::name::path_segment(value, false));
    }
}

/// A path below a domain: `example.com/foo`.
pub fn domain_prefixed_path(errors: &mut FieldErrors, path: &Path, value: &str) {
    let parts = value.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty());
    let Some((host, rest)) = parts else {
        errors.invalid(path, value, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    };
    dns_subdomain(errors, path, host);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(allowed) {
        let why = "Invalid path: must be a valid HTTP path (regex used for validation is \
                   '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.invalid(path, rest, why);
    }
}

/// Whether the selector selects everything.
pub fn is_empty_selector(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// A field that may not change.
pub fn immutable<T: PartialEq + Serialize>(errors: &mut FieldErrors, path: &Path, new: &T, old: &T) {
    if new != old && !same(new, old) {
        errors.invalid(path, shown(new), IMMUTABLE);
    }
}

/// Equality as upstream means it: an absent list is an empty list.
pub fn same<T: PartialEq + Serialize>(a: &T, b: &T) -> bool {
    a == b || without_empty_lists(shown(a)) == without_empty_lists(shown(b))
}

fn without_empty_lists(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(key, value)| (key, without_empty_lists(value)))
                .filter(|(_, value)| !value.is_null() && !value.as_array().is_some_and(Vec::is_empty))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_empty_lists).collect()),
        other => other,
    }
}

/// The generation of an object whose wanted state changed, or did not.
pub fn count_generation(new: &mut ObjectMeta, old: &ObjectMeta, changed: bool) {
    let generation = old.generation.unwrap_or_default();
    new.generation = if changed { Some(generation + 1) } else { old.generation };
}

/// A relative path without `..`.
pub fn relative_path(errors: &mut FieldErrors, path: &Path, value: &str) {
    if value.starts_with('/') {
        errors.invalid(path, value, "must be a relative path");
    }
    no_backsteps(errors, path, value);
}

/// A path without `..`.
pub fn no_backsteps(errors: &mut FieldErrors, path: &Path, value: &str) {
    if value.split('/').any(|part| part == "..") {
        errors.invalid(path, value, "must not contain '..'");
    }
}

/// A relative path without `..` that does not start with `..` either.
pub fn relative_unreserved_path(errors: &mut FieldErrors, path: &Path, value: &str) {
    relative_path(errors, path, value);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.invalid(path, value, "must not start with '..'");
    }
}

/// Notes the value; a repeated one is an error.
pub fn unique<'a>(errors: &mut FieldErrors, path: &Path, seen: &mut BTreeSet<&'a str>, value: &'a str) {
    if !seen.insert(value) {
        errors.duplicate(path, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn errors(check: impl Fn(&mut FieldErrors, &Path)) -> Vec<String> {
        let mut errors = FieldErrors::new();
        check(&mut errors, &Path::new("f"));
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn special_addresses_are_named() {
        let cases = [
            ("10.0.0.1", vec![]),
            ("x", vec!["f: Invalid value: \"x\": must be a valid IP address"]),
            ("0.0.0.0", vec!["f: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)"]),
            (
                "127.0.0.1",
                vec!["f: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"],
            ),
            (
                "fe80::1",
                vec!["f: Invalid value: \"fe80::1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)"],
            ),
            (
                "224.0.0.7",
                vec![
                    "f: Invalid value: \"224.0.0.7\": may not be in the link-local multicast range (224.0.0.0/24, \
                     ff02::/10)",
                ],
            ),
        ];
        for (address, expected) in cases {
            assert_eq!(errors(|errors, path| non_special_ip(errors, path, address)), expected);
        }
    }

    #[test]
    fn selectors_are_checked_expression_by_expression() {
        let selector: LabelSelector = serde_json::from_value(json!({
            "matchLabels": {"-": "ok"},
            "matchExpressions": [
                {"key": "a", "operator": "In"},
                {"key": "a", "operator": "Exists", "values": ["x"]},
                {"key": "a", "operator": "Is"},
            ],
        }))
        .unwrap();
        let found = errors(|errors, path| label_selector(errors, path, Some(&selector)));
        assert!(found[0].starts_with("f.matchLabels: Invalid value: \"-\": name part must consist of"), "{found:?}");
        assert_eq!(
            found[1..],
            [
                "f.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "f.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or \
                 'DoesNotExist'",
                "f.matchExpressions[2].operator: Invalid value: \"Is\": not a valid selector operator",
            ]
        );
    }

    #[test]
    fn an_absent_list_is_an_empty_list() {
        assert!(same(&json!({"a": []}), &json!({})));
        assert!(!same(&json!({"a": {}}), &json!({})));
        assert!(!same(&json!({"a": [1]}), &json!({})));
    }
}
