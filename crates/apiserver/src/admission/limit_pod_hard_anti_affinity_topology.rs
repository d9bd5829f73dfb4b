//! LimitPodHardAntiAffinityTopology (off by default): pods keep others away from their node at most, not from a zone.
//!
//! Upstream: plugin/pkg/admission/antiaffinity.

use api::Status;
use api::core::v1::Pod;
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Plugin;

const HOST: &str = "kubernetes.io/hostname";

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "LimitPodHardAntiAffinityTopology"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update);
        writes && (group, resource, subresource) == ("", "pods", "")
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let affinity = request.object::<Pod>().and_then(|pod| pod.spec.as_ref()?.affinity.clone());
        let terms = affinity.and_then(|affinity| affinity.pod_anti_affinity);
        let terms = terms.and_then(|terms| terms.required_during_scheduling_ignored_during_execution);
        match terms.unwrap_or_default().iter().find(|term| term.topology_key != HOST) {
            None => done(Ok(())),
            Some(term) => done(Err(request.forbidden(&format!(
                "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {} but only key {HOST} is allowed",
                term.topology_key
            )))),
        }
    }
}
