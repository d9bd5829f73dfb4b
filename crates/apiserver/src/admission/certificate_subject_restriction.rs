//! CertificateSubjectRestriction: nobody asks for a client certificate of the group that may do everything.
//!
//! Upstream: plugin/pkg/admission/certificates/subjectrestriction.

use api::Status;
use api::certificates::v1::CertificateSigningRequest;
use futures_util::future::BoxFuture;

use super::{Operation, Request, done, signers};
use crate::authn::MASTERS;
use crate::registry::read_request;

pub struct Plugin;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        operation == Operation::Create
            && (group, resource, subresource) == (signers::GROUP, "certificatesigningrequests", "")
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        done(check(request))
    }
}

fn check(request: &mut Request<'_>) -> Result<(), Status> {
    let Some(wish) = request.object::<CertificateSigningRequest>() else { return Ok(()) };
    if wish.spec.signer_name != CLIENT_SIGNER {
        return Ok(());
    }
    let read = read_request(&wish.spec.request.0);
    match read {
        Err(why) => Err(request.forbidden(&format!("failed to parse CSR: {why}"))),
        Ok(read) if read.organizations.iter().any(|group| group == MASTERS) => {
            Err(request.forbidden(&format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed")))
        }
        Ok(_) => Ok(()),
    }
}
