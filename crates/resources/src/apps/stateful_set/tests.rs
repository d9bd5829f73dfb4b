//! What a StatefulSet gets without asking, and what it is refused for.

use super::Strategy as StatefulSets;
use crate::Strategy as _;
use api::Typed;
use api::apps::v1::StatefulSet;
use serde_json::{Value, json};

fn set(spec: Value) -> StatefulSet {
    let mut value = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "a:1",
            "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}]}});
    for (key, field) in spec.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    let mut set = StatefulSet::from_value(value).unwrap();
    StatefulSets::default(&mut set);
    StatefulSets::prepare_create(&mut set);
    set
}

#[test]
fn defaults_are_upstreams() {
    let set = set(json!({}));
    assert_eq!(StatefulSets::validate(&set).0, []);
    let spec = serde_json::to_value(set.spec).unwrap();
    assert_eq!(spec["podManagementPolicy"], "OrderedReady");
    assert_eq!(
        spec["updateStrategy"],
        json!({"rollingUpdate": {"maxUnavailable": 1, "partition": 0}, "type": "RollingUpdate"})
    );
    assert_eq!(spec["persistentVolumeClaimRetentionPolicy"], json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
    assert_eq!((spec["replicas"].clone(), spec["revisionHistoryLimit"].clone()), (json!(1), json!(10)));
    assert_eq!(spec["volumeClaimTemplates"][0]["spec"]["volumeMode"], "Filesystem");
    assert_eq!(spec["volumeClaimTemplates"][0]["status"], json!({"phase": "Pending"}));
}

#[test]
fn specs_are_refused_in_upstreams_words() {
    let cases = [
        (
            json!({"podManagementPolicy": "Random"}),
            "spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'",
        ),
        (json!({"replicas": -1}), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            json!({"ordinals": {"start": -1}}),
            "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
        ),
        (json!({"selector": {}}), "spec.selector: Invalid value: {}: empty selector is invalid for statefulset"),
        (
            json!({"selector": {"matchLabels": {"app": "y"}}}),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"x\"}: `selector` does not match template `labels`",
        ),
        (
            json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}}}),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
        ),
        (
            json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}}),
            "spec.updateStrategy.rollingUpdate: Invalid value: {\"Partition\":1,\"MaxUnavailable\":null}: only allowed \
             for updateStrategy 'RollingUpdate'",
        ),
        (
            json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Burn"}}),
            "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Burn\": supported values: \
             \"Delete\", \"Retain\"",
        ),
        (
            json!({"volumeClaimTemplates": []}),
            "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\"",
        ),
    ];
    for (patch, expected) in cases {
        assert_eq!(StatefulSets::validate(&set(patch.clone())).to_string(), expected, "{patch}");
    }
}

#[test]
fn only_some_fields_can_be_changed() {
    let old = set(json!({}));
    let mut new = set(json!({"replicas": 3, "ordinals": {"start": 5}, "minReadySeconds": 1,
        "revisionHistoryLimit": 2, "updateStrategy": {"type": "OnDelete"},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}));
    StatefulSets::prepare_update(&mut new, &old);
    assert_eq!(new.metadata.generation, Some(2));
    assert_eq!(StatefulSets::validate_update(&new, &old).0, []);
    let found = StatefulSets::validate_update(&set(json!({"serviceName": "other"})), &old).to_string();
    assert!(found.starts_with("spec: Forbidden: updates to statefulset spec for fields other than"), "{found}");
}

#[test]
fn counts_of_the_status_are_bounded() {
    let mut set = set(json!({}));
    let status = set.status.as_mut().unwrap();
    (status.replicas, status.ready_replicas, status.available_replicas) = (1, Some(0), Some(1));
    assert_eq!(
        StatefulSets::validate_status_update(&set, &set).to_string(),
        "status.availableReplicas: Invalid value: 1: cannot be greater than status.readyReplicas"
    );
}
