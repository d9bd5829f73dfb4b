//! ClusterTrustBundleAttest: only who may speak for a signer says which roots its certificates have.
//!
//! Upstream: plugin/pkg/admission/certificates/ctbattest.

use api::Status;
use api::certificates::v1::ClusterTrustBundle;
use futures_util::future::BoxFuture;

use super::{Operation, Request, done, signers};

pub struct Plugin;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, _subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && (group, resource) == (signers::GROUP, "clustertrustbundles")
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        done(check(request))
    }
}

fn check(request: &mut Request<'_>) -> Result<(), Status> {
    let bundle = request.stored_object::<ClusterTrustBundle>();
    let signer = bundle.and_then(|bundle| bundle.spec.signer_name).filter(|signer| !signer.is_empty());
    let Some(signer) = signer else { return Ok(()) };
    if signers::may(request, "attest", &signer) {
        return Ok(());
    }
    Err(request.forbidden(&format!("user not permitted to attest for signerName {signer:?}")))
}
