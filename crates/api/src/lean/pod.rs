//! The lean form of pods.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Form, ResourceList};
use crate::codec::DecodeError;
use crate::core::v1::{
    self, Affinity, ContainerPort, PodCondition, PodIP, PodSchedulingGate, PodSchedulingGroup, Toleration, Volume,
};
use crate::meta::v1::ObjectMeta;
use crate::{Kind, Object, Typed};

pub(super) const FORM: Form = Form {
    decode: |bytes| Ok(Box::new(Pod::decode(bytes)?)),
    of: |object| match object.as_any().is::<v1::Pod>() {
        true => match object.into_any_box().downcast::<v1::Pod>() {
            Ok(pod) => Box::new(Pod::from(*pod)),
            Err(_) => unreachable!("it was just asked"),
        },
        false => object,
    },
};

/// `kubectl apply` keeps the whole manifest in it, for itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A pod as schedulers, controllers and the network need it: what decides where it runs, whether it counts, and how it
/// is reached. What only its own node looks at (variables, commands, probes, mounts, states) is most of a pod.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// As of the whole pod, but for `managedFields` and what was applied last.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<PodSpec>,
    /// What is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<PodStatus>,
}

/// As [`v1::PodSpec`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct PodSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Box<Affinity>>,
    #[serde(deserialize_with = "or_default")]
    pub containers: Box<[Container]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_network: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_containers: Option<Box<[Container]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overhead: Option<ResourceList>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Box<ResourceRequirements>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduling_gates: Option<Vec<PodSchedulingGate>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduling_group: Option<PodSchedulingGroup>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subdomain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<Toleration>>,
    /// Those of storage, which decide where the pod can run and which claims it uses; the node makes the others.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "of_storage")]
    pub volumes: Option<Vec<Volume>>,
}

/// As [`v1::Container`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Container {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<ContainerPort>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<String>,
}

/// As [`v1::ResourceRequirements`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct ResourceRequirements {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceList>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceList>,
}

/// As [`v1::PodStatus`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct PodStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<PodCondition>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_statuses: Option<Box<[ContainerStatus]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "podIP")]
    pub pod_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIP>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos_class: Option<String>,
}

/// As [`v1::ContainerStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct ContainerStatus {
    pub restart_count: i32,
}

/// `null` is as good as nothing.
fn or_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn of_storage<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Volume>>, D::Error> {
    Ok(storage(Option::deserialize(deserializer)?))
}

fn storage(volumes: Option<Vec<Volume>>) -> Option<Vec<Volume>> {
    let mut volumes = volumes?;
    volumes.retain(is_storage);
    volumes.shrink_to_fit();
    (!volumes.is_empty()).then_some(volumes)
}

fn is_storage(volume: &Volume) -> bool {
    let Volume { config_map, secret, downward_api, projected, empty_dir, host_path, image, git_repo, .. } = volume;
    let made_by_the_node = config_map.is_some()
        || secret.is_some()
        || downward_api.is_some()
        || projected.is_some()
        || empty_dir.is_some()
        || host_path.is_some()
        || image.is_some()
        || git_repo.is_some();
    !made_by_the_node
}

impl From<v1::Pod> for Pod {
    fn from(v1::Pod { metadata, spec, status }: v1::Pod) -> Self {
        Self { metadata, spec: spec.map(PodSpec::from), status: status.map(PodStatus::from) }.trimmed()
    }
}

impl From<v1::PodSpec> for PodSpec {
    fn from(spec: v1::PodSpec) -> Self {
        let all = |containers: Vec<v1::Container>| containers.into_iter().map(Container::from).collect();
        Self {
            active_deadline_seconds: spec.active_deadline_seconds,
            affinity: spec.affinity.map(Box::new),
            containers: all(spec.containers),
            host_network: spec.host_network,
            hostname: spec.hostname,
            init_containers: spec.init_containers.map(all),
            node_name: spec.node_name,
            node_selector: spec.node_selector,
            overhead: spec.overhead.map(ResourceList::from_iter),
            priority: spec.priority,
            priority_class_name: spec.priority_class_name,
            resources: spec.resources.map(ResourceRequirements::from).map(Box::new),
            scheduler_name: spec.scheduler_name,
            scheduling_gates: spec.scheduling_gates,
            scheduling_group: spec.scheduling_group,
            subdomain: spec.subdomain,
            tolerations: spec.tolerations,
            volumes: storage(spec.volumes),
        }
    }
}

impl From<v1::Container> for Container {
    fn from(container: v1::Container) -> Self {
        let v1::Container { name, ports, resources, restart_policy, .. } = container;
        Self { name, ports, resources: resources.map(ResourceRequirements::from), restart_policy }
    }
}

impl From<v1::ResourceRequirements> for ResourceRequirements {
    fn from(v1::ResourceRequirements { limits, requests, .. }: v1::ResourceRequirements) -> Self {
        Self { limits: limits.map(ResourceList::from_iter), requests: requests.map(ResourceList::from_iter) }
    }
}

impl From<v1::PodStatus> for PodStatus {
    fn from(status: v1::PodStatus) -> Self {
        let all = |statuses: Vec<v1::ContainerStatus>| {
            statuses.into_iter().map(|one| ContainerStatus { restart_count: one.restart_count }).collect()
        };
        Self {
            conditions: status.conditions,
            container_statuses: status.container_statuses.map(all),
            phase: status.phase,
            pod_ip: status.pod_ip,
            pod_ips: status.pod_ips,
            qos_class: status.qos_class,
        }
    }
}

impl Pod {
    /// Without what nobody who follows pods reads.
    fn trimmed(mut self) -> Self {
        self.metadata.managed_fields = None;
        if let Some(annotations) = &mut self.metadata.annotations {
            annotations.remove(LAST_APPLIED);
            if annotations.is_empty() {
                self.metadata.annotations = None;
            }
        }
        self
    }
}

impl Object for Pod {
    fn kind(&self) -> &'static Kind {
        Self::KIND
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn boxed_clone(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }

    fn encode(&self) -> Vec<u8> {
        self.to_value().to_string().into_bytes()
    }

    fn to_value(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).expect("string keys and finite numbers always encode");
        value["apiVersion"] = Self::KIND.api_version.into();
        value["kind"] = Self::KIND.kind.into();
        value
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn into_any_arc(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn into_any_box(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn assign(&mut self, other: Box<dyn Object>) {
        *self = *other.into_any_box().downcast().expect("an object of the same type");
    }
}

impl Typed for Pod {
    const KIND: &'static Kind = <v1::Pod as Typed>::KIND;
    const LEAN: bool = true;

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        serde_json::from_slice::<Self>(bytes).map(Self::trimmed).map_err(DecodeError::from)
    }

    fn from_value(value: serde_json::Value) -> Result<Self, DecodeError> {
        serde_json::from_value::<Self>(value).map(Self::trimmed).map_err(DecodeError::from)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lean_pod_keeps_what_decides_where_it_runs() {
        let container = |name: &str| {
            json!({"name": name, "image": "i", "env": [{"name": "A", "value": "b"}], "command": ["sh"],
                "ports": [{"containerPort": 80, "hostPort": 8080}],
                "resources": {"requests": {"memory": "1Gi", "cpu": "1"}},
                "readinessProbe": {"exec": {"command": ["true"]}}, "volumeMounts": [{"name": "v", "mountPath": "/v"}]})
        };
        let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}});
        let whole = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "labels": {"a": "b"}, "annotations": {LAST_APPLIED: "{}"},
                "managedFields": [{"manager": "m"}]},
            "spec": {
                "nodeName": "n", "containers": [container("a"), container("b")], "initContainers": [sidecar],
                "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
                "volumes": [
                    {"name": "v", "persistentVolumeClaim": {"claimName": "c"}},
                    {"name": "w", "configMap": {"name": "c"}}, {"name": "x", "emptyDir": {}},
                ],
                "tolerations": [{"operator": "Exists"}], "overhead": {"cpu": "1"}, "priority": 3,
                "resources": {"limits": {"cpu": "3"}}, "hostNetwork": true, "dnsPolicy": "Default",
            },
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "qosClass": "Burstable",
                "containerStatuses": [{"name": "a", "image": "i", "imageID": "x", "ready": true, "restartCount": 1}]},
        });
        let kept = |name: &str| {
            json!({"name": name, "ports": [{"containerPort": 80, "hostPort": 8080}],
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}})
        };
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {
                "nodeName": "n", "containers": [kept("a"), kept("b")], "initContainers": [sidecar],
                "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}],
                "tolerations": [{"operator": "Exists"}], "overhead": {"cpu": "1"}, "priority": 3,
                "resources": {"limits": {"cpu": "3"}}, "hostNetwork": true,
            },
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "qosClass": "Burstable",
                "containerStatuses": [{"restartCount": 1}]},
        });
        let form = super::super::form(Pod::KIND).unwrap();
        let typed = v1::Pod::from_value(whole.clone()).unwrap();
        let lean = (form.of)(Box::new(typed));
        assert_eq!(lean.to_value(), expected);
        assert_eq!((form.of)(lean).to_value(), expected, "again");
        let read = (form.decode)(whole.to_string().as_bytes()).unwrap();
        assert!(crate::lean::is(&*read), "read at once");
        assert_eq!(read.to_value(), expected);
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&read.encode()).unwrap(), expected);
    }

    #[test]
    fn a_lean_pod_is_small() {
        assert!(size_of::<Pod>() < 1200, "{}", size_of::<Pod>());
        assert!(size_of::<Container>() < 150, "{}", size_of::<Container>());
    }

    #[test]
    fn null_is_nothing() {
        let pod = Pod::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": null, "volumes": null}}));
        assert_eq!(pod.unwrap().spec, Some(PodSpec::default()));
        assert_eq!(Pod::from_value(json!({"metadata": {}, "spec": null})).unwrap().spec, None);
    }

    #[test]
    fn other_kinds_are_kept_whole() {
        assert!(super::super::form(v1::ConfigMap::KIND).is_none());
    }
}
