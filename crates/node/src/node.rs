//! The node itself in the API: registered once, its status told when it changes (and every five minutes), its lease
//! renewed every ten seconds.
//!
//! Upstream: kubelet `kubelet_node_status.go`, `nodestatus/setters.go`, `component-helpers/apimachinery/lease`.

pub mod condition;
pub mod lease;
pub mod machine;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::call::PatchKind;
use api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo, ObjectReference, Taint,
};
use api::meta::v1::{ObjectMeta, Time};
use base::{Backoff, Timestamp};
use cri::v1;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::agent::Agent;
use crate::network::Enforcement;
use crate::status::whole_seconds;
use condition::Reading;

/// How often the node looks at itself.
const LOOK: Duration = Duration::from_secs(10);
/// While it is not ready it looks more often, so that it is ready when it can be.
const LOOK_UNREADY: Duration = Duration::from_millis(250);
/// An unchanged status is told after so long.
const REPORT: SignedDuration = SignedDuration::from_mins(5);
/// The list of images is not asked for more often.
const IMAGES_AGE_MAX: SignedDuration = SignedDuration::from_secs(60);
/// Images and names per image in a status (upstream).
const IMAGES_LEN_MAX: usize = 50;
const IMAGE_NAMES_LEN_MAX: usize = 5;

/// What is said of the node at its registration.
#[derive(Debug, Clone, Default)]
pub struct Registration {
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub pod_cidr: Option<String>,
    pub kubelet_port: u16,
    pub info: NodeSystemInfo,
    /// The host's name, for the address of that type.
    pub hostname: String,
}

/// Waits for what the network says of policies to change; for ever if nobody says anything (any more).
async fn changed(enforcement: &mut Option<watch::Receiver<Enforcement>>) {
    if let Some(seen) = enforcement
        && seen.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// The node's actor.
pub struct Service {
    agent: Arc<Agent>,
    registration: Registration,
    ready: watch::Sender<bool>,
    conditions: Vec<NodeCondition>,
    told: Option<(NodeStatus, Timestamp)>,
    images: Option<(Vec<ContainerImage>, Timestamp)>,
    /// The pod CIDR the runtime was told.
    cidr_told: Option<String>,
    enforcement: Option<watch::Receiver<Enforcement>>,
}

impl Service {
    /// An actor for the node; `ready` is told whether it is.
    pub fn new(agent: Arc<Agent>, registration: Registration, ready: watch::Sender<bool>) -> Self {
        Self {
            enforcement: agent.network.as_ref().map(|network| network.enforcement()),
            agent,
            registration,
            ready,
            conditions: Vec::new(),
            told: None,
            images: None,
            cidr_told: None,
        }
    }

    /// Registers the node and keeps its status true, until its group ends.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(7));
        let node = loop {
            match self.register().await {
                Ok(node) => break node,
                Err(error) => {
                    tracing::warn!(%error, "the node cannot be registered yet");
                    self.agent.clock.sleep(backoff.next_jittered(&self.agent.random)).await;
                }
            }
        };
        self.conditions = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        self.event("Normal", "Starting", "Starting kubelet.".into());
        self.tell_cidr(&node).await;
        let mut failures = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            let pause = match self.look().await {
                Ok(true) => {
                    failures.reset();
                    LOOK
                }
                Ok(false) => LOOK_UNREADY,
                Err(error) => {
                    tracing::warn!(%error, "the node's status is not written yet");
                    failures.next_jittered(&self.agent.random)
                }
            };
            tokio::select! {
                () = self.agent.clock.sleep(pause) => {}
                () = self.agent.node_look.notified() => {}
                () = changed(&mut self.enforcement) => {}
            }
        }
    }

    fn name(&self) -> &str {
        &self.agent.facts.node_name
    }

    /// Events name the node by its name where others have a uid, as upstream's do.
    fn event(&self, type_: &str, reason: &str, message: String) {
        let reference = ObjectReference {
            kind: Some("Node".into()),
            api_version: Some("v1".into()),
            name: Some(self.name().to_owned()),
            uid: Some(self.name().to_owned()),
            ..Default::default()
        };
        self.agent.events.recorder().record(&reference, type_, reason, message);
    }

    fn labels(&self) -> BTreeMap<String, String> {
        self.registration.labels.clone()
    }

    async fn register(&mut self) -> Result<Arc<Node>, client::Error> {
        let client = &self.agent.client;
        if let Some(node) = client.find::<Node>("", self.name()).await? {
            let labels = self.labels();
            let current = node.metadata.labels.clone().unwrap_or_default();
            if labels.iter().all(|(key, value)| current.get(key) == Some(value)) {
                return Ok(node);
            }
            let patch = json!({"metadata": {"labels": labels}});
            return client.patch(Node::default().namespace(), self.name(), None, PatchKind::Merge, &patch).await;
        }
        let cidr = self.registration.pod_cidr.clone();
        let node = Node {
            metadata: ObjectMeta {
                name: Some(self.name().to_owned()),
                labels: Some(self.labels()),
                annotations: Some(BTreeMap::from([(
                    "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
                    "true".to_owned(),
                )])),
                ..Default::default()
            },
            spec: Some(NodeSpec {
                pod_cidr: cidr.clone(),
                pod_cidrs: cidr.map(|cidr| vec![cidr]),
                taints: Some(self.registration.taints.clone()).filter(|taints| !taints.is_empty()),
                ..Default::default()
            }),
            status: Some(self.status(&[], Vec::new(), Vec::new())),
        };
        client.create(node).await
    }

    async fn tell_cidr(&mut self, node: &Node) {
        let cidr = node.spec.as_ref().and_then(|s| s.pod_cidr.clone());
        if cidr.is_some() && cidr != self.cidr_told {
            match self.agent.runtime.update_runtime_config(cidr.as_deref().unwrap_or_default()).await {
                Ok(()) => self.cidr_told = cidr,
                Err(error) => tracing::debug!(%error, "the runtime was not told the pod CIDR"),
            }
        }
    }

    /// Looks at the machine and the runtime and tells the status if it is time. `Ok(true)`: the node is ready.
    async fn look(&mut self) -> Result<bool, client::Error> {
        let now = self.agent.clock.now();
        let runtime = self.agent.runtime.status(false).await;
        let handlers = runtime.as_ref().map(|r| r.runtime_handlers.clone()).unwrap_or_default();
        let data_dir = self.agent.facts.data_dir.clone();
        let machine = tokio::task::spawn_blocking(move || machine::pressure(&data_dir)).await.unwrap_or_default();
        let policies = self.enforcement.as_mut().map(|seen| seen.borrow_and_update().clone());
        let reading = Reading { runtime: &runtime, machine: &machine, policies: policies.as_ref() };
        let conditions = condition::conditions(&reading, &self.conditions, now);
        let images = self.images(now, runtime.is_ok()).await;
        let status = self.status(&handlers, conditions.clone(), images);
        let ready = condition::is_ready(&conditions);
        let due = match &self.told {
            Some((told, at)) => !same(told, &status) || now.duration_since(*at) >= REPORT,
            None => true,
        };
        if due {
            let node = self.send(&status).await?;
            self.told = Some((status, now));
            let was = condition::is_ready(&self.conditions);
            if ready != was {
                let reason = if ready { "NodeReady" } else { "NodeNotReady" };
                self.event("Normal", reason, format!("Node {} status is now: {reason}", self.name()));
            }
            self.tell_cidr(&node).await;
        }
        self.conditions = conditions;
        self.ready.send_if_modified(|before| std::mem::replace(before, ready) != ready);
        Ok(ready)
    }

    async fn send(&self, status: &NodeStatus) -> Result<Arc<Node>, client::Error> {
        let carrier = Node { status: Some(status.clone()), ..Node::default() };
        let mut value = carrier.to_value().get("status").cloned().unwrap_or(Value::Null);
        // Addresses merge by type: the old ones have to go.
        if let Some(list) = value.get_mut("addresses").and_then(Value::as_array_mut) {
            list.insert(0, json!({"$patch": "replace"}));
        }
        let patch = json!({"status": value});
        let written = self.agent.client.patch("", self.name(), Some("status"), PatchKind::Strategic, &patch).await;
        match written {
            Err(error) if error.is_not_found() => {
                // Someone removed the node: it comes back, as upstream's does after a restart.
                let created = self.agent.client.create(self.fresh(status)).await?;
                Ok(created)
            }
            other => other,
        }
    }

    fn fresh(&self, status: &NodeStatus) -> Node {
        Node {
            metadata: ObjectMeta {
                name: Some(self.name().to_owned()),
                labels: Some(self.labels()),
                ..Default::default()
            },
            spec: Some(NodeSpec {
                pod_cidr: self.registration.pod_cidr.clone(),
                pod_cidrs: self.registration.pod_cidr.clone().map(|cidr| vec![cidr]),
                ..Default::default()
            }),
            status: Some(status.clone()),
        }
    }

    fn status(
        &self,
        handlers: &[v1::RuntimeHandler],
        conditions: Vec<NodeCondition>,
        images: Vec<ContainerImage>,
    ) -> NodeStatus {
        let facts = &self.agent.facts;
        let address = |type_: &str, address: &str| NodeAddress { type_: type_.into(), address: address.into() };
        let mut addresses: Vec<NodeAddress> = facts.host_ips.iter().map(|ip| address("InternalIP", ip)).collect();
        addresses.push(address("Hostname", &self.registration.hostname));
        let handlers = handlers.iter().map(|handler| NodeRuntimeHandler {
            name: Some(handler.name.clone()),
            features: handler.features.as_ref().map(|f| NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(f.recursive_read_only_mounts),
                user_namespaces: Some(f.user_namespaces),
            }),
        });
        NodeStatus {
            addresses: Some(addresses),
            capacity: Some(facts.capacity.clone()),
            allocatable: Some(facts.allocatable.clone()),
            conditions: Some(conditions),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(self.registration.kubelet_port) }),
            }),
            images: Some(images).filter(|images| !images.is_empty()),
            node_info: Some(self.registration.info.clone()),
            runtime_handlers: Some(handlers.collect::<Vec<_>>()).filter(|handlers| !handlers.is_empty()),
            ..Default::default()
        }
    }

    async fn images(&mut self, now: Timestamp, runtime_answers: bool) -> Vec<ContainerImage> {
        let fresh = self.images.as_ref().is_some_and(|(_, at)| now.duration_since(*at) < IMAGES_AGE_MAX);
        if !fresh
            && runtime_answers
            && let Ok(listed) = self.agent.runtime.list_images(None).await
        {
            self.images = Some((images(listed), now));
        }
        self.images.as_ref().map(|(images, _)| images.clone()).unwrap_or_default()
    }
}

/// The largest images, with some of their names.
fn images(mut listed: Vec<v1::Image>) -> Vec<ContainerImage> {
    listed.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    listed.truncate(IMAGES_LEN_MAX);
    let image = |image: v1::Image| {
        let mut names: Vec<String> = image.repo_digests.into_iter().chain(image.repo_tags).collect();
        names.truncate(IMAGE_NAMES_LEN_MAX);
        ContainerImage { names: Some(names), size_bytes: i64::try_from(image.size).ok() }
    };
    listed.into_iter().map(image).collect()
}

/// Whether two statuses differ in nothing but heartbeats.
fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    still(a) == still(b)
}

/// A time as the API writes it.
fn time(at: Timestamp) -> Time {
    Time(whole_seconds(at))
}
