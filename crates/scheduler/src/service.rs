//! The scheduler as a running service: one task owns the queue and the cache, and does nothing but decide; binding
//! and reporting happen beside it, bounded in number.

use std::sync::Arc;
use std::time::Duration;

use api::call::PatchKind;
use api::core::v1::{self, Binding, Node, ObjectReference};
use api::lean::Pod;
use api::meta::v1::{ObjectMeta, Time};
use api::{Object, Timestamp};
use base::{Clock, Random, TaskGroup};
use client::{Change, Client, Error, Recorder, Reflectors};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use crate::cycle::{Unschedulable, schedule};
use crate::framework::ClusterEvent;
use crate::plugins::is_gated;
use crate::pod::{PodInfo, is_finished, node_name};
use crate::queue::Queue;
use crate::snapshot::Cache;

/// Bindings and status writes under way at once.
const WRITES_LEN_MAX: usize = 64;
/// How often pods that wait for an event are looked through for ones that waited too long.
const FLUSH_EVERY: Duration = Duration::from_secs(30);

/// What the scheduler is started with.
#[derive(Clone)]
pub struct Options {
    /// Pods of this `schedulerName` are ours.
    pub name: String,
    pub client: Client,
    pub reflectors: Reflectors,
    pub clock: Clock,
    pub random: Random,
    pub tasks: TaskGroup,
}

/// Schedules pods until the group ends.
pub fn run(options: Options) {
    let tasks = options.tasks.clone();
    tasks.supervise("scheduler", move || Service::new(options.clone()).run());
}

/// How a write ended.
enum Outcome {
    Bound { uid: String },
    NotBound { uid: String, gone: bool },
}

struct Service {
    options: Options,
    recorder: Recorder,
    cache: Cache,
    queue: Queue,
    outcomes: (mpsc::Sender<Outcome>, mpsc::Receiver<Outcome>),
    writes: Arc<Semaphore>,
    /// Where the next cycle begins to look.
    next_start: usize,
}

impl Service {
    fn new(options: Options) -> Self {
        let recorder = Recorder::start(options.client.clone(), &options.name, "", options.clock, &options.tasks);
        Self {
            recorder,
            cache: Cache::default(),
            queue: Queue::default(),
            outcomes: mpsc::channel(WRITES_LEN_MAX * 2),
            writes: Arc::new(Semaphore::new(WRITES_LEN_MAX)),
            next_start: 0,
            options,
        }
    }

    async fn run(mut self) {
        let (pods, nodes) = (self.options.reflectors.of::<Pod>(), self.options.reflectors.of::<Node>());
        nodes.synced().await;
        pods.synced().await;
        let (mut pod_changes, mut node_changes) = (pods.subscribe(), nodes.subscribe());
        let mut flush = tokio::time::interval(FLUSH_EVERY);
        let writes = self.writes.clone();
        loop {
            let now = self.options.clock.now();
            // With all writes taken the next decision waits, so that what is decided does not run ahead of what is
            // known to hold.
            if writes.available_permits() > 0
                && let Some(pod) = self.queue.pop(now)
            {
                self.attempt(pod, now);
                // What has happened meanwhile is taken in before the next decision, without waiting for it.
                tokio::task::yield_now().await;
                tokio::select! {
                    biased;
                    changes = node_changes.next() => self.nodes_changed(changes),
                    changes = pod_changes.next() => self.pods_changed(changes),
                    Some(outcome) = self.outcomes.1.recv() => self.wrote(outcome),
                    () = std::future::ready(()) => {}
                }
                continue;
            }
            let due = self.queue.next_due();
            tokio::select! {
                biased;
                changes = node_changes.next() => self.nodes_changed(changes),
                changes = pod_changes.next() => self.pods_changed(changes),
                Some(outcome) = self.outcomes.1.recv() => self.wrote(outcome),
                _ = flush.tick() => self.queue.flush(self.options.clock.now()),
                () = wait_until(self.options.clock, due) => {}
            }
        }
    }

    fn nodes_changed(&mut self, changes: Vec<Change<Node>>) {
        let now = self.options.clock.now();
        for Change { key, old, new } in changes {
            let Some(new) = new else {
                self.cache.remove_node(&key);
                continue;
            };
            for event in node_events(old.as_deref(), &new) {
                self.queue.happened(event, now);
            }
            self.cache.set_node(new);
        }
    }

    fn pods_changed(&mut self, changes: Vec<Change<Pod>>) {
        let now = self.options.clock.now();
        for Change { old, new, .. } in changes {
            let replaced = matches!((&old, &new), (Some(old), Some(new)) if old.uid() != new.uid());
            if let Some(old) = old.filter(|_| new.is_none() || replaced) {
                self.queue.remove(old.uid());
                if self.cache.remove_pod(old.uid()) {
                    self.queue.happened(ClusterEvent::PodGone, now);
                }
            }
            let Some(pod) = new else { continue };
            if !node_name(&pod).is_empty() {
                self.queue.remove(pod.uid());
                if self.cache.set_pod(&pod) {
                    self.queue.happened(ClusterEvent::PodGone, now);
                }
            } else if self.is_ours(&pod) {
                if !self.cache.has_pod(pod.uid()) {
                    let uid = pod.uid().to_owned();
                    self.queue.add(&uid, PodInfo::new(pod), now);
                }
            } else {
                self.queue.remove(pod.uid());
            }
        }
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        let name = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or("default-scheduler");
        name == self.options.name && !pod.is_terminating() && !is_finished(pod) && !is_gated(pod)
    }

    fn attempt(&mut self, pod: PodInfo, now: Timestamp) {
        let uid = pod.pod.uid().to_owned();
        let random = &self.options.random;
        let tie = |count: usize| usize::try_from(random.below(count as u64)).unwrap_or(0);
        match schedule(&pod, &self.cache.snapshot(), crate::ALL, self.next_start, tie) {
            Ok(node) => {
                self.next_start = self.next_start.wrapping_add(1);
                self.cache.assume(&pod, &node);
                self.bind(pod, node);
            }
            Err(why) => {
                self.report(&pod, &why, now);
                self.queue.unschedulable(&uid, why.events, now);
            }
        }
    }

    fn bind(&self, pod: PodInfo, node: String) {
        let (client, recorder) = (self.options.client.clone(), self.recorder.clone());
        let (outcomes, writes) = (self.outcomes.0.clone(), self.writes.clone());
        self.options.tasks.spawn("scheduler: bind", async move {
            let Ok(_permit) = writes.acquire().await else { return };
            let pod = pod.pod;
            let uid = pod.uid().to_owned();
            let outcome = match bind(&client, &pod, &node).await {
                Ok(()) => {
                    let message = format!("Successfully assigned {} to {node}", pod.key());
                    recorder.normal(&*pod, "Scheduled", message);
                    Outcome::Bound { uid }
                }
                Err(error) => {
                    let gone = error.is_not_found();
                    if !gone {
                        tracing::warn!(pod = pod.key(), node, %error, "binding failed");
                        recorder.warning(
                            &*pod,
                            "FailedScheduling",
                            format!("running Bind plugin \"DefaultBinder\": {error}"),
                        );
                    }
                    Outcome::NotBound { uid, gone }
                }
            };
            // The receiver lives as long as the service; without it there is nobody to tell.
            let _ = outcomes.send(outcome).await;
        });
    }

    fn wrote(&mut self, outcome: Outcome) {
        let now = self.options.clock.now();
        match outcome {
            Outcome::Bound { uid } => self.queue.remove(&uid),
            Outcome::NotBound { uid, gone } => {
                self.cache.forget(&uid);
                self.queue.happened(ClusterEvent::PodGone, now);
                if gone { self.queue.remove(&uid) } else { self.queue.back_off(&uid, now) }
            }
        }
    }

    /// Tells the user: an event, and the PodScheduled condition if it says something else so far.
    fn report(&self, pod: &PodInfo, why: &Unschedulable, now: Timestamp) {
        let message = why.message();
        self.recorder.warning(&*pod.pod, "FailedScheduling", message.clone());
        let conditions = pod.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let known = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
        if known.is_some_and(|known| known.status == "False" && known.message.as_deref() == Some(&message)) {
            return;
        }
        let since = known.filter(|known| known.status == "False").and_then(|known| known.last_transition_time.clone());
        let patch = json!({"metadata": {"uid": pod.pod.uid()}, "status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": since.unwrap_or(Time(now)), "observedGeneration": pod.pod.metadata.generation,
        }]}});
        let (client, pod, writes) = (self.options.client.clone(), pod.pod.clone(), self.writes.clone());
        self.options.tasks.spawn("scheduler: report", async move {
            let Ok(_permit) = writes.acquire().await else { return };
            let written = client
                .patch::<v1::Pod>(pod.namespace(), pod.name(), Some("status"), PatchKind::Strategic, &patch)
                .await;
            if let Err(error) = written
                && !error.is_not_found()
            {
                tracing::warn!(pod = pod.key(), %error, "the PodScheduled condition was not written");
            }
        });
    }
}

async fn wait_until(clock: Clock, due: Option<Timestamp>) {
    match due {
        Some(due) => clock.sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn bind(client: &Client, pod: &Pod, node: &str) -> Result<(), Error> {
    let binding = Binding {
        metadata: ObjectMeta {
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        },
        target: ObjectReference { kind: Some("Node".into()), name: Some(node.to_owned()), ..Default::default() },
    };
    client.create_subresource::<Pod, Binding>(pod.namespace(), pod.name(), "binding", binding).await.map(drop)
}

/// What a change of a node may mean for pods that fit nowhere.
fn node_events(old: Option<&Node>, new: &Node) -> Vec<ClusterEvent> {
    let Some(old) = old else { return vec![ClusterEvent::NodeAdded] };
    let mut events = Vec::new();
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    if allocatable(old) != allocatable(new) {
        events.push(ClusterEvent::NodeAllocatableGrew);
    }
    if old.metadata.labels != new.metadata.labels {
        events.push(ClusterEvent::NodeLabelsChanged);
    }
    let taints = |node: &Node| node.spec.as_ref().map(|spec| (spec.taints.clone(), spec.unschedulable));
    if taints(old) != taints(new) {
        events.push(ClusterEvent::NodeTaintsChanged);
    }
    events
}
