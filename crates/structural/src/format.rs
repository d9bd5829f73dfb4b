//! The formats of strings that are checked (go-openapi/strfmt); others are ignored.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;

/// Formats are compared without dashes.
const SUPPORTED: &[&str] = &[
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

fn plain(format: &str) -> String {
    format.replace('-', "")
}

/// Whether values are checked against the format.
pub(crate) fn is_supported(format: &str) -> bool {
    SUPPORTED.contains(&plain(format).as_str())
}

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("a constant expression")
}

static HOST: LazyLock<Regex> = LazyLock::new(|| regex(r"^([a-zA-Z0-9\p{S}\p{L}]([a-zA-Z0-9\-\p{S}\p{L}]{0,62}\.?)*)$"));
static EMAIL: LazyLock<Regex> = LazyLock::new(|| regex(r"^[^\s@<>(),;:]+@[^\s@<>(),;:]+$"));
static CARD: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        "^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|\
         3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$",
    )
});
static SSN: LazyLock<Regex> = LazyLock::new(|| regex(r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$"));
static RGB: LazyLock<Regex> = LazyLock::new(|| {
    const PART: &str = r"\s*(0|[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5])\s*";
    regex(&format!(r"^rgb\({PART},{PART},{PART}\)$"))
});
static DURATION: LazyLock<Regex> = LazyLock::new(|| {
    const PART: &str = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)";
    regex(&format!("^[+-]?(0|({PART})+)$"))
});
static WORDY_DURATION: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"^([0-9]+\s*(ns|nano|us|µs|micro|ms|milli|s|sec|m|min|h|hr|hour|d|day|w|week|wk)s?(onds?|utes?)?\s*)+$")
});

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A UUID, of this version if one is named; dashes may be left out.
fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let plain = text.replace('-', "");
    if plain.len() != 32 || !is_hex(&plain) || !matches!(lengths.as_slice(), [32] | [8, 4, 4, 4, 12]) {
        return false;
    }
    let Some(version) = version else { return true };
    let variant = plain.as_bytes()[16].to_ascii_lowercase();
    plain.as_bytes()[12] == b'0' + version && (version == 3 || matches!(variant, b'8' | b'9' | b'a' | b'b'))
}

fn is_isbn10(text: &str) -> bool {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| *c != '-' && *c != ' ')
        .enumerate()
        .map(|(index, c)| if c == 'X' && index == 9 { 10 } else { c.to_digit(10).unwrap_or(99) })
        .collect();
    digits.len() == 10
        && digits.iter().all(|digit| *digit <= 10)
        && digits.iter().zip(1u32..).map(|(digit, weight)| digit * weight).sum::<u32>() % 11 == 0
}

fn is_isbn13(text: &str) -> bool {
    let digits: Vec<u32> =
        text.chars().filter(|c| *c != '-' && *c != ' ').map(|c| c.to_digit(10).unwrap_or(99)).collect();
    digits.len() == 13
        && digits.iter().all(|digit| *digit <= 9)
        && digits.iter().enumerate().map(|(index, digit)| if index % 2 == 0 { *digit } else { digit * 3 }).sum::<u32>()
            % 10
            == 0
}

/// Whether the digits pass Luhn's check.
fn is_luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(index, byte)| {
            let digit = u32::from(byte - b'0') * if index % 2 == 1 { 2 } else { 1 };
            digit / 10 + digit % 10
        })
        .sum();
    sum.is_multiple_of(10)
}

fn is_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    CARD.is_match(&digits) && is_luhn(&digits)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let (Ok(address), true) = (address.parse::<IpAddr>(), length.bytes().all(|byte| byte.is_ascii_digit())) else {
        return false;
    };
    length.parse::<u8>().is_ok_and(|length| length <= if address.is_ipv4() { 32 } else { 128 })
}

/// Six, eight or twenty bytes, in pairs by `:` or `-`, or in fours by `.`.
fn is_mac(text: &str) -> bool {
    let (separator, digits) = match text.chars().find(|c| matches!(c, ':' | '-' | '.')) {
        Some('.') => ('.', 4),
        Some(separator) => (separator, 2),
        None => return false,
    };
    let parts: Vec<&str> = text.split(separator).collect();
    parts.iter().all(|part| part.len() == digits && is_hex(part)) && matches!(parts.len() * digits / 2, 6 | 8 | 20)
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// RFC 3339, with a zone.
fn is_date_time(text: &str) -> bool {
    let has_shape = text.len() >= 20 && text.as_bytes()[4] == b'-' && matches!(text.as_bytes()[10], b'T' | b't' | b' ');
    let zone = text.ends_with(['Z', 'z']) || text.rfind(['+', '-']).is_some_and(|index| index > 10);
    has_shape && zone && text.parse::<jiff::Timestamp>().is_ok()
}

/// A URI as Go's `ParseRequestURI` takes it: absolute, or a rooted path.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_ascii_control() || c == ' ') {
        return false;
    }
    let percents = text.split('%').skip(1).all(|rest| rest.get(..2).is_some_and(is_hex));
    let absolute = text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
            && !rest.is_empty()
    });
    percents && (text.starts_with('/') || absolute)
}

fn is_host(text: &str) -> bool {
    text.len() <= 255 && HOST.is_match(text) && text.split('.').all(|label| label.len() <= 63)
}

/// Whether the text is of the format.
pub(crate) fn matches(format: &str, text: &str) -> bool {
    match plain(format).as_str() {
        "bsonobjectid" => text.len() == 24 && is_hex(text),
        "uri" => is_uri(text),
        "email" => EMAIL.is_match(text),
        "hostname" => is_host(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some(3)),
        "uuid4" => is_uuid(text, Some(4)),
        "uuid5" => is_uuid(text, Some(5)),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "creditcard" => is_card(text),
        "ssn" => SSN.is_match(text),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            is_hex(digits) && matches!(digits.len(), 3 | 6)
        }
        "rgbcolor" => RGB.is_match(text),
        "byte" => STANDARD.decode(text).is_ok(),
        "date" => is_date(text),
        "duration" => DURATION.is_match(text) || WORDY_DURATION.is_match(text),
        "datetime" => is_date_time(text),
        "k8sshortname" => api::name::dns1123_label(text, false).is_empty(),
        "k8slongname" => api::name::dns1123_subdomain(text, false).is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn formats_tell_good_from_bad() {
        let cases = [
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f1f77bcf86cd79943901"),
            ("uri", "https://example.com/a?b=c", "example"),
            ("email", "joe@example.com", "joe"),
            ("hostname", "a.example.com", "-a"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "fd00::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "01:23:45:67:89:ab", "01:23:45:67:89"),
            ("uuid", "7bf8f1e0-0f1b-4b0a-8f1e-7bf8f1e00f1b", "7bf8f1e0"),
            ("uuid4", "7bf8f1e0-0f1b-4b0a-8f1e-7bf8f1e00f1b", "7bf8f1e0-0f1b-5b0a-8f1e-7bf8f1e00f1b"),
            ("isbn10", "0306406152", "0306406153"),
            ("isbn13", "978-0-306-40615-7", "978-0-306-40615-8"),
            ("creditcard", "4012 8888 8888 1881", "4012 8888 8888 1882"),
            ("ssn", "111-22-3333", "111-22-33"),
            ("hexcolor", "#ff00ff", "#ff00f"),
            ("rgbcolor", "rgb(1,2,255)", "rgb(1,2,256)"),
            ("byte", "aGVsbG8=", "a"),
            ("date", "2026-02-28", "2026-02-30"),
            ("duration", "1h30m", "an hour"),
            ("date-time", "2026-02-28T01:02:03Z", "2026-02-28"),
            ("k8s-short-name", "a-b", "a.b"),
            ("k8s-long-name", "a.b", "A"),
        ];
        for (format, good, bad) in cases {
            assert!(super::is_supported(format), "{format}");
            assert!(matches(format, good), "{format}: {good}");
            assert!(!matches(format, bad), "{format}: {bad}");
        }
        assert!(!super::is_supported("int32"));
    }
}
