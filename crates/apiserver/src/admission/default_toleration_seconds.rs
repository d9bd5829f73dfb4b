//! DefaultTolerationSeconds: a pod stays on a node that is not ready or not reachable for five minutes, unless it says
//! otherwise.
//!
//! Upstream: plugin/pkg/admission/defaulttolerationseconds.

use api::Status;
use api::core::v1::{Pod, PodSpec, Toleration};
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Plugin;

const SECONDS: i64 = 300;
const NO_EXECUTE: &str = "NoExecute";
const TAINTS: &[&str] = &["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && group.is_empty()
            && resource == "pods"
            && subresource.is_empty()
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_mut()) {
            tolerate(spec);
        }
        done(Ok(()))
    }
}

fn tolerate(spec: &mut PodSpec) {
    for taint in TAINTS {
        let tolerated = spec.tolerations.iter().flatten().any(|own| {
            let any = |field: &Option<String>| field.as_deref().unwrap_or_default().is_empty();
            (any(&own.key) || own.key.as_deref() == Some(taint))
                && (any(&own.effect) || own.effect.as_deref() == Some(NO_EXECUTE))
        });
        if !tolerated {
            spec.tolerations.get_or_insert_default().push(Toleration {
                key: Some((*taint).to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some(NO_EXECUTE.to_owned()),
                toleration_seconds: Some(SECONDS),
                value: None,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_tolerated_is_for_a_while() {
        let mut spec = PodSpec::default();
        tolerate(&mut spec);
        tolerate(&mut spec);
        let keys: Vec<_> = spec.tolerations.unwrap().into_iter().map(|own| (own.key, own.toleration_seconds)).collect();
        assert_eq!(keys, [(Some(TAINTS[0].into()), Some(300)), (Some(TAINTS[1].into()), Some(300))]);
    }

    #[test]
    fn own_tolerations_count() {
        let all = Toleration { operator: Some("Exists".into()), ..Toleration::default() };
        let mut spec = PodSpec { tolerations: Some(vec![all]), ..PodSpec::default() };
        tolerate(&mut spec);
        assert_eq!(spec.tolerations.unwrap().len(), 1);
        let scheduling = Toleration { effect: Some("NoSchedule".into()), ..Toleration::default() };
        let mut spec = PodSpec { tolerations: Some(vec![scheduling]), ..PodSpec::default() };
        tolerate(&mut spec);
        assert_eq!(spec.tolerations.unwrap().len(), 3);
    }
}
