//! CertificateApproval: only who may approve in the name of the signer approves or denies a signing request.
//!
//! Upstream: plugin/pkg/admission/certificates/approval.

use api::Status;
use api::certificates::v1::CertificateSigningRequest;
use futures_util::future::BoxFuture;

use super::{Operation, Request, done, signers};

pub struct Plugin;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        operation == Operation::Update
            && (group, resource, subresource) == (signers::GROUP, "certificatesigningrequests", "approval")
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        done(check(request))
    }
}

fn check(request: &mut Request<'_>) -> Result<(), Status> {
    let old = request.old_object::<CertificateSigningRequest>();
    let Some(signer) = old.map(|old| old.spec.signer_name.clone()) else { return Ok(()) };
    if signers::may(request, "approve", &signer) {
        return Ok(());
    }
    Err(request.forbidden(&format!("user not permitted to approve requests with signerName {signer:?}")))
}
