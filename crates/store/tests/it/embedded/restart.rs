//! What is there after the store was closed and opened again, and who may open it.

use std::time::Duration;

use base::{Random, TaskGroup};
use store::{At, Error, Event, Range, Revision, Snapshot};

use super::{Opened, open, text};

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let mut disk = Opened::new().await;
    let random = Random::seeded(3);
    let mut keys: Vec<(String, Revision)> = Vec::new();
    for round in 0..4 {
        for n in 0..200 {
            let value = text(&"v".repeat(usize::try_from(random.below(3000)).unwrap()));
            match random.below(6) {
                0 if !keys.is_empty() => {
                    let (key, modified) = keys.swap_remove(usize::try_from(random.below(keys.len() as u64)).unwrap());
                    disk.store.delete(&key, Some(modified)).await.unwrap();
                }
                1 | 2 if !keys.is_empty() => {
                    let at = usize::try_from(random.below(keys.len() as u64)).unwrap();
                    keys[at].1 = disk.store.update(&keys[at].0, value, keys[at].1, None).await.unwrap();
                }
                _ => {
                    let key = format!("/{round}/{n}");
                    let revision = disk.store.create(&key, value, None).await.unwrap();
                    keys.push((key, revision));
                }
            }
        }
        let before = disk.store.range(&Range::all(), At::Latest, None).await.unwrap();
        disk = disk.restart().await;
        let after = disk.store.range(&Range::all(), At::Latest, None).await.unwrap();
        assert!(before.value.entries.len() > 50);
        assert_eq!(after, before, "state and revision");
    }
    disk.close().await;
}

/// Enough for several tables, for compactions and for a second journal, with most of it overwritten or deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_to_tables_is_there_after_a_restart() {
    let disk = Opened::new().await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..32 {
        let store = disk.store.clone();
        writers.spawn(async move {
            let random = Random::seeded(writer);
            for n in 0..70 {
                let mut value = vec![0; 30_000 + usize::try_from(random.below(10_000)).unwrap()];
                random.fill(&mut value);
                let key = format!("/{writer}/{}", random.below(20));
                match store.get(&key).await.unwrap().value {
                    Some(entry) if n % 3 == 0 => store.delete(&key, Some(entry.modified)).await.unwrap().revision,
                    Some(entry) => store.update(&key, value.into(), entry.modified, None).await.unwrap(),
                    None => store.create(&key, value.into(), None).await.unwrap(),
                };
            }
        });
    }
    writers.join_all().await;
    let before = disk.store.range(&Range::all(), At::Latest, None).await.unwrap();
    assert_eq!(before.revision, Revision(1 + 32 * 70));
    let disk = disk.restart().await;
    assert_eq!(disk.store.range(&Range::all(), At::Latest, None).await.unwrap(), before);
    let disk = disk.restart().await;
    assert_eq!(disk.store.range(&Range::all(), At::Latest, None).await.unwrap(), before);
    disk.close().await;
}

#[tokio::test]
async fn a_delete_counts_as_the_last_revision() {
    let disk = Opened::new().await;
    disk.store.create("/a", text("1"), None).await.unwrap();
    let deleted = disk.store.delete("/a", None).await.unwrap().revision;
    let disk = disk.restart().await;
    assert_eq!(disk.store.revision(), deleted);
    assert_eq!(disk.store.create("/a", text("2"), None).await.unwrap(), deleted.next());
    disk.close().await;
}

#[tokio::test]
async fn history_begins_anew_with_a_restart() {
    let disk = Opened::new().await;
    disk.store.create("/a", text("1"), None).await.unwrap();
    let before = disk.store.create("/b", text("1"), None).await.unwrap();
    let disk = disk.restart().await;
    assert_eq!(disk.store.oldest(), before);
    let refused = disk.store.watch(Range::all(), Revision(2)).next().await;
    assert!(matches!(refused, Err(Error::Compacted { oldest }) if oldest == before), "{refused:?}");
    let refused = disk.store.range(&Range::all(), At::Revision(Revision(2)), None).await;
    assert!(matches!(refused, Err(Error::Compacted { oldest }) if oldest == before), "{refused:?}");

    let mut watch = disk.store.watch(Range::all(), before);
    let after = disk.store.update("/a", text("2"), Revision(2), None).await.unwrap();
    let batch = watch.next().await.unwrap();
    let [Event::Put { entry, previous: Some(previous) }] = &batch.events[..] else { panic!("{batch:?}") };
    assert_eq!((entry.created, entry.modified), (Revision(2), after));
    assert_eq!((&previous.value, previous.modified), (&text("1"), Revision(2)));
    disk.close().await;
}

#[tokio::test]
async fn times_to_live_go_on_over_a_restart() {
    let disk = Opened::new().await;
    disk.store.create("/soon", text(""), Some(Duration::from_millis(1))).await.unwrap();
    disk.store.create("/late", text(""), Some(Duration::from_secs(3600))).await.unwrap();
    let disk = disk.restart().await;
    let mut watch = disk.store.watch(Range::all(), disk.store.oldest());
    while disk.store.get("/soon").await.unwrap().value.is_some() {
        watch.next().await.unwrap();
    }
    let left = disk.store.range(&Range::all(), At::Latest, None).await.unwrap().value.entries;
    assert_eq!(left.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), ["/late"]);
    disk.close().await;
}

#[tokio::test]
async fn a_closed_store_refuses_writes_and_ends_watches_but_reads() {
    let disk = Opened::new().await;
    let store = disk.store.clone();
    let revision = store.create("/a", text("1"), None).await.unwrap();
    let mut watch = store.watch(Range::all(), Revision(1));
    disk.close().await;
    let refused = store.create("/b", text("1"), None).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert_eq!(watch.next().await.unwrap().revision, revision, "what happened is still told");
    let ended = watch.next().await;
    assert!(matches!(ended, Err(Error::Unavailable(_))), "{ended:?}");
    let Snapshot { value, .. } = store.get("/a").await.unwrap();
    assert_eq!(value.unwrap().value, text("1"));
}

#[tokio::test]
async fn the_last_handle_closes_the_store() {
    let disk = Opened::new().await;
    let Opened { store, tasks, dir } = disk;
    let dir = dir.unwrap();
    let mut watch = store.watch(Range::all(), Revision(1));
    drop(store);
    let ended = watch.next().await;
    assert!(matches!(ended, Err(Error::Unavailable(_))), "{ended:?}");
    assert!(tasks.shutdown(Duration::from_secs(30)).await);
    drop(dir);
}

#[tokio::test]
async fn two_cannot_have_it_open() {
    let disk = Opened::new().await;
    let tasks = TaskGroup::new();
    match open(disk.dir(), &tasks).await {
        Err(Error::Locked { dir, holder }) => {
            assert_eq!(dir, disk.dir());
            assert_eq!(holder, format!("process {}", std::process::id()));
        }
        other => panic!("expected it to be locked, got {other:?}"),
    }
    disk.store.create("/a", text("1"), None).await.unwrap();
    disk.restart().await.close().await;
}

#[tokio::test]
async fn a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("format"), "pintle store 2\n").unwrap();
    match open(dir.path(), &TaskGroup::new()).await {
        Err(Error::NewerFormat { found: 2, supported: 1, .. }) => {}
        other => panic!("expected a newer format, got {other:?}"),
    }
    let there: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(there, ["format"], "nothing was touched");
    assert_eq!(std::fs::read_to_string(dir.path().join("format")).unwrap(), "pintle store 2\n");
}

#[tokio::test]
async fn an_interrupted_first_start_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("creating"), "").unwrap();
    std::fs::create_dir_all(dir.path().join("db/keyspaces")).unwrap();
    std::fs::write(dir.path().join("db/0.jnl"), "half").unwrap();
    let tasks = TaskGroup::new();
    let store = open(dir.path(), &tasks).await.unwrap();
    store.create("/a", text("1"), None).await.unwrap();
    assert!(tasks.shutdown(Duration::from_secs(30)).await);
    assert!(!dir.path().join("creating").exists());
}

#[tokio::test]
async fn a_database_without_a_format_is_not_touched() {
    let disk = Opened::new().await;
    disk.store.create("/a", text("1"), None).await.unwrap();
    let Opened { tasks, dir, .. } = disk;
    let dir = dir.unwrap();
    assert!(tasks.shutdown(Duration::from_secs(30)).await);
    std::fs::remove_file(dir.path().join("format")).unwrap();
    let refused = open(dir.path(), &TaskGroup::new()).await;
    assert!(matches!(&refused, Err(Error::Unavailable(reason)) if reason.contains("format")), "{refused:?}");

    std::fs::write(dir.path().join("format"), "pintle store 1\n").unwrap();
    let tasks = TaskGroup::new();
    let store = open(dir.path(), &tasks).await.unwrap();
    assert!(store.get("/a").await.unwrap().value.is_some());
    assert!(tasks.shutdown(Duration::from_secs(30)).await);
}
