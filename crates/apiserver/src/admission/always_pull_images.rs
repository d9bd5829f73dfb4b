//! AlwaysPullImages (off by default): images are pulled for every pod, so that nobody runs an image that he could not
//! pull himself.
//!
//! Upstream: plugin/pkg/admission/alwayspullimages.

use std::collections::BTreeSet;

use api::core::v1::{Pod, PodSpec};
use api::{FieldErrors, Path, Status};
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Plugin;

const ALWAYS: &str = "Always";

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update);
        writes && (group, resource) == ("", "pods") && matches!(subresource, "" | "ephemeralcontainers")
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if !has_new_images(request) {
            return done(Ok(()));
        }
        if let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_mut()) {
            let init = spec.init_containers.iter_mut().flatten();
            for container in spec.containers.iter_mut().chain(init) {
                container.image_pull_policy = Some(ALWAYS.to_owned());
            }
            for container in spec.ephemeral_containers.iter_mut().flatten() {
                container.image_pull_policy = Some(ALWAYS.to_owned());
            }
            for image in spec.volumes.iter_mut().flatten().filter_map(|volume| volume.image.as_mut()) {
                image.pull_policy = Some(ALWAYS.to_owned());
            }
        }
        done(Ok(()))
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if !has_new_images(request) {
            return done(Ok(()));
        }
        let mut errors = FieldErrors::new();
        if let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_ref()) {
            let lists = [("initContainers", spec.init_containers.as_deref()), ("containers", Some(&*spec.containers))];
            for (list, containers) in lists {
                for (at, container) in containers.unwrap_or_default().iter().enumerate() {
                    let policy = container.image_pull_policy.as_deref().unwrap_or_default();
                    if policy != ALWAYS {
                        let path = Path::new("spec").child(list).index(at).child("imagePullPolicy");
                        errors.not_supported(&path, policy, &[ALWAYS]);
                    }
                }
            }
        }
        if errors.is_empty() { done(Ok(())) } else { done(Err(request.forbidden(&errors.to_string()))) }
    }
}

fn images(spec: &PodSpec) -> BTreeSet<String> {
    let init = spec.init_containers.iter().flatten();
    let plain = spec.containers.iter().chain(init).filter_map(|container| container.image.clone());
    let ephemeral = spec.ephemeral_containers.iter().flatten().filter_map(|container| container.image.clone());
    plain.chain(ephemeral).collect()
}

/// An update that brings no image is let be.
fn has_new_images(request: &mut Request<'_>) -> bool {
    let Some(old) = request.old_object::<Pod>().and_then(|pod| pod.spec.as_ref()).map(images) else { return true };
    let new = request.object::<Pod>().and_then(|pod| pod.spec.as_ref()).map(images).unwrap_or_default();
    !new.is_subset(&old)
}
