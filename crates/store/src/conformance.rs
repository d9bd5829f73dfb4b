//! The suite every backend passes: what the rest of the program may rely on, as tests.
//!
//! Each test is given an empty store at revision 1 and panics if a promise is broken. A test crate runs them all with
//! [`for_each_conformance_test!`](crate::for_each_conformance_test). They wait for events, never for time to pass, so
//! they run on a paused clock as on the system's.

mod expiry;
mod races;
mod ranges;
mod watches;
mod writes;

use std::collections::BTreeMap;
use std::future::Future;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{At, Batch, Entry, Event, Page, Range, Revision, Snapshot, Store, Watch};

pub use expiry::*;
pub use races::*;
pub use ranges::*;
pub use watches::*;
pub use writes::*;

/// Hands the names of all conformance tests, functions of [`store::conformance`](crate::conformance), to the macro
/// `$run`, separated by spaces.
#[macro_export]
macro_rules! for_each_conformance_test {
    ($run:ident) => {
        $run! {
            a_new_store_is_empty a_created_entry_is_read_back creating_an_existing_key_is_refused
            an_update_keeps_created_and_raises_modified a_stale_update_is_told_the_current_entry
            updating_a_missing_key_is_told_there_is_none a_delete_tells_what_was_deleted
            deleting_a_missing_key_is_refused a_stale_delete_is_told_the_current_entry
            a_delete_at_the_expected_revision_is_done
            a_key_created_again_starts_anew each_write_is_a_revision_and_a_refused_one_is_none
            values_are_any_bytes large_values_are_kept_and_too_large_ones_refused too_long_keys_are_refused
            keys_are_any_text agrees_with_a_model

            a_range_is_in_key_order a_prefix_ends_where_it_ends empty_and_backward_ranges_hold_nothing
            a_range_may_be_one_key_or_open a_limit_cuts_and_counts_the_rest a_limit_of_nothing_counts
            pages_go_on_at_their_revision_while_writes_go_on the_past_is_read_as_it_was
            every_past_revision_is_read_exactly the_future_cannot_be_read what_is_compacted_cannot_be_read
            compaction_goes_forward_only

            a_watch_sees_every_write_in_order a_watch_carries_what_was_before a_watch_sees_its_range_only
            a_watch_is_told_of_progress_elsewhere a_watch_waits a_watch_from_the_future_sees_what_follows_it
            a_watch_from_before_the_history_is_refused a_lagging_watch_is_ended
            a_watch_that_keeps_up_is_not_disturbed_by_compaction watches_see_the_same_events
            a_dropped_wait_loses_nothing what_a_watch_tells_can_be_read a_long_past_is_told_in_bounded_batches

            creates_of_one_key_have_one_winner updates_of_one_revision_have_one_winner
            counting_by_compare_and_swap_loses_nothing concurrent_writes_have_dense_revisions
            a_watch_has_no_gap_under_concurrent_writes a_list_and_a_watch_meet_without_gap
            reads_are_consistent_under_concurrent_writes

            an_entry_ends_when_its_time_is_over entries_end_in_the_order_of_their_times
            an_update_starts_the_time_anew an_update_without_time_lifts_the_limit
            a_key_created_again_is_not_ended_by_its_past
        }
    };
}

fn bytes(value: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(value.as_ref())
}

async fn create(store: &Store, key: &str, value: &str) -> Revision {
    store.create(key, bytes(value), None).await.unwrap_or_else(|error| panic!("creating {key}: {error}"))
}

async fn update(store: &Store, key: &str, value: &str, expect: Revision) -> Revision {
    store.update(key, bytes(value), expect, None).await.unwrap_or_else(|error| panic!("updating {key}: {error}"))
}

async fn delete(store: &Store, key: &str) -> Snapshot<Entry> {
    store.delete(key, None).await.unwrap_or_else(|error| panic!("deleting {key}: {error}"))
}

async fn get(store: &Store, key: &str) -> Option<Entry> {
    store.get(key).await.unwrap_or_else(|error| panic!("getting {key}: {error}")).value
}

async fn list(store: &Store, range: &Range, at: At, limit: Option<usize>) -> Snapshot<Page> {
    store.range(range, at, limit).await.unwrap_or_else(|error| panic!("listing {range:?}: {error}"))
}

async fn keys(store: &Store, range: &Range, at: At) -> Vec<String> {
    list(store, range, at, None).await.value.entries.iter().map(|entry| entry.key.to_string()).collect()
}

async fn contents(store: &Store, at: At) -> BTreeMap<String, Entry> {
    let page = list(store, &Range::all(), at, None).await.value;
    page.entries.into_iter().map(|entry| (entry.key.to_string(), entry)).collect()
}

async fn next(watch: &mut Watch) -> Batch {
    watch.next().await.unwrap_or_else(|error| panic!("watching: {error}"))
}

/// Follows a watch up to `revision`, checking that it goes forward and that progress covers what it told.
async fn follow(watch: &mut Watch, revision: Revision) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    while watch.revision() < revision {
        let before = watch.revision();
        let batch = next(watch).await;
        assert!(batch.revision > before, "a batch goes forward: {before} to {}", batch.revision);
        assert_eq!(batch.revision, watch.revision());
        let mut last = before;
        for event in &batch.events {
            assert!(event.revision() > last, "events are in order, each once");
            last = event.revision();
        }
        assert!(last <= batch.revision, "progress covers what was told");
        events.extend(batch.events);
    }
    events
}

/// Does `event` to a model of the store.
fn replay(model: &mut BTreeMap<String, Entry>, event: &Event) {
    let before = match event {
        Event::Put { entry, .. } => model.insert(entry.key.to_string(), entry.clone()),
        Event::Delete { previous, .. } => model.remove(&*previous.key),
    };
    assert_eq!(before.as_ref(), event.previous(), "an event carries what was before it");
}

/// Runs all at once, and waits for all.
async fn together<T: Send + 'static>(
    futures: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut running = JoinSet::new();
    for future in futures {
        running.spawn(future);
    }
    running.join_all().await
}
