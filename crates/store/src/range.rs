//! Half-open ranges of keys.

use std::ops::Bound;

/// The keys from `start` (inclusive) to `end` (exclusive), in byte order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Range {
    /// The first key.
    pub start: String,
    /// The first key after the range; `None` for no end.
    pub end: Option<String>,
}

impl Range {
    /// Every key.
    pub fn all() -> Range {
        Range { start: String::new(), end: None }
    }

    /// The one key.
    pub fn key(key: &str) -> Range {
        Range { start: key.to_owned(), end: Some(format!("{key}\0")) }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &str) -> Range {
        Range { start: prefix.to_owned(), end: after_prefix(prefix) }
    }

    /// The rest of this range after `key`: where the page that follows one ending with `key` starts.
    pub fn after(&self, key: &str) -> Range {
        let start = format!("{key}\0");
        Range { start: start.max(self.start.clone()), end: self.end.clone() }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &str) -> bool {
        key >= self.start.as_str() && self.end.as_deref().is_none_or(|end| key < end)
    }

    /// Whether no key can lie in the range.
    pub(crate) fn is_empty(&self) -> bool {
        self.end.as_deref().is_some_and(|end| end <= self.start.as_str())
    }

    pub(crate) fn bounds(&self) -> (Bound<&str>, Bound<&str>) {
        (Bound::Included(self.start.as_str()), self.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded))
    }
}

/// The least string greater than every string with this prefix: its last character that has a successor is raised, what
/// follows is dropped. `None` when there is no such string.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut kept = prefix.to_owned();
    while let Some(last) = kept.pop() {
        if let Some(next) = successor(last) {
            kept.push(next);
            return Some(kept);
        }
    }
    None
}

/// The next Unicode scalar value. UTF-8 keeps their order, so this is the next in byte order as well.
fn successor(c: char) -> Option<char> {
    match c {
        '\u{d7ff}' => Some('\u{e000}'),
        char::MAX => None,
        c => char::from_u32(u32::from(c) + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_what_begins_with_it_and_nothing_else() {
        let pods = Range::prefix("/registry/pods/");
        assert_eq!(pods.end.as_deref(), Some("/registry/pods0"));
        assert!(pods.contains("/registry/pods/"));
        assert!(pods.contains("/registry/pods/\u{10ffff}"));
        assert!(!pods.contains("/registry/pods"));
        assert!(!pods.contains("/registry/pods0"));
        assert!(!pods.contains("/registry/podtemplates/x"));
        assert_eq!(Range::prefix(""), Range::all());
        assert_eq!(Range::prefix("\u{10ffff}").end, None);
        assert_eq!(Range::prefix("a\u{10ffff}").end.as_deref(), Some("b"));
        assert_eq!(Range::prefix("\u{d7ff}").end.as_deref(), Some("\u{e000}"));
    }

    #[test]
    fn the_rest_after_a_key_starts_behind_it() {
        let rest = Range::prefix("/a/").after("/a/1");
        assert!(!rest.contains("/a/1"));
        assert!(rest.contains("/a/1\0"));
        assert!(rest.contains("/a/10"));
        assert_eq!(Range::prefix("/b/").after("/a/1"), Range::prefix("/b/"));
        assert!(Range::key("/a").contains("/a") && !Range::key("/a").contains("/a/"));
        assert!(Range { start: "b".into(), end: Some("a".into()) }.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn prefix_ranges_agree_with_starts_with(prefix: String, key: String, tail: String) {
            let range = Range::prefix(&prefix);
            proptest::prop_assert_eq!(range.contains(&key), key.starts_with(&prefix));
            let joined = format!("{prefix}{tail}");
            proptest::prop_assert!(range.contains(&joined));
        }
    }
}
