//! Whose idea of a level is meant: that of a minor version of Kubernetes, or the latest.

use std::fmt;

/// A policy version. Any minor version is one, also those that are still to come: nothing is known of these, so what
/// is known last holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    #[default]
    Latest,
    /// `v1.` and this.
    Minor(u64),
}

impl Version {
    /// `latest` or `v1.x`; `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let plain = minor.bytes().all(|byte| byte.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
        let minor: u64 = minor.parse().ok().filter(|_| plain)?;
        // Upstream's are signed.
        i64::try_from(minor).is_ok().then_some(Self::Minor(minor))
    }

    /// Whether it is that minor version or a later one.
    pub(super) fn is_since(self, minor: u64) -> bool {
        match self {
            Self::Latest => true,
            Self::Minor(own) => own >= minor,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Minor(minor) => write!(f, "v1.{minor}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_latest_or_a_minor_one() {
        for text in ["latest", "v1.0", "v1.9", "v1.10", "v1.37", "v1.10000", "v1.9223372036854775807"] {
            assert_eq!(Version::parse(text).unwrap().to_string(), text);
        }
        let wrong = ["", "v1", "v1.", "1.30", "v1.01", "v1.00", "v1.-1", "v1.+1", "v1.3.1", "v2.0", "Latest"];
        for text in wrong.into_iter().chain(["v1.9223372036854775808", "v1.99999999999999999999", "v1.30 "]) {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        assert!(Version::Minor(30).is_since(30) && Version::Minor(31).is_since(30) && Version::Latest.is_since(99));
        assert!(!Version::Minor(29).is_since(30));
    }
}
