//! Nothing acknowledged is lost, whenever the process is killed.
//!
//! A child (this test binary again) writes with eight writers and says on its standard output what was acknowledged; it
//! is killed after a while. What it said must be there, and of what it did not say nothing may be half there.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base::{Random, TaskGroup};
use bytes::Bytes;
use store::{At, Range, Revision};

use super::open;

const DIR: &str = "PINTLE_STORE_KILL_DIR";
const CYCLES: usize = 24;
const WRITERS: usize = 8;
const KEYS_EACH: u64 = 6;

/// A value that shows if it is torn or belongs to another write.
fn value(writer: usize, n: u64) -> Bytes {
    let mark = format!("{writer} {n} ");
    Bytes::from(mark.repeat(1 + usize::try_from(n * 37 % 300).unwrap()))
}

/// Not a test: the child that is killed. It does nothing when run as one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let tasks = TaskGroup::new();
    let store = open(Path::new(&dir), &tasks).await.unwrap();
    let said = Arc::new(std::sync::Mutex::new(std::io::stdout()));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, said) = (store.clone(), said.clone());
        writers.spawn(async move {
            for n in store.revision().0.. {
                let key = format!("/{writer}/{}", n % KEYS_EACH);
                let current = store.get(&key).await.unwrap().value;
                let line = match current {
                    Some(entry) if n % 5 == 0 => {
                        let deleted = store.delete(&key, Some(entry.modified)).await.unwrap();
                        format!("\nacked {} {key} deleted\n", deleted.revision)
                    }
                    Some(entry) => {
                        let revision = store.update(&key, value(writer, n), entry.modified, None).await.unwrap();
                        format!("\nacked {revision} {key} {writer} {n}\n")
                    }
                    None => {
                        let revision = store.create(&key, value(writer, n), None).await.unwrap();
                        format!("\nacked {revision} {key} {writer} {n}\n")
                    }
                };
                let mut said = said.lock().unwrap();
                said.write_all(line.as_bytes()).and_then(|()| said.flush()).unwrap();
            }
        });
    }
    while writers.join_next().await.is_some() {}
}

/// For each key the last acknowledged write: its revision, and by whom (`None` for a delete).
type Acknowledged = BTreeMap<String, (u64, Option<(usize, u64)>)>;

/// Runs the child until it has acknowledged `acks` writes, kills it, and notes what it said.
fn run_and_kill(dir: &Path, acks: u64, acknowledged: &mut Acknowledged) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::kill::child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut count = 0;
    let mut killed = false;
    // After the kill the pipe still holds what was said before it.
    for line in lines {
        let line = line.unwrap();
        let mut words = line.split(' ');
        if words.next() != Some("acked") {
            continue;
        }
        // A line that the kill cut short was not said.
        let (Some(revision), Some(key), Some(what)) = (words.next(), words.next(), words.next()) else { continue };
        let write = match (what, words.next()) {
            ("deleted", _) => None,
            (writer, Some(n)) => Some((writer.parse().unwrap(), n.parse().unwrap())),
            (_, None) => continue,
        };
        let revision: u64 = revision.parse().unwrap();
        let last = acknowledged.entry(key.to_owned()).or_default();
        assert!(revision > last.0, "one writer per key: its writes are acknowledged in order");
        *last = (revision, write);
        count += 1;
        if count >= acks && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert!(killed, "the child ended by itself ({status}) after {count} writes");
    count
}

/// Checks the directory against what was acknowledged.
async fn check(dir: &Path, acknowledged: &Acknowledged) {
    let tasks = TaskGroup::new();
    let store = open(dir, &tasks).await.unwrap();
    let last = acknowledged.values().map(|(revision, _)| *revision).max().unwrap_or(0);
    assert!(store.revision() >= Revision(last), "{} after {last} was acknowledged", store.revision());
    let listed = store.range(&Range::all(), At::Latest, None).await.unwrap().value.entries;
    let there: BTreeMap<String, _> = listed.into_iter().map(|entry| (entry.key.to_string(), entry)).collect();
    for (key, (revision, write)) in acknowledged {
        match (there.get(key), write) {
            (Some(entry), Some((writer, n))) if entry.modified == Revision(*revision) => {
                assert_eq!(entry.value, value(*writer, *n), "{key} at {revision}");
            }
            // A later write of the same key was done but not acknowledged.
            (Some(entry), _) => assert!(entry.modified > Revision(*revision), "{key} is older than acknowledged"),
            (None, None) => {}
            (None, Some(_)) => {
                assert!(store.revision() > Revision(*revision), "{key} was acknowledged at {revision} and is lost");
            }
        }
    }
    for (key, entry) in &there {
        let text = std::str::from_utf8(&entry.value).unwrap();
        let mut words = text.split(' ');
        let (writer, n) = (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
        assert_eq!(entry.value, value(writer, n), "{key} is torn");
        assert!(key.starts_with(&format!("/{writer}/")) && entry.modified <= store.revision());
    }
    assert!(tasks.shutdown(Duration::from_secs(30)).await);
}

#[tokio::test]
async fn killed_at_any_instant_it_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let random = Random::system();
    let mut acknowledged = Acknowledged::new();
    let mut count = 0;
    for _ in 0..CYCLES {
        count += run_and_kill(dir.path(), 1 + random.below(300), &mut acknowledged);
        check(dir.path(), &acknowledged).await;
    }
    assert!(count > 300, "only {count} writes were acknowledged in all");
}
