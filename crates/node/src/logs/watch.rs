//! The kernel's word that something in a directory changed (inotify).

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A watched directory.
#[derive(Debug)]
pub struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Watches the files of `directory`: written to, made, moved to.
    ///
    /// # Errors
    /// When the kernel has no more watches to give, or the directory is gone.
    pub fn directory(directory: &Path) -> std::io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(&descriptor, directory, events)?;
        // SAFETY: an `OwnedFd` is the one owner of its descriptor and answers with the same one until it is dropped.
        let descriptor = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?;
        Ok(Self(descriptor))
    }

    /// Resolves when something has changed since the last call. Cancel-safe.
    ///
    /// # Errors
    /// When the kernel refuses; not expected.
    pub async fn changed(&self) -> std::io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|descriptor| Ok(rustix::io::read(descriptor, &mut buffer)?)) {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
    }
}
