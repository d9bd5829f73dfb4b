//! OwnerReferencesPermissionEnforcement (off by default): who sets owners may delete the object, and who blocks the
//! owner's deletion may change the owner's finalizers.
//!
//! Upstream: plugin/pkg/admission/gc.

use api::meta::v1::OwnerReference;
use api::{Object, Status};
use futures_util::future::BoxFuture;

use super::{Operation, Request};
use crate::authz::{Attributes, Decision, What};

pub struct Plugin;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update);
        writes && (group, resource, subresource) != ("", "pods", "status")
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(check(request))
    }
}

fn owners(object: &dyn Object) -> Vec<OwnerReference> {
    object.metadata().owner_references.clone().unwrap_or_default()
}

async fn check(request: &Request<'_>) -> Result<(), Status> {
    let new = request.object.as_ref().map(|object| owners(&***object)).unwrap_or_default();
    let old = request.old.map(|old| owners(&**old)).unwrap_or_default();
    if new == old {
        return Ok(());
    }
    let own = What::Resource {
        group: request.group,
        version: request.version,
        resource: request.resource,
        subresource: request.subresource,
        namespace: request.namespace,
        name: request.name,
        field_selector: None,
        label_selector: None,
    };
    if let Err(reason) = may(request, "delete", own).await {
        let why = format!("cannot set an ownerRef on a resource you can't delete: {reason}, <nil>");
        return Err(request.forbidden(&why));
    }
    let blocks = |one: &OwnerReference| one.block_owner_deletion == Some(true);
    let before = |one: &OwnerReference| old.iter().any(|old| old.uid == one.uid && blocks(old));
    for owner in new.iter().filter(|one| blocks(one) && !before(one)) {
        let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let all = request.lookup().catalog().all();
        let found = all.iter().find(|resource| {
            let kind = resource.kind();
            (kind.group, kind.version, kind.kind) == (group, version, owner.kind.as_str())
        });
        let Some(found) = found else {
            let (version, kind) = (&owner.api_version, &owner.kind);
            let why = format!("no matches for kind {kind:?} in version {version:?}");
            return Err(request.forbidden(&format!(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {version} \
                 Kind {kind}: {why}"
            )));
        };
        let what = What::Resource {
            group,
            version,
            resource: found.plural(),
            subresource: "finalizers",
            namespace: if found.namespaced() { request.namespace } else { "" },
            name: &owner.name,
            field_selector: None,
            label_selector: None,
        };
        if let Err(reason) = may(request, "update", what).await {
            let why =
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on";
            return Err(request.forbidden(&format!("{why}: {reason}, <nil>")));
        }
    }
    Ok(())
}

/// The authorizers' reason if they do not allow it.
async fn may(request: &Request<'_>, verb: &str, what: What<'_>) -> Result<(), String> {
    let attributes = Attributes { caller: request.caller, verb, what };
    match request.server.options().authorizer.ask(&attributes, request.lookup()).await {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(reason),
        Decision::Failed { .. } => Err(String::new()),
    }
}
