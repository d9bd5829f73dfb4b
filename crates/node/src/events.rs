//! Events about pods and their containers, in upstream's reasons (kubelet `events/event.go`).

use api::core::v1::{ObjectReference, Pod};
use client::Recorder;
use client::recorder::reference;

use crate::pod;

/// Whether an event tells of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Normal,
    Warning,
}

impl Severity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Writes events. Cheap to clone.
#[derive(Clone)]
pub struct Events(Recorder);

impl Events {
    /// Events go through `recorder`.
    pub fn new(recorder: Recorder) -> Self {
        Self(recorder)
    }

    /// About a pod as a whole.
    pub fn pod(&self, p: &Pod, severity: Severity, reason: &str, message: impl Into<String>) {
        self.0.record(&reference(p), severity.as_str(), reason, message.into());
    }

    /// About one container of a pod.
    pub fn container(&self, p: &Pod, name: &str, severity: Severity, reason: &str, message: impl Into<String>) {
        self.0.record(&container_reference(p, name), severity.as_str(), reason, message.into());
    }

    /// The recorder, for events about the node.
    pub fn recorder(&self) -> &Recorder {
        &self.0
    }
}

fn container_reference(p: &Pod, name: &str) -> ObjectReference {
    let list = if pod::init_containers(p).iter().any(|c| c.name == name) {
        "initContainers"
    } else if pod::ephemeral_containers(p).iter().any(|c| c.name == name) {
        "ephemeralContainers"
    } else {
        "containers"
    };
    ObjectReference { field_path: Some(format!("spec.{list}{{{name}}}")), ..reference(p) }
}
