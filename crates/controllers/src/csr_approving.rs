//! Approves nodes' requests for certificates by themselves, where RBAC says that who asks may have them: a node its own
//! next one (`selfnodeclient`), a machine that joins its first one (`nodeclient`), unless a node of that name is Ready,
//! and a node one to serve with (`selfnodeserver`), for what its Node says of it ([`serving`]).
//!
//! Upstream: pkg/controller/certificates/approver, which has neither the last nor the exception.

mod serving;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use api::core::v1::Node;
use api::{Object, Timestamp, Typed};
use client::reflector::Snapshot;
use client::{Change, Client, Error, Reflectors};
use pki::Csr;

use crate::certificates;
use crate::harness::{Actor, Context, Read, Write};

pub struct Controller;

/// Subresources that who asks must be allowed to create.
const NODE_CLIENT: &str = "nodeclient";
const NODE_SERVER: &str = "selfnodeserver";

/// A refusal may become a permission, of which no event tells: who asks is asked about again after as long as it has
/// waited already, within these bounds.
const LOOK_AGAIN_MIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(1000);

impl Actor for Controller {
    const NAME: &'static str = "certificate-controller";
    type Primary = CertificateSigningRequest;

    fn reads() -> Vec<Read> {
        vec![Read::mapped::<Node>(concerned)]
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
        let Some(csr) = open(&request) else { return Ok(None) };
        let candidates = candidates(&request, &csr);
        let mut held = None;
        for candidate in &candidates {
            let review = client.create(review(&request, candidate)).await?;
            if !review.status.as_ref().is_some_and(|status| status.allowed) {
                continue;
            }
            let nodes = context.reflectors.of::<Node>();
            nodes.synced().await;
            held = problem(candidate, &request, &csr, &nodes.snapshot(), &context.facts.api_server_names);
            if held.is_none() {
                client.update_dyn(Arc::new(approved(&request, candidate)), Some("approval")).await?;
                return Ok(None);
            }
        }
        if candidates.is_empty() {
            return Ok(None);
        }
        match held {
            Some(why) => tracing::warn!(request = request.name(), why, "a node's certificate is not approved"),
            None => {
                let tried: Vec<&str> = candidates.iter().map(|candidate| candidate.permission).collect();
                tracing::debug!(request = request.name(), ?tried, "a person has to approve this certificate");
            }
        }
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

/// The requests that a change of a Node may let through: that node's own for serving, and when it is not Ready any
/// more, those of machines that may want its place.
fn concerned(change: &Change<Node>, reflectors: &Reflectors, keys: &mut BTreeSet<String>) {
    let Some(user) = change.latest().map(|node| format!("system:node:{}", node.name())) else { return };
    let was_ready = change.old.as_deref().is_some_and(is_ready);
    let left = was_ready && !change.new.as_deref().is_some_and(is_ready);
    let all = reflectors.of::<CertificateSigningRequest>().snapshot();
    let concerned = all.iter().filter(|(_, request)| match request.spec.signer_name.as_str() {
        certificates::KUBELET_SERVING => request.spec.username.as_ref() == Some(&user),
        certificates::KUBELET_CLIENT => left,
        _ => false,
    });
    keys.extend(concerned.filter(|(_, request)| !certificates::is_decided(request)).map(|(key, _)| key.clone()));
}

/// What is asked for, if nobody has decided on it yet.
fn open(request: &CertificateSigningRequest) -> Option<Csr> {
    if certificates::is_issued(request) || certificates::is_decided(request) || request.is_terminating() {
        return None;
    }
    Csr::from_pem(&String::from_utf8_lossy(&request.spec.request.0)).ok()
}

/// The ways that are open to a request, the narrower one first; none for what is no node's.
fn candidates(request: &CertificateSigningRequest, csr: &Csr) -> Vec<Candidate> {
    let signer = request.spec.signer_name.as_str();
    if certificates::check(signer, csr, certificates::usages(request)) != Some(Ok(())) {
        return Vec::new();
    }
    let own = request.spec.username.as_ref() == Some(&csr.common_name);
    let mut candidates = Vec::new();
    match signer {
        certificates::KUBELET_CLIENT => {
            if own {
                candidates.push(Candidate {
                    permission: "selfnodeclient",
                    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
                });
            }
            candidates.push(Candidate {
                permission: NODE_CLIENT,
                message: "Auto approving kubelet client certificate after SubjectAccessReview.",
            });
        }
        certificates::KUBELET_SERVING if own => candidates.push(Candidate {
            permission: NODE_SERVER,
            message: "Auto approving self kubelet server certificate after SubjectAccessReview and a look at the Node.",
        }),
        _ => {}
    }
    candidates
}

/// What keeps an allowed request from being approved, if something does.
fn problem(
    candidate: &Candidate,
    request: &CertificateSigningRequest,
    csr: &Csr,
    nodes: &Snapshot<Node>,
    api_server_names: &[String],
) -> Option<String> {
    match candidate.permission {
        NODE_SERVER => {
            let username = request.spec.username.as_deref().unwrap_or_default();
            let all: Vec<Arc<Node>> = nodes.values().cloned().collect();
            serving::problem(csr, username, &all, api_server_names)
        }
        // A token is for machines that join, not for taking the place of one that is there.
        NODE_CLIENT => {
            let name = csr.common_name.strip_prefix("system:node:").unwrap_or_default();
            let node = nodes.get(name).filter(|node| is_ready(node))?;
            Some(format!("Node {} is there and Ready, and it is not it who asks", node.name()))
        }
        _ => None,
    }
}

fn is_ready(node: &Node) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
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
        let candidates = open(request).map(|csr| candidates(request, &csr)).unwrap_or_default();
        candidates.iter().map(|candidate| candidate.permission).collect()
    }

    #[test]
    fn a_node_may_ask_for_itself_and_a_joining_one_for_its_first() {
        let own = request("system:node:n1", "system:node:n1", certificates::KUBELET_CLIENT);
        assert_eq!(permissions(&own), ["selfnodeclient", "nodeclient"]);
        let first = request("system:bootstrap:abcdef", "system:node:n1", certificates::KUBELET_CLIENT);
        assert_eq!(permissions(&first), ["nodeclient"]);
        assert!(permissions(&request("jane", "jane", certificates::KUBELET_CLIENT)).is_empty());
        assert!(permissions(&request("system:node:n1", "system:node:n1", certificates::KUBELET_SERVING)).is_empty());
        let csr = open(&own).unwrap();
        assert!(permissions(&approved(&own, &candidates(&own, &csr)[0])).is_empty());
    }

    #[test]
    fn a_token_does_not_take_the_place_of_a_node_that_is_there() {
        let joining = request("system:bootstrap:abcdef", "system:node:n1", certificates::KUBELET_CLIENT);
        let csr = open(&joining).unwrap();
        let nodes = |status: &str| {
            let node =
                json!({"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": status}]}});
            Snapshot::from_iter([("n1".to_owned(), Arc::new(Node::from_value(node).unwrap()))])
        };
        let said = |nodes: &Snapshot<Node>| problem(&candidates(&joining, &csr)[0], &joining, &csr, nodes, &[]);
        assert_eq!(said(&nodes("True")).unwrap(), "Node n1 is there and Ready, and it is not it who asks");
        assert_eq!(said(&nodes("Unknown")), None);
        assert_eq!(said(&Snapshot::new()), None);
        let own = request("system:node:n1", "system:node:n1", certificates::KUBELET_CLIENT);
        assert_eq!(problem(&candidates(&own, &csr)[0], &own, &csr, &nodes("True"), &[]), None);
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
