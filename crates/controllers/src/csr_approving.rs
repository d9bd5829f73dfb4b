//! Approves nodes' requests for client certificates by themselves, where RBAC says that who asks may have them: a
//! node its own next one (`selfnodeclient`), a machine that joins its first one (`nodeclient`).
//!
//! Upstream: pkg/controller/certificates/approver.

use std::sync::Arc;
use std::time::Duration;

use api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use api::{Object, Timestamp, Typed};
use client::{Client, Error};
use pki::Csr;

use crate::certificates;
use crate::harness::{Actor, Context, Read, Write};

pub struct Controller;

/// A refusal may become a permission, of which no event tells: who asks is asked about again after as long as it has
/// waited already, within these bounds.
const LOOK_AGAIN_MIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(1000);

impl Actor for Controller {
    const NAME: &'static str = "certificate-controller";
    type Primary = CertificateSigningRequest;

    fn reads() -> Vec<Read> {
        Vec::new()
    }

    fn writes() -> Vec<Write> {
        vec![
            Write::subresource::<CertificateSigningRequest>("approval", &["update"]),
            Write::of::<SubjectAccessReview>(&["create"]),
        ]
    }

    async fn act(
        &self,
        request: Arc<CertificateSigningRequest>,
        context: &Context,
        client: &Client,
    ) -> Result<Option<Duration>, Error> {
        let candidates = candidates(&request);
        for candidate in &candidates {
            let review = client.create(review(&request, candidate)).await?;
            if review.status.as_ref().is_some_and(|status| status.allowed) {
                client.update_dyn(Arc::new(approved(&request, candidate)), Some("approval")).await?;
                return Ok(None);
            }
        }
        if candidates.is_empty() {
            return Ok(None);
        }
        let tried: Vec<&str> = candidates.iter().map(|candidate| candidate.permission).collect();
        tracing::debug!(request = request.name(), ?tried, "nobody may have this certificate without being asked");
        Ok(Some(look_again(&request, context.clock.now())))
    }
}

/// A way for a request to be approved.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    /// The subresource of CertificateSigningRequests that who asks must be allowed to create.
    permission: &'static str,
    message: &'static str,
}

/// The ways that are open to a request, the narrower one first; none for what is decided or no node's.
fn candidates(request: &CertificateSigningRequest) -> Vec<Candidate> {
    if certificates::is_issued(request) || certificates::is_decided(request) || request.is_terminating() {
        return Vec::new();
    }
    let Ok(csr) = Csr::from_pem(&String::from_utf8_lossy(&request.spec.request.0)) else { return Vec::new() };
    let signer = request.spec.signer_name.as_str();
    if signer != certificates::KUBELET_CLIENT
        || certificates::check(signer, &csr, certificates::usages(request)) != Some(Ok(()))
    {
        return Vec::new();
    }
    let mut candidates = Vec::new();
    if request.spec.username.as_ref() == Some(&csr.common_name) {
        candidates.push(Candidate {
            permission: "selfnodeclient",
            message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
        });
    }
    candidates.push(Candidate {
        permission: "nodeclient",
        message: "Auto approving kubelet client certificate after SubjectAccessReview.",
    });
    candidates
}

fn review(request: &CertificateSigningRequest, candidate: &Candidate) -> SubjectAccessReview {
    let spec = &request.spec;
    let kind = CertificateSigningRequest::KIND;
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: spec.username.clone(),
            uid: spec.uid.clone(),
            groups: spec.groups.clone(),
            extra: spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some(kind.group.to_owned()),
                resource: Some(kind.plural.to_owned()),
                subresource: Some(candidate.permission.to_owned()),
                verb: Some("create".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        },
        ..Default::default()
    }
}

fn approved(request: &CertificateSigningRequest, candidate: &Candidate) -> CertificateSigningRequest {
    let mut new = request.clone();
    new.status.get_or_insert_default().conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: Some("AutoApproved".to_owned()),
        message: Some(candidate.message.to_owned()),
        ..Default::default()
    });
    new
}

fn look_again(request: &CertificateSigningRequest, now: Timestamp) -> Duration {
    let since = request.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let waited = Duration::from_secs(u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0));
    waited.clamp(LOOK_AGAIN_MIN, LOOK_AGAIN_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(username: &str, common_name: &str, signer: &str) -> CertificateSigningRequest {
        let key = pki::PrivateKey::generate().unwrap();
        let pem = pki::csr::create(&key, common_name, &["system:nodes".to_owned()], &[], &[]).unwrap();
        let mut request = CertificateSigningRequest::from_value(json!({
            "metadata": {"name": "r", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"request": "", "signerName": signer, "username": username,
                     "usages": ["digital signature", "client auth"]}
        }))
        .unwrap();
        request.spec.request = api::ByteString(pem.into_bytes());
        request
    }

    fn permissions(request: &CertificateSigningRequest) -> Vec<&'static str> {
        candidates(request).iter().map(|candidate| candidate.permission).collect()
    }

    #[test]
    fn a_node_may_ask_for_itself_and_a_joining_one_for_its_first() {
        let own = request("system:node:n1", "system:node:n1", certificates::KUBELET_CLIENT);
        assert_eq!(permissions(&own), ["selfnodeclient", "nodeclient"]);
        let first = request("system:bootstrap:abcdef", "system:node:n1", certificates::KUBELET_CLIENT);
        assert_eq!(permissions(&first), ["nodeclient"]);
        assert!(permissions(&request("jane", "jane", certificates::KUBELET_CLIENT)).is_empty());
        assert!(permissions(&request("system:node:n1", "system:node:n1", certificates::KUBELET_SERVING)).is_empty());
        assert!(permissions(&approved(&own, &candidates(&own)[0])).is_empty());
    }

    #[test]
    fn who_is_refused_is_asked_about_ever_more_seldom() {
        let own = request("jane", "system:node:n1", certificates::KUBELET_CLIENT);
        let after = |at: &str| look_again(&own, at.parse().unwrap()).as_secs();
        assert_eq!(after("2026-01-01T00:00:00Z"), 1);
        assert_eq!(after("2026-01-01T00:00:08Z"), 8);
        assert_eq!(after("2026-01-02T00:00:00Z"), 1000);
    }
}
