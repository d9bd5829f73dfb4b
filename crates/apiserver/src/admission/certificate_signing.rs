//! CertificateSigning: only who may sign in the name of the signer issues a certificate, or says that it cannot be.
//!
//! Upstream: plugin/pkg/admission/certificates/signing.

use api::Status;
use api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestStatus};
use futures_util::future::BoxFuture;

use super::{Operation, Request, done, signers};

pub struct Plugin;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        operation == Operation::Update
            && (group, resource, subresource) == (signers::GROUP, "certificatesigningrequests", "status")
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        done(check(request))
    }
}

fn check(request: &mut Request<'_>) -> Result<(), Status> {
    let empty = CertificateSigningRequestStatus::default();
    let new = request.object::<CertificateSigningRequest>().and_then(|new| new.status.clone()).unwrap_or_default();
    let Some(old) = request.old_object::<CertificateSigningRequest>() else { return Ok(()) };
    let before = old.status.as_ref().unwrap_or(&empty);
    if new.certificate == before.certificate && new.conditions == before.conditions {
        return Ok(());
    }
    let signer = old.spec.signer_name.clone();
    if signers::may(request, "sign", &signer) {
        return Ok(());
    }
    Err(request.forbidden(&format!("user not permitted to sign requests with signerName {signer:?}")))
}
