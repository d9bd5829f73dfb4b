//! Lists: now, in pages, and in the past.

use std::collections::BTreeMap;

use super::{bytes, contents, create, delete, follow, keys, list, replay, update};
use crate::{At, Entry, Error, Range, Revision, Store};

/// Byte order, whatever the order of creation.
pub async fn a_range_is_in_key_order(store: Store) {
    for key in ["/b", "/a/2", "/a", "/a/10", "/a-1", "/A"] {
        create(&store, key, key).await;
    }
    assert_eq!(keys(&store, &Range::all(), At::Latest).await, ["/A", "/a", "/a-1", "/a/10", "/a/2", "/b"]);
    let listed = list(&store, &Range::prefix("/a/"), At::Latest, None).await;
    assert_eq!(listed.revision, store.revision());
    assert_eq!((listed.value.more, listed.value.remaining), (false, 0));
    let values: Vec<_> = listed.value.entries.iter().map(|entry| entry.value.clone()).collect();
    assert_eq!(values, [bytes("/a/10"), bytes("/a/2")]);
}

/// Neighbours do not slip in.
pub async fn a_prefix_ends_where_it_ends(store: Store) {
    for key in ["/pods", "/pods/", "/pods/a", "/pods/\u{10ffff}", "/pods0", "/pods-metrics/a", "/podtemplates/a"] {
        create(&store, key, "").await;
    }
    assert_eq!(keys(&store, &Range::prefix("/pods/"), At::Latest).await, ["/pods/", "/pods/a", "/pods/\u{10ffff}"]);
    assert_eq!(keys(&store, &Range::prefix("/pods/\u{10ffff}"), At::Latest).await, ["/pods/\u{10ffff}"]);
    assert!(keys(&store, &Range::prefix("/pods//"), At::Latest).await.is_empty());
}

/// Rather than failing.
pub async fn empty_and_backward_ranges_hold_nothing(store: Store) {
    create(&store, "/a", "").await;
    create(&store, "/b", "").await;
    for (start, end) in [("/a", "/a"), ("/b", "/a"), ("/c", "/d"), ("", "")] {
        let range = Range { start: start.into(), end: Some(end.into()) };
        assert!(keys(&store, &range, At::Latest).await.is_empty(), "{range:?}");
        assert!(keys(&store, &range, At::Revision(Revision(2))).await.is_empty(), "{range:?}");
    }
}

/// The two ends of what a range can be.
pub async fn a_range_may_be_one_key_or_open(store: Store) {
    for key in ["/a", "/a\0", "/b", "/c"] {
        create(&store, key, "").await;
    }
    assert_eq!(keys(&store, &Range::key("/a"), At::Latest).await, ["/a"]);
    assert_eq!(keys(&store, &Range { start: "/b".into(), end: None }, At::Latest).await, ["/b", "/c"]);
    assert_eq!(keys(&store, &Range::all().after("/a"), At::Latest).await, ["/a\0", "/b", "/c"]);
}

/// What `remainingItemCount` is made of.
pub async fn a_limit_cuts_and_counts_the_rest(store: Store) {
    for n in 0..10 {
        create(&store, &format!("/a/{n}"), "").await;
    }
    create(&store, "/b", "").await;
    let range = Range::prefix("/a/");
    for (limit, len, more, remaining) in [(1, 1, true, 9), (9, 9, true, 1), (10, 10, false, 0), (11, 10, false, 0)] {
        for at in [At::Latest, At::Revision(store.revision()), At::Revision(Revision(11))] {
            let page = list(&store, &range, at, Some(limit)).await.value;
            assert_eq!((page.entries.len(), page.more, page.remaining), (len, more, remaining), "{limit} {at:?}");
        }
    }
}

/// Without an entry.
pub async fn a_limit_of_nothing_counts(store: Store) {
    for n in 0..3 {
        create(&store, &format!("/a/{n}"), "").await;
    }
    let page = list(&store, &Range::prefix("/a/"), At::Latest, Some(0)).await.value;
    assert_eq!((page.entries.len(), page.more, page.remaining), (0, true, 3));
    let page = list(&store, &Range::prefix("/b/"), At::Latest, Some(0)).await.value;
    assert_eq!((page.entries.len(), page.more, page.remaining), (0, false, 0));
}

/// A list in pages is one list: later writes before, inside and after the page are not in it.
pub async fn pages_go_on_at_their_revision_while_writes_go_on(store: Store) {
    let mut revision = store.revision();
    for n in 0..100 {
        revision = create(&store, &format!("/a/{n:03}"), "old").await;
    }
    let whole = list(&store, &Range::prefix("/a/"), At::Latest, None).await.value.entries;
    let mut range = Range::prefix("/a/");
    let mut paged: Vec<Entry> = Vec::new();
    let mut round = 0;
    loop {
        let page = list(&store, &range, At::Revision(revision), Some(7)).await;
        assert_eq!(page.revision, revision);
        assert_eq!(page.value.remaining, 100 - paged.len() - page.value.entries.len());
        paged.extend(page.value.entries);
        if !page.value.more {
            break;
        }
        range = range.after(&paged.last().expect("a page with more has entries").key);
        round += 1;
        delete(&store, &format!("/a/{:03}", 99 - round)).await;
        delete(&store, &format!("/a/{round:03}")).await;
        create(&store, &format!("/a/{:03}x", 7 * round), "new").await;
        let changed = format!("/a/{:03}", 50 + round);
        let current = super::get(&store, &changed).await.expect("not deleted").modified;
        update(&store, &changed, "new", current).await;
        create(&store, &format!("/a/{round:03}"), "again").await;
    }
    assert_eq!(paged, whole);
    assert!(round > 10);
}

/// What was deleted since is there, what was created since is not, what was changed has its old value.
pub async fn the_past_is_read_as_it_was(store: Store) {
    let kept = create(&store, "/kept", "1").await;
    let gone = create(&store, "/gone", "1").await;
    let changed = create(&store, "/changed", "1").await;
    let then = store.revision();
    delete(&store, "/gone").await;
    update(&store, "/changed", "2", changed).await;
    create(&store, "/new", "1").await;
    create(&store, "/gone", "2").await;
    let past = contents(&store, At::Revision(then)).await;
    let modified: BTreeMap<&str, Revision> = past.iter().map(|(key, entry)| (key.as_str(), entry.modified)).collect();
    assert_eq!(modified, BTreeMap::from([("/changed", changed), ("/gone", gone), ("/kept", kept)]));
    assert!(past.values().all(|entry| entry.value == "1"));
    assert!(contents(&store, At::Revision(Revision(1))).await.is_empty());
}

/// Each is what replaying the events up to it gives.
pub async fn every_past_revision_is_read_exactly(store: Store) {
    let random = base::Random::seeded(5);
    for step in 0..300 {
        let key = format!("/{}", random.below(9));
        match super::get(&store, &key).await {
            None => drop(create(&store, &key, &step.to_string()).await),
            Some(_) if random.below(3) == 0 => drop(delete(&store, &key).await),
            Some(entry) => drop(update(&store, &key, &step.to_string(), entry.modified).await),
        }
    }
    let mut model = BTreeMap::new();
    let range = Range { start: "/2".into(), end: Some("/7".into()) };
    for event in follow(&mut store.watch(Range::all(), Revision(1)), store.revision()).await {
        replay(&mut model, &event);
        let at = At::Revision(event.revision());
        assert_eq!(contents(&store, at).await, model, "at {}", event.revision());
        let part: Vec<String> = model.keys().filter(|key| range.contains(key)).cloned().collect();
        assert_eq!(keys(&store, &range, at).await, part);
    }
}

/// It is told where the present is.
pub async fn the_future_cannot_be_read(store: Store) {
    let revision = create(&store, "/a", "").await;
    match store.range(&Range::all(), At::Revision(revision.next()), None).await {
        Err(Error::Future { current }) => assert_eq!(current, revision),
        other => panic!("expected the future, got {other:?}"),
    }
}

/// The oldest kept can.
pub async fn what_is_compacted_cannot_be_read(store: Store) {
    let mut revision = create(&store, "/a", "0").await;
    for n in 1..10 {
        revision = update(&store, "/a", &n.to_string(), revision).await;
    }
    store.compact(Revision(6)).await.expect("a compaction");
    assert_eq!(store.oldest(), Revision(6));
    match store.range(&Range::all(), At::Revision(Revision(5)), None).await {
        Err(Error::Compacted { oldest }) => assert_eq!(oldest, Revision(6)),
        other => panic!("expected compacted, got {other:?}"),
    }
    assert_eq!(contents(&store, At::Revision(Revision(6))).await["/a"].value, "4");
    store.compact(revision).await.expect("a compaction");
    assert_eq!(contents(&store, At::Revision(revision)).await["/a"].value, "9");
    assert_eq!(contents(&store, At::Latest).await["/a"].value, "9");
}

/// And never past the present.
pub async fn compaction_goes_forward_only(store: Store) {
    create(&store, "/a", "").await;
    let revision = create(&store, "/b", "").await;
    assert!(matches!(store.compact(revision.next()).await, Err(Error::Future { .. })));
    store.compact(revision).await.expect("a compaction");
    store.compact(revision).await.expect("the same again");
    assert!(matches!(store.compact(Revision(2)).await, Err(Error::Compacted { oldest }) if oldest == revision));
    assert_eq!(store.revision(), revision, "compaction is not a write");
}
