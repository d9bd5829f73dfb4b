//! Server-side apply onto nothing, onto an object nobody applied, and onto one that another manager applied.

use api::managed::{self, Types, Writer};
use api::{Timestamp, codec, schema};

pub(crate) fn run(data: &[u8]) {
    let Some((mode, text)) = crate::first(data) else { return };
    let (first, second) = crate::halves(text);
    let Ok(parsed) = codec::parse_yaml(first) else { return };
    let types: Types<'_> = schema::definition("io.k8s.api.apps.v1.Deployment").expect("in the table").into();
    let by = |manager| Writer {
        manager,
        subresource: "",
        api_version: "apps/v1",
        now: Timestamp::UNIX_EPOCH,
        ignored: &["status"],
    };
    let (one, two) = (by("one"), by("two"));
    let live = match mode % 3 {
        0 => None,
        1 => Some(crate::patch::deployment()),
        _ => managed::apply(None, crate::patch::deployment(), types, &one, false).ok(),
    };
    let Ok(applied) = managed::apply(live.as_ref(), parsed.value.clone(), types, &two, mode & 4 != 0) else { return };
    let again =
        managed::apply(Some(&applied), parsed.value, types, &two, false).expect("the same again is no conflict");
    assert_eq!(applied, again, "applying the same again changes nothing");
    if let Ok(next) = codec::parse_yaml(second) {
        let _ = managed::apply(Some(&applied), next.value, types, &one, mode & 8 != 0);
    }
}
