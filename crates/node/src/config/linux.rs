//! What Linux is told of a container's resources: shares, quotas, limits and the out-of-memory score.
//!
//! Upstream: `kubelet/cm/helpers_linux.go`, `kubelet/qos/policy.go`, `kuberuntime_container_linux.go`.

use api::core::v1::{Container, Pod};
use cri::v1;

use crate::amount;
use crate::pod::{self, QosClass};

/// The least cpu shares the kernel takes.
pub const SHARES_MIN: i64 = 2;
const SHARES_MAX: i64 = 262_144;
const SHARES_PER_CPU: i64 = 1024;
/// The period of cpu quotas, microseconds.
pub const PERIOD_MICROS: i64 = 100_000;
const QUOTA_MIN_MICROS: i64 = 1000;

/// Cpu shares from thousandths of a cpu.
pub fn shares(milli_cpu: i64) -> i64 {
    if milli_cpu <= 0 { SHARES_MIN } else { (milli_cpu * SHARES_PER_CPU / 1000).clamp(SHARES_MIN, SHARES_MAX) }
}

/// Cpu quota per period, microseconds; 0 is no limit.
pub fn quota_micros(milli_cpu: i64) -> i64 {
    if milli_cpu <= 0 { 0 } else { (milli_cpu * PERIOD_MICROS / 1000).max(QUOTA_MIN_MICROS) }
}

fn limit(container: &Container, name: &str) -> Option<i128> {
    container.resources.as_ref()?.limits.as_ref()?.get(name).map(amount::nano)
}

fn request(container: &Container, name: &str) -> Option<i128> {
    container.resources.as_ref()?.requests.as_ref()?.get(name).map(amount::nano)
}

/// The out-of-memory score of a container: the more memory it asked for, the safer it is.
pub fn oom_score_adj(p: &Pod, container: &Container, node_memory_bytes: i64) -> i64 {
    if pod::spec(p).priority.is_some_and(|priority| priority >= SYSTEM_CRITICAL_PRIORITY) {
        return -997;
    }
    match pod::qos_class(p) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let asked = request(container, "memory").map_or(0, amount::units_of_nano);
            let score = 1000 - (1000 * i128::from(asked) / i128::from(node_memory_bytes.max(1)));
            let score = i64::try_from(score).unwrap_or(0);
            // Above guaranteed pods, below best-effort ones.
            score.clamp(3, 999)
        }
    }
}

/// `system-node-critical` and `system-cluster-critical` begin here.
const SYSTEM_CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// The resources of one container.
pub fn resources(p: &Pod, container: &Container, node_memory_bytes: i64) -> v1::LinuxContainerResources {
    let cpu_limit = limit(container, "cpu");
    let cpu_request = request(container, "cpu").or(cpu_limit);
    let hugepages = container.resources.iter().filter_map(|r| r.limits.as_ref()).flatten();
    v1::LinuxContainerResources {
        cpu_period: PERIOD_MICROS,
        cpu_quota: quota_micros(cpu_limit.map_or(0, amount::milli_of_nano)),
        cpu_shares: shares(cpu_request.map_or(0, amount::milli_of_nano)),
        memory_limit_in_bytes: limit(container, "memory").map_or(0, amount::units_of_nano),
        // Memory and swap together: containers do not swap.
        memory_swap_limit_in_bytes: limit(container, "memory").map_or(0, amount::units_of_nano),
        oom_score_adj: oom_score_adj(p, container, node_memory_bytes),
        hugepage_limits: hugepages
            .filter_map(|(name, quantity)| {
                let size = name.strip_prefix("hugepages-")?;
                let limit = u64::try_from(amount::units(quantity)).ok()?;
                Some(v1::HugepageLimit { page_size: format!("{size}B").replace("iB", "B"), limit })
            })
            .collect(),
        ..Default::default()
    }
}

/// The limits of the pod as a whole, for its own cgroup. 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PodLimits {
    pub cpu_shares: i64,
    pub cpu_quota_micros: i64,
    pub memory_bytes: i64,
}

/// The limits of the pod as a whole: a resource is limited when every container limits it.
pub fn pod_limits(p: &Pod) -> PodLimits {
    let (cpu_request, _) = pod::pod_total(p, "cpu", |r| r.requests.as_ref());
    let (cpu_limit, cpu_limited) = pod::pod_total(p, "cpu", |r| r.limits.as_ref());
    let (memory_limit, memory_limited) = pod::pod_total(p, "memory", |r| r.limits.as_ref());
    let best_effort = pod::qos_class(p) == QosClass::BestEffort;
    PodLimits {
        cpu_shares: if best_effort { SHARES_MIN } else { shares(amount::milli_of_nano(cpu_request)) },
        cpu_quota_micros: if cpu_limited { quota_micros(amount::milli_of_nano(cpu_limit)) } else { 0 },
        memory_bytes: if memory_limited { amount::units_of_nano(memory_limit) } else { 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    #[test]
    fn figures() {
        let p = Pod::decode(
            br#"{"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":"100m","memory":"1Gi"},
                "limits":{"cpu":"500m","memory":"2Gi","hugepages-2Mi":"4Mi"}}},{"name":"b"}]}}"#,
        )
        .unwrap();
        let a = resources(&p, &pod::containers(&p)[0], 4 << 30);
        assert_eq!((a.cpu_shares, a.cpu_quota, a.memory_limit_in_bytes), (102, 50_000, 2 << 30));
        assert_eq!(a.oom_score_adj, 750);
        assert_eq!((a.hugepage_limits[0].page_size.as_str(), a.hugepage_limits[0].limit), ("2MB", 4 << 20));
        let b = resources(&p, &pod::containers(&p)[1], 4 << 30);
        assert_eq!((b.cpu_shares, b.cpu_quota, b.oom_score_adj), (2, 0, 999));
        assert_eq!(pod_limits(&p), PodLimits { cpu_shares: 102, cpu_quota_micros: 0, memory_bytes: 0 });
    }
}
