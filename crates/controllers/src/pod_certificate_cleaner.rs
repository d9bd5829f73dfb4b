//! Deletes PodCertificateRequests a quarter of an hour after they were made, whatever became of them: by then the node
//! has its certificate, or asks again.
//!
//! Upstream: pkg/controller/certificates/cleaner/pcrcleaner.go (which looks every five minutes).

use std::sync::Arc;
use std::time::Duration;

use api::certificates::v1::PodCertificateRequest;
use api::{Object, Timestamp};

use crate::harness::{Plan, Read, Step, View, Write};

pub struct Controller;

const KEPT: Duration = Duration::from_secs(15 * 60);

impl crate::Controller for Controller {
    const NAME: &'static str = "podcertificaterequestcleaner";
    type Primary = PodCertificateRequest;

    fn reads() -> Vec<Read> {
        Vec::new()
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<PodCertificateRequest>(&["delete"])]
    }

    fn plan(&self, request: &Arc<PodCertificateRequest>, _view: &View<'_>, now: Timestamp) -> Plan {
        plan(request, now)
    }
}

fn plan(request: &PodCertificateRequest, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let made = request.metadata.creation_timestamp.as_ref().filter(|_| !request.is_terminating());
    let Some(end) = made.map(|made| made.0 + KEPT) else { return plan };
    match u64::try_from(end.duration_since(now).as_secs()) {
        Ok(left_seconds @ 1..) => Plan::again_after(Duration::from_secs(left_seconds)),
        _ => {
            plan.push(Step::delete(request));
            plan
        }
    }
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use serde_json::json;

    use super::*;
    use crate::harness::Op;

    #[test]
    fn requests_go_after_a_quarter_of_an_hour() {
        let request = PodCertificateRequest::from_value(json!({
            "metadata": {"name": "r", "namespace": "n", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {}
        }));
        let request = request.unwrap();
        let at = |now: &str| plan(&request, now.parse().unwrap());
        let early = at("2026-01-01T00:14:00Z");
        assert!(early.steps.is_empty());
        assert_eq!(early.requeue_after, Some(Duration::from_secs(60)));
        assert!(matches!(&at("2026-01-01T00:15:00Z").steps[..], [Step { op: Op::Delete { .. }, .. }]));
    }
}
