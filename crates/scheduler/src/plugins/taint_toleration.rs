//! TaintToleration: nodes with taints the pod does not tolerate are out, or (PreferNoSchedule) worse.

use api::core::v1::{Taint, Toleration};

use crate::framework::{ClusterEvent, Reason, normalize_to_largest};
use crate::pod::PodInfo;
use crate::snapshot::NodeInfo;

pub struct Plugin;

impl crate::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<Reason>> {
        match untolerated(pod, node, |effect| matches!(effect, "NoSchedule" | "NoExecute")).next() {
            Some(_) => Err(vec![Reason::new(REASON)]),
            None => Ok(()),
        }
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> Option<i64> {
        let bad = untolerated(pod, node, |effect| effect == "PreferNoSchedule").count();
        i64::try_from(bad).ok()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_to_largest(scores, true);
    }

    fn weight(&self) -> i64 {
        3
    }

    fn requeue_on(&self) -> &'static [ClusterEvent] {
        &[ClusterEvent::NodeAdded, ClusterEvent::NodeTaintsChanged]
    }
}

const REASON: &str = "node(s) had untolerated taint(s)";

fn untolerated<'a>(
    pod: &'a PodInfo,
    node: &'a NodeInfo,
    effect: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = &'a Taint> {
    let tolerations = pod.spec().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let taints = node.node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(move |taint| {
        effect(&taint.effect) && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
    })
}

/// Whether the toleration covers the taint (core/v1 `ToleratesTaint`).
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let filled = |text: &'_ Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if filled(&toleration.effect) && toleration.effect.as_deref() != Some(&taint.effect) {
        return false;
    }
    if filled(&toleration.key) && toleration.key.as_deref() != Some(&taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => {
            filled(&toleration.key)
                && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
    }
}
