//! Writes one pod's status to the API: only what differs, only the newest, one request at a time.

use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::call::PatchKind;
use api::core::v1::{Pod, PodStatus};
use base::{Backoff, TaskGroup};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::agent::Agent;
use crate::pods::Entry;

/// What is to be written, with a number that grows.
type Wanted = (u64, Option<Arc<PodStatus>>);

/// The status of one pod on its way to the API. Dropping it ends the writing.
pub struct StatusWriter {
    wanted: watch::Sender<Wanted>,
    done: watch::Receiver<u64>,
    tasks: TaskGroup,
}

impl Drop for StatusWriter {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

impl StatusWriter {
    /// Starts writing for a pod.
    pub fn start(agent: Arc<Agent>, entry: Arc<Entry>) -> Self {
        let (wanted, receiver) = watch::channel((0, None));
        let (sender, done) = watch::channel(0);
        let tasks = agent.tasks.child();
        tasks.spawn("status writer", write(agent, entry, receiver, sender));
        Self { wanted, done, tasks }
    }

    /// The newest status. One not yet written is forgotten.
    pub fn set(&self, status: PodStatus) {
        self.wanted.send_modify(|(number, wanted)| {
            *number += 1;
            *wanted = Some(Arc::new(status));
        });
    }

    /// Waits until the newest status is written, or the pod is gone.
    pub async fn flushed(&self) {
        let number = self.wanted.borrow().0;
        let mut done = self.done.clone();
        // The writer lives as long as `self`.
        let _ = done.wait_for(|done| *done >= number).await;
    }
}

async fn write(agent: Arc<Agent>, entry: Arc<Entry>, mut wanted: watch::Receiver<Wanted>, done: watch::Sender<u64>) {
    let mut last: Option<Arc<Pod>> = None;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    while wanted.changed().await.is_ok() {
        loop {
            let (number, status) = wanted.borrow_and_update().clone();
            let Some(status) = status else { break };
            let known = newer(entry.known(), last.clone());
            let finished = match patch_of(&known, &status) {
                _ if entry.is_gone() => true,
                None => true,
                Some(patch) => match send(&agent, &known, &patch).await {
                    Ok(written) => {
                        last = Some(written);
                        true
                    }
                    Err(error) if error.is_not_found() || is_another(&agent, &known, &error).await => {
                        tracing::debug!(%error, pod = known.key(), "the pod is not there to take its status");
                        true
                    }
                    Err(error) => {
                        tracing::warn!(%error, pod = known.key(), "the status is not written yet");
                        false
                    }
                },
            };
            if finished {
                backoff.reset();
                done.send_replace(number);
                break;
            }
            agent.clock.sleep(backoff.next_jittered(&agent.random)).await;
        }
    }
}

async fn send(agent: &Agent, pod: &Pod, patch: &Value) -> Result<Arc<Pod>, client::Error> {
    agent.client.patch(pod.namespace(), pod.name(), Some("status"), PatchKind::Strategic, patch).await
}

/// Whether a conflict means that the name belongs to another pod by now.
async fn is_another(agent: &Agent, pod: &Pod, error: &client::Error) -> bool {
    if !error.is_conflict() {
        return false;
    }
    match agent.client.find::<Pod>(pod.namespace(), pod.name()).await {
        Ok(found) => found.is_none_or(|found| found.uid() != pod.uid()),
        Err(_) => false,
    }
}

/// The pod with the larger resourceVersion.
fn newer(seen: Arc<Pod>, written: Option<Arc<Pod>>) -> Arc<Pod> {
    let version = |pod: &Pod| pod.resource_version().parse::<u64>().unwrap_or(0);
    match written {
        Some(written) if version(&written) > version(&seen) => written,
        _ => seen,
    }
}

/// Fields the node may clear; others' are left alone.
const OWNED: [&str; 10] = [
    "reason",
    "message",
    "podIP",
    "podIPs",
    "hostIP",
    "hostIPs",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
    "startTime",
];

/// A condition as it has to be sent, if it differs: what it had before and has no more is said to be gone.
fn changed_condition(before: &[Value], condition: &Value) -> Option<Value> {
    let Some(old) = before.iter().find(|old| old.get("type") == condition.get("type")) else {
        return Some(condition.clone());
    };
    if old == condition {
        return None;
    }
    let mut sent = condition.as_object()?.clone();
    for key in old.as_object()?.keys() {
        sent.entry(key.clone()).or_insert(Value::Null);
    }
    Some(Value::Object(sent))
}

/// A strategic merge patch that makes `pod`'s status `wanted`; `None` when it is so already. It names the pod's uid:
/// a later pod of the same name is not meant.
fn patch_of(pod: &Pod, wanted: &PodStatus) -> Option<Value> {
    let old = pod.to_value().get("status").cloned().unwrap_or(Value::Null);
    let carrier = Pod { status: Some(wanted.clone()), ..Pod::default() };
    let new = carrier.to_value().get("status").cloned().unwrap_or(Value::Null);
    let empty = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let mut changes = Map::new();
    for (key, value) in new {
        if old.get(key) == Some(value) {
            continue;
        }
        match key.as_str() {
            "conditions" => {
                let before = old.get(key).and_then(Value::as_array);
                let before = before.map(Vec::as_slice).unwrap_or_default();
                let all = value.as_array().into_iter().flatten();
                let changed: Vec<Value> = all.filter_map(|condition| changed_condition(before, condition)).collect();
                let mut changed = changed;
                // A resize that is over leaves no condition.
                let kept =
                    |type_: Option<&Value>| value.as_array().is_some_and(|l| l.iter().any(|c| c.get("type") == type_));
                let passing = before.iter().filter(|c| {
                    matches!(c.get("type").and_then(Value::as_str), Some("PodResizePending" | "PodResizeInProgress"))
                });
                changed.extend(
                    passing
                        .filter(|c| !kept(c.get("type")))
                        .map(|c| json!({"$patch": "delete", "type": c.get("type")})),
                );
                if !changed.is_empty() {
                    changes.insert(key.clone(), Value::Array(changed));
                }
            }
            // These lists merge by address: the old ones have to go.
            "podIPs" | "hostIPs" => {
                let mut list = vec![json!({"$patch": "replace"})];
                list.extend(value.as_array().into_iter().flatten().cloned());
                changes.insert(key.clone(), Value::Array(list));
            }
            _ => {
                changes.insert(key.clone(), value.clone());
            }
        }
    }
    for key in OWNED {
        if old.contains_key(key) && !new.contains_key(key) {
            changes.insert(key.to_owned(), Value::Null);
        }
    }
    (!changes.is_empty()).then(|| json!({"metadata": {"uid": pod.uid()}, "status": changes}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    #[test]
    fn only_differences_are_sent() {
        let pod = Pod::decode(
            br#"{"metadata":{"uid":"u"},"status":{"phase":"Pending","reason":"Old","podIPs":[{"ip":"10.0.0.1"}],
                "conditions":[{"type":"Ready","status":"False","reason":"R"},{"type":"x.io/own","status":"True"}]}}"#,
        )
        .unwrap();
        let same = pod.status.clone().unwrap();
        assert_eq!(patch_of(&pod, &same), None);
        let mut wanted = same.clone();
        wanted.reason = None;
        wanted.phase = Some("Running".into());
        wanted.conditions.as_mut().unwrap()[0].status = "True".into();
        wanted.conditions.as_mut().unwrap()[0].reason = None;
        wanted.pod_ips.as_mut().unwrap()[0].ip = "10.0.0.2".into();
        let patch = patch_of(&pod, &wanted).unwrap();
        assert_eq!(
            patch,
            json!({"metadata":{"uid":"u"},"status":{"phase":"Running","reason":null,
                "podIPs":[{"$patch":"replace"},{"ip":"10.0.0.2"}],
                "conditions":[{"type":"Ready","status":"True","reason":null}]}})
        );
    }
}
