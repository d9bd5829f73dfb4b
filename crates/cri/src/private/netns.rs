//! The folder of named network namespaces, made a shared mount before the first pod.
//!
//! The first `ip netns add` of a machine binds `/run/netns` onto itself, with what is mounted below it. A namespace
//! that the runtime mounted before then is mounted twice, and its file cannot be removed any more ("device or resource
//! busy"): its pod would never go. Who does the same first, under the same lock, leaves nothing for `ip` to do.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::mount::MountPropagationFlags;

const FOLDER: &str = "/run/netns";

/// Makes [`FOLDER`] a shared mount, unless it is a mount already or has namespaces mounted in it.
///
/// # Errors
/// When the folder cannot be made, locked or mounted.
pub fn share() -> std::io::Result<()> {
    std::fs::create_dir_all(FOLDER)?;
    let folder = std::fs::File::open(FOLDER)?;
    rustix::fs::flock(folder.as_fd(), FlockOperation::LockExclusive)?;
    if !untouched(&std::fs::read_to_string("/proc/self/mountinfo")?, Path::new(FOLDER)) {
        return Ok(());
    }
    rustix::mount::mount_bind_recursive(FOLDER, FOLDER)?;
    Ok(rustix::mount::mount_change(FOLDER, MountPropagationFlags::SHARED | MountPropagationFlags::REC)?)
}

/// Whether nothing is mounted at `folder` or below it.
fn untouched(mountinfo: &str, folder: &Path) -> bool {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).all(|point| !Path::new(point).starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_there_or_below_is_seen() {
        let line = |point: &str| format!("22 1 0:20 / {point} rw shared:5 - tmpfs tmpfs rw\n");
        let folder = Path::new("/run/netns");
        assert!(untouched(&(line("/run") + &line("/run/netns-other")), folder));
        assert!(!untouched(&(line("/run") + &line("/run/netns")), folder));
        assert!(!untouched(&(line("/run/netns/cni-1")), folder));
    }
}
