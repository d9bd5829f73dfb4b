//! In-place resize: which resources a container runs with, and whether those it should have can be had. Pure.
//!
//! Upstream: kubelet `allocation/allocation_manager.go`, `kuberuntime_manager.go` (`computePodResizeAction`).

use api::core::v1::{Container, Pod};

use crate::amount;
use crate::pod;

/// The resources that can change while a container runs, as one comparable text: requests and limits of cpu and
/// memory in units of 10^-9.
pub fn fingerprint(container: &Container) -> String {
    let of = |name: &str| {
        let resources = container.resources.as_ref();
        let request = resources.and_then(|r| r.requests.as_ref()).and_then(|m| m.get(name)).map_or(0, amount::nano);
        let limit = resources.and_then(|r| r.limits.as_ref()).and_then(|m| m.get(name)).map_or(0, amount::nano);
        format!("{request}/{limit}")
    };
    format!("cpu={} memory={}", of("cpu"), of("memory"))
}

/// Whether going from `old` to the container's resources needs a restart, as its resize policy says.
pub fn needs_restart(container: &Container, old: &str) -> bool {
    let new = fingerprint(container);
    let part = |text: &str, name: &str| text.split(' ').find(|p| p.starts_with(name)).map(str::to_owned);
    ["cpu", "memory"].into_iter().any(|name| {
        let restart = container
            .resize_policy
            .iter()
            .flatten()
            .any(|policy| policy.resource_name == name && policy.restart_policy == "RestartContainer");
        restart && part(&new, name) != part(old, name)
    })
}

/// The containers whose resources can change: regular ones and sidecars.
pub fn resizable(p: &Pod) -> impl Iterator<Item = &Container> {
    pod::containers(p).iter().chain(pod::init_containers(p).iter().filter(|c| pod::is_sidecar(c)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    #[test]
    fn only_what_the_policy_names_restarts() {
        let container = |cpu: &str, memory: &str| {
            let text = format!(
                r#"{{"spec":{{"containers":[{{"name":"a","resizePolicy":[{{"resourceName":"memory","restartPolicy":"RestartContainer"}}],
                    "resources":{{"requests":{{"cpu":"{cpu}","memory":"{memory}"}}}}}}]}}}}"#
            );
            pod::containers(&Pod::decode(text.as_bytes()).unwrap())[0].clone()
        };
        let old = fingerprint(&container("1", "1Gi"));
        assert_eq!(old, fingerprint(&container("1000m", "1024Mi")));
        assert!(!needs_restart(&container("2", "1Gi"), &old));
        assert!(needs_restart(&container("1", "2Gi"), &old));
    }
}
