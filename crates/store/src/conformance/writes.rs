//! One write after the other.

use std::collections::BTreeMap;

use base::Random;

use super::{bytes, contents, create, delete, get, replay, update};
use crate::{At, Entry, Error, Event, KEY_BYTES_MAX, Range, Revision, Store, VALUE_BYTES_MAX};

/// Nothing is in it, at revision 1.
pub async fn a_new_store_is_empty(store: Store) {
    assert_eq!((store.revision(), store.oldest()), (Revision(1), Revision(1)));
    let got = store.get("/a").await.expect("a read");
    assert_eq!((got.revision, got.value), (Revision(1), None));
    assert!(contents(&store, At::Latest).await.is_empty());
}

/// Value and both revisions are as written.
pub async fn a_created_entry_is_read_back(store: Store) {
    let revision = create(&store, "/a", "1").await;
    assert_eq!(revision, Revision(2));
    let got = store.get("/a").await.expect("a read");
    let entry = Entry { key: "/a".into(), value: bytes("1"), created: revision, modified: revision };
    assert_eq!((got.revision, got.value), (revision, Some(entry)));
    assert_eq!(get(&store, "/a/").await, None);
    assert_eq!(get(&store, "/").await, None);
}

/// And leaves what there is.
pub async fn creating_an_existing_key_is_refused(store: Store) {
    create(&store, "/a", "1").await;
    assert!(matches!(store.create("/a", bytes("2"), None).await, Err(Error::Exists)));
    assert_eq!(get(&store, "/a").await.expect("the entry").value, "1");
}

/// As etcd's `create_revision` and `mod_revision`.
pub async fn an_update_keeps_created_and_raises_modified(store: Store) {
    let first = create(&store, "/a", "1").await;
    create(&store, "/b", "1").await;
    let second = update(&store, "/a", "2", first).await;
    assert_eq!(second, Revision(4));
    let entry = get(&store, "/a").await.expect("the entry");
    assert_eq!((entry.created, entry.modified, entry.value), (first, second, bytes("2")));
    let third = update(&store, "/a", "2", second).await;
    assert_eq!(third, Revision(5), "an update to the same value is a write");
}

/// So that the caller need not read before it tries again.
pub async fn a_stale_update_is_told_the_current_entry(store: Store) {
    let first = create(&store, "/a", "1").await;
    let second = update(&store, "/a", "2", first).await;
    for stale in [first, Revision(0), second.next()] {
        match store.update("/a", bytes("3"), stale, None).await {
            Err(Error::Conflict { current: Some(current) }) => {
                assert_eq!((current.modified, current.value), (second, bytes("2")))
            }
            other => panic!("expected a conflict, got {other:?}"),
        }
    }
    assert_eq!(get(&store, "/a").await.expect("the entry").value, "2");
}

/// Also when it existed and was deleted.
pub async fn updating_a_missing_key_is_told_there_is_none(store: Store) {
    let missing = store.update("/a", bytes("1"), Revision(1), None).await;
    assert!(matches!(missing, Err(Error::Conflict { current: None })), "{missing:?}");
    let revision = create(&store, "/a", "1").await;
    delete(&store, "/a").await;
    let deleted = store.update("/a", bytes("1"), revision, None).await;
    assert!(matches!(deleted, Err(Error::Conflict { current: None })), "{deleted:?}");
}

/// The last entry, and the revision of the delete itself.
pub async fn a_delete_tells_what_was_deleted(store: Store) {
    let created = create(&store, "/a", "1").await;
    let modified = update(&store, "/a", "2", created).await;
    let deleted = delete(&store, "/a").await;
    assert_eq!(deleted.revision, modified.next());
    assert_eq!(deleted.value, Entry { key: "/a".into(), value: bytes("2"), created, modified });
    assert_eq!(get(&store, "/a").await, None);
    assert_eq!(store.revision(), deleted.revision);
}

/// With or without an expected revision.
pub async fn deleting_a_missing_key_is_refused(store: Store) {
    assert!(matches!(store.delete("/a", None).await, Err(Error::NotFound)));
    let revision = create(&store, "/a", "1").await;
    delete(&store, "/a").await;
    assert!(matches!(store.delete("/a", Some(revision)).await, Err(Error::NotFound)));
}

/// And nothing is deleted.
pub async fn a_stale_delete_is_told_the_current_entry(store: Store) {
    let first = create(&store, "/a", "1").await;
    let second = update(&store, "/a", "2", first).await;
    match store.delete("/a", Some(first)).await {
        Err(Error::Conflict { current: Some(current) }) => assert_eq!(current.modified, second),
        other => panic!("expected a conflict, got {other:?}"),
    }
    assert!(get(&store, "/a").await.is_some());
}

/// The compare-and-swap of deletes.
pub async fn a_delete_at_the_expected_revision_is_done(store: Store) {
    let revision = create(&store, "/a", "1").await;
    let deleted = store.delete("/a", Some(revision)).await.expect("a delete");
    assert_eq!((deleted.revision, deleted.value.modified), (revision.next(), revision));
}

/// Nothing of its past remains in it.
pub async fn a_key_created_again_starts_anew(store: Store) {
    create(&store, "/a", "1").await;
    delete(&store, "/a").await;
    let again = create(&store, "/a", "2").await;
    assert_eq!(again, Revision(4));
    let entry = get(&store, "/a").await.expect("the entry");
    assert_eq!((entry.created, entry.modified), (again, again));
}

/// By one each.
pub async fn each_write_is_a_revision_and_a_refused_one_is_none(store: Store) {
    let a = create(&store, "/a", "1").await;
    assert!(store.create("/a", bytes("1"), None).await.is_err());
    assert!(store.update("/b", bytes("1"), a, None).await.is_err());
    assert!(store.delete("/b", None).await.is_err());
    assert_eq!(store.revision(), a);
    let b = create(&store, "/b", "1").await;
    let c = update(&store, "/b", "2", b).await;
    let d = delete(&store, "/a").await.revision;
    assert_eq!([a, b, c, d], [Revision(2), Revision(3), Revision(4), Revision(5)]);
    assert_eq!(store.revision(), d);
}

/// Also none.
pub async fn values_are_any_bytes(store: Store) {
    let all: Vec<u8> = (0..=255).collect();
    for (key, value) in [("/empty", &[][..]), ("/zeros", &[0; 24]), ("/all", &all)] {
        store.create(key, bytes(value), None).await.expect("a create");
        assert_eq!(get(&store, key).await.expect("the entry").value, value, "{key}");
    }
}

/// The limit is inclusive.
pub async fn large_values_are_kept_and_too_large_ones_refused(store: Store) {
    let largest = vec![b'x'; VALUE_BYTES_MAX];
    let revision = store.create("/largest", bytes(&largest), None).await.expect("a create");
    assert_eq!(get(&store, "/largest").await.expect("the entry").value, largest);
    let larger = vec![b'x'; VALUE_BYTES_MAX + 1];
    let refused = store.create("/larger", bytes(&larger), None).await;
    assert!(matches!(refused, Err(Error::TooLarge { bytes, .. }) if bytes == larger.len()), "{refused:?}");
    let refused = store.update("/largest", bytes(&larger), revision, None).await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    assert_eq!(store.revision(), revision);
}

/// The limit is inclusive.
pub async fn too_long_keys_are_refused(store: Store) {
    let longest = "k".repeat(KEY_BYTES_MAX);
    create(&store, &longest, "1").await;
    assert_eq!(&*get(&store, &longest).await.expect("the entry").key, longest);
    let longer = "k".repeat(KEY_BYTES_MAX + 1);
    assert!(matches!(store.create(&longer, bytes("1"), None).await, Err(Error::TooLarge { .. })));
}

/// None is special to the store, not even the empty one.
pub async fn keys_are_any_text(store: Store) {
    let texts = ["", "\0", "\0\0", "a\0b", "k", "m", "revision", "/ü/日本/🚢", "\u{10ffff}", " ", "/"];
    for text in texts {
        create(&store, text, text).await;
    }
    for text in texts {
        assert_eq!(get(&store, text).await.expect("the entry").value, text, "{text:?}");
    }
    let mut sorted = texts.map(str::to_owned).to_vec();
    sorted.sort();
    assert_eq!(super::keys(&store, &Range::all(), At::Latest).await, sorted);
}

/// 2,000 random writes on 12 keys: the answers, the state and the events are those of a sorted map.
pub async fn agrees_with_a_model(store: Store) {
    let random = Random::seeded(17);
    let mut model: BTreeMap<String, Entry> = BTreeMap::new();
    let mut revision = store.revision();
    let mut watch = store.watch(Range::all(), revision);
    for step in 0..2000 {
        let key = format!("/{}", random.below(12));
        let value = bytes(step.to_string());
        let current = model.get(&key).cloned();
        let expect = match (random.below(3), &current) {
            (0, _) => Revision(random.below(revision.0 + 2)),
            (_, Some(current)) => current.modified,
            (_, None) => revision,
        };
        let next = revision.next();
        let fits = current.as_ref().is_some_and(|current| current.modified == expect);
        match random.below(3) {
            0 => match (store.create(&key, value.clone(), None).await, current) {
                (Ok(got), None) => {
                    assert_eq!(got, next);
                    model.insert(key.clone(), Entry { key: key.into(), value, created: next, modified: next });
                }
                (Err(Error::Exists), Some(_)) => {}
                (answer, current) => panic!("step {step}: create of {current:?} answered {answer:?}"),
            },
            1 => match store.update(&key, value.clone(), expect, None).await {
                Ok(got) if fits => {
                    assert_eq!(got, next);
                    let entry = model.get_mut(&key).expect("it fits");
                    (entry.value, entry.modified) = (value, next);
                }
                Err(Error::Conflict { current: told }) if !fits => assert_eq!(told, current),
                answer => panic!("step {step}: update of {current:?} at {expect} answered {answer:?}"),
            },
            _ => match (store.delete(&key, Some(expect)).await, current) {
                (Ok(got), Some(current)) if fits => {
                    assert_eq!((got.revision, &got.value), (next, &current));
                    model.remove(&key);
                }
                (Err(Error::NotFound), None) => {}
                (Err(Error::Conflict { current: told }), Some(current)) if !fits => assert_eq!(told, Some(current)),
                (answer, current) => panic!("step {step}: delete of {current:?} at {expect} answered {answer:?}"),
            },
        }
        revision = store.revision();
    }
    assert_eq!(contents(&store, At::Latest).await, model);
    let mut replayed = BTreeMap::new();
    let events: Vec<Event> = super::follow(&mut watch, revision).await;
    assert_eq!(events.len() as u64, revision.0 - 1, "each revision has its event");
    events.iter().for_each(|event| replay(&mut replayed, event));
    assert_eq!(replayed, model);
}
