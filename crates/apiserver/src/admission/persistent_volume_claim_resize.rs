//! PersistentVolumeClaimResize: a claim grows only when it is bound and its class allows that.
//!
//! Upstream: plugin/pkg/admission/storage/persistentvolume/resize.

use api::Status;
use api::core::v1::PersistentVolumeClaim;
use api::quantity::{Amount, amount};
use api::storage::v1::StorageClass;
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Plugin;

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        operation == Operation::Update && (group, resource, subresource) == ("", "persistentvolumeclaims", "")
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let Some(old) = request.old_object::<PersistentVolumeClaim>().cloned() else { return done(Ok(())) };
        let Some(new) = request.object::<PersistentVolumeClaim>().cloned() else { return done(Ok(())) };
        if size(&new) <= size(&old) {
            return done(Ok(()));
        }
        if old.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
            return done(Err(request.forbidden("Only bound persistent volume claims can be expanded")));
        }
        let (class, before) = (class(&new), class(&old));
        let grows = !class.is_empty() && class == before && {
            let found = request.lookup().get::<StorageClass>("", &class);
            found.is_some_and(|found| found.allow_volume_expansion == Some(true))
        };
        if grows { done(Ok(())) } else { done(Err(request.forbidden(FIXED))) }
    }
}

const FIXED: &str = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                     support resize";

fn size(claim: &PersistentVolumeClaim) -> Amount {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let asked = resources.and_then(|resources| resources.requests.as_ref()?.get("storage"));
    asked.map(amount).unwrap_or_default()
}

fn class(claim: &PersistentVolumeClaim) -> String {
    let annotated = claim.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION)).cloned();
    let named = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone());
    annotated.or(named).unwrap_or_default()
}
