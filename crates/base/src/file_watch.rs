//! Says when a file may have changed: also when it was replaced, or the folder it is linked to was (a mounted
//! ConfigMap). What the file says, and whether that is new, is for the reader to find out.

use std::io;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

/// Bytes of events read at a time; what they say is not looked at.
const BUFFER_LEN: usize = 4096;

/// Follows one file's folder. The kernel's events are read as from a pipe: both are a descriptor to read bytes from.
#[derive(Debug)]
pub struct FileWatch(Receiver);

impl FileWatch {
    /// Begins to follow `file`; it need not exist, its folder must. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the folder cannot be followed.
    pub fn new(file: &Path) -> io::Result<Self> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let wanted = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::DELETE;
        inotify::add_watch(&events, folder, wanted)?;
        Ok(Self(Receiver::from_owned_fd_unchecked(events)?))
    }

    /// Returns after something happened in the folder. Several events that are there at once count as one.
    ///
    /// # Errors
    /// When events can no longer be read.
    pub async fn changed(&mut self) -> io::Result<()> {
        let mut buffer = [0; BUFFER_LEN];
        let mut heard = false;
        loop {
            self.0.readable().await?;
            loop {
                match self.0.try_read(&mut buffer) {
                    Ok(_) => heard = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            if heard {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn writes_and_replacements_are_noticed() {
        let folder = std::env::temp_dir().join(format!("file-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config");
        let mut watch = FileWatch::new(&file).unwrap();
        let soon = Duration::from_secs(10);
        std::fs::write(&file, "a").unwrap();
        tokio::time::timeout(soon, watch.changed()).await.unwrap().unwrap();
        std::fs::write(folder.join("new"), "b").unwrap();
        std::fs::rename(folder.join("new"), &file).unwrap();
        tokio::time::timeout(soon, watch.changed()).await.unwrap().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(FileWatch::new(&file).is_err());
    }
}
