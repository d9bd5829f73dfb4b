//! PodGroupProtection: groups of pods get a finalizer, so that they stay while they have pods, and a group that is
//! going gets no more.
//!
//! Upstream: plugin/pkg/admission/podgroupprotection. The controller of that name takes the finalizer away. Without the
//! kind, which is served only if `--runtime-config` says so, there is nothing to do.

use api::Status;
use api::core::v1::Pod;
use api::scheduling::v1beta1::PodGroup;
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Plugin;

const FINALIZER: &str = "scheduling.k8s.io/podgroup-protection";

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "PodGroupProtection"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        let known = matches!((group, resource), ("scheduling.k8s.io", "podgroups") | ("", "pods"));
        operation == Operation::Create && known && subresource.is_empty()
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if request.resource == "podgroups"
            && let Some(object) = &mut request.object
        {
            let finalizers = object.metadata_mut().finalizers.get_or_insert_default();
            if !finalizers.iter().any(|own| own == FINALIZER) {
                finalizers.push(FINALIZER.to_owned());
            }
        }
        done(Ok(()))
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        done(join(request))
    }
}

/// A pod joins no group that is going. It may be there before its group.
fn join(request: &mut Request<'_>) -> Result<(), Status> {
    let wished =
        request.object::<Pod>().and_then(|pod| pod.spec.as_ref()?.scheduling_group.as_ref()?.pod_group_name.clone());
    let Some(name) = wished.filter(|name| !name.is_empty()) else { return Ok(()) };
    match request.lookup().get::<PodGroup>(request.namespace, &name) {
        Some(group) if api::Object::is_terminating(&*group) => {
            let why = format!("cannot create Pod referencing PodGroup {name:?} because it is being deleted");
            Err(request.forbidden(&why))
        }
        _ => Ok(()),
    }
}
