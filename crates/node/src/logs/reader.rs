//! Reads a log file as a client asked: a chunk at a time, no more than a little ahead of the client.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base::Timestamp;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

use super::line::{Line, Stream};
use super::options::Options;
use super::tail;
use super::watch::Watch;

/// How much of the file is read at once.
const READ_BYTES: usize = 32 * 1024;
/// The longest line that is kept whole; a longer one is passed on in pieces.
const LINE_BYTES_MAX: usize = 256 * 1024;

/// Why a log cannot be read (any further). The words are upstream's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there, or cannot be opened.
    #[error("failed to try resolving symlinks in path {path:?}: {source}")]
    Missing { path: String, source: std::io::Error },
    /// It cannot be read.
    #[error("failed to read log file {path:?}: {source}")]
    Unreadable { path: String, source: std::io::Error },
    /// It cannot be watched.
    #[error("failed to create fsnotify watcher: {0}")]
    Unwatchable(std::io::Error),
    /// Its first line is in no format that is known.
    #[error("failed to get parse function: unsupported log format: {0:?}")]
    UnknownFormat(String),
}

/// A log that is being read.
pub struct Reader {
    path: PathBuf,
    file: File,
    /// Read from the file, not yet taken apart.
    buffer: BytesMut,
    writer: Writer,
    /// Lines of the file still to be shown, when they are counted.
    lines_left: Option<u64>,
    /// Whether a line of a known format has been seen.
    recognized: bool,
    state: State,
}

/// Where a reader is.
enum State {
    /// In the file, to its end and no further.
    ToTheEnd,
    /// At the file's end, it waits for more.
    Following(Following),
    /// Nothing more comes.
    Done,
}

struct Following {
    /// Made at the file's end for the first time.
    watch: Option<Watch>,
    /// Resolves when the container no longer runs.
    ended: Option<BoxFuture<'static, ()>>,
    /// The file that the runtime writes to after a rotation, and whether the old one was read to its end since the
    /// new one was seen to be in use.
    next: Option<(File, bool)>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens the log at `path`. When it is followed, it is to the end of the container: until `ended` resolves.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Unreadable`].
    pub async fn open(path: &Path, options: &Options, ended: BoxFuture<'static, ()>) -> Result<Self, Error> {
        let missing = |source| Error::Missing { path: path.display().to_string(), source };
        // A watch does not follow links.
        let path = tokio::fs::canonicalize(path).await.map_err(missing)?;
        let mut file = File::open(&path).await.map_err(missing)?;
        if let Some(lines) = options.tail_lines {
            let seek = async {
                let start = tail::start(&mut file, lines).await?;
                file.seek(SeekFrom::Start(start)).await
            };
            seek.await.map_err(|source| Error::Unreadable { path: path.display().to_string(), source })?;
        }
        let following = Following { watch: None, ended: Some(ended), next: None };
        Ok(Self {
            path,
            file,
            buffer: BytesMut::new(),
            writer: Writer::new(options),
            lines_left: options.tail_lines.filter(|_| !options.follow),
            recognized: false,
            state: if options.follow { State::Following(following) } else { State::ToTheEnd },
        })
    }

    /// The next piece of the log, `None` at its end.
    ///
    /// # Errors
    /// [`Error`]: the log cannot be read any further.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if matches!(self.state, State::Done) {
                return Ok(None);
            }
            self.buffer.reserve(READ_BYTES);
            let mut limited = (&mut self.file).take(READ_BYTES as u64);
            let len = limited.read_buf(&mut self.buffer).await.map_err(|source| unreadable(&self.path, source))?;
            if len == 0 {
                self.at_the_end().await?;
            } else {
                self.take_lines()?;
            }
            let out = self.writer.out.split().freeze();
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
    }

    /// Takes whole lines off the buffer.
    fn take_lines(&mut self) -> Result<(), Error> {
        while let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(at + 1);
            self.line(&line, true)?;
            if matches!(self.state, State::Done) {
                return Ok(());
            }
        }
        if self.buffer.len() >= LINE_BYTES_MAX {
            let piece = self.buffer.split();
            self.line(&piece, false)?;
        }
        Ok(())
    }

    /// One line, or (`whole` is false) a piece of one that is too long to be kept.
    fn line(&mut self, line: &[u8], whole: bool) -> Result<(), Error> {
        if self.lines_left == Some(0) {
            self.state = State::Done;
            return Ok(());
        }
        let known = self.writer.write(line, whole);
        if !known && !self.recognized {
            let shown = line.get(..line.len().min(256)).unwrap_or_default();
            return Err(Error::UnknownFormat(String::from_utf8_lossy(shown).into_owned()));
        }
        if !known {
            tracing::warn!(path = %self.path.display(), "a line of a log is in no known format");
            return Ok(());
        }
        self.recognized = true;
        if whole && let Some(left) = &mut self.lines_left {
            *left -= 1;
        }
        if self.writer.full() || self.lines_left == Some(0) {
            self.state = State::Done;
        }
        Ok(())
    }

    /// At the end of the file: finishes, or waits until there may be more.
    async fn at_the_end(&mut self) -> Result<(), Error> {
        let State::Following(following) = &mut self.state else { return self.finish() };
        let Some(watch) = &following.watch else {
            // What came before there was a watch is read before the first wait.
            let directory = self.path.parent().expect("a file is in a directory");
            following.watch = Some(Watch::directory(directory).map_err(Error::Unwatchable)?);
            return Ok(());
        };
        if let Some((next, drained)) = &mut following.next {
            let used = following.ended.is_none() || next.metadata().await.is_ok_and(|next| next.len() > 0);
            if used && *drained {
                // The runtime writes to one file at a time: now that the new one is in use, the old one is complete.
                if let Some((next, _)) = following.next.take() {
                    self.file = next;
                }
                return Ok(());
            }
            if used {
                *drained = true;
                return Ok(());
            }
        }
        let Some(ended) = &mut following.ended else { return self.finish() };
        let ended_now = tokio::select! {
            biased;
            changed = watch.changed() => {
                changed.map_err(Error::Unwatchable)?;
                false
            }
            () = ended => true,
        };
        if ended_now {
            following.ended = None; // what is in the file by now is read, then it is done
        }
        self.look_for_rotation().await
    }

    /// Whether the name now belongs to another file, or the file was cut.
    async fn look_for_rotation(&mut self) -> Result<(), Error> {
        let State::Following(following) = &mut self.state else { return Ok(()) };
        let failed = |source| unreadable(&self.path, source);
        let ours = self.file.metadata().await.map_err(failed)?;
        if ours.len() < self.file.stream_position().await.map_err(failed)? {
            self.file.seek(SeekFrom::Start(0)).await.map_err(failed)?;
            self.buffer.clear();
        }
        if following.next.is_none()
            && let Ok(named) = File::open(&self.path).await
            && let Ok(theirs) = named.metadata().await
            && (theirs.dev(), theirs.ino()) != (ours.dev(), ours.ino())
        {
            following.next = Some((named, false));
        }
        Ok(())
    }

    /// The last line may lack its newline.
    fn finish(&mut self) -> Result<(), Error> {
        let rest = self.buffer.split();
        if !rest.is_empty() {
            self.line(&rest, true)?;
        }
        self.state = State::Done;
        Ok(())
    }
}

fn unreadable(path: &Path, source: std::io::Error) -> Error {
    Error::Unreadable { path: path.display().to_string(), source }
}

/// Turns lines of the file into what the client sees. Pure.
struct Writer {
    since: Option<Timestamp>,
    timestamps: bool,
    stream: Option<Stream>,
    bytes_left: Option<u64>,
    /// Whether what was shown last ended a line.
    new_line: bool,
    /// In a line that is passed on in pieces: whether it is shown, and whether it is partial.
    inside: Option<(bool, bool)>,
    out: BytesMut,
}

impl Writer {
    fn new(options: &Options) -> Self {
        Self {
            since: options.since,
            timestamps: options.timestamps,
            stream: options.stream,
            bytes_left: options.limit_bytes,
            new_line: true,
            inside: None,
            out: BytesMut::new(),
        }
    }

    /// Returns `false` when the line is in no known format.
    fn write(&mut self, line: &[u8], whole: bool) -> bool {
        if let Some((shown, partial)) = self.inside {
            if whole {
                self.inside = None;
            }
            let content = if whole && partial { line.strip_suffix(b"\n").unwrap_or(line) } else { line };
            if shown {
                self.put(content);
            }
            self.new_line = content.last().is_none_or(|byte| *byte == b'\n');
            return true;
        }
        let Some(line) = Line::parse(line) else { return false };
        let shown = self.since.is_none_or(|since| line.timestamp >= since)
            && self.stream.is_none_or(|stream| stream == line.stream);
        if shown {
            if self.timestamps && self.new_line {
                self.put(format!("{} ", line.shown_timestamp()).as_bytes());
            }
            self.put(&line.content);
        }
        if !whole {
            self.inside = Some((shown, line.partial));
        }
        self.new_line = line.content.last().is_none_or(|byte| *byte == b'\n');
        true
    }

    fn put(&mut self, text: &[u8]) {
        let len =
            self.bytes_left.map_or(text.len(), |left| text.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        self.out.extend_from_slice(&text[..len]);
        if let Some(left) = &mut self.bytes_left {
            *left -= len as u64;
        }
    }

    fn full(&self) -> bool {
        self.bytes_left == Some(0)
    }
}

#[cfg(test)]
mod tests;
