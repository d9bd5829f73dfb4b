//! The labels and annotations by which sandboxes and containers are known again after a restart of the node agent.
//! They are upstream's (kubelet `kuberuntime/labels.go`, `kubelet/types/labels.go`), so that crictl and others read
//! them too.

use std::collections::BTreeMap;

use api::Object;
use api::core::v1::{Container, Pod};
use sha2::{Digest, Sha256};

use crate::{pod, resize};

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

pub const HASH: &str = "io.kubernetes.container.hash";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const POD_DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
pub const POD_TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
/// The resources a container was made with (see `resize::fingerprint`).
pub const RESOURCES: &str = "pintle.io/resources";
/// Whose sandbox it is, when several nodes share one runtime.
pub const NODE: &str = "pintle.io/node";

/// Upstream's default of `terminationMessagePath`.
pub const DEFAULT_TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

/// The labels of a sandbox that are not the pod's own.
pub const OF_SANDBOX: [&str; 4] = [POD_NAME, POD_NAMESPACE, POD_UID, NODE];

/// The labels of a sandbox: the pod's own, and who it is.
pub fn sandbox_labels(p: &Pod, node_name: &str) -> BTreeMap<String, String> {
    let mut labels = p.metadata.labels.clone().unwrap_or_default();
    labels.insert(POD_NAME.into(), p.name().into());
    labels.insert(POD_NAMESPACE.into(), p.namespace().into());
    labels.insert(POD_UID.into(), p.uid().into());
    labels.insert(NODE.into(), node_name.into());
    labels
}

/// The labels of a container.
pub fn container_labels(p: &Pod, container: &Container, node_name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (POD_NAME.into(), p.name().into()),
        (POD_NAMESPACE.into(), p.namespace().into()),
        (POD_UID.into(), p.uid().into()),
        (CONTAINER_NAME.into(), container.name.clone()),
        (NODE.into(), node_name.into()),
    ])
}

/// The annotations of a container.
pub fn container_annotations(p: &Pod, container: &Container, restart_count: u32) -> BTreeMap<String, String> {
    let path = container.termination_message_path.as_deref().unwrap_or(DEFAULT_TERMINATION_MESSAGE_PATH);
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let mut annotations = BTreeMap::from([
        (HASH.to_owned(), container_hash(container)),
        (RESTART_COUNT.to_owned(), restart_count.to_string()),
        (TERMINATION_MESSAGE_PATH.to_owned(), path.to_owned()),
        (TERMINATION_MESSAGE_POLICY.to_owned(), policy.to_owned()),
        (RESOURCES.to_owned(), resize::fingerprint(container)),
    ]);
    if let Some(grace) = p.metadata.deletion_grace_period_seconds {
        annotations.insert(POD_DELETION_GRACE.into(), grace.to_string());
    }
    if let Some(grace) = pod::spec(p).termination_grace_period_seconds {
        annotations.insert(POD_TERMINATION_GRACE.into(), grace.to_string());
    }
    annotations
}

/// Hash of what restarts a running container when it changes: its name and image, as upstream since 1.31.
pub fn container_hash(container: &Container) -> String {
    let mut hash = Sha256::new();
    hash.update(container.name.as_bytes());
    hash.update([0]);
    hash.update(container.image.as_deref().unwrap_or_default().as_bytes());
    hex::encode(&hash.finalize()[..4])
}
