//! Many at once.

use std::collections::{BTreeMap, BTreeSet};

use super::{bytes, contents, create, follow, get, list, next, replay, together, update};
use crate::{At, Error, Event, Range, Revision, Store};

/// The others are told that it exists.
pub async fn creates_of_one_key_have_one_winner(store: Store) {
    for round in 0..10 {
        let key = format!("/{round}");
        let answers = together((0..16).map(|n| {
            let (store, key) = (store.clone(), key.clone());
            async move { (n, store.create(&key, bytes(n.to_string()), None).await) }
        }))
        .await;
        let winners: Vec<_> = answers.iter().filter_map(|(n, answer)| answer.as_ref().ok().map(|r| (n, *r))).collect();
        assert!(answers.iter().all(|(_, answer)| matches!(answer, Ok(_) | Err(Error::Exists))));
        let [(winner, revision)] = winners[..] else { panic!("{} winners", winners.len()) };
        let entry = get(&store, &key).await.expect("the entry");
        assert_eq!((entry.modified, entry.value), (revision, bytes(winner.to_string())));
    }
}

/// The others are told the winner's entry.
pub async fn updates_of_one_revision_have_one_winner(store: Store) {
    let mut expect = create(&store, "/a", "").await;
    for _ in 0..10 {
        let answers = together((0..16).map(|n| {
            let store = store.clone();
            async move { store.update("/a", bytes(n.to_string()), expect, None).await }
        }))
        .await;
        let winner: Vec<Revision> = answers.iter().filter_map(|answer| answer.as_ref().ok().copied()).collect();
        assert_eq!(winner, [expect.next()]);
        for answer in &answers {
            match answer {
                Ok(_) => {}
                Err(Error::Conflict { current: Some(current) }) => assert_eq!(current.modified, winner[0]),
                other => panic!("expected a conflict, got {other:?}"),
            }
        }
        expect = winner[0];
    }
}

/// The way every controller writes.
pub async fn counting_by_compare_and_swap_loses_nothing(store: Store) {
    create(&store, "/count", "0").await;
    together((0..8).map(|_| {
        let store = store.clone();
        async move {
            for _ in 0..25 {
                let mut entry = get(&store, "/count").await.expect("the entry");
                loop {
                    let count: u32 = std::str::from_utf8(&entry.value).expect("text").parse().expect("a number");
                    match store.update("/count", bytes((count + 1).to_string()), entry.modified, None).await {
                        Ok(_) => break,
                        Err(Error::Conflict { current: Some(current) }) => entry = current,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
    }))
    .await;
    assert_eq!(get(&store, "/count").await.expect("the entry").value, "200");
    assert_eq!(store.revision(), Revision(202));
}

/// No two writes share one, none is left out.
pub async fn concurrent_writes_have_dense_revisions(store: Store) {
    let revisions = together((0..16).map(|writer| {
        let store = store.clone();
        async move {
            let mut revisions = Vec::new();
            for n in 0..20 {
                revisions.push(create(&store, &format!("/{writer}/{n}"), "").await);
            }
            assert!(revisions.is_sorted());
            revisions
        }
    }))
    .await;
    let all: BTreeSet<Revision> = revisions.into_iter().flatten().collect();
    assert_eq!(all, (2..=321).map(Revision).collect());
    assert_eq!(store.revision(), Revision(321));
}

/// Watches that start at any time see each later write once, in order.
pub async fn a_watch_has_no_gap_under_concurrent_writes(store: Store) {
    let last = Revision(1 + 8 * 40 * 2);
    let writers = together((0..8).map(|writer| {
        let store = store.clone();
        async move {
            for n in 0..40 {
                let key = format!("/{writer}/{}", n % 7);
                match get(&store, &key).await {
                    Some(entry) => update(&store, &key, "", entry.modified).await,
                    None => create(&store, &key, "").await,
                };
                create(&store, &format!("/{writer}/once/{n}"), "").await;
            }
        }
    }));
    let watchers = together((0..6).map(|_| {
        let store = store.clone();
        async move {
            let start = store.revision();
            let events = follow(&mut store.watch(Range::all(), start), last).await;
            let revisions: Vec<Revision> = events.iter().map(Event::revision).collect();
            assert_eq!(revisions, (start.0 + 1..=last.0).map(Revision).collect::<Vec<_>>());
        }
    }));
    tokio::join!(writers, watchers);
    assert_eq!(store.revision(), last);
}

/// What every reflector does: list, then watch from the list's revision.
pub async fn a_list_and_a_watch_meet_without_gap(store: Store) {
    let last = Revision(1 + 4 * 100);
    let writers = together((0..4).map(|writer| {
        let store = store.clone();
        async move {
            for n in 0..50 {
                let key = format!("/{writer}/{}", n % 5);
                let revision = match get(&store, &key).await {
                    Some(entry) => update(&store, &key, "", entry.modified).await,
                    None => create(&store, &key, "").await,
                };
                store.delete(&key, Some(revision)).await.expect("nobody else writes it");
            }
        }
    }));
    let reflectors = together((0..4).map(|_| {
        let store = store.clone();
        async move {
            let listed = list(&store, &Range::all(), At::Latest, None).await;
            let mut model: BTreeMap<_, _> =
                listed.value.entries.into_iter().map(|entry| (entry.key.to_string(), entry)).collect();
            let mut watch = store.watch(Range::all(), listed.revision);
            while watch.revision() < last {
                let batch = next(&mut watch).await;
                batch.events.iter().for_each(|event| replay(&mut model, event));
                let there = contents(&store, At::Revision(batch.revision)).await;
                assert_eq!(there, model, "at {}", batch.revision);
            }
        }
    }));
    tokio::join!(writers, reflectors);
}

/// A list is one moment: of two keys written in turn, it never has the later without the earlier.
pub async fn reads_are_consistent_under_concurrent_writes(store: Store) {
    create(&store, "/first", "0").await;
    create(&store, "/second", "0").await;
    let writer = store.clone();
    let (mut first, mut second) = (Revision(2), Revision(3));
    let writing = async move {
        for n in 1..=150 {
            first = update(&writer, "/first", &n.to_string(), first).await;
            second = update(&writer, "/second", &n.to_string(), second).await;
        }
    };
    let reading = together((0..3).map(|_| {
        let store = store.clone();
        async move {
            let mut watch = store.watch(Range::all(), store.revision());
            while watch.revision() < Revision(303) {
                let listed = list(&store, &Range::all(), At::Latest, None).await;
                let newest = listed.value.entries.iter().map(|entry| entry.modified).max();
                assert_eq!(newest, Some(listed.revision), "the list is of its revision");
                let [first, second] = [0, 1].map(|n| {
                    let text = std::str::from_utf8(&listed.value.entries[n].value).expect("text");
                    text.parse::<u32>().expect("a number")
                });
                assert!(first == second || first == second + 1, "{first} and {second}");
                next(&mut watch).await;
            }
        }
    }));
    tokio::join!(writing, reading);
}
