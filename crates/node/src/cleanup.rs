//! What a node put into the kernel, taken out again once its pods are stopped. Files stay.

use std::io;
use std::path::Path;

use crate::cgroup::Cgroups;
use crate::volume::mount;

/// Unmounts all below `data_dir` and removes the cgroups of `instance`.
///
/// # Errors
/// The first thing that stays mounted.
pub async fn cleanup(data_dir: &Path, instance: &str) -> io::Result<()> {
    let (data_dir, instance) = (data_dir.to_owned(), instance.to_owned());
    let cleaning = tokio::task::spawn_blocking(move || {
        if let Some(cgroups) = Cgroups::find(&std::fs::read_to_string("/proc/self/mounts")?, &instance) {
            cgroups.remove();
        }
        match data_dir.canonicalize() {
            Ok(data_dir) => mount::unmount_below(&data_dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    });
    cleaning.await.map_err(io::Error::other)?
}
