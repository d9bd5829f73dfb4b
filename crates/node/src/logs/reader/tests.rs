//! Tests of `reader`.

use std::io::Write;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::pending;
use tokio::sync::oneshot;

use super::*;

const LOG: &str = "2026-01-01T00:00:01.5Z stdout F one\n\
    2026-01-01T00:00:02Z stderr F two\n\
    2026-01-01T00:00:03.123456789Z stdout P thr\n\
    2026-01-01T00:00:03.2Z stdout F ee\n\
    2026-01-01T00:00:04Z stdout F four\n";

/// A log file in a directory of its own.
struct Log {
    directory: tempfile::TempDir,
}

impl Log {
    fn new(text: &str) -> Self {
        let log = Self { directory: tempfile::tempdir().unwrap() };
        log.append(text);
        log
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("0.log")
    }

    fn append(&self, text: &str) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    async fn read(&self, options: Options) -> String {
        let mut reader = Reader::open(&self.path(), &options, pending().boxed()).await.unwrap();
        let mut text = String::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        text
    }

    /// Follows the log; the container ends when the sender is used.
    async fn follow(&self, options: Options) -> (Reader, oneshot::Sender<()>) {
        let (end, ended) = oneshot::channel();
        let options = Options { follow: true, ..options };
        let ended = async { ended.await.unwrap() }.boxed();
        (Reader::open(&self.path(), &options, ended).await.unwrap(), end)
    }
}

/// The next chunks until `text` is there.
async fn expect(reader: &mut Reader, text: &str) {
    let read = async {
        let mut got = String::new();
        while got.len() < text.len() {
            let chunk = reader.next().await.unwrap().unwrap_or_else(|| panic!("the log ended after {got:?}"));
            got.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        assert_eq!(got, text);
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.unwrap_or_else(|_| panic!("no {text:?}"));
}

#[tokio::test]
async fn what_is_shown() {
    let log = Log::new(LOG);
    let all = Options::default;
    let since = |text: &str| Some(text.parse().unwrap());
    let table = [
        (all(), "one\ntwo\nthree\nfour\n"),
        (Options { stream: Some(Stream::Stderr), ..all() }, "two\n"),
        (Options { limit_bytes: Some(6), ..all() }, "one\ntw"),
        (Options { limit_bytes: Some(1000), ..all() }, "one\ntwo\nthree\nfour\n"),
        (Options { tail_lines: Some(0), ..all() }, ""),
        (Options { tail_lines: Some(1), ..all() }, "four\n"),
        (Options { tail_lines: Some(3), ..all() }, "three\nfour\n"), // lines of the file, as upstream
        (Options { tail_lines: Some(99), ..all() }, "one\ntwo\nthree\nfour\n"),
        (Options { since: since("2026-01-01T00:00:03.15Z"), ..all() }, "ee\nfour\n"),
        (Options { since: since("2026-01-01T00:00:04Z"), ..all() }, "four\n"),
        (
            Options { timestamps: true, tail_lines: Some(3), ..all() },
            "2026-01-01T00:00:03.123456789Z three\n2026-01-01T00:00:04.000000000Z four\n",
        ),
        (Options { timestamps: true, limit_bytes: Some(24), ..all() }, "2026-01-01T00:00:01.5000"),
    ];
    for (options, expected) in table {
        assert_eq!(log.read(options.clone()).await, expected, "{options:?}");
    }
}

#[tokio::test]
async fn odd_files() {
    assert_eq!(Log::new("").read(Options::default()).await, "");
    let cut = Log::new("2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:01Z stdout F tw");
    assert_eq!(cut.read(Options::default()).await, "one\ntw");
    let damaged = Log::new("2026-01-01T00:00:01Z stdout F one\nnonsense\n2026-01-01T00:00:01Z stdout F two\n");
    assert_eq!(damaged.read(Options::default()).await, "one\ntwo\n");

    let nonsense = Log::new("nonsense\n");
    let mut reader = Reader::open(&nonsense.path(), &Options::default(), pending().boxed()).await.unwrap();
    let error = reader.next().await.unwrap_err();
    assert_eq!(error.to_string(), "failed to get parse function: unsupported log format: \"nonsense\\n\"");
    let gone = Reader::open(Path::new("/nowhere/0.log"), &Options::default(), pending().boxed()).await.unwrap_err();
    assert!(gone.to_string().starts_with("failed to try resolving symlinks in path \"/nowhere/0.log\": "), "{gone}");
}

#[tokio::test]
async fn a_line_longer_than_memory_allows() {
    let long = "x".repeat(LINE_BYTES_MAX * 3);
    let text = format!("2026-01-01T00:00:01Z stdout F {long}\n2026-01-01T00:00:02Z stderr F after\n");
    let log = Log::new(&text);
    assert!(log.read(Options::default()).await == format!("{long}\nafter\n"));
    let errors = Options { stream: Some(Stream::Stderr), timestamps: true, ..Options::default() };
    assert_eq!(log.read(errors).await, "2026-01-01T00:00:02.000000000Z after\n");
}

#[tokio::test]
async fn follows_until_the_container_ends() {
    let log = Log::new("2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:01Z stdout F two\n");
    let (mut reader, end) = log.follow(Options { tail_lines: Some(1), ..Options::default() }).await;
    expect(&mut reader, "two\n").await;
    assert!(tokio::time::timeout(Duration::from_millis(50), reader.next()).await.is_err(), "it waits");
    log.append("2026-01-01T00:00:02Z stdout F three\n2026-01-01T00:00:02Z std");
    expect(&mut reader, "three\n").await;
    assert!(tokio::time::timeout(Duration::from_millis(50), reader.next()).await.is_err(), "half a line is no line");
    log.append("out F four\n");
    expect(&mut reader, "four\n").await;
    log.append("2026-01-01T00:00:03Z stdout F last\n");
    end.send(()).unwrap();
    expect(&mut reader, "last\n").await;
    assert_eq!(reader.next().await.unwrap(), None);
}

#[tokio::test]
async fn follows_rotation_and_loses_nothing() {
    let log = Log::new("2026-01-01T00:00:01Z stdout F one\n");
    let (mut reader, end) = log.follow(Options::default()).await;
    expect(&mut reader, "one\n").await;
    let rotated = log.directory.path().join("0.log.20260101-000000");
    std::fs::rename(log.path(), &rotated).unwrap();
    log.append(""); // the runtime makes the new file, and still writes to the old one
    assert!(tokio::time::timeout(Duration::from_millis(50), reader.next()).await.is_err());
    let mut old = std::fs::OpenOptions::new().append(true).open(&rotated).unwrap();
    old.write_all(b"2026-01-01T00:00:02Z stdout F two\n").unwrap();
    expect(&mut reader, "two\n").await;
    old.write_all(b"2026-01-01T00:00:02Z stdout F three\n").unwrap();
    log.append("2026-01-01T00:00:03Z stdout F four\n");
    expect(&mut reader, "three\nfour\n").await;
    log.append("2026-01-01T00:00:03Z stdout F five\n");
    expect(&mut reader, "five\n").await;
    std::fs::rename(log.path(), &rotated).unwrap();
    log.append("2026-01-01T00:00:04Z stdout F six\n");
    end.send(()).unwrap();
    expect(&mut reader, "six\n").await;
    assert_eq!(reader.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_limit_ends_following() {
    let log = Log::new("2026-01-01T00:00:01Z stdout F one\n");
    let (mut reader, _end) = log.follow(Options { limit_bytes: Some(6), ..Options::default() }).await;
    expect(&mut reader, "one\n").await;
    log.append("2026-01-01T00:00:01Z stdout F two\n");
    expect(&mut reader, "tw").await;
    assert_eq!(reader.next().await.unwrap(), None);
}
