//! Watches: every write, in order, once.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::{create, delete, follow, get, next, update};
use crate::{Error, Event, Range, Revision, Store};

/// From any revision that is still known.
pub async fn a_watch_sees_every_write_in_order(store: Store) {
    let a = create(&store, "/a", "1").await;
    let a2 = update(&store, "/a", "2", a).await;
    let b = create(&store, "/b", "1").await;
    let gone = delete(&store, "/a").await.revision;
    let all = follow(&mut store.watch(Range::all(), Revision(1)), gone).await;
    let revisions: Vec<Revision> = all.iter().map(Event::revision).collect();
    assert_eq!(revisions, [a, a2, b, gone]);
    let keys: Vec<&str> = all.iter().map(|event| &**event.key()).collect();
    assert_eq!(keys, ["/a", "/a", "/b", "/a"]);
    for after in 1..=gone.0 {
        let rest = follow(&mut store.watch(Range::all(), Revision(after)), gone).await;
        assert_eq!(rest, all[usize::try_from(after - 1).expect("small")..], "after {after}");
    }
}

/// So that a selector can tell "modified into" from "modified within".
pub async fn a_watch_carries_what_was_before(store: Store) {
    let created = create(&store, "/a", "1").await;
    let modified = update(&store, "/a", "2", created).await;
    let deleted = delete(&store, "/a").await;
    let events = follow(&mut store.watch(Range::all(), Revision(1)), deleted.revision).await;
    let [Event::Put { entry: first, previous: None }, Event::Put { entry: second, previous: Some(before) }, last] =
        &events[..]
    else {
        panic!("expected two puts and a delete, got {events:?}")
    };
    assert_eq!((first.created, first.modified, &first.value[..]), (created, created, &b"1"[..]));
    assert_eq!((second.created, second.modified, &second.value[..]), (created, modified, &b"2"[..]));
    assert_eq!(before, first);
    assert_eq!(last, &Event::Delete { previous: second.clone(), revision: deleted.revision });
}

/// With the same edges as a list.
pub async fn a_watch_sees_its_range_only(store: Store) {
    for key in ["/pods", "/pods/a", "/pods0", "/pods/b", "/nodes/a"] {
        create(&store, key, "").await;
    }
    let last = store.revision();
    let pods = follow(&mut store.watch(Range::prefix("/pods/"), Revision(1)), last).await;
    assert_eq!(pods.iter().map(|event| event.key().to_string()).collect::<Vec<_>>(), ["/pods/a", "/pods/b"]);
    let one = follow(&mut store.watch(Range::key("/pods"), Revision(1)), last).await;
    assert_eq!(one.iter().map(Event::revision).collect::<Vec<_>>(), [Revision(2)]);
    let none = Range { start: "/z".into(), end: Some("/a".into()) };
    assert!(follow(&mut store.watch(none, Revision(1)), last).await.is_empty());
}

/// Promptly: nothing else has to happen for it.
pub async fn a_watch_is_told_of_progress_elsewhere(store: Store) {
    let mut watch = store.watch(Range::prefix("/mine/"), store.revision());
    for n in 0..5 {
        let revision = create(&store, &format!("/other/{n}"), "").await;
        let batch = next(&mut watch).await;
        assert_eq!((batch.revision, batch.events.len()), (revision, 0));
    }
}

/// Until something is written.
pub async fn a_watch_waits(store: Store) {
    let mut watch = store.watch(Range::all(), store.revision());
    let mut waiting = pin!(watch.next());
    let waits = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await;
    assert!(waits, "nothing was written, yet it has something to tell");
    let (batch, revision) = tokio::join!(waiting, create(&store, "/a", ""));
    let events = batch.expect("a batch").events;
    assert_eq!(events.iter().map(Event::revision).collect::<Vec<_>>(), [revision]);
}

/// And nothing of what comes before.
pub async fn a_watch_from_the_future_sees_what_follows_it(store: Store) {
    let mut watch = store.watch(Range::all(), Revision(4));
    for n in 2..=6 {
        assert_eq!(create(&store, &format!("/{n}"), "").await, Revision(n));
    }
    let events = follow(&mut watch, Revision(6)).await;
    assert_eq!(events.iter().map(Event::revision).collect::<Vec<_>>(), [Revision(5), Revision(6)]);
}

/// It is told from where it may start, each time it asks.
pub async fn a_watch_from_before_the_history_is_refused(store: Store) {
    for n in 2..=6 {
        create(&store, &format!("/{n}"), "").await;
    }
    store.compact(Revision(4)).await.expect("a compaction");
    for after in [0, 1, 3] {
        let mut watch = store.watch(Range::all(), Revision(after));
        for _ in 0..2 {
            match watch.next().await {
                Err(Error::Compacted { oldest }) => assert_eq!(oldest, Revision(4)),
                other => panic!("expected compacted, got {other:?}"),
            }
        }
    }
    assert_eq!(follow(&mut store.watch(Range::all(), Revision(4)), Revision(6)).await.len(), 2);
}

/// Rather than growing a queue, and rather than skipping.
pub async fn a_lagging_watch_is_ended(store: Store) {
    let mut watch = store.watch(Range::all(), store.revision());
    create(&store, "/2", "").await;
    assert_eq!(next(&mut watch).await.events.len(), 1);
    create(&store, "/3", "").await;
    let last = create(&store, "/4", "").await;
    store.compact(last).await.expect("a compaction");
    create(&store, "/5", "").await;
    for _ in 0..2 {
        let ended = watch.next().await;
        assert!(matches!(ended, Err(Error::TooSlow)), "{ended:?}");
    }
}

/// It needs nothing of what is forgotten.
pub async fn a_watch_that_keeps_up_is_not_disturbed_by_compaction(store: Store) {
    let mut watch = store.watch(Range::all(), store.revision());
    for n in 0..10 {
        let revision = create(&store, &format!("/{n}"), "").await;
        assert_eq!(next(&mut watch).await.events.len(), 1);
        store.compact(revision).await.expect("a compaction");
    }
}

/// Whenever they start and however fast they read.
pub async fn watches_see_the_same_events(store: Store) {
    let mut early = store.watch(Range::all(), store.revision());
    let mut prompt = Vec::new();
    let mut prompter = store.watch(Range::all(), store.revision());
    let mut last = store.revision();
    for n in 0..50 {
        last = create(&store, &format!("/{n}"), "").await;
        prompt.extend(follow(&mut prompter, last).await);
    }
    let late = follow(&mut store.watch(Range::all(), Revision(1)), last).await;
    assert_eq!(prompt.len(), 50);
    assert_eq!(prompt, late);
    assert_eq!(follow(&mut early, last).await, late);
}

/// A caller may wait for several things at once.
pub async fn a_dropped_wait_loses_nothing(store: Store) {
    let mut watch = store.watch(Range::all(), store.revision());
    let mut events = Vec::new();
    let mut last = store.revision();
    for n in 0..50 {
        tokio::select! {
            biased;
            revision = create(&store, "/a", "") => last = revision,
            batch = watch.next() => events.extend(batch.expect("a batch").events),
        }
        // The create may have been dropped half way, but not later than this one is it decided.
        last = last.max(create(&store, &format!("/{n}"), "").await);
        if let Some(entry) = get(&store, "/a").await {
            last = store.delete("/a", Some(entry.modified)).await.expect("nobody else writes").revision;
        }
    }
    last = last.max(store.revision());
    events.extend(follow(&mut watch, last).await);
    let revisions: Vec<u64> = events.iter().map(|event| event.revision().0).collect();
    assert_eq!(revisions, (2..2 + revisions.len() as u64).collect::<Vec<_>>());
    assert_eq!(events, follow(&mut store.watch(Range::all(), Revision(1)), last).await);
}

/// A read after an event is never older than it.
pub async fn what_a_watch_tells_can_be_read(store: Store) {
    let mut watch = store.watch(Range::all(), store.revision());
    let writer = store.clone();
    let writing = async move {
        for n in 0..200 {
            create(&writer, &format!("/{n}"), "").await;
        }
    };
    let reading = async {
        while watch.revision() < Revision(201) {
            let batch = next(&mut watch).await;
            assert!(store.revision() >= batch.revision);
            for event in batch.events {
                let got = store.get(event.key()).await.expect("a read");
                assert!(got.revision >= event.revision());
                assert_eq!(got.value.expect("it was created").modified, event.revision());
            }
        }
    };
    tokio::join!(writing, reading);
}

/// However much there is to tell.
pub async fn a_long_past_is_told_in_bounded_batches(store: Store) {
    let writers = (0..50).map(|writer| {
        let store = store.clone();
        async move {
            for n in 0..60 {
                create(&store, &format!("/{writer}/{n}"), "").await;
            }
        }
    });
    super::together(writers).await;
    let mut watch = store.watch(Range::all(), Revision(1));
    let mut told = 0;
    while watch.revision() < store.revision() {
        let batch = next(&mut watch).await;
        assert!(batch.events.len() <= 1024, "{} events in one batch", batch.events.len());
        told += batch.events.len();
    }
    assert_eq!(told, 3000);
}
