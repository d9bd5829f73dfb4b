//! Gives every pod bound to the node a worker, and ends what the runtime has that the API does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::core::v1::{Pod, PodSpec};
use api::meta::v1::ObjectMeta;
use base::Backoff;
use base::task::catch;
use client::Reflector;
use cri::v1;

use crate::agent::Agent;
use crate::labels;
use crate::pod_worker::Worker;
use crate::pods::Entry;

/// Runs until its group ends.
pub async fn run(agent: Arc<Agent>, pods: Reflector<Pod>) {
    pods.synced().await;
    let mut changes = pods.subscribe();
    let known: BTreeSet<String> = pods.snapshot().values().map(|p| p.uid().to_owned()).collect();
    take_orphans(&agent, &known).await;
    loop {
        for change in changes.next().await {
            let (old, new) = (change.old, change.new);
            if let Some(old) = old.filter(|old| new.as_ref().is_none_or(|new| new.uid() != old.uid()))
                && let Some(entry) = agent.pods.get(old.uid())
            {
                entry.set_gone();
            }
            if let Some(new) = new {
                let (entry, fresh) = agent.pods.enter(&new, false);
                if fresh {
                    start(&agent, entry);
                } else {
                    entry.set_pod(new);
                }
            }
        }
    }
}

/// Starts a pod's worker. One that panics is started anew: what it knew is in the runtime and the API.
fn start(agent: &Arc<Agent>, entry: Arc<Entry>) {
    let owned = agent.clone();
    agent.tasks.spawn("pod worker", async move {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        while catch("pod worker", Worker::new(owned.clone(), entry.clone()).run()).await.is_none() {
            owned.clock.sleep(backoff.next()).await;
        }
    });
}

/// Pods of this node in the runtime, and leftovers on disk, that the API knows nothing of.
async fn take_orphans(agent: &Arc<Agent>, known: &BTreeSet<String>) {
    let selector = BTreeMap::from([(labels::NODE.to_owned(), agent.facts.node_name.clone())]);
    let filter = v1::PodSandboxFilter { label_selector: selector, ..Default::default() };
    let mut orphans = BTreeSet::new();
    match agent.runtime.list_pod_sandbox(Some(filter)).await {
        Ok(sandboxes) => {
            for sandbox in sandboxes {
                let Some(p) = pod_of(&sandbox, &agent.facts.node_name).filter(|p| !known.contains(p.uid())) else {
                    continue;
                };
                let (entry, fresh) = agent.pods.enter(&Arc::new(p), true);
                orphans.insert(entry.uid.clone());
                if fresh {
                    tracing::info!(uid = entry.uid, "a pod that the API does not know is ended");
                    start(agent, entry);
                }
            }
        }
        Err(error) => {
            // Without the runtime's word nothing on disk is known to be unused.
            tracing::warn!(%error, "the runtime's pods cannot be listed");
            return;
        }
    }
    let mut left = agent.volumes.pods().await;
    if let Some(cgroups) = agent.cgroups.clone() {
        left.extend(tokio::task::spawn_blocking(move || cgroups.pods()).await.unwrap_or_default());
    }
    for uid in left.into_iter().filter(|uid| !known.contains(uid) && !orphans.contains(uid)) {
        if let Err(error) = agent.volumes.remove(&uid).await {
            tracing::warn!(%error, uid, "a former pod's files cannot be removed");
        }
        if let Some(cgroups) = agent.cgroups.clone() {
            let _ = tokio::task::spawn_blocking(move || cgroups.remove_pod(&uid)).await;
        }
    }
}

/// As much of a pod of the node as its sandbox tells. Its labels are what isolates it until it has ended.
fn pod_of(sandbox: &v1::PodSandbox, node_name: &str) -> Option<Pod> {
    let label = |key: &str| sandbox.labels.get(key).cloned();
    let own = sandbox.labels.iter().filter(|(key, _)| !labels::OF_SANDBOX.contains(&key.as_str()));
    let own: BTreeMap<String, String> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    Some(Pod {
        metadata: ObjectMeta {
            name: label(labels::POD_NAME),
            namespace: label(labels::POD_NAMESPACE),
            uid: Some(label(labels::POD_UID)?),
            labels: (!own.is_empty()).then_some(own),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec { node_name: Some(node_name.to_owned()), ..PodSpec::default() }),
        status: None,
    })
}
