//! Taints of nodes and what pods tolerate.

use api::core::v1::{Node, Taint, Toleration};
use api::lean::Pod;

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
pub const NO_SCHEDULE: &str = "NoSchedule";
pub const NO_EXECUTE: &str = "NoExecute";

pub fn of(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

/// Whether the toleration covers the taint (core/v1 `ToleratesTaint`).
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if filled(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    if filled(&toleration.key).is_some_and(|key| key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        _ => {
            filled(&toleration.key).is_some()
                && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
    }
}

/// How long the pod may stay on a node with these NoExecute taints.
#[derive(Debug, PartialEq, Eq)]
pub enum Stay {
    Forever,
    /// Seconds from when the taint was added; 0 or less: not at all.
    Seconds(i64),
}

/// The shortest stay that the pod's tolerations allow.
pub fn stay<'a>(pod: &Pod, taints: impl Iterator<Item = &'a Taint>) -> Stay {
    let mut shortest = Stay::Forever;
    for taint in taints {
        let mut matching = tolerations(pod).iter().filter(|toleration| tolerates(toleration, taint)).peekable();
        if matching.peek().is_none() {
            return Stay::Seconds(0);
        }
        // A toleration without seconds is for ever; of several that match, the shortest counts.
        for seconds in matching.filter_map(|toleration| toleration.toleration_seconds) {
            shortest = match shortest {
                Stay::Forever => Stay::Seconds(seconds),
                Stay::Seconds(known) => Stay::Seconds(known.min(seconds)),
            };
        }
    }
    shortest
}
