//! Pods as the API server sees them: defaults, refusals, updates, deletes.

use api::Typed;
use api::core::v1::Pod;
use api::meta::v1::DeleteOptions;
use serde_json::{Value, json};

use super::Strategy as Pods;
use crate::Strategy as _;
use crate::strategy::Subresource;

fn merge(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    base.remove(key);
                } else {
                    merge(base.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (base, patch) => *base = patch.clone(),
    }
}

/// A valid pod with the patch merged into its spec, as it would be stored.
fn pod(patch: Value) -> Pod {
    let mut value = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {
        "containers": [{"name": "a", "image": "a:1"}]}});
    merge(&mut value["spec"], &patch);
    let mut pod = Pod::from_value(value).unwrap();
    Pods::default(&mut pod);
    Pods::prepare_create(&mut pod);
    pod
}

fn texts(errors: api::FieldErrors) -> Vec<String> {
    errors.0.iter().map(ToString::to_string).collect()
}

fn container(patch: Value) -> Value {
    let mut container = json!({"name": "a", "image": "a:1"});
    merge(&mut container, &patch);
    json!({"containers": [container]})
}

#[test]
fn a_new_pod_is_pending_with_its_class() {
    let pod = pod(json!({}));
    assert!(texts(Pods::validate(&pod)).is_empty());
    assert_eq!(serde_json::to_value(&pod.status).unwrap(), json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(pod.metadata.generation, Some(1));
}

#[test]
fn a_spec_is_refused_in_upstreams_words() {
    let cases = [
        (json!({"containers": []}), "spec.containers: Required value"),
        (container(json!({"image": ""})), "spec.containers[0].image: Required value"),
        (
            container(json!({"image": " a"})),
            "spec.containers[0].image: Invalid value: \" a\": must not have leading or trailing whitespace",
        ),
        (
            container(json!({"imagePullPolicy": "Maybe"})),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \
             \"IfNotPresent\", \"Never\"",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "x"}]}),
            "spec.containers[1].name: Duplicate value: \"a\"",
        ),
        (
            container(json!({"ports": [{"containerPort": 70000}]})),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            container(json!({"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]})),
            "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//5\"",
        ),
        (
            container(json!({"env": [{"name": "E", "value": "x",
                    "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]})),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ),
        (
            container(json!({"env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}]})),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported \
             values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \
             \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
        ),
        (
            container(json!({"volumeMounts": [{"name": "v", "mountPath": "/x"}]})),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            container(json!({"livenessProbe": {"tcpSocket": {"port": 80}, "successThreshold": 2}})),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            container(json!({"livenessProbe": {}})),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            container(json!({"readinessProbe": {"exec": {"command": ["x"]}, "grpc": {"port": 1}}})),
            "spec.containers[0].readinessProbe.grpc: Forbidden: may not specify more than 1 handler type",
        ),
        (
            container(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}})),
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than \
             terminationGracePeriodSeconds (30)",
        ),
        (
            container(json!({"restartPolicy": "Always"})),
            "spec.containers[0].restartPolicy: Forbidden: may not be set for non-init containers",
        ),
        (
            json!({"initContainers": [{"name": "i", "image": "x", "livenessProbe": {"tcpSocket": {"port": 1}}}]}),
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without \
             restartPolicy=Always",
        ),
        (
            json!({"initContainers": [{"name": "i", "image": "x", "restartPolicy": "Never"}]}),
            "spec.initContainers[0].restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            container(json!({"securityContext": {"runAsUser": -1}})),
            "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, \
             inclusive",
        ),
        (
            json!({"tolerations": [{"operator": "Equal"}]}),
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, \
             which \
             means \"match all values and all keys\"",
        ),
        (
            json!({"dnsPolicy": "None"}),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            json!({"restartPolicy": "Sometimes"}),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \
             \"Never\"",
        ),
        (
            json!({"hostAliases": [{"ip": "x"}]}),
            "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
             2001:db8::ffff)",
        ),
        (
            json!({"activeDeadlineSeconds": 0}),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/a"}, "secret": {"secretName": "s"}}]}),
            "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
        ),
        (
            json!({"volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 512}}]}),
            "spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), \
             both inclusive",
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z",
                "whenUnsatisfiable": "DoNotSchedule"}]}),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
        (
            json!({"affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required \
             value: must have at least one node selector term",
        ),
        (
            json!({"ephemeralContainers": [{"name": "e", "image": "x"}]}),
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ),
        (
            json!({"nodeName": "n", "schedulingGates": [{"name": "g"}]}),
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
        ),
        (
            json!({"hostUsers": false, "hostNetwork": true}),
            "spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false",
        ),
        (
            json!({"os": {"name": "plan9"}}),
            "spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\"",
        ),
    ];
    for (patch, expected) in cases {
        let found = texts(Pods::validate(&pod(patch.clone())));
        assert!(found.contains(&expected.to_owned()), "{patch}\n{found:#?}");
    }
}

#[test]
fn valid_specs_pass() {
    let cases = [
        json!({"initContainers": [{"name": "s", "image": "x", "restartPolicy": "Always",
            "startupProbe": {"httpGet": {"port": "web"}}}]}),
        json!({"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}]}}],
            "containers": [{"name": "a", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/x",
                "readOnly": true}]}]}),
        json!({"hostNetwork": true, "containers": [{"name": "a", "image": "x", "ports": [{"containerPort": 80}]}]}),
        json!({"tolerations": [{"operator": "Exists"}, {"key": "k", "value": "v", "effect": "NoExecute",
            "tolerationSeconds": 5}]}),
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["pod-template-hash"]}]}),
        json!({"containers": [{"name": "a", "image": "x", "env": [{"name": "L", "valueFrom": {"fieldRef":
            {"fieldPath": "metadata.labels['app']"}}}, {"name": "C",
                "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]}]}),
    ];
    for patch in cases {
        assert_eq!(texts(Pods::validate(&pod(patch.clone()))), Vec::<String>::new(), "{patch}");
    }
}

#[test]
fn an_update_may_change_little() {
    let old = pod(json!({"activeDeadlineSeconds": 10, "tolerations": [{"key": "k", "operator": "Exists"}]}));
    let change = |change: fn(&mut Pod)| {
        let mut new = old.clone();
        change(&mut new);
        texts(Pods::validate_update(&new, &old))
    };
    assert!(change(|pod| pod.spec.as_mut().unwrap().containers[0].image = Some("b:2".into())).is_empty());
    assert!(change(|pod| pod.spec.as_mut().unwrap().active_deadline_seconds = Some(5)).is_empty());
    assert!(change(|pod| pod.metadata.labels = Some([("a".into(), "b".into())].into())).is_empty());
    assert_eq!(
        change(|pod| pod.spec.as_mut().unwrap().active_deadline_seconds = Some(20)),
        ["spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal to previous value"]
    );
    assert_eq!(
        change(|pod| pod.spec.as_mut().unwrap().tolerations = None),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
    let found = change(|pod| pod.spec.as_mut().unwrap().hostname = Some("h".into()));
    assert_eq!(
        found,
        ["spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
          `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
          tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n\
          + \thostname: \"h\"\n"]
    );
    assert_eq!(
        change(|pod| pod.spec.as_mut().unwrap().containers.clear()),
        ["spec.containers: Required value", "spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
}

#[test]
fn the_generation_counts_changes_of_the_spec() {
    let old = pod(json!({}));
    let mut new = old.clone();
    new.status = None;
    Pods::prepare_update(&mut new, &old);
    assert_eq!((new.metadata.generation, new.status.is_some()), (Some(1), true));
    new.spec.as_mut().unwrap().containers[0].image = Some("b".into());
    Pods::prepare_update(&mut new, &old);
    assert_eq!(new.metadata.generation, Some(2));
}

#[test]
fn a_status_keeps_the_spec_and_the_class() {
    let old = pod(json!({}));
    let mut new = old.clone();
    new.spec = None;
    new.status.as_mut().unwrap().qos_class = None;
    new.status.as_mut().unwrap().phase = Some("Running".into());
    Pods::prepare_status_update(&mut new, &old);
    assert_eq!(new.spec, old.spec);
    assert_eq!(new.status.as_ref().unwrap().qos_class.as_deref(), Some("BestEffort"));
    assert!(Pods::validate_status_update(&new, &old).is_empty());
    new.status.as_mut().unwrap().qos_class = Some("Burstable".into());
    assert_eq!(
        texts(Pods::validate_status_update(&new, &old)),
        ["status.qosClass: Invalid value: \"Burstable\": field is immutable"]
    );
}

#[test]
fn ephemeral_containers_are_added_and_kept() {
    let mut old = pod(json!({}));
    let mut new = old.clone();
    let ephemeral = json!([{"name": "debug", "image": "busybox:1", "targetContainerName": "a"}]);
    new.spec.as_mut().unwrap().ephemeral_containers = serde_json::from_value(ephemeral).unwrap();
    new.spec.as_mut().unwrap().hostname = Some("ignored".into());
    Pods::default(&mut new);
    Pods::prepare_subresource_update(Subresource::EphemeralContainers, &mut new, &old);
    assert_eq!(new.spec.as_ref().unwrap().hostname, None);
    assert!(Pods::validate_subresource_update(Subresource::EphemeralContainers, &new, &old).is_empty());
    std::mem::swap(&mut old, &mut new);
    assert_eq!(
        texts(Pods::validate_subresource_update(Subresource::EphemeralContainers, &new, &old)),
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be removed\n"]
    );
}

#[test]
fn a_resize_changes_cpu_and_memory_only() {
    let old = pod(container(json!({"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}})));
    let resize = |requests: Value| {
        let mut new = old.clone();
        new.spec.as_mut().unwrap().containers[0].resources =
            serde_json::from_value(json!({ "requests": requests })).unwrap();
        Pods::prepare_subresource_update(Subresource::Resize, &mut new, &old);
        texts(Pods::validate_subresource_update(Subresource::Resize, &new, &old))
    };
    assert!(resize(json!({"cpu": "2", "memory": "1Gi"})).is_empty());
    assert_eq!(
        resize(json!({"cpu": "2"})),
        ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]
    );
}

#[test]
fn a_resize_changes_init_containers_too() {
    let init = json!({"name": "i", "image": "i", "resources": {"requests": {"cpu": "1"}}});
    let main = json!({"name": "a", "image": "a:1", "resources": {"requests": {"cpu": "1"}}});
    let old = pod(json!({"containers": [main], "initContainers": [init]}));
    let resize = |requests: Value| {
        let mut new = old.clone();
        new.spec.as_mut().unwrap().init_containers.as_mut().unwrap()[0].resources =
            serde_json::from_value(json!({ "requests": requests })).unwrap();
        Pods::prepare_subresource_update(Subresource::Resize, &mut new, &old);
        texts(Pods::validate_subresource_update(Subresource::Resize, &new, &old))
    };
    assert!(resize(json!({"cpu": "2"})).is_empty());
    assert_eq!(
        resize(json!({})),
        ["spec.initContainers[0].resources.requests: Forbidden: resource requests cannot be removed"]
    );
    assert_eq!(
        resize(json!({"cpu": "1", "ephemeral-storage": "1Gi"})),
        ["spec: Forbidden: only cpu and memory resources are mutable"]
    );
}

#[test]
fn the_grace_period_is_the_wish_or_the_pods() {
    let seconds = |patch: Value, phase: &str, wish: Option<i64>| {
        let mut pod = pod(patch);
        pod.status.as_mut().unwrap().phase = Some(phase.into());
        Pods::delete_grace_seconds(&pod, &DeleteOptions { grace_period_seconds: wish, ..Default::default() })
    };
    let scheduled = || json!({"nodeName": "n"});
    assert_eq!(seconds(scheduled(), "Running", None), Some(30));
    assert_eq!(seconds(scheduled(), "Running", Some(5)), Some(5));
    assert_eq!(seconds(scheduled(), "Running", Some(0)), Some(0));
    assert_eq!(seconds(scheduled(), "Running", Some(-3)), Some(1));
    assert_eq!(seconds(scheduled(), "Succeeded", None), Some(0));
    assert_eq!(seconds(json!({}), "Pending", None), Some(0));
}

#[test]
fn label_keys_become_expressions() {
    let mut pod = Pod::from_value(json!({"metadata": {"name": "p", "labels": {"app": "x"}}, "spec": {
        "containers": [{"name": "a", "image": "a"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {}, "matchLabelKeys": ["app", "absent"]}]}}))
    .unwrap();
    Pods::default(&mut pod);
    Pods::prepare_create(&mut pod);
    let selector = &pod.spec.as_ref().unwrap().topology_spread_constraints.as_ref().unwrap()[0].label_selector;
    assert_eq!(
        serde_json::to_value(selector).unwrap(),
        json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["x"]}]})
    );
    assert!(Pods::validate(&pod).is_empty());
}

#[test]
fn odd_specs_are_warned_of() {
    let pod = pod(json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"},
        "containers": [{"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}, {"name": "E",
            "value": "2"}]}]}));
    assert_eq!(
        Pods::warnings(&pod),
        [
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "spec.containers[0].env[1]: hides previous definition of \"E\", which may be dropped when using apply",
        ]
    );
}
