//! StorageObjectInUseProtection: claims and volumes get a finalizer, so that they stay while they are used.
//!
//! Upstream: plugin/pkg/admission/storage/storageobjectinuseprotection. The controllers of the same names take the
//! finalizers away.

use api::Status;
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Plugin;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        let kept = matches!(resource, "persistentvolumeclaims" | "persistentvolumes");
        operation == Operation::Create && group.is_empty() && subresource.is_empty() && kept
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let finalizer = match request.resource {
            "persistentvolumes" => "kubernetes.io/pv-protection",
            _ => "kubernetes.io/pvc-protection",
        };
        if let Some(object) = &mut request.object {
            let finalizers = object.metadata_mut().finalizers.get_or_insert_default();
            if !finalizers.iter().any(|own| own == finalizer) {
                finalizers.push(finalizer.to_owned());
            }
        }
        done(Ok(()))
    }
}
