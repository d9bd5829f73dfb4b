//! Deletes bootstrap tokens when their time is over, and those whose end cannot be read.
//!
//! Upstream: pkg/controller/bootstrap/tokencleaner.go.

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Secret;
use api::{Object, Timestamp};

use crate::harness::{Plan, Read, Step, View, Write};

/// Where tokens are; Secrets of that type elsewhere mean nothing.
const NAMESPACE: &str = "kube-system";

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "token-cleaner";
    type Primary = Secret;
    /// All other Secrets are none of our business.
    const SELECTOR: &'static str = "type=bootstrap.kubernetes.io/token";
    /// The Role `system:controller:token-cleaner` of that namespace is enough.
    const CLUSTER_ROLE: bool = false;

    fn reads() -> Vec<Read> {
        Vec::new()
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<Secret>(&["delete"])]
    }

    fn plan(&self, secret: &Arc<Secret>, _view: &View<'_>, now: Timestamp) -> Plan {
        plan(secret, now)
    }
}

fn plan(secret: &Secret, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let end = secret.data.as_ref().and_then(|data| data.get("expiration")).filter(|end| !end.0.is_empty());
    let (Some(end), NAMESPACE, false) = (end, secret.namespace(), secret.is_terminating()) else { return plan };
    let end: Option<Timestamp> = std::str::from_utf8(&end.0).ok().and_then(|text| text.parse().ok());
    match end.map(|end| end.duration_since(now)) {
        // A part of a second is a whole one: looked at too early, it would be looked at twice.
        Some(left) if left.is_positive() => {
            let seconds = u64::try_from(left.as_secs()).unwrap_or(0) + u64::from(left.subsec_nanos() > 0);
            Plan::again_after(Duration::from_secs(seconds))
        }
        _ => {
            plan.push(Step::delete(secret));
            plan
        }
    }
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use serde_json::{Value, json};

    use super::*;
    use crate::harness::Op;

    /// Seconds until the next look, or that it goes.
    fn planned(namespace: &str, data: &Value) -> Result<Option<u64>, ()> {
        let secret = json!({
            "metadata": {"name": "bootstrap-token-abcdef", "namespace": namespace, "uid": "u"},
            "type": "bootstrap.kubernetes.io/token",
        });
        let mut secret = Secret::from_value(secret).unwrap();
        let text = |value: &Value| api::ByteString(value.as_str().unwrap().as_bytes().to_vec());
        secret.data = Some(data.as_object().unwrap().iter().map(|(key, value)| (key.clone(), text(value))).collect());
        let plan = plan(&secret, "2026-01-01T00:00:00.5Z".parse().unwrap());
        match &plan.steps[..] {
            [] => Ok(plan.requeue_after.map(|left| left.as_secs())),
            [Step { op: Op::Delete { uid, .. }, .. }] if uid == "u" => Err(()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_goes_when_its_time_is_over() {
        let until = |end: &str| json!({"expiration": end});
        assert_eq!(planned("kube-system", &until("2026-01-01T00:01:00Z")), Ok(Some(60)));
        assert_eq!(planned("kube-system", &until("2026-01-01T02:01:00+02:00")), Ok(Some(60)));
        assert_eq!(planned("kube-system", &until("2026-01-01T00:00:00.5Z")), Err(()));
        assert_eq!(planned("kube-system", &until("2025-12-31T00:00:00Z")), Err(()));
        assert_eq!(planned("kube-system", &until("tomorrow")), Err(()));
        assert_eq!(planned("kube-system", &until("")), Ok(None));
        assert_eq!(planned("kube-system", &json!({"token-id": "abcdef"})), Ok(None));
        assert_eq!(planned("default", &until("2025-12-31T00:00:00Z")), Ok(None));
    }
}
