//! What the node reads out of a pod: names, policies, quality of service, grace periods. Pure.

use std::collections::BTreeMap;

use api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, ResourceRequirements};
use api::{Object, Quantity};

use crate::amount;

/// A pod's identity across restarts of anything: `metadata.uid`.
pub type Uid = String;

/// When a container is started again after it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            Some("Always") => Some(Self::Always),
            Some("OnFailure") => Some(Self::OnFailure),
            Some("Never") => Some(Self::Never),
            _ => None,
        }
    }
}

/// Quality of service, from which cgroups and out-of-memory scores derive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    /// As `status.qosClass` spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

static EMPTY_SPEC: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

/// The pod's spec; an empty one when there is none.
pub fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap_or(&EMPTY_SPEC)
}

/// The containers that run beside each other.
pub fn containers(pod: &Pod) -> &[Container] {
    &spec(pod).containers
}

/// The containers that run before them, and sidecars.
pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// Containers added to a running pod for debugging.
pub fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    spec(pod).ephemeral_containers.as_deref().unwrap_or_default()
}

/// An ephemeral container in the shape of any other.
pub fn as_container(e: &EphemeralContainer) -> Container {
    let e = e.clone();
    Container {
        args: e.args,
        command: e.command,
        env: e.env,
        env_from: e.env_from,
        image: e.image,
        image_pull_policy: e.image_pull_policy,
        lifecycle: e.lifecycle,
        liveness_probe: e.liveness_probe,
        name: e.name,
        ports: e.ports,
        readiness_probe: e.readiness_probe,
        resize_policy: e.resize_policy,
        resources: e.resources,
        restart_policy: e.restart_policy,
        restart_policy_rules: e.restart_policy_rules,
        security_context: e.security_context,
        startup_probe: e.startup_probe,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        tty: e.tty,
        volume_devices: e.volume_devices,
        volume_mounts: e.volume_mounts,
        working_dir: e.working_dir,
    }
}

/// The container of any sort with that name.
pub fn find_container(pod: &Pod, name: &str) -> Option<Container> {
    containers(pod)
        .iter()
        .chain(init_containers(pod))
        .find(|c| c.name == name)
        .cloned()
        .or_else(|| ephemeral_containers(pod).iter().find(|c| c.name == name).map(as_container))
}

/// Whether an init container is a sidecar: it keeps running beside the pod's containers.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The pod's restart policy.
pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    RestartPolicy::parse(spec(pod).restart_policy.as_deref()).unwrap_or(RestartPolicy::Always)
}

/// Whether a container that ended with `exit_code` is to be started again: its own rules and policy first, then the
/// pod's.
pub fn restarts_after(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.as_ref().is_some_and(|values| values.contains(&exit_code));
        let matches = match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        if matches && rule.action == "Restart" {
            return true;
        }
    }
    match RestartPolicy::parse(container.restart_policy.as_deref()).unwrap_or_else(|| restart_policy(pod)) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// Whether a failed container of the pod may be started again at all.
pub fn restarts_on_failure(pod: &Pod) -> bool {
    restart_policy(pod) != RestartPolicy::Never
}

/// `name_namespace(uid)`, as upstream names pods in messages.
pub fn full_name(pod: &Pod) -> String {
    format!("{}_{}({})", pod.name(), pod.namespace(), pod.uid())
}

/// Whether the pod uses the node's network.
pub fn is_host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}

/// Whether the phase is final.
pub fn is_terminal_phase(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// The phase in the pod's own status, or `""`.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// How long a pod being deleted may take, seconds: at least 1 unless the deletion asks for none.
pub fn deletion_grace_seconds(pod: &Pod) -> i64 {
    pod.metadata
        .deletion_grace_period_seconds
        .unwrap_or_else(|| spec(pod).termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS))
        .max(MINIMUM_GRACE_SECONDS)
}

/// Upstream's default of `terminationGracePeriodSeconds`.
pub const DEFAULT_GRACE_SECONDS: i64 = 30;
/// A container always gets this long after SIGTERM (upstream's `minimumGracePeriodInSeconds`).
pub const MINIMUM_GRACE_SECONDS: i64 = 2;

/// The requests or limits of one container, or nothing.
fn amounts<'a>(
    resources: Option<&'a ResourceRequirements>,
    pick: fn(&'a ResourceRequirements) -> Option<&'a BTreeMap<String, Quantity>>,
) -> impl Iterator<Item = (&'a str, i128)> {
    resources.and_then(pick).into_iter().flatten().filter_map(|(name, quantity)| {
        let nano = amount::nano(quantity);
        (matches!(name.as_str(), "cpu" | "memory") && nano != 0).then_some((name.as_str(), nano))
    })
}

/// The pod's quality of service (upstream `ComputePodQOS`).
pub fn qos_class(pod: &Pod) -> QosClass {
    if let Some(class) = pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        match class {
            "Guaranteed" => return QosClass::Guaranteed,
            "Burstable" => return QosClass::Burstable,
            "BestEffort" => return QosClass::BestEffort,
            _ => {}
        }
    }
    let pod_level = spec(pod).resources.as_ref();
    let all: Vec<Option<&ResourceRequirements>> = match pod_level {
        Some(_) => vec![pod_level],
        None => containers(pod).iter().chain(init_containers(pod)).map(|c| c.resources.as_ref()).collect(),
    };
    let mut any = false;
    let mut guaranteed = true;
    for resources in all {
        let requests: BTreeMap<&str, i128> = amounts(resources, |r| r.requests.as_ref()).collect();
        let limits: BTreeMap<&str, i128> = amounts(resources, |r| r.limits.as_ref()).collect();
        any |= !requests.is_empty() || !limits.is_empty();
        let both_limited = limits.contains_key("cpu") && limits.contains_key("memory");
        guaranteed &= both_limited && requests.iter().all(|(name, nano)| limits.get(name) == Some(nano));
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

/// The effective amount of a resource the whole pod asks for or is limited to, in units of 10^-9. `None` when some
/// container has none (then the pod as a whole is not limited).
pub fn pod_total(
    pod: &Pod,
    resource: &str,
    pick: fn(&ResourceRequirements) -> Option<&BTreeMap<String, Quantity>>,
) -> (i128, bool) {
    let of = |c: &Container| c.resources.as_ref().and_then(pick).and_then(|m| m.get(resource)).map(amount::nano);
    if let Some(whole) = spec(pod).resources.as_ref().and_then(pick).and_then(|m| m.get(resource)) {
        return (amount::nano(whole), true);
    }
    let mut complete = true;
    let mut total: i128 = 0;
    for container in containers(pod) {
        match of(container) {
            Some(nano) => total += nano,
            None => complete = false,
        }
    }
    let mut sidecars: i128 = 0;
    let mut peak: i128 = 0;
    for container in init_containers(pod) {
        let nano = of(container);
        complete &= nano.is_some();
        if is_sidecar(container) {
            sidecars += nano.unwrap_or(0);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + nano.unwrap_or(0));
        }
    }
    let overhead = spec(pod).overhead.as_ref().and_then(|m| m.get(resource)).map_or(0, amount::nano);
    ((total + sidecars).max(peak) + overhead, complete)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    fn pod(json: &str) -> Pod {
        Pod::decode(json.as_bytes()).expect("a pod")
    }

    #[test]
    fn quality_of_service() {
        let best = pod(r#"{"spec":{"containers":[{"name":"a"}]}}"#);
        assert_eq!(qos_class(&best), QosClass::BestEffort);
        let burstable = pod(r#"{"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}]}}"#);
        assert_eq!(qos_class(&burstable), QosClass::Burstable);
        let guaranteed =
            pod(r#"{"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":"1000m","memory":"1Gi"},
                "limits":{"cpu":"1","memory":"1024Mi"}}}]}}"#);
        assert_eq!(qos_class(&guaranteed), QosClass::Guaranteed);
    }

    #[test]
    fn sidecars_count_beside_and_init_containers_before() {
        let p = pod(r#"{"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}],"initContainers":[
                {"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"500m"}}},
                {"name":"i","resources":{"requests":{"cpu":"2"}}}]}}"#);
        assert_eq!(pod_total(&p, "cpu", |r| r.requests.as_ref()), (2_500_000_000, true));
    }

    #[test]
    fn restart_rules_come_before_policies() {
        let p = pod(r#"{"spec":{"restartPolicy":"Never","containers":[{"name":"a","restartPolicy":"Never",
                "restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[42]}}]}]}}"#);
        assert!(restarts_after(&p, &containers(&p)[0], 42));
        assert!(!restarts_after(&p, &containers(&p)[0], 1));
    }
}
