//! Label and field selectors as query parameters.

use std::borrow::Cow;
use std::collections::BTreeMap;

use api::{FieldSelector, LabelSelector};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selector) = LabelSelector::parse(text) {
        let shown = selector.to_string();
        let again = LabelSelector::parse(&shown).unwrap_or_else(|why| panic!("{shown:?}: {why}"));
        assert_eq!(shown, again.to_string(), "a selector's text says the selector");
        for labels in [BTreeMap::new(), BTreeMap::from([("a".to_owned(), "b".to_owned())])] {
            assert_eq!(selector.matches(&labels), again.matches(&labels), "{text:?} and {shown:?}");
        }
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        let _ = selector.matches(|path| (path == "metadata.name").then_some(Cow::Borrowed("a")));
        let _ = selector.exact("metadata.name");
    }
}
