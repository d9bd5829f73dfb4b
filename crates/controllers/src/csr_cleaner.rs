//! Deletes CertificateSigningRequests that nobody needs any more: answered, refused or failed for an hour, forgotten
//! for a day, or issued a certificate that has expired.
//!
//! Upstream: pkg/controller/certificates/cleaner.

use std::sync::Arc;
use std::time::Duration;

use api::certificates::v1::CertificateSigningRequest;
use api::{Object, Timestamp};

use crate::harness::{Plan, Read, Step, View, Write};

pub struct Controller;

const ANSWERED_KEPT: Duration = Duration::from_secs(3600);
const PENDING_KEPT: Duration = Duration::from_secs(24 * 3600);

impl crate::Controller for Controller {
    const NAME: &'static str = "certificate-controller";
    type Primary = CertificateSigningRequest;

    fn reads() -> Vec<Read> {
        Vec::new()
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<CertificateSigningRequest>(&["delete"])]
    }

    fn plan(&self, request: &Arc<CertificateSigningRequest>, _view: &View<'_>, now: Timestamp) -> Plan {
        plan(request, now)
    }
}

fn plan(request: &CertificateSigningRequest, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(end) = end(request).filter(|_| !request.is_terminating()) else { return plan };
    match u64::try_from(end.duration_since(now).as_secs()) {
        Ok(left_seconds @ 1..) => Plan::again_after(Duration::from_secs(left_seconds)),
        _ => {
            plan.push(Step::delete(request));
            plan
        }
    }
}

/// Until when it is kept; `None`: as long as it waits for its certificate.
fn end(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let status = request.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let certificate = status.and_then(|status| status.certificate.as_ref()).filter(|pem| !pem.0.is_empty());
    if conditions.is_empty() {
        return Some(request.metadata.creation_timestamp.as_ref()?.0 + PENDING_KEPT);
    }
    let answered = conditions.iter().filter(|condition| match condition.type_.as_str() {
        "Denied" | "Failed" => true,
        "Approved" => certificate.is_some(),
        _ => false,
    });
    let answered = answered.filter_map(|condition| Some(condition.last_update_time.as_ref()?.0 + ANSWERED_KEPT)).min();
    let expires = certificate
        .and_then(|pem| pki::Certificate::from_pem(std::str::from_utf8(&pem.0).ok()?).ok())
        .map(|certificate| certificate.not_after);
    answered.into_iter().chain(expires).min()
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use serde_json::{Value, json};

    use super::*;
    use crate::harness::Op;

    /// What is planned at `now` for a request of midnight with this status: seconds left, or that it goes.
    fn planned(status: Value, now: &str) -> Result<Option<u64>, ()> {
        let request = json!({
            "metadata": {"name": "r", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"request": "YQ==", "signerName": "a/b"}, "status": status
        });
        let plan = plan(&CertificateSigningRequest::from_value(request).unwrap(), now.parse().unwrap());
        match &plan.steps[..] {
            [] => Ok(plan.requeue_after.map(|left| left.as_secs())),
            [Step { op: Op::Delete { .. }, .. }] => Err(()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_go_when_nobody_needs_them() {
        let one = |kind: &str| json!([{"type": kind, "status": "True", "lastUpdateTime": "2026-01-01T00:30:00Z"}]);
        assert_eq!(planned(json!({}), "2026-01-01T23:00:00Z"), Ok(Some(3600)));
        assert_eq!(planned(json!({}), "2026-01-02T00:00:00Z"), Err(()));
        for kind in ["Denied", "Failed"] {
            let status = json!({"conditions": one(kind)});
            assert_eq!(planned(status.clone(), "2026-01-01T01:29:00Z"), Ok(Some(60)), "{kind}");
            assert_eq!(planned(status, "2026-01-01T01:30:00Z"), Err(()), "{kind}");
        }
        // Approved and not signed yet: the signer may still come.
        assert_eq!(planned(json!({"conditions": one("Approved")}), "2026-03-01T00:00:00Z"), Ok(None));
        let issued = json!({"conditions": one("Approved"), "certificate": "eA=="});
        assert_eq!(planned(issued.clone(), "2026-01-01T01:00:00Z"), Ok(Some(1800)));
        assert_eq!(planned(issued, "2026-01-01T02:00:00Z"), Err(()));
    }
}
