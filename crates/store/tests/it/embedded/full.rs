//! A full disk: a small file system in memory, mounted for the test, which therefore needs root.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{Clock, TaskGroup};
use bytes::Bytes;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use store::{At, Entry, Error, Options, Range, Store};

/// A file system of its own, unmounted when it is dropped.
struct Small(PathBuf, #[expect(dead_code, reason = "it removes the mount point")] tempfile::TempDir);

impl Small {
    fn new(bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
            .expect("this test mounts a tmpfs and must be run as root");
        Self(dir.path().to_owned(), dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).expect("it is mounted");
    }
}

async fn open(disk: &Small, free_bytes_min: u64, tasks: &TaskGroup) -> Store {
    let options = Options { free_bytes_min, ..Options::new(disk.0.join("store")) };
    Store::open(options, Clock::system(), tasks.clone()).await.unwrap()
}

async fn list(store: &Store) -> Vec<Entry> {
    store.range(&Range::all(), At::Latest, None).await.unwrap().value.entries
}

/// Takes up all room but so much; it is given back later.
fn ballast(disk: &Small, but_bytes: u64) -> PathBuf {
    let path = disk.0.join("ballast");
    let free = rustix::fs::statvfs(&disk.0).unwrap();
    let bytes = (free.f_bavail * free.f_frsize).checked_sub(but_bytes).expect("that much is free");
    std::fs::write(&path, vec![0; usize::try_from(bytes).unwrap()]).unwrap();
    path
}

/// Writes until it is refused; tells how many were acknowledged.
async fn fill(store: &Store, prefix: &str) -> (usize, Error) {
    for n in 0.. {
        if let Err(error) = store.create(&format!("/{prefix}/{n}"), Bytes::from(vec![b'x'; 16 << 10]), None).await {
            return (n, error);
        }
        assert!(n < 10_000, "the disk never was full");
    }
    unreachable!("the loop ends by returning")
}

async fn close(tasks: TaskGroup) {
    assert!(tasks.shutdown(Duration::from_secs(30)).await, "the store did not close");
    assert_eq!(base::task::panics(), 0, "something panicked");
}

/// The reserve is kept: the database itself never meets the full disk.
#[tokio::test]
async fn writes_stop_before_the_disk_is_full_and_deletes_go_on() {
    let disk = Small::new(32 << 20);
    let ballast = ballast(&disk, 24 << 20);
    let tasks = TaskGroup::new();
    let store = open(&disk, 16 << 20, &tasks).await;
    let (written, error) = fill(&store, "a").await;
    assert!(matches!(&error, Error::Full(reason) if reason.contains("free")), "{error:?}");
    assert!(written > 10, "{written}");
    assert_eq!(list(&store).await.len(), written);
    store.delete("/a/0", None).await.unwrap();
    std::fs::remove_file(ballast).unwrap();
    store.create("/b", Bytes::from_static(b"1"), None).await.unwrap();
    let before = list(&store).await;
    close(tasks).await;
    let tasks = TaskGroup::new();
    assert_eq!(list(&open(&disk, 16 << 20, &tasks).await).await, before);
    close(tasks).await;
}

/// Without a reserve the database meets it: the failed write has not happened, reads go on, and with space it goes on.
#[tokio::test]
async fn a_full_disk_fails_the_write_and_nothing_else() {
    let disk = Small::new(24 << 20);
    let mut ballast_path = ballast(&disk, 4 << 20);
    let tasks = TaskGroup::new();
    let store = open(&disk, 0, &tasks).await;
    let mut watch = store.watch(Range::all(), store.revision());
    for round in 0..3 {
        let before = store.revision();
        let (written, error) = fill(&store, &format!("full-{round}")).await;
        assert!(matches!(&error, Error::Full(_) | Error::Unavailable(_)), "{error:?}");
        assert_eq!(store.revision().0, before.0 + written as u64, "the failed write is no revision");
        for _ in 0..3 {
            let again = store.create("/again", Bytes::from(vec![b'y'; 2 << 20]), None).await;
            assert!(matches!(&again, Err(Error::Full(_) | Error::Unavailable(_))), "{again:?}");
        }
        let key = format!("/full-{round}/{written}");
        assert!(store.get(&key).await.unwrap().value.is_none());
        assert!(store.get("/again").await.unwrap().value.is_none());

        std::fs::remove_file(&ballast_path).unwrap();
        let revision = recovered(&store, &format!("/with-space/{round}")).await;
        assert_eq!(revision, before.0 + written as u64 + 1, "revisions go on without a gap");
        while watch.revision().0 < revision {
            watch.next().await.unwrap();
        }
        let names: Vec<Entry> = list(&store).await;
        for entry in names.iter().filter(|entry| entry.key.starts_with("/full-")) {
            store.delete(&entry.key, Some(entry.modified)).await.unwrap();
        }
        ballast_path = ballast(&disk, 4 << 20);
    }
    let (_, error) = fill(&store, "last").await;
    assert!(matches!(&error, Error::Full(_) | Error::Unavailable(_)), "{error:?}");
    let (before, revision) = (list(&store).await, store.revision());
    close(tasks).await;
    let tasks = TaskGroup::new();
    let store = open(&disk, 0, &tasks).await;
    assert_eq!((list(&store).await, store.revision()), (before, revision), "it opens, and reads, on a full disk");
    std::fs::remove_file(&ballast_path).unwrap();
    assert_eq!(recovered(&store, "/with-space/last").await, revision.0 + 1);
    close(tasks).await;
}

/// The database's own background work meets it as well: a table does not fit beside the journal.
#[tokio::test]
async fn a_disk_too_full_for_a_table_is_survived() {
    let disk = Small::new(13 << 20);
    let tasks = TaskGroup::new();
    let store = open(&disk, 0, &tasks).await;
    let (written, error) = fill(&store, "a").await;
    assert!(matches!(&error, Error::Full(_) | Error::Unavailable(_)), "{error:?}");
    assert!(written > (8 << 20) / (16 << 10), "only {written} fitted: no table was due yet");
    assert_eq!(list(&store).await.len(), written);
    let bigger = std::ffi::CString::new("size=64m").unwrap();
    mount_remount(&disk.0, MountFlags::empty(), &bigger).unwrap();
    recovered(&store, "/b").await;
    for n in 0..600 {
        store.create(&format!("/c/{n}"), Bytes::from(vec![b'z'; 16 << 10]), None).await.unwrap();
    }
    let before = list(&store).await;
    assert_eq!(before.len(), written + 1 + 600);
    close(tasks).await;
    let tasks = TaskGroup::new();
    assert_eq!(list(&open(&disk, 0, &tasks).await).await, before);
    close(tasks).await;
}

/// Writes `key`, at once or after the second for which a database that stopped itself is left alone.
async fn recovered(store: &Store, key: &str) -> u64 {
    let clock = Clock::system();
    let deadline = clock.monotonic() + Duration::from_secs(10);
    loop {
        match store.create(key, Bytes::from_static(b"1"), None).await {
            Ok(revision) => return revision.0,
            Err(Error::Unavailable(_)) if clock.monotonic() < deadline => {
                clock.sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("there is space again, yet: {error}"),
        }
    }
}

/// A directory that cannot be made says so.
#[tokio::test]
async fn a_store_that_cannot_be_made_says_why() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let dir: &Path = &file.path().join("store");
    match super::open(dir, &TaskGroup::new()).await {
        Err(Error::Unavailable(reason)) => assert!(reason.contains(dir.to_str().unwrap()), "{reason}"),
        other => panic!("expected a refusal, got {other:?}"),
    }
}
