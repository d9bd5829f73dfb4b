//! Measures the store on the disk: durable writes, reads, lists, watches, and opening it with 100,000 objects in it.
//!
//! ```text
//! cargo run --release -p pintle-store --example store_bench [DIR]
//! ```
//!
//! DIR must be on the disk to be measured and must not hold a store; without it a temporary directory is used.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use base::{Clock, Random, TaskGroup};
use bytes::Bytes;
use store::{At, Options, Range, Revision, Store};
use tokio::task::JoinSet;

const OPEN_FLAG: &str = "--open";
const OBJECTS: usize = 100_000;
const OBJECT_BYTES: usize = 1024;
const MEASURED: Duration = Duration::from_secs(5);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, dir] = &arguments[..]
        && flag == OPEN_FLAG
    {
        return runtime.block_on(opening(Path::new(dir)));
    }
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let dir = arguments.first().map_or(temporary.path().join("bench"), Into::into);
    assert!(!dir.exists(), "{} exists", dir.display());
    std::fs::create_dir_all(&dir).expect("the directory can be created");
    println!("values of {OBJECT_BYTES} bytes; each write is answered when it is on the disk");
    runtime.block_on(restarts(&dir.join("restarts")));
    runtime.block_on(work(&dir));
    std::fs::remove_dir_all(&dir).expect("the directory can be removed");
}

/// How long opening takes, each time in a process of its own.
async fn restarts(dir: &Path) {
    let (store, tasks) = open(dir, Clock::system()).await;
    fill(&store, OBJECTS).await;
    close(store, tasks).await;
    for _ in 0..3 {
        let program = std::env::current_exe().expect("this program");
        let status = std::process::Command::new(program).arg(OPEN_FLAG).arg(dir).status().expect("it starts");
        assert!(status.success());
    }
}

async fn opening(dir: &Path) {
    let started = Clock::system().monotonic();
    let (store, tasks) = open(dir, Clock::system()).await;
    let elapsed = ms(started.elapsed());
    let count = store.range(&Range::all(), At::Latest, Some(0)).await.expect("a list").value.remaining;
    println!("opening with {count} objects: {elapsed:>8.1} ms, {} MiB resident", resident_mib());
    close(store, tasks).await;
}

async fn close(store: Store, tasks: TaskGroup) {
    drop(store);
    assert!(tasks.shutdown(Duration::from_secs(60)).await, "the store closes");
}

async fn work(dir: &Path) {
    let clock = Clock::system();
    raw(dir, clock);
    let started = clock.monotonic();
    let (store, tasks) = open(&dir.join("work"), clock).await;
    println!("first start, empty:          {:>8.1} ms", ms(started.elapsed()));
    for writers in [1, 4, 16, 64, 256] {
        creates(&store, clock, writers).await;
    }
    updates(&store, clock, 16).await;
    reads(&store, clock).await;
    watches(&store, clock).await;
    let started = clock.monotonic();
    close(store, tasks).await;
    println!("closing:                     {:>8.1} ms", ms(started.elapsed()));
}

/// What the disk does by itself: 16 KiB appended and synced, one after the other.
fn raw(dir: &Path, clock: Clock) {
    let mut file = std::fs::File::create(dir.join("raw")).expect("a file");
    let mut times: Vec<Duration> = (0..500)
        .map(|_| {
            let started = clock.monotonic();
            file.write_all(&[0; 16 << 10]).and_then(|()| file.sync_data()).expect("the disk writes");
            started.elapsed()
        })
        .collect();
    std::fs::remove_file(dir.join("raw")).expect("the file is there");
    println!("fdatasync of 16 KiB:         {}", percentiles(&mut times));
}

async fn open(dir: &Path, clock: Clock) -> (Store, TaskGroup) {
    let tasks = TaskGroup::new();
    let store = Store::open(Options::new(dir), clock, tasks.clone()).await.expect("the store opens");
    (store, tasks)
}

/// About what a small object is: text that compresses somewhat.
fn value(random: &Random) -> Bytes {
    let mut text = String::with_capacity(OBJECT_BYTES + 64);
    while text.len() < OBJECT_BYTES {
        text.push_str(r#"{"kind":"ConfigMap","metadata":{"name":""#);
        text.push_str(&random.suffix(24));
    }
    text.truncate(OBJECT_BYTES);
    Bytes::from(text)
}

fn key(writer: usize, writers: usize, n: usize) -> String {
    format!("/registry/configmaps/namespace-{writers}-{}/object-{writer}-{n}", n % 10)
}

async fn creates(store: &Store, clock: Clock, writers: usize) {
    let started = clock.monotonic();
    let mut running = JoinSet::new();
    for writer in 0..writers {
        let store = store.clone();
        running.spawn(async move {
            let value = value(&Random::seeded(writer as u64));
            let mut times = Vec::new();
            while started.elapsed() < MEASURED / 2 {
                let key = key(writer, writers, times.len());
                let asked = clock.monotonic();
                store.create(&key, value.clone(), None).await.expect("a create");
                times.push(asked.elapsed());
            }
            times
        });
    }
    let mut times = running.join_all().await.concat();
    report(&format!("create, {writers} writers"), times.len(), started.elapsed(), &mut times);
}

async fn updates(store: &Store, clock: Clock, writers: usize) {
    let started = clock.monotonic();
    let mut running = JoinSet::new();
    for writer in 0..writers {
        let store = store.clone();
        running.spawn(async move {
            let value = value(&Random::seeded(writer as u64));
            let mut times = Vec::new();
            while started.elapsed() < MEASURED {
                let key = key(writer, writers, times.len() % 100);
                let asked = clock.monotonic();
                let entry = store.get(&key).await.expect("a read").value.expect("it was created");
                store.update(&key, value.clone(), entry.modified, None).await.expect("an update");
                times.push(asked.elapsed());
            }
            times
        });
    }
    let mut times = running.join_all().await.concat();
    report(&format!("get and update, {writers} writers"), times.len(), started.elapsed(), &mut times);
}

async fn fill(store: &Store, count: usize) {
    let mut running = JoinSet::new();
    for writer in 0..512 {
        let store = store.clone();
        running.spawn(async move {
            let random = Random::seeded(1000 + writer as u64);
            for n in (writer..count).step_by(512) {
                store.create(&key(writer, 0, n), value(&random), None).await.expect("a create");
            }
        });
    }
    running.join_all().await;
}

async fn reads(store: &Store, clock: Clock) {
    let started = clock.monotonic();
    for n in 0..100_000 {
        store.get(&key(n % 16, 16, n % 100)).await.expect("a read").value.expect("it was created");
    }
    println!("get:                         {:>8.0} ns", started.elapsed().as_nanos() as f64 / 100_000.0);
    let all = Range::prefix("/registry/");
    let started = clock.monotonic();
    let page = store.range(&all, At::Latest, None).await.expect("a list");
    println!("list of {}:              {:>8.1} ms", page.value.entries.len(), ms(started.elapsed()));
    let then = Revision(store.revision().0 - 10_000);
    let started = clock.monotonic();
    let page = store.range(&all, At::Revision(then), Some(500)).await.expect("a list");
    let elapsed = ms(started.elapsed());
    println!("500 of it, 10,000 revisions ago: {elapsed:>4.1} ms ({} remaining)", page.value.remaining);
}

/// One writer, 200 watches: what it takes until all have seen each write.
async fn watches(store: &Store, clock: Clock) {
    let (start, last) = (store.revision(), Revision(store.revision().0 + 1000));
    let mut running = JoinSet::new();
    for n in 0..200 {
        let mut watch = store.watch(Range::prefix(if n % 2 == 0 { "/registry/" } else { "/other/" }), start);
        running.spawn(async move {
            let mut events = 0;
            while watch.revision() < last {
                events += watch.next().await.expect("a batch").events.len();
            }
            events
        });
    }
    let started = clock.monotonic();
    let value = value(&Random::seeded(0));
    for n in 0..1000 {
        store.create(&format!("/registry/watched/{n}"), value.clone(), None).await.expect("a create");
    }
    let events: usize = running.join_all().await.iter().sum();
    println!("1,000 writes with 200 watches: {:>6.1} ms, {events} events told", ms(started.elapsed()));
}

fn report(what: &str, count: usize, elapsed: Duration, times: &mut [Duration]) {
    println!("{:<28} {:>8.0}/s  {}", format!("{what}:"), count as f64 / elapsed.as_secs_f64(), percentiles(times));
}

fn percentiles(times: &mut [Duration]) -> String {
    times.sort();
    let at = |part: f64| ms(times[((times.len() - 1) as f64 * part) as usize]);
    format!("p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms", at(0.5), at(0.99), at(1.0))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024
}
