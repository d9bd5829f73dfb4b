//! The process of a private containerd: found by its command line, watched and signalled through a pidfd, so that a
//! reused process id is never mistaken for it.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixDatagram;

use super::config::Layout;
use crate::{Error, Result};

/// How much of the log's end is read for the message of a failed start.
const LOG_TAIL_BYTES: u64 = 4096;

/// A living (or just ended) containerd.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
}

/// The id of the process that runs with the configuration file `config`.
pub fn find(config: &Path) -> Option<u32> {
    let mut pids = std::fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.find(|pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
            let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
            words.get(1) == Some(&&b"--config"[..]) && words.get(2) == Some(&config.as_os_str().as_bytes())
        })
    })
}

impl Process {
    /// The containerd that runs in `layout`, if one does.
    ///
    /// # Errors
    /// [`Error::Failed`] when it cannot be watched.
    pub fn living(layout: &Layout) -> Result<Option<Self>> {
        let Some(pid) = find(&layout.config) else { return Ok(None) };
        match Self::open(pid) {
            // The id may have passed to another process before the pidfd was there.
            Ok(process) if find(&layout.config) == Some(pid) => Ok(Some(process)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open(pid: u32) -> std::io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(std::io::ErrorKind::NotFound)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        // SAFETY: an `OwnedFd` is the one owner of its descriptor and answers with the same one until it is dropped.
        let pidfd = unsafe { AsyncFd::register(pidfd) }?;
        Ok(Self { pid, pidfd })
    }

    /// Starts containerd in its own process group and waits for its word that it is ready (`sd_notify`, as under
    /// systemd). Nothing ties it to this process.
    ///
    /// # Errors
    /// [`Error::Failed`] with the end of its log when it ends instead.
    pub async fn start(binary: &Path, layout: &Layout) -> Result<Self> {
        let _ = std::fs::remove_file(&layout.notify);
        let ready = UnixDatagram::bind(&layout.notify)?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&layout.log)?;
        let child = Command::new(binary)
            .arg("--config")
            .arg(&layout.config)
            .env("NOTIFY_SOCKET", &layout.notify)
            .env("PATH", search_path())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|error| Error::failed(format!("{} cannot be started: {error}", binary.display())))?;
        let process = Self::open(child.id())?;
        let outcome = tokio::select! {
            biased;
            outcome = notified(&ready) => outcome,
            () = process.exited() => {
                Err(Error::failed(format!("containerd ended at once: {}", last_line(&layout.log))))
            }
        };
        drop(ready);
        let _ = std::fs::remove_file(&layout.notify);
        outcome.map(|()| process)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Resolves when it has ended, however it was started. Reaps it if it is a child of this process.
    pub async fn exited(&self) {
        // A pidfd is readable from the process's end on; an error can only mean that the runtime shuts down.
        let _ = self.pidfd.readable().await;
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG);
    }

    /// Sends it a signal; one that has ended already takes none, and that is no error.
    ///
    /// # Errors
    /// [`Error::Failed`] when it may not be signalled.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match rustix::process::pidfd_send_signal(self.pidfd.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::failed(error)),
        }
    }
}

/// Waits for `READY=1`.
async fn notified(socket: &UnixDatagram) -> Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if buffer[..len].split(|&byte| byte == b'\n').any(|line| line == b"READY=1") {
            return Ok(());
        }
    }
}

/// Our search path, with the system's own places at its end: runc is in `/usr/sbin`, which users often lack.
fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

/// The last line of a log file that has text.
fn last_line(log: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok(String::from_utf8_lossy(&tail).into_owned())
    };
    let tail = read().unwrap_or_default();
    tail.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("its log is empty").to_owned()
}
