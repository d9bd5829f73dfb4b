//! NodeDeclaredFeatureValidator: a pod on a node is not changed in a way that its node does not say it can follow.
//!
//! Upstream: plugin/pkg/admission/nodedeclaredfeatures, staging/src/k8s.io/component-helpers/nodedeclaredfeatures. Of
//! the features that nodes declare, those are here that a change of a pod can need: beyond these, upstream's are behind
//! gates that are off (volumes in memory that are resized, devices that take a node's own resources).

use api::core::v1::{Container, Node, Pod, PodSpec};
use api::{Object, Status};
use futures_util::future::BoxFuture;

use super::{Operation, Request};

pub struct Plugin;

/// Whether a change, to the first from the second, needs a feature.
type Need = fn(&PodSpec, &PodSpec) -> bool;

/// What a change can need, by the name under which nodes declare it.
const FEATURES: &[(&str, Need)] = &[
    ("InPlacePodLevelResourcesVerticalScaling", |new, old| new.resources != old.resources),
    ("InPlacePodVerticalScalingInitContainers", resizes_init_container),
];

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatureValidator"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        operation == Operation::Update && (group, resource) == ("", "pods") && matches!(subresource, "" | "resize")
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let Some((needed, name)) = needed(request) else { return Ok(()) };
            let lookup = request.lookup();
            let node = match lookup.get::<Node>("", &name) {
                Some(node) => Some(node),
                None => lookup.get_live::<Node>("", &name).await?,
            };
            let Some(node) = node else { return Err(request.forbidden(&format!("node {name:?} not found"))) };
            let declared =
                node.status.as_ref().and_then(|status| status.declared_features.as_deref()).unwrap_or_default();
            let missing: Vec<&str> = needed.into_iter().filter(|one| !declared.iter().any(|own| own == one)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            let missing = missing.join(", ");
            let why =
                format!("pod update requires features {missing} which are not available on node {:?}", node.name());
            Err(request.forbidden(&why))
        })
    }
}

/// The features that a change needs of the pod's node, and which node that is; `None`: none, or it is on no node yet.
fn needed(request: &mut Request<'_>) -> Option<(Vec<&'static str>, String)> {
    let old = request.old_object::<Pod>().and_then(|old| old.spec.clone())?;
    let new = request.object::<Pod>()?.spec.as_ref()?;
    let node = new.node_name.clone().filter(|node| !node.is_empty())?;
    let needed: Vec<&str> = FEATURES.iter().filter(|(_, is)| is(new, &old)).map(|(name, _)| *name).collect();
    (!needed.is_empty()).then_some((needed, node))
}

/// Whether the resources of a container change that runs before the others and ends.
fn resizes_init_container(new: &PodSpec, old: &PodSpec) -> bool {
    let is_sidecar = |container: &Container| container.restart_policy.as_deref() == Some("Always");
    let pairs = old.init_containers.iter().flatten().zip(new.init_containers.iter().flatten());
    pairs.into_iter().any(|(old, new)| !is_sidecar(old) && old.resources != new.resources)
}
