//! Mounts below the node's own directories: tmpfs, safe bind mounts of paths within volumes, and undoing them.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{MountFlags, UnmountFlags};

/// Whether something is mounted at `path`.
pub fn is_mount_point(path: &Path) -> bool {
    let (Some(parent), Ok(own)) = (path.parent(), fs::metadata(path)) else { return false };
    fs::metadata(parent).is_ok_and(|parent| parent.dev() != own.dev())
}

/// Mounts a tmpfs of at most `size_bytes` (the kernel's default when `None`) at `path`, unless one is there.
pub fn tmpfs(path: &Path, size_bytes: Option<i64>) -> io::Result<()> {
    fs::create_dir_all(path)?;
    if is_mount_point(path) {
        return Ok(());
    }
    let mut data = String::from("mode=0777");
    if let Some(size) = size_bytes.filter(|size| *size > 0) {
        data.push_str(&format!(",size={size}"));
    }
    let data = std::ffi::CString::new(data).map_err(io::Error::other)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", path, "tmpfs", flags, Some(data.as_c_str()))?;
    Ok(())
}

/// The mount points at and below `root`, the deepest first.
pub fn below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mut points: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| point.starts_with(root))
        .collect();
    points.sort();
    points.reverse();
    Ok(points)
}

/// The kernel writes blanks and backslashes in paths as octal.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\').then(|| text.get(at + 1..at + 4)).flatten();
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Unmounts all at and below `root`. When it succeeds nothing is mounted there: the directory may be removed.
pub fn unmount_below(root: &Path) -> io::Result<()> {
    for point in below(root)? {
        if rustix::mount::unmount(&point, UnmountFlags::empty()).is_err() {
            rustix::mount::unmount(&point, UnmountFlags::DETACH)?;
        }
    }
    match below(root)?.first() {
        Some(point) => Err(io::Error::other(format!("{} is still mounted", point.display()))),
        None => Ok(()),
    }
}

/// Removes a directory after unmounting all below it.
pub fn remove(root: &Path) -> io::Result<()> {
    unmount_below(root)?;
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Opens `path` within the volume at `root`; links cannot lead out of it. Directories that are missing are made.
fn open_within(root: &Path, path: &str) -> io::Result<OwnedFd> {
    let base = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let open = |path: &str| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat2(
            base.as_fd(),
            path,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    };
    if let Ok(found) = open(path) {
        return Ok(found);
    }
    let mode = fs::metadata(root)?.mode() & 0o7777;
    let mut reached = String::new();
    let mut at = open(".")?;
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if !reached.is_empty() {
            reached.push('/');
        }
        reached.push_str(part);
        at = match open(&reached) {
            Ok(found) => found,
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(at.as_fd(), part, Mode::from_raw_mode(mode))?;
                rustix::fs::chmodat(at.as_fd(), part, Mode::from_raw_mode(mode), rustix::fs::AtFlags::empty())?;
                open(&reached)?
            }
            Err(error) => return Err(error.into()),
        };
    }
    Ok(at)
}

/// Binds `path` within the volume at `root` onto `target` (outside of anybody's reach), so that what the runtime
/// mounts cannot be exchanged under its hands.
pub fn bind_within(root: &Path, path: &str, target: &Path) -> io::Result<()> {
    if is_bound(target) {
        return Ok(());
    }
    let source = open_within(root, path)?;
    let is_dir = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&source)?.st_mode).is_dir();
    if is_dir {
        fs::create_dir_all(target)?;
    } else {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(target, "")?;
    }
    let from = format!("/proc/self/fd/{}", source.as_raw_fd());
    rustix::mount::mount_bind(from.as_str(), target)?;
    Ok(())
}

/// Whether something is bound onto `path`; a bind within one file system has the same device on both sides.
fn is_bound(path: &Path) -> bool {
    below(path).is_ok_and(|points| points.iter().any(|point| point == path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_in_mount_tables() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescape("/plain"), "/plain");
    }

    #[test]
    fn links_do_not_lead_out_of_a_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir(&volume).unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        // Within the volume `/etc` is the volume's own `etc`, which is made there.
        assert!(open_within(&volume, "out/passwd").is_err());
        open_within(&volume, "a/b").unwrap();
        assert!(volume.join("a/b").is_dir());
    }
}
