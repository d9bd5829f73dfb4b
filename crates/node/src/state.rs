//! What the runtime says of one pod: its sandboxes and containers, newest first. Read from CRI messages; pure.

use std::collections::BTreeMap;

use base::Timestamp;
use cri::v1;

use crate::labels;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Created,
    Running,
    Exited,
    Unknown,
}

/// A sandbox as the runtime has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    pub created_at_nanos: i64,
    /// The pod's addresses, the first one first; empty in the node's network.
    pub ips: Vec<String>,
    pub host_network: bool,
    pub runtime_handler: String,
}

/// A container as the runtime has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub sandbox_id: String,
    /// How often the container of this name was started before.
    pub restart_count: u32,
    pub phase: Phase,
    /// The image's name as the pod gave it.
    pub image: String,
    /// The image's id or digest in the runtime.
    pub image_id: String,
    /// Hash of the part of the spec whose change restarts the container.
    pub hash: String,
    /// The resources it was made with (see `resize::fingerprint`).
    pub resources: String,
    pub created_at_nanos: i64,
    /// `None` until started.
    pub started_at: Option<Timestamp>,
    /// `None` until exited.
    pub finished_at: Option<Timestamp>,
    pub exit_code: i32,
    pub reason: String,
    /// The runtime's message, then (when read) the container's own termination message.
    pub message: String,
    /// The log file, absolute.
    pub log_path: String,
    /// Host path of the file the container may leave its last words in.
    pub termination_message_host_path: Option<String>,
    /// Whether the end of the log stands in for an empty termination message after a failure.
    pub falls_back_to_logs: bool,
    pub user: Option<v1::LinuxContainerUser>,
}

impl Container {
    /// Whether it ended well.
    pub fn succeeded(&self) -> bool {
        self.phase == Phase::Exited && self.exit_code == 0
    }
}

/// All of one pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodState {
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<Container>,
}

impl PodState {
    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first()
    }

    /// The newest sandbox if it is usable.
    pub fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandbox().filter(|s| s.ready)
    }

    /// The newest container of that name in any sandbox.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The newest container of that name in the newest sandbox.
    pub fn active_container(&self, name: &str) -> Option<&Container> {
        let sandbox = self.sandbox()?;
        self.containers.iter().find(|c| c.name == name && c.sandbox_id == sandbox.id)
    }

    /// The newest ended container of that name that is older than the one with id `than`.
    pub fn previous(&self, name: &str, than: &str) -> Option<&Container> {
        self.containers
            .iter()
            .filter(|c| c.name == name)
            .skip_while(|c| c.id != than)
            .skip(1)
            .find(|c| c.phase == Phase::Exited)
    }

    /// Whether any container still runs.
    pub fn any_running(&self) -> bool {
        self.containers.iter().any(|c| c.phase == Phase::Running)
    }

    /// Whether nothing runs and no sandbox is up.
    pub fn is_stopped(&self) -> bool {
        !self.any_running() && !self.sandboxes.iter().any(|s| s.ready)
    }

    /// The pod's addresses, from the newest sandbox.
    pub fn ips(&self) -> &[String] {
        self.sandbox().map(|s| s.ips.as_slice()).unwrap_or_default()
    }

    /// Puts sandboxes and containers newest first.
    pub fn sort(&mut self) {
        self.sandboxes.sort_by(|a, b| b.created_at_nanos.cmp(&a.created_at_nanos).then(b.attempt.cmp(&a.attempt)));
        self.containers
            .sort_by(|a, b| b.created_at_nanos.cmp(&a.created_at_nanos).then(b.restart_count.cmp(&a.restart_count)));
    }
}

/// A point in time from CRI's nanoseconds; 0 is "never".
pub fn timestamp(nanos: i64) -> Option<Timestamp> {
    if nanos <= 0 { None } else { Timestamp::from_nanosecond(i128::from(nanos)).ok() }
}

/// A sandbox from its status.
pub fn sandbox(status: &v1::PodSandboxStatus) -> Sandbox {
    let network = status
        .linux
        .as_ref()
        .and_then(|l| l.namespaces.as_ref())
        .and_then(|n| n.options.as_ref())
        .map_or(v1::NamespaceMode::Pod, |o| o.network());
    let ips = status.network.iter().flat_map(|n| {
        std::iter::once(n.ip.clone()).chain(n.additional_ips.iter().map(|a| a.ip.clone())).filter(|ip| !ip.is_empty())
    });
    Sandbox {
        id: status.id.clone(),
        attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
        ready: status.state() == v1::PodSandboxState::SandboxReady,
        created_at_nanos: status.created_at,
        ips: ips.collect(),
        host_network: network == v1::NamespaceMode::Node,
        runtime_handler: status.runtime_handler.clone(),
    }
}

/// A container from its status, and the sandbox it was listed in.
pub fn container(status: &v1::ContainerStatus, sandbox_id: &str) -> Container {
    let annotation = |key: &str| status.annotations.get(key).map(String::as_str);
    let label = |labels: &BTreeMap<String, String>, key: &str| labels.get(key).cloned().unwrap_or_default();
    let path = annotation(labels::TERMINATION_MESSAGE_PATH).unwrap_or_default();
    Container {
        id: status.id.clone(),
        name: label(&status.labels, labels::CONTAINER_NAME),
        sandbox_id: sandbox_id.to_owned(),
        restart_count: annotation(labels::RESTART_COUNT)
            .and_then(|n| n.parse().ok())
            .or(status.metadata.as_ref().map(|m| m.attempt))
            .unwrap_or(0),
        phase: match status.state() {
            v1::ContainerState::ContainerCreated => Phase::Created,
            v1::ContainerState::ContainerRunning => Phase::Running,
            v1::ContainerState::ContainerExited => Phase::Exited,
            v1::ContainerState::ContainerUnknown => Phase::Unknown,
        },
        image: status.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
        image_id: if status.image_ref.is_empty() { status.image_id.clone() } else { status.image_ref.clone() },
        hash: annotation(labels::HASH).unwrap_or_default().to_owned(),
        resources: annotation(labels::RESOURCES).unwrap_or_default().to_owned(),
        created_at_nanos: status.created_at,
        started_at: timestamp(status.started_at),
        finished_at: timestamp(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason.clone(),
        message: status.message.clone(),
        log_path: status.log_path.clone(),
        termination_message_host_path: status
            .mounts
            .iter()
            .find(|m| !path.is_empty() && m.container_path == path)
            .map(|m| m.host_path.clone()),
        falls_back_to_logs: annotation(labels::TERMINATION_MESSAGE_POLICY) == Some("FallbackToLogsOnError"),
        user: status.user.as_ref().and_then(|u| u.linux.clone()),
    }
}
