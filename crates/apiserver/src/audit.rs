//! The audit log: who asked for what, and what became of it, one `audit.k8s.io/v1` Event a line, at level Metadata
//! (never a body, so never a secret).
//!
//! Not recorded: health, version and metrics, Events, and the renewals of leases, which say nothing and are many.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::{Target, Timestamp};
use base::TaskGroup;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::Caller;

/// How many records wait to be written; further ones are lost, and counted.
const RECORDS_LEN_MAX: usize = 16_384;
/// How many records are written at once.
const BATCH_LEN_MAX: usize = 512;

/// Where the log lies and how large it may get.
#[derive(Debug, Clone)]
pub struct Options {
    pub path: PathBuf,
    /// A file that would grow beyond this is put aside as `<path>.1`, the one before as `<path>.2` and so on.
    pub bytes_max: u64,
    /// How many files put aside are kept.
    pub files_max: u32,
}

impl Options {
    /// 100 MiB a file, three of them.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), bytes_max: 100 << 20, files_max: 2 }
    }
}

/// What the authorizers said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// With their reason.
    Allow(&'a str),
    Forbid,
}

impl<'a> Verdict<'a> {
    /// From the reason of their consent, if they gave it.
    pub fn of(reason: Option<&'a str>) -> Self {
        reason.map_or(Self::Forbid, Self::Allow)
    }
}

/// One request, answered.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    pub audit_id: &'a str,
    /// `None`: nobody proved who they are.
    pub caller: Option<&'a Caller>,
    /// Whom the caller acted as, if as somebody else.
    pub acting_as: Option<&'a Caller>,
    pub verb: &'a str,
    pub uri: &'a str,
    pub target: Option<&'a Target>,
    pub source: &'a str,
    pub user_agent: &'a str,
    pub code: u16,
    /// `None` if it did not get that far.
    pub verdict: Option<Verdict<'a>>,
    /// A watch or stream that has begun, rather than a request that is over.
    pub begun: bool,
    pub received: Timestamp,
    pub now: Timestamp,
}

/// Whether such a request is recorded.
pub fn is_recorded(path: &str, verb: &str, target: Option<&Target>) -> bool {
    let Some(target) = target else {
        let quiet = ["/livez", "/readyz", "/healthz", "/version", "/metrics"];
        return !quiet.iter().any(|quiet| path.starts_with(quiet));
    };
    match (&*target.group, &*target.resource) {
        ("" | "events.k8s.io", "events") => false,
        ("coordination.k8s.io", "leases") => !matches!(verb, "get" | "update" | "patch" | "watch" | "list"),
        _ => true,
    }
}

fn user(caller: &Caller) -> Value {
    let mut user = json!({"username": caller.name, "groups": caller.groups});
    if !caller.uid.is_empty() {
        user["uid"] = caller.uid.as_str().into();
    }
    if !caller.extra.is_empty() {
        user["extra"] = json!(caller.extra);
    }
    user
}

fn micros(time: Timestamp) -> String {
    format!("{time:.6}")
}

impl Record<'_> {
    /// The record as a line of the log.
    pub fn line(&self) -> Vec<u8> {
        let mut event = json!({
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "auditID": self.audit_id,
            "stage": if self.begun { "ResponseStarted" } else { "ResponseComplete" },
            "requestURI": self.uri,
            "verb": self.verb,
            "user": self.caller.map_or_else(|| json!({}), user),
        });
        if let Some(other) = self.acting_as {
            event["impersonatedUser"] = user(other);
        }
        event["sourceIPs"] = json!([self.source]);
        event["userAgent"] = self.user_agent.into();
        if let Some(target) = self.target {
            event["objectRef"] = reference(target);
        }
        event["responseStatus"] = json!({"metadata": {}, "code": self.code});
        event["requestReceivedTimestamp"] = micros(self.received).into();
        event["stageTimestamp"] = micros(self.now).into();
        if let Some(verdict) = self.verdict {
            let (word, reason) = match verdict {
                Verdict::Allow(reason) => ("allow", reason),
                Verdict::Forbid => ("forbid", ""),
            };
            event["annotations"] =
                json!({"authorization.k8s.io/decision": word, "authorization.k8s.io/reason": reason});
        }
        let mut line = event.to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

fn reference(target: &Target) -> Value {
    let mut reference = json!({"resource": target.resource, "apiVersion": target.version});
    let optional = [
        ("namespace", target.namespace.as_deref()),
        ("name", target.name.as_deref()),
        ("apiGroup", Some(&*target.group).filter(|group| !group.is_empty())),
        ("subresource", target.subresource.as_deref()),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            reference[key] = value.into();
        }
    }
    reference
}

/// A log that is open. Records are written by a task of their own; no request waits for the disk.
pub struct Log {
    lines: mpsc::Sender<Vec<u8>>,
    lost: AtomicU64,
}

impl Log {
    /// Opens or continues the log. It is written until `tasks` ends.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn open(options: Options, tasks: &TaskGroup) -> std::io::Result<Arc<Self>> {
        let file = File::open(options).await?;
        let (lines, queue) = mpsc::channel(RECORDS_LEN_MAX);
        let ending = tasks.cancelled();
        tasks.spawn_graceful("audit log", write(file, queue, ending));
        Ok(Arc::new(Self { lines, lost: AtomicU64::new(0) }))
    }

    /// Puts a line in the queue; if that is full the line is lost.
    pub fn record(&self, line: Vec<u8>) {
        if self.lines.try_send(line).is_err() && self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!("the audit log cannot keep up: records are lost");
        }
    }

    /// How many records were lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

async fn write(mut file: File, mut queue: mpsc::Receiver<Vec<u8>>, ending: tokio_util::sync::CancellationToken) {
    let mut batch = Vec::with_capacity(BATCH_LEN_MAX);
    loop {
        let count = tokio::select! {
            biased;
            count = queue.recv_many(&mut batch, BATCH_LEN_MAX) => count,
            () = ending.cancelled() => {
                // What is in the queue by now is still written.
                queue.close();
                queue.recv_many(&mut batch, BATCH_LEN_MAX).await
            }
        };
        if count == 0 {
            return;
        }
        if let Err(error) = file.append(&batch.concat()).await {
            tracing::error!(%error, path = %file.options.path.display(), "the audit log cannot be written");
        }
        batch.clear();
    }
}

struct File {
    options: Options,
    file: tokio::fs::File,
    bytes: u64,
}

impl File {
    async fn open(options: Options) -> std::io::Result<Self> {
        let mut how = tokio::fs::OpenOptions::new();
        let file = how.create(true).append(true).mode(0o600).open(&options.path).await?;
        let bytes = file.metadata().await?.len();
        Ok(Self { options, file, bytes })
    }

    async fn append(&mut self, text: &[u8]) -> std::io::Result<()> {
        let length = text.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.options.bytes_max {
            self.file.flush().await?;
            put_aside(&self.options.path, self.options.files_max).await?;
            *self = Self::open(self.options.clone()).await?;
        }
        self.file.write_all(text).await?;
        self.bytes += length;
        self.file.flush().await
    }
}

async fn put_aside(path: &Path, files_max: u32) -> std::io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..files_max).rev() {
        match tokio::fs::rename(numbered(number), numbered(number + 1)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    if files_max == 0 { tokio::fs::remove_file(path).await } else { tokio::fs::rename(path, numbered(1)).await }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_full_file_is_put_aside_and_old_ones_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let tasks = TaskGroup::new();
        let mut options = Options::new(&path);
        options.bytes_max = 20;
        let mut file = File::open(options).await.unwrap();
        for number in 0..5 {
            file.append(format!("line number {number}\n").as_bytes()).await.unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).ok();
        assert_eq!(read("audit.log").as_deref(), Some("line number 4\n"));
        assert_eq!(read("audit.log.1").as_deref(), Some("line number 3\n"));
        assert_eq!(read("audit.log.2").as_deref(), Some("line number 2\n"));
        assert_eq!(read("audit.log.3"), None);

        let log = Log::open(Options::new(directory.path().join("other.log")), &tasks).await.unwrap();
        (0..1000).for_each(|number| log.record(format!("{number}\n").into_bytes()));
        assert!(tasks.shutdown(Duration::from_secs(5)).await);
        assert_eq!((read("other.log").unwrap().lines().count(), log.lost()), (1000, 0));
    }
}
