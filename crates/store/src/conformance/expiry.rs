//! Entries with a time to live: leases and events of the API.

use std::time::Duration;

use base::{Clock, Timestamp};

use super::{bytes, create, delete, follow, get, next};
use crate::{Event, Range, Revision, Store};

const SOON: Duration = Duration::from_millis(40);
const LATER: Duration = Duration::from_millis(120);
const NEVER_IN_THIS_TEST: Duration = Duration::from_secs(3600);

/// Waits for the next delete; there must be no other event first.
async fn deleted(watch: &mut crate::Watch) -> (String, Revision) {
    loop {
        let batch = next(watch).await;
        match &batch.events[..] {
            [] => {}
            [Event::Delete { previous, revision }] => return (previous.key.to_string(), *revision),
            other => panic!("expected one delete, got {other:?}"),
        }
    }
}

/// As a delete that watches see, not before.
pub async fn an_entry_ends_when_its_time_is_over(store: Store) {
    let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
    let revision = store.create("/a", bytes("1"), Some(SOON)).await.expect("a create");
    assert!(get(&store, "/a").await.is_some());
    let mut watch = store.watch(Range::all(), revision);
    let (key, ended) = deleted(&mut watch).await;
    assert_eq!((&*key, ended), ("/a", revision.next()));
    let lived = clock.now().duration_since(Timestamp::UNIX_EPOCH);
    assert!(lived.as_millis() + 1 >= i128::try_from(SOON.as_millis()).expect("small"), "it lived only {lived:?}");
    assert_eq!(get(&store, "/a").await, None);
    assert_eq!(store.revision(), ended);
    assert_eq!(create(&store, "/a", "2").await, ended.next());
}

/// Not of their creation.
pub async fn entries_end_in_the_order_of_their_times(store: Store) {
    store.create("/later", bytes(""), Some(LATER)).await.expect("a create");
    store.create("/never", bytes(""), Some(NEVER_IN_THIS_TEST)).await.expect("a create");
    create(&store, "/unlimited", "").await;
    let last = store.create("/soon", bytes(""), Some(SOON)).await.expect("a create");
    let mut watch = store.watch(Range::all(), last);
    assert_eq!(deleted(&mut watch).await.0, "/soon");
    assert_eq!(deleted(&mut watch).await.0, "/later");
    assert_eq!(super::keys(&store, &Range::all(), crate::At::Latest).await, ["/never", "/unlimited"]);
}

/// A renewed lease lives on.
pub async fn an_update_starts_the_time_anew(store: Store) {
    let first = store.create("/renewed", bytes(""), Some(SOON)).await.expect("a create");
    let renewed = store.update("/renewed", bytes(""), first, Some(NEVER_IN_THIS_TEST)).await.expect("an update");
    let last = store.create("/mark", bytes(""), Some(LATER)).await.expect("a create");
    assert_eq!(deleted(&mut store.watch(Range::all(), last)).await.0, "/mark");
    assert_eq!(get(&store, "/renewed").await.expect("it was renewed").modified, renewed);
    let shorter = store.update("/renewed", bytes(""), renewed, Some(SOON)).await.expect("an update");
    assert_eq!(deleted(&mut store.watch(Range::all(), shorter)).await.0, "/renewed");
}

/// For good.
pub async fn an_update_without_time_lifts_the_limit(store: Store) {
    let first = store.create("/a", bytes(""), Some(SOON)).await.expect("a create");
    store.update("/a", bytes(""), first, None).await.expect("an update");
    let last = store.create("/mark", bytes(""), Some(LATER)).await.expect("a create");
    assert_eq!(deleted(&mut store.watch(Range::all(), last)).await.0, "/mark");
    assert!(get(&store, "/a").await.is_some());
}

/// Its first life's time is over while the second goes on.
pub async fn a_key_created_again_is_not_ended_by_its_past(store: Store) {
    store.create("/a", bytes("1"), Some(SOON)).await.expect("a create");
    delete(&store, "/a").await;
    create(&store, "/a", "2").await;
    let last = store.create("/mark", bytes(""), Some(LATER)).await.expect("a create");
    assert_eq!(deleted(&mut store.watch(Range::all(), last)).await.0, "/mark");
    assert_eq!(get(&store, "/a").await.expect("the second life").value, "2");
    let events = follow(&mut store.watch(Range::key("/a"), Revision(1)), store.revision()).await;
    assert_eq!(events.len(), 3);
}
