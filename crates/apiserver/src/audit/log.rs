//! The log backend: one event a line in a file that is put aside when it is full. Written by a task of its own; no
//! request waits for the disk.
//!
//! Files put aside are named as upstream's (lumberjack): `audit-2026-01-02T15-04-05.000.log`, in UTC.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::Timestamp;
use base::{Clock, TaskGroup};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::Truncate;
use super::event::Encoded;
use super::figures::Figures;
use super::queue::{Receiver, Sender, batches, queue};

/// How many events wait to be written.
const EVENTS_LEN_MAX: usize = 16_384;
/// How many events are written at once.
const BATCH_LEN_MAX: usize = 512;
/// Events are gathered so long before they are written: each write is handed to another thread, which costs more than
/// what is written.
const GATHER: Duration = Duration::from_millis(10);

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One text line, `TIME AUDIT: id="..." ...`.
    Legacy,
    #[default]
    Json,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "legacy" => Ok(Self::Legacy),
            "json" => Ok(Self::Json),
            _ => Err(format!("invalid audit log format {word}, allowed formats are \"legacy,json\"")),
        }
    }
}

/// Where the log lies and how large it may get.
#[derive(Debug, Clone)]
pub struct Options {
    /// `-`: standard output.
    pub path: PathBuf,
    /// A file that would grow beyond this is put aside; 0: at 100 MB.
    pub size_max_mb: u32,
    /// Files put aside longer ago than this are removed; 0: none.
    pub age_max_days: u32,
    /// How many files put aside are kept; 0: all that are not too old.
    pub backups_max: u32,
    pub format: Format,
    /// What is too large for it; `None`: nothing.
    pub truncate: Option<Truncate>,
}

impl Options {
    /// 100 MB a file, ten files put aside, none older than 30 days: what the CIS benchmark asks for.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            size_max_mb: 100,
            age_max_days: 30,
            backups_max: 10,
            format: Format::Json,
            truncate: None,
        }
    }

    fn bytes_max(&self) -> u64 {
        let size_mb = if self.size_max_mb == 0 { 100 } else { self.size_max_mb };
        u64::from(size_mb) << 20
    }
}

/// Opens or continues a log, which is written until `tasks` ends.
///
/// # Errors
/// If the file cannot be written.
pub async fn open(options: Options, clock: Clock, tasks: &TaskGroup, figures: &Figures) -> std::io::Result<Sender> {
    let truncate = options.truncate;
    let out: Box<dyn Out> = if options.path == Path::new("-") {
        Box::new(Standard(tokio::io::stdout()))
    } else {
        let bytes_max = options.bytes_max();
        let file = File::open(options, bytes_max, clock).await?;
        file.remove_old().await;
        Box::new(file)
    };
    let (sender, receiver) = queue("log", EVENTS_LEN_MAX, truncate, figures);
    tasks.spawn_graceful("audit log", write(out, receiver, truncate, figures.clone(), clock, tasks.cancelled()));
    Ok(sender)
}

async fn write(
    mut out: Box<dyn Out>,
    mut queue: Receiver,
    truncate: Option<Truncate>,
    figures: Figures,
    clock: Clock,
    ending: tokio_util::sync::CancellationToken,
) {
    let mut batch: Vec<Arc<Encoded>> = Vec::with_capacity(BATCH_LEN_MAX);
    let mut text = Vec::new();
    let mut failing = false;
    loop {
        let count = tokio::select! {
            biased;
            count = queue.take(&mut batch, BATCH_LEN_MAX) => count,
            () = ending.cancelled() => {
                // What is in the queue by now is still written.
                queue.close();
                queue.take(&mut batch, BATCH_LEN_MAX).await
            }
        };
        if count == 0 {
            return;
        }
        tokio::select! {
            () = ending.cancelled() => {}
            () = clock.sleep(GATHER) => {}
        }
        queue.take_more(&mut batch, BATCH_LEN_MAX);
        for part in batches(&batch, truncate) {
            text.clear();
            part.iter().for_each(|event| event.write_line(&mut text));
            match out.append(&text).await {
                Ok(()) => failing = false,
                Err(error) => {
                    figures.lost("log", "log", "write failed", part.len());
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "the audit log cannot be written: events are lost");
                    }
                }
            }
        }
        batch.clear();
    }
}

trait Out: Send {
    fn append<'a>(&'a mut self, text: &'a [u8]) -> futures_util::future::BoxFuture<'a, std::io::Result<()>>;
}

struct Standard<W>(W);

impl<W: AsyncWrite + Unpin + Send> Out for Standard<W> {
    fn append<'a>(&'a mut self, text: &'a [u8]) -> futures_util::future::BoxFuture<'a, std::io::Result<()>> {
        Box::pin(async move {
            self.0.write_all(text).await?;
            self.0.flush().await
        })
    }
}

struct File {
    options: Options,
    bytes_max: u64,
    clock: Clock,
    /// `None`: it could not be opened again after it was put aside.
    file: Option<tokio::fs::File>,
    bytes: u64,
}

impl Out for File {
    fn append<'a>(&'a mut self, text: &'a [u8]) -> futures_util::future::BoxFuture<'a, std::io::Result<()>> {
        Box::pin(async move {
            let length = text.len() as u64;
            if self.bytes > 0 && self.bytes + length > self.bytes_max {
                if let Some(mut file) = self.file.take() {
                    file.flush().await?;
                }
                let aside = named(&self.options.path, self.clock.now());
                match tokio::fs::rename(&self.options.path, aside).await {
                    // Somebody else has put it aside.
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                self.bytes = 0;
                self.remove_old().await;
            }
            let file = match &mut self.file {
                Some(file) => file,
                None => {
                    let (file, bytes) = append_to(&self.options.path).await?;
                    self.bytes = bytes;
                    self.file.insert(file)
                }
            };
            file.write_all(text).await?;
            self.bytes += length;
            file.flush().await
        })
    }
}

async fn append_to(path: &Path) -> std::io::Result<(tokio::fs::File, u64)> {
    let mut how = tokio::fs::OpenOptions::new();
    let file = how.create(true).append(true).mode(0o600).open(path).await?;
    let bytes = file.metadata().await?.len();
    Ok((file, bytes))
}

impl File {
    async fn open(options: Options, bytes_max: u64, clock: Clock) -> std::io::Result<Self> {
        let (file, bytes) = append_to(&options.path).await?;
        Ok(Self { options, bytes_max, clock, file: Some(file), bytes })
    }

    /// Removes files put aside that are too many or too old.
    async fn remove_old(&self) {
        let folder = self.options.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let Ok(mut entries) = tokio::fs::read_dir(folder.unwrap_or(Path::new("."))).await else { return };
        let mut aside: Vec<(Timestamp, PathBuf)> = Vec::new();
        while let Ok(Some(entry)) = entries.next_entry().await {
            if let Some(time) = time_of(&self.options.path, &entry.path()) {
                aside.push((time, entry.path()));
            }
        }
        aside.sort_by(|a, b| b.cmp(a));
        let now = self.clock.now();
        for (at, (time, path)) in aside.iter().enumerate() {
            let days = now.duration_since(*time).as_hours() / 24;
            let too_old = self.options.age_max_days > 0 && days >= i64::from(self.options.age_max_days);
            let too_many = self.options.backups_max > 0 && at >= self.options.backups_max as usize;
            if (too_old || too_many)
                && let Err(error) = tokio::fs::remove_file(path).await
            {
                tracing::warn!(%error, path = %path.display(), "an old audit log cannot be removed");
            }
        }
    }
}

const TIME: &str = "%Y-%m-%dT%H-%M-%S%.3f";

fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let ending = text(path.extension());
    (text(path.file_stem()), if ending.is_empty() { ending } else { format!(".{ending}") })
}

/// The name of a file put aside now.
fn named(path: &Path, now: Timestamp) -> PathBuf {
    let (stem, ending) = parts(path);
    path.with_file_name(format!("{stem}-{}{ending}", now.strftime(TIME)))
}

/// When a file was put aside; `None`: it is none of this log's.
fn time_of(path: &Path, file: &Path) -> Option<Timestamp> {
    let (stem, ending) = parts(path);
    let name = file.file_name()?.to_str()?;
    let time = name.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&ending)?;
    jiff::civil::DateTime::strptime(TIME, time).ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|at| at.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(path: PathBuf) -> Options {
        Options { backups_max: 2, ..Options::new(path) }
    }

    #[tokio::test]
    async fn a_full_file_is_put_aside_and_old_ones_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let clock = Clock::system();
        let old = directory.path().join("audit-2020-01-02T15-04-05.000.log");
        let others = ["audit-notes.log", "other-2020-01-02T15-04-05.000.log"].map(|name| directory.path().join(name));
        others.iter().chain([&old]).for_each(|path| std::fs::write(path, "x").unwrap());
        let mut file = File::open(options(path.clone()), 20, clock).await.unwrap();
        file.remove_old().await;
        assert!(!old.exists() && others.iter().all(|other| other.exists()));
        for (number, time) in ["a", "b", "c", "d", "e"].iter().enumerate() {
            // A name of its own for each, however fast this is.
            if number > 0 {
                let aside = named(&path, clock.now()).with_extension("log");
                tokio::fs::rename(&path, aside.with_file_name(format!("audit-2100-01-0{number}T00-00-00.000.log")))
                    .await
                    .unwrap();
                (file.file, file.bytes) = (None, 0);
                file.remove_old().await;
            }
            file.append(format!("line number {time}\n").as_bytes()).await.unwrap();
        }
        let mut names: Vec<String> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("audit-2"))
            .collect();
        names.sort();
        assert_eq!(names, ["audit-2100-01-03T00-00-00.000.log", "audit-2100-01-04T00-00-00.000.log"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line number e\n");
        file.append(b"one more line, too long\n").await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one more line, too long\n", "put aside when full");
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let now: Timestamp = "2026-01-02T15:04:05.123Z".parse().unwrap();
        let path = named(Path::new("/var/log/audit.log"), now);
        assert_eq!(path, Path::new("/var/log/audit-2026-01-02T15-04-05.123.log"));
        assert_eq!(time_of(Path::new("/var/log/audit.log"), &path), Some(now));
        assert!("text".parse::<Format>().unwrap_err().contains("invalid audit log format text"));
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let tasks = TaskGroup::new();
        let figures = Figures::default();
        let missing = Options::new(directory.path().join("none/audit.log"));
        assert!(open(missing, Clock::system(), &tasks, &figures).await.is_err());
        if !Path::new("/dev/full").exists() {
            return;
        }
        let full = Options::new("/dev/full");
        let sender = open(full, Clock::system(), &tasks, &figures).await.unwrap();
        sender.put(&Arc::new(super::super::event::tests::some()));
        assert!(tasks.shutdown(std::time::Duration::from_secs(5)).await);
        sender.put(&Arc::new(super::super::event::tests::some()));
        let mut registry = prometheus_client::registry::Registry::default();
        figures.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "apiserver_audit_error_total{plugin=\"log\"} 1",
            "apiserver_audit_error_total{plugin=\"buffered\"} 1",
            "pintle_audit_dropped_events_total{backend=\"log\",reason=\"write failed\"} 1",
            "pintle_audit_dropped_events_total{backend=\"log\",reason=\"closed\"} 1",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
