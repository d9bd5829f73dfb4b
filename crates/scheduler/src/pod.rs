//! A pod as the scheduler sees it: what it asks for, worked out once.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::lean::{Container, Pod, PodSpec};
use api::{Object, Quantity, quantity};

/// Amounts of resources: CPU in milli-units, all else in whole units (bytes, pods, devices).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory_bytes: i64,
    pub ephemeral_storage_bytes: i64,
    /// Extended resources and huge pages, by name.
    pub other: BTreeMap<String, i64>,
}

/// What a container without requests is counted as when nodes are scored: 100m and 200 MB, so that such pods spread
/// too (upstream's `DefaultMilliCPURequest`, `DefaultMemoryRequest`).
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

impl Resources {
    pub fn of<'a>(list: Option<impl IntoIterator<Item = (&'a String, &'a Quantity)>>) -> Self {
        let mut resources = Self::default();
        for (name, value) in list.into_iter().flatten() {
            let amount = quantity::amount(value);
            match name.as_str() {
                "cpu" => resources.milli_cpu = amount.milli_value(),
                "memory" => resources.memory_bytes = amount.value(),
                "ephemeral-storage" => resources.ephemeral_storage_bytes = amount.value(),
                "pods" => {}
                _ => {
                    resources.other.insert(name.clone(), amount.value());
                }
            }
        }
        resources
    }

    pub fn add(&mut self, more: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_add(more.milli_cpu);
        self.memory_bytes = self.memory_bytes.saturating_add(more.memory_bytes);
        self.ephemeral_storage_bytes = self.ephemeral_storage_bytes.saturating_add(more.ephemeral_storage_bytes);
        for (name, amount) in &more.other {
            let sum = self.other.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    pub fn subtract(&mut self, less: &Self) {
        self.milli_cpu -= less.milli_cpu;
        self.memory_bytes -= less.memory_bytes;
        self.ephemeral_storage_bytes -= less.ephemeral_storage_bytes;
        for (name, amount) in &less.other {
            *self.other.entry(name.clone()).or_default() -= amount;
        }
        self.other.retain(|_, amount| *amount != 0);
    }

    fn raise_to(&mut self, floor: &Self) {
        self.milli_cpu = self.milli_cpu.max(floor.milli_cpu);
        self.memory_bytes = self.memory_bytes.max(floor.memory_bytes);
        self.ephemeral_storage_bytes = self.ephemeral_storage_bytes.max(floor.ephemeral_storage_bytes);
        for (name, amount) in &floor.other {
            let known = self.other.entry(name.clone()).or_default();
            *known = (*known).max(*amount);
        }
    }
}

/// A port of the node that a pod wants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub protocol: String,
    pub port: i32,
    /// `0.0.0.0` is all addresses.
    pub ip: String,
}

impl HostPort {
    /// Whether both cannot be had on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
        self.protocol == other.protocol
            && self.port == other.port
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

/// A pod and what it asks for.
#[derive(Debug, Clone)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub requests: Resources,
    /// As `requests`, with stand-ins where containers ask for nothing: for scoring.
    pub scored: Resources,
    pub host_ports: Vec<HostPort>,
    pub priority: i32,
}

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> Self {
        let default = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&default);
        let (requests, scored) = (total(spec, false), total(spec, true));
        let host_ports = host_ports(spec);
        let priority = spec.priority.unwrap_or(0);
        Self { requests, scored, host_ports, priority, pod }
    }

    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        self.pod.key()
    }
}

/// What the pod asks for as a whole: its containers and sidecars together, or the largest moment of initialisation,
/// and its overhead; requests at pod level count instead where they are made (KEP-2837).
fn total(spec: &PodSpec, with_stand_ins: bool) -> Resources {
    let request = |container: &Container| {
        let mut resources = Resources::of(container.resources.as_ref().and_then(|r| r.requests.as_ref()));
        if with_stand_ins {
            let asked = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            if !asked.is_some_and(|asked| asked.contains_key("cpu")) {
                resources.milli_cpu = DEFAULT_MILLI_CPU;
            }
            if !asked.is_some_and(|asked| asked.contains_key("memory")) {
                resources.memory_bytes = DEFAULT_MEMORY_BYTES;
            }
        }
        resources
    };
    let mut sum = Resources::default();
    for container in &spec.containers {
        sum.add(&request(container));
    }
    let (mut sidecars, mut largest) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let mut moment = request(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&moment);
            moment = Resources::default();
        }
        moment.add(&sidecars);
        largest.raise_to(&moment);
    }
    sum.add(&sidecars);
    sum.raise_to(&largest);
    if let Some(asked) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        let level = Resources::of(Some(asked));
        if asked.contains_key("cpu") {
            sum.milli_cpu = level.milli_cpu;
        }
        if asked.contains_key("memory") {
            sum.memory_bytes = level.memory_bytes;
        }
    }
    sum.add(&Resources::of(spec.overhead.as_ref()));
    sum
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        Some(HostPort {
            port: port.host_port.filter(|port| *port > 0)?,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            ip: port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into()),
        })
    });
    taken.collect()
}

/// Whether the pod still uses its node.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// The node the pod is bound to, or `""`.
pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> PodInfo {
        PodInfo::new(Arc::new(Pod::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")))
    }

    #[test]
    fn the_largest_moment_counts() {
        let asks = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let info = pod(json!({
            "containers": [{"name": "a", "resources": asks("100m")}, {"name": "b", "resources": asks("200m")}],
            "initContainers": [
                {"name": "big", "resources": asks("250m")},
                {"name": "side", "restartPolicy": "Always", "resources": asks("50m")},
                {"name": "late", "resources": asks("400m")},
            ],
            "overhead": {"cpu": "10m"},
        }));
        // Containers and sidecar: 350m; the late init container beside the sidecar: 450m.
        assert_eq!(info.requests.milli_cpu, 460);
        assert_eq!(info.scored.memory_bytes, 3 * DEFAULT_MEMORY_BYTES);
    }

    #[test]
    fn host_ports_conflict_by_address() {
        let port = |ip: &str| HostPort { protocol: "TCP".into(), port: 80, ip: ip.into() };
        assert!(port("0.0.0.0").conflicts(&port("10.0.0.1")));
        assert!(!port("10.0.0.2").conflicts(&port("10.0.0.1")));
    }
}
