//! NodeResourcesBalancedAllocation: better where CPU and memory would be used to the same degree.

use crate::pod::PodInfo;
use crate::snapshot::NodeInfo;

pub struct Plugin;

impl crate::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> Option<i64> {
        // A pod that asks for nothing says nothing about balance.
        if pod.requests.milli_cpu == 0 && pod.requests.memory_bytes == 0 {
            return None;
        }
        Some(balance(pod, node))
    }
}

/// 100 when both shares are equal, less by half their difference (the standard deviation of two values).
fn balance(pod: &PodInfo, node: &NodeInfo) -> i64 {
    #[allow(clippy::cast_precision_loss)] // shares need no more than 52 bits
    let share = |wanted: i64, used: i64, there: i64| {
        if there <= 0 { 1.0 } else { ((used + wanted) as f64 / there as f64).min(1.0) }
    };
    let (used, there) = (&node.requested, &node.allocatable);
    let cpu = share(pod.requests.milli_cpu, used.milli_cpu, there.milli_cpu);
    let memory = share(pod.requests.memory_bytes, used.memory_bytes, there.memory_bytes);
    #[allow(clippy::cast_possible_truncation)] // 0 to 100
    let score = ((1.0 - (cpu - memory).abs() / 2.0) * 100.0) as i64;
    score
}
