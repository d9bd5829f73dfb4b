//! ExtendedResourceToleration (off by default): a pod that asks for a device tolerates the taint of its nodes.
//!
//! Upstream: plugin/pkg/admission/extendedresourcetoleration.

use std::collections::BTreeSet;

use api::Status;
use api::core::v1::{Pod, Toleration};
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Plugin;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "ExtendedResourceToleration"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update);
        writes && (group, resource, subresource) == ("", "pods", "")
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_mut()) else { return done(Ok(())) };
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let asked = containers.filter_map(|container| container.resources.as_ref()?.requests.as_ref());
        let devices: BTreeSet<String> =
            asked.flat_map(|requests| requests.keys()).filter(|n| is_extended(n)).cloned().collect();
        let tolerations = spec.tolerations.get_or_insert_default();
        for device in devices {
            let toleration = Toleration {
                key: Some(device),
                operator: Some("Exists".to_owned()),
                effect: Some("NoSchedule".to_owned()),
                ..Toleration::default()
            };
            if !tolerations.contains(&toleration) {
                tolerations.push(toleration);
            }
        }
        done(Ok(()))
    }
}

/// Names with a domain that is not Kubernetes' own.
fn is_extended(name: &str) -> bool {
    let domain = name.split_once('/').map(|(domain, _)| domain);
    domain.is_some_and(|domain| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}
