//! Asks the runtime about one pod. What has ended does not change: it is asked for once.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek, SeekFrom};

use cri::{Runtime, v1};
use futures_util::future::try_join_all;

use crate::labels;
use crate::state::{self, Container, Phase, PodState};

/// How much of a termination message is kept (upstream).
const MESSAGE_BYTES_MAX: u64 = 4096;
/// How much of a log stands in for one.
const LOG_MESSAGE_BYTES_MAX: usize = 2048;
const LOG_MESSAGE_LINES_MAX: usize = 80;
/// How much of the log file is read for that.
const LOG_READ_BYTES_MAX: u64 = 16 * 1024;

/// What was learnt about ended containers, by id.
#[derive(Debug, Default)]
pub struct Memory(HashMap<String, Container>);

/// The pod's sandboxes and containers, newest first.
///
/// # Errors
/// As the runtime's; what is gone between listing and asking is left out.
pub async fn observe(runtime: &Runtime, uid: &str, memory: &mut Memory) -> cri::Result<PodState> {
    let selector = BTreeMap::from([(labels::POD_UID.to_owned(), uid.to_owned())]);
    let sandboxes =
        runtime.list_pod_sandbox(Some(v1::PodSandboxFilter { label_selector: selector.clone(), ..Default::default() }));
    let containers =
        runtime.list_containers(Some(v1::ContainerFilter { label_selector: selector, ..Default::default() }));
    let (sandboxes, containers) = tokio::try_join!(sandboxes, containers)?;
    let sandbox_statuses = try_join_all(sandboxes.iter().map(|s| sandbox(runtime, s)));
    let known = &memory.0;
    let container_statuses = try_join_all(containers.iter().map(|c| async move {
        match known.get(&c.id) {
            Some(ended) => Ok(Some(ended.clone())),
            None => container(runtime, c).await,
        }
    }));
    let (sandboxes, containers) = tokio::try_join!(sandbox_statuses, container_statuses)?;
    let mut state = PodState {
        sandboxes: sandboxes.into_iter().flatten().collect(),
        containers: containers.into_iter().flatten().collect(),
    };
    state.sort();
    memory.0.retain(|id, _| state.containers.iter().any(|c| c.id == *id));
    for ended in state.containers.iter().filter(|c| c.phase == Phase::Exited) {
        memory.0.entry(ended.id.clone()).or_insert_with(|| ended.clone());
    }
    Ok(state)
}

async fn sandbox(runtime: &Runtime, listed: &v1::PodSandbox) -> cri::Result<Option<state::Sandbox>> {
    match runtime.pod_sandbox_status(&listed.id, false).await {
        Ok(answer) => Ok(answer.status.as_ref().map(state::sandbox)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn container(runtime: &Runtime, listed: &v1::Container) -> cri::Result<Option<Container>> {
    let status = match runtime.container_status(&listed.id, false).await {
        Ok(answer) => answer.status,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(mut found) = status.map(|s| state::container(&s, &listed.pod_sandbox_id)) else { return Ok(None) };
    if found.phase == Phase::Exited {
        let looked = found.clone();
        let words = tokio::task::spawn_blocking(move || last_words(&looked)).await.unwrap_or_default();
        if !words.is_empty() {
            found.message = if found.message.is_empty() { words } else { format!("{}: {words}", found.message) };
        }
    }
    Ok(Some(found))
}

/// The container's own termination message, or the end of its log. Blocking.
fn last_words(container: &Container) -> String {
    if let Some(path) = &container.termination_message_host_path
        && let Ok(file) = std::fs::File::open(path)
    {
        let mut bytes = Vec::new();
        if file.take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes).is_ok() && !bytes.is_empty() {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
    }
    if container.falls_back_to_logs && container.exit_code != 0 {
        return log_tail(&container.log_path).unwrap_or_default();
    }
    String::new()
}

fn log_tail(path: &str) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LOG_READ_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(text_of_log(&String::from_utf8_lossy(&bytes)))
}

/// The text of the last lines of a log in CRI's format (`time stream tag text`).
fn text_of_log(log: &str) -> String {
    let mut lines: Vec<String> = log
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(4, ' ');
            let (_, _, tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
            Some(if tag.starts_with('P') { text.to_owned() } else { format!("{text}\n") })
        })
        .collect();
    if lines.len() > LOG_MESSAGE_LINES_MAX {
        lines.drain(..lines.len() - LOG_MESSAGE_LINES_MAX);
    }
    let text = lines.concat();
    let mut start = text.len().saturating_sub(LOG_MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log() {
        let log =
            "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stderr P tw\n2026-01-01T00:00:00Z stderr F o\n";
        assert_eq!(text_of_log(log), "one\ntwo\n");
        let long: String = (0..200).map(|n| format!("t stdout F line {n}\n")).collect();
        assert!(text_of_log(&long).starts_with("line 120\n"));
    }
}
