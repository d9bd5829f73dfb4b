//! Deletes pods that nobody else will: those of nodes that are gone, those that end on a node out of service, those
//! that end and never had a node, and the oldest finished ones when there are too many.
//!
//! Upstream: pkg/controller/podgc. It looks at all pods every 20 s; here events say which to look at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::call::PatchKind;
use api::core::v1::{self, Node};
use api::lean::Pod;
use api::meta::v1::{DeleteOptions, Preconditions, Time};
use api::rbac::v1::PolicyRule;
use api::{Object, Timestamp, Typed};
use base::Clock;
use client::{Change, Client, Error, Reflector, WorkQueue};
use parking_lot::Mutex;
use serde_json::json;

use crate::harness::{AnyController, Context, node_of, rule};
use crate::{pod, taints};

/// How long a node must have been missing before its pods are given up: one that registers anew keeps them.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Finished pods that are kept (`--terminated-pod-gc-threshold`).
const FINISHED_LEN_MAX: usize = 12_500;
const WORKERS: usize = 4;

pub struct Controller;

impl AnyController for Controller {
    fn name(&self) -> &'static str {
        "pod-garbage-collector"
    }

    fn rules(&self) -> Vec<PolicyRule> {
        vec![
            rule(Pod::KIND, "", &["delete", "list", "watch"]),
            rule(Node::KIND, "", &["get", "list", "watch"]),
            rule(Pod::KIND, "status", &["patch"]),
        ]
    }

    fn start(&'static self, context: Context) {
        let shared = Arc::new(Shared {
            pods: context.reflectors.of(),
            nodes: context.reflectors.of(),
            client: (context.client_for)(self.name()),
            queue: WorkQueue::new(Duration::from_millis(100), Duration::from_secs(30)),
            clock: context.clock,
            missing: Mutex::default(),
            finished: Mutex::default(),
        });
        context.tasks.spawn("pods to collect", follow_pods(shared.clone()));
        context.tasks.spawn("pods of nodes that go", follow_nodes(shared.clone()));
        for _ in 0..WORKERS {
            let shared = shared.clone();
            context.tasks.supervise("pod garbage collector", move || work(shared.clone()));
        }
    }
}

struct Shared {
    pods: Reflector<Pod>,
    nodes: Reflector<Node>,
    client: Client,
    /// Keys of pods.
    queue: WorkQueue,
    clock: Clock,
    /// Since when nodes that have pods are known to be missing. Bounded by the pods' nodes.
    missing: Mutex<BTreeMap<String, Timestamp>>,
    finished: Mutex<Finished>,
}

/// Finished pods, the oldest first.
#[derive(Default)]
struct Finished(BTreeSet<(Option<Timestamp>, String)>);

impl Finished {
    fn entry(pod: &Pod) -> (Option<Timestamp>, String) {
        (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.key())
    }

    /// Takes a change in; whether there are more than are kept.
    fn change(&mut self, change: &Change<Pod>) -> bool {
        if let Some(old) = &change.old {
            self.0.remove(&Self::entry(old));
        }
        match &change.new {
            Some(new) if pod::is_finished(new) => self.0.insert(Self::entry(new)) && self.0.len() > FINISHED_LEN_MAX,
            _ => false,
        }
    }

    /// Those too many.
    fn excess(&self) -> impl Iterator<Item = &(Option<Timestamp>, String)> {
        self.0.iter().take(self.0.len().saturating_sub(FINISHED_LEN_MAX))
    }
}

/// Why a pod has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Its node is not there.
    Orphaned,
    /// It is being deleted, and nobody is there to end it: it never had a node, or that one is out of service.
    Abandoned,
}

fn due(p: &Pod, node: Option<&Node>) -> Option<Due> {
    match (pod::node_name(p), node) {
        ("", _) => p.is_terminating().then_some(Due::Abandoned),
        (_, None) => Some(Due::Orphaned),
        (_, Some(node)) => (p.is_terminating() && is_out_of_service(node)).then_some(Due::Abandoned),
    }
}

/// Not ready, and an administrator has said that it will not be back (`node.kubernetes.io/out-of-service`).
fn is_out_of_service(node: &Node) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    !ready && taints::of(node).iter().any(|taint| taint.key == taints::OUT_OF_SERVICE)
}

async fn follow_pods(shared: Arc<Shared>) {
    let mut changes = shared.pods.subscribe();
    let nodes_pods = shared.pods.index(node_of);
    shared.nodes.synced().await;
    loop {
        for change in changes.next().await {
            if shared.finished.lock().change(&change) {
                for (_, key) in shared.finished.lock().excess() {
                    shared.queue.add(key);
                }
            }
            let Some(new) = &change.new else {
                let node_name = change.old.as_deref().map(pod::node_name).unwrap_or_default();
                if nodes_pods.get(node_name).is_empty() {
                    shared.missing.lock().remove(node_name);
                }
                continue;
            };
            if due(new, shared.nodes.get(pod::node_name(new)).as_deref()).is_some() {
                shared.queue.add(&change.key);
            }
        }
    }
}

async fn follow_nodes(shared: Arc<Shared>) {
    let mut changes = shared.nodes.subscribe();
    let pods = shared.pods.index(node_of);
    loop {
        for change in changes.next().await {
            match &change.new {
                Some(node) => {
                    shared.missing.lock().remove(&change.key);
                    if !is_out_of_service(node) {
                        continue;
                    }
                }
                None if pods.get(&change.key).is_empty() => continue,
                None => drop(shared.missing.lock().insert(change.key.clone(), shared.clock.now())),
            }
            for pod in pods.get(&change.key) {
                shared.queue.add(&pod.key());
            }
        }
    }
}

async fn work(shared: Arc<Shared>) {
    shared.nodes.synced().await;
    shared.pods.synced().await;
    loop {
        let work = shared.queue.next().await;
        let Some(pod) = shared.pods.get(work.key()) else {
            work.done();
            continue;
        };
        let key = work.key().to_owned();
        match base::task::catch("pod garbage collector", collect(&shared, &pod)).await {
            Some(Ok(Some(delay))) => work.again_after(delay),
            Some(Ok(None)) => work.done(),
            Some(Err(error)) => {
                let delay = work.failed();
                tracing::warn!(key, %error, ?delay, "a pod could not be collected");
            }
            None => drop(work.failed()),
        }
    }
}

/// Deletes the pod if it is due; answers when to look again.
async fn collect(shared: &Shared, pod: &Pod) -> Result<Option<Duration>, Error> {
    let node_name = pod::node_name(pod);
    match due(pod, shared.nodes.get(node_name).as_deref()) {
        Some(Due::Orphaned) => {
            if let Some(left) = shared.quarantine(node_name) {
                return Ok(Some(left));
            }
            // The view may be behind: the API has the last word.
            if shared.client.find::<Node>("", node_name).await?.is_some() {
                return Ok(None);
            }
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists", "lastTransitionTime": Time(shared.clock.now()),
            });
            shared.fail_and_delete(pod, Some(condition)).await?;
        }
        Some(Due::Abandoned) => shared.fail_and_delete(pod, None).await?,
        None => {
            let entry = Finished::entry(pod);
            let excess = pod::is_finished(pod) && shared.finished.lock().excess().any(|other| *other == entry);
            if excess {
                shared.delete(pod).await?;
            }
        }
    }
    Ok(None)
}

impl Shared {
    /// How long a node that is missing is still waited for.
    fn quarantine(&self, node_name: &str) -> Option<Duration> {
        let now = self.clock.now();
        let since = *self.missing.lock().entry(node_name.to_owned()).or_insert(now);
        let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        QUARANTINE.checked_sub(passed).filter(|left| !left.is_zero())
    }

    /// So that whoever counts pods by phase sees how it ended. Gone meanwhile is fine.
    async fn fail_and_delete(&self, pod: &Pod, condition: Option<serde_json::Value>) -> Result<(), Error> {
        if !pod::is_finished(pod) {
            let mut status = json!({"phase": "Failed"});
            if let Some(condition) = condition {
                status["conditions"] = json!([condition]);
            }
            let patch = json!({"metadata": {"uid": pod.uid()}, "status": status});
            let (namespace, name) = (pod.namespace(), pod.name());
            match self.client.patch::<v1::Pod>(namespace, name, Some("status"), PatchKind::Strategic, &patch).await {
                // Another one of this name is not meant.
                Err(error) if error.is_not_found() || error.is_conflict() => return Ok(()),
                other => drop(other?),
            }
        }
        self.delete(pod).await
    }

    async fn delete(&self, pod: &Pod) -> Result<(), Error> {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(pod.uid().to_owned()), resource_version: None }),
            ..DeleteOptions::default()
        };
        match self.client.delete::<Pod>(pod.namespace(), pod.name(), options).await {
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, node: &str, phase: &str, created: &str, deleted: bool) -> Pod {
        let deleted = deleted.then_some("2026-01-01T01:00:00Z");
        Pod::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "uid": name, "creationTimestamp": created,
                         "deletionTimestamp": deleted},
            "spec": {"nodeName": node, "containers": [{"name": "c"}]}, "status": {"phase": phase}}))
        .unwrap()
    }

    #[test]
    fn who_has_to_go() {
        let node = |ready: &str, taint: &str| {
            Node::from_value(json!({
                "metadata": {"name": "a"}, "spec": {"taints": [{"key": taint, "effect": "NoExecute"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap()
        };
        let of = |node_name: &str, deleted| pod("p", node_name, "Running", "2026-01-01T00:00:00Z", deleted);
        let out = node("Unknown", "node.kubernetes.io/out-of-service");
        assert_eq!(due(&of("a", false), None), Some(Due::Orphaned));
        assert_eq!(due(&of("", false), None), None, "it waits for a node");
        assert_eq!(due(&of("", true), None), Some(Due::Abandoned));
        assert_eq!(due(&of("a", true), Some(&out)), Some(Due::Abandoned));
        assert_eq!(due(&of("a", false), Some(&out)), None, "nobody asked for its end");
        assert_eq!(due(&of("a", true), Some(&node("True", "node.kubernetes.io/out-of-service"))), None);
        assert_eq!(due(&of("a", true), Some(&node("Unknown", "other"))), None);
    }

    #[test]
    fn the_oldest_finished_pods_are_too_many() {
        let mut finished = Finished::default();
        let change = |index: usize, phase: Option<&str>, old: Option<&str>| {
            let second = format!("2026-01-01T{:02}:{:02}:{:02}Z", index / 3600, index / 60 % 60, index % 60);
            let of = |phase: &str| Arc::new(pod(&format!("p{index}"), "a", phase, &second, false));
            Change { key: format!("n/p{index}"), old: old.map(of), new: phase.map(of) }
        };
        for index in 1..=FINISHED_LEN_MAX {
            assert!(!finished.change(&change(index, Some("Succeeded"), None)));
        }
        assert!(!finished.change(&change(0, Some("Running"), None)), "it is not finished");
        assert_eq!(finished.excess().count(), 0);
        assert!(finished.change(&change(0, Some("Failed"), Some("Running"))));
        assert_eq!(finished.excess().map(|(_, key)| key.as_str()).collect::<Vec<_>>(), ["n/p0"]);
        finished.change(&change(7, None, Some("Succeeded")));
        assert_eq!(finished.excess().count(), 0);
    }
}
