//! NodeResourcesFit: a node must have what the pod requests, and emptier nodes are better (LeastAllocated).

use crate::framework::{ClusterEvent, Reason};
use crate::pod::{PodInfo, Resources};
use crate::snapshot::NodeInfo;

pub struct Plugin;

impl crate::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<Reason>> {
        let reasons = lacking(&pod.requests, node);
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> Option<i64> {
        Some(least_allocated(&pod.scored, node))
    }

    fn requeue_on(&self) -> &'static [ClusterEvent] {
        &[ClusterEvent::NodeAdded, ClusterEvent::NodeAllocatableGrew, ClusterEvent::PodGone]
    }
}

/// Every resource of which there is not enough left.
fn lacking(wanted: &Resources, node: &NodeInfo) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if node.pods_len + 1 > node.pods_max {
        reasons.push(Reason::new("Too many pods"));
    }
    let mut check = |name: &str, wanted: i64, used: i64, there: i64| {
        if wanted > 0 && wanted > there.saturating_sub(used) {
            reasons.push(Reason::new(format!("Insufficient {name}")));
        }
    };
    let (used, there) = (&node.requested, &node.allocatable);
    check("cpu", wanted.milli_cpu, used.milli_cpu, there.milli_cpu);
    check("memory", wanted.memory_bytes, used.memory_bytes, there.memory_bytes);
    check(
        "ephemeral-storage",
        wanted.ephemeral_storage_bytes,
        used.ephemeral_storage_bytes,
        there.ephemeral_storage_bytes,
    );
    for (name, amount) in &wanted.other {
        let of = |resources: &Resources| resources.other.get(name).copied().unwrap_or(0);
        check(name, *amount, of(used), of(there));
    }
    reasons
}

/// The mean share of CPU and memory that would be left, of 100.
fn least_allocated(wanted: &Resources, node: &NodeInfo) -> i64 {
    let left = |wanted: i64, used: i64, there: i64| {
        let used = used.saturating_add(wanted);
        if there == 0 || used > there { 0 } else { (there - used) * 100 / there }
    };
    let (used, there) = (&node.scored, &node.allocatable);
    let cpu = left(wanted.milli_cpu, used.milli_cpu, there.milli_cpu);
    let memory = left(wanted.memory_bytes, used.memory_bytes, there.memory_bytes);
    (cpu + memory) / 2
}
