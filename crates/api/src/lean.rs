//! The lean form of an object: what they keep who follow *all* objects of a kind, decide by them, and never write them
//! back whole. What only the node that runs a pod looks at (variables, commands, probes, mounts) is most of it.

use crate::core::v1::{Container, EphemeralContainer, Pod, Volume};
use crate::{Kind, Object, Typed};

/// Takes out of an object what its followers do not look at.
pub type Lean = fn(&mut dyn Object);

/// How objects of a kind become lean; `None` if they are kept whole.
pub fn form(kind: &Kind) -> Option<Lean> {
    (kind == Pod::KIND).then_some(pod)
}

/// A pod as schedulers and controllers need it: metadata and status whole; of its containers names, images, ports and
/// resources; of its volumes those of storage, which decide where it can run and which claims it uses.
fn pod(object: &mut dyn Object) {
    let Some(pod) = object.as_any_mut().downcast_mut::<Pod>() else { return };
    let Some(spec) = &mut pod.spec else { return };
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let Container { name, image, ports, resources, restart_policy, .. } = std::mem::take(container);
        *container = Container { name, image, ports, resources, restart_policy, ..Container::default() };
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        let EphemeralContainer { name, image, .. } = std::mem::take(container);
        *container = EphemeralContainer { name, image, ..EphemeralContainer::default() };
    }
    if let Some(volumes) = &mut spec.volumes {
        volumes.retain(is_storage);
        volumes.shrink_to_fit();
        if volumes.is_empty() {
            spec.volumes = None;
        }
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lean_pod_keeps_what_decides_where_it_runs() {
        let container = |name: &str| {
            json!({"name": name, "image": "i", "env": [{"name": "A", "value": "b"}], "command": ["sh"],
                "ports": [{"containerPort": 80, "hostPort": 8080}], "resources": {"requests": {"cpu": "1"}},
                "readinessProbe": {"exec": {"command": ["true"]}}, "volumeMounts": [{"name": "v", "mountPath": "/v"}]})
        };
        let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}});
        let mut whole = Pod::from_value(json!({
            "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {
                "nodeName": "n", "containers": [container("a"), container("b")], "initContainers": [sidecar],
                "ephemeralContainers": [{"name": "e", "image": "i", "targetContainerName": "a", "tty": true}],
                "volumes": [
                    {"name": "v", "persistentVolumeClaim": {"claimName": "c"}},
                    {"name": "w", "configMap": {"name": "c"}}, {"name": "x", "emptyDir": {}},
                ],
                "tolerations": [{"operator": "Exists"}],
            },
            "status": {"phase": "Running", "containerStatuses": [{"name": "a", "image": "i", "imageID": "x",
                "ready": true, "restartCount": 1}]},
        }))
        .unwrap();
        let lean = form(Pod::KIND).unwrap();
        lean(&mut whole);
        let kept = |name: &str| {
            json!({"name": name, "image": "i", "ports": [{"containerPort": 80, "hostPort": 8080}],
                "resources": {"requests": {"cpu": "1"}}})
        };
        let value = whole.to_value();
        assert_eq!(value["spec"]["containers"], json!([kept("a"), kept("b")]));
        assert_eq!(value["spec"]["initContainers"], json!([sidecar]));
        assert_eq!(value["spec"]["ephemeralContainers"], json!([{"name": "e", "image": "i"}]));
        assert_eq!(value["spec"]["volumes"], json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]));
        assert_eq!(value["spec"]["tolerations"], json!([{"operator": "Exists"}]));
        assert_eq!(value["status"]["containerStatuses"][0]["restartCount"], 1);
        assert_eq!(value["metadata"], json!({"name": "p", "labels": {"a": "b"}}));
    }

    #[test]
    fn other_kinds_are_kept_whole() {
        assert!(form(crate::core::v1::ConfigMap::KIND).is_none());
    }
}
