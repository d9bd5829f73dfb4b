//! The store's directory: who may open it, and in which format it is.
//!
//! ```text
//! format     "pintle store 1": written when the database is complete, before the first write is taken
//! creating   there while the first start has not got that far; what is there then is worth nothing
//! lock       held while a process has the store open; names that process
//! db/        the database
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::Error;

/// The newest format this version reads and the one it writes.
pub const FORMAT: u32 = 1;

const FORMAT_WORDS: &str = "pintle store";

/// A directory this process may use; it holds the lock until it is dropped.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Checks the format, touching nothing if it is a newer one, and takes the lock. What an interrupted first start
    /// left behind is removed.
    pub fn open(path: &Path) -> Result<Directory, Error> {
        read_format(path)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| refused("creating", path, &error))?;
        let lock = lock(path)?;
        let directory = Directory { path: path.to_owned(), _lock: lock };
        // Once more under the lock: another process may just have finished.
        if read_format(path)?.is_none() {
            directory.start_over()?;
        }
        Ok(directory)
    }

    /// Where the database lies.
    pub fn database(&self) -> PathBuf {
        self.path.join("db")
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says that the database is complete.
    pub fn complete(&self) -> Result<(), Error> {
        let format = self.path.join("format");
        if format.exists() {
            return Ok(());
        }
        let written = self.path.join("format.new");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&written)?;
            writeln!(file, "{FORMAT_WORDS} {FORMAT}")?;
            file.sync_all()?;
            fs::rename(&written, &format)?;
            File::open(&self.path)?.sync_all()?;
            fs::remove_file(self.path.join("creating"))
        };
        write().map_err(|error| refused("writing", &format, &error))
    }

    /// Makes way for a first start. Never removes a database that may have held something.
    fn start_over(&self) -> Result<(), Error> {
        let (creating, database) = (self.path.join("creating"), self.database());
        if database.exists() {
            if !creating.exists() {
                let reason = format!("{} has a database but no file `format`", self.path.display());
                return Err(Error::Unavailable(reason));
            }
            fs::remove_dir_all(&database).map_err(|error| refused("removing", &database, &error))?;
        }
        let mark = || -> std::io::Result<()> {
            File::create(&creating)?.sync_all()?;
            File::open(&self.path)?.sync_all()?;
            // The directory itself may be new.
            self.path.canonicalize()?.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
        };
        mark().map_err(|error| refused("writing", &creating, &error))
    }
}

/// The format of what is in `path`; `None` if there is nothing or not yet all.
fn read_format(path: &Path) -> Result<Option<u32>, Error> {
    let file = path.join("format");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused("reading", &file, &error)),
    };
    let found = text.strip_prefix(FORMAT_WORDS).and_then(|number| number.trim().parse().ok());
    match found {
        Some(found) if found > FORMAT => Err(Error::NewerFormat { dir: path.to_owned(), found, supported: FORMAT }),
        Some(found) => Ok(Some(found)),
        None => Err(Error::Unavailable(format!("{} says `{}`, not a format", file.display(), text.trim()))),
    }
}

/// Takes the lock, or says who has it. The kernel releases it when the process ends, however it ends.
fn lock(path: &Path) -> Result<File, Error> {
    let name = path.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(|error| refused("opening", &name, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = if known { format!("process {}", holder.trim()) } else { "another process".to_owned() };
            return Err(Error::Locked { dir: path.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(refused("locking", &name, &error)),
    }
    // Only for the other's error message: a full disk must not keep the store from opening for reads.
    let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    Ok(file)
}

fn refused(doing: &str, path: &Path, error: &std::io::Error) -> Error {
    let reason = format!("{doing} {}: {error}", path.display());
    if is_full(error) { Error::Full(reason) } else { Error::Unavailable(reason) }
}

/// Whether the disk, or what this user may have of it, is used up.
pub fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
