//! Keeps containers' logs from filling the disk: a log that has grown too large is set aside, and the oldest of those
//! set aside go (upstream: kubelet `logs/container_log_manager.go`; 10 MiB and 5 files).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::agent::Agent;
use crate::state::Phase;

/// How often sizes are looked at: files tell nobody that they grow.
const LOOK: Duration = Duration::from_secs(10);
/// A log larger than this is set aside.
const LOG_BYTES_MAX: u64 = 10 << 20;
/// Files per container, the current one included.
const FILES_LEN_MAX: usize = 5;

/// Runs until its group ends.
pub async fn run(agent: Arc<Agent>) {
    loop {
        agent.clock.sleep(LOOK).await;
        let mut logs = Vec::new();
        for entry in agent.pods.all() {
            let state = entry.state();
            let running = state.containers.iter().filter(|c| c.phase == Phase::Running && !c.log_path.is_empty());
            logs.extend(running.map(|c| (c.id.clone(), PathBuf::from(&c.log_path))));
        }
        let stamp = agent.clock.now().strftime("%Y%m%d-%H%M%S").to_string();
        let set_aside = tokio::task::spawn_blocking(move || {
            logs.into_iter().filter(|(_, path)| rotate(path, &stamp, LOG_BYTES_MAX)).collect::<Vec<_>>()
        });
        for (id, path) in set_aside.await.unwrap_or_default() {
            if let Err(error) = agent.runtime.reopen_container_log(&id).await {
                tracing::warn!(%error, path = %path.display(), "the runtime does not open a log anew");
            }
        }
    }
}

/// Sets a large log aside as `<path>.<stamp>` and removes the oldest. `true`: the runtime has to open it anew.
/// Blocking.
fn rotate(path: &Path, stamp: &str, bytes_max: u64) -> bool {
    if fs::metadata(path).map_or(0, |m| m.len()) <= bytes_max {
        return false;
    }
    let aside = format!("{}.{stamp}", path.display());
    if let Err(error) = fs::rename(path, &aside) {
        tracing::warn!(%error, path = %path.display(), "a log cannot be set aside");
        return false;
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return true };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut old: Vec<PathBuf> =
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)).map(|e| e.path()).collect();
    old.sort();
    let surplus = old.len().saturating_sub(FILES_LEN_MAX - 1);
    for file in &old[..surplus] {
        if let Err(error) = fs::remove_file(file) {
            tracing::debug!(%error, file = %file.display(), "an old log cannot be removed");
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_logs_are_set_aside_and_few_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for n in 0..7 {
            fs::write(&path, "0123456789").unwrap();
            assert!(!rotate(&path, "x", 10));
            assert!(rotate(&path, &format!("2026010{n}"), 9));
            assert!(!path.exists());
        }
        let mut left: Vec<String> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["0.log.20260103", "0.log.20260104", "0.log.20260105", "0.log.20260106"]);
    }
}
