//! DefaultStorageClass: a claim that names no class gets the one that is the default.
//!
//! Upstream: plugin/pkg/admission/storage/storageclass/setdefault.

use std::cmp::Reverse;
use std::sync::Arc;

use api::core::v1::PersistentVolumeClaim;
use api::storage::v1::StorageClass;
use api::{Object, Status};
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Plugin;

const IS_DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        operation == Operation::Create && (group, resource, subresource) == ("", "persistentvolumeclaims", "")
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let class = default_class(request.lookup().list::<StorageClass>(None));
        if let (Some(class), Some(claim)) = (class, request.object::<PersistentVolumeClaim>())
            && names_no_class(claim)
        {
            claim.spec.get_or_insert_default().storage_class_name = Some(class);
        }
        done(Ok(()))
    }
}

fn names_no_class(claim: &PersistentVolumeClaim) -> bool {
    let annotated = claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(CLASS_ANNOTATION));
    !annotated && claim.spec.as_ref().is_none_or(|spec| spec.storage_class_name.is_none())
}

/// The name of the class that is the default; of several the newest.
fn default_class(classes: Vec<Arc<StorageClass>>) -> Option<String> {
    let is_default = |class: &Arc<StorageClass>| {
        let annotations = class.metadata.annotations.iter().flatten();
        annotations.into_iter().any(|(key, value)| IS_DEFAULT.contains(&key.as_str()) && value == "true")
    };
    let rank = |class: &Arc<StorageClass>| {
        let created = class.metadata.creation_timestamp.as_ref().map(|created| created.0);
        (Reverse(created), class.name().to_owned())
    };
    classes.into_iter().filter(is_default).min_by_key(rank).map(|class| class.name().to_owned())
}
