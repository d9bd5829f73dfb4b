//! Tests of `schema`.

use serde_json::json;

use super::*;
use crate::codec;

fn deployment() -> &'static Definition {
    definition("io.k8s.api.apps.v1.Deployment").expect("in the table")
}

#[test]
fn the_table_is_sorted_and_complete() {
    assert_eq!(all().len(), 862);
    assert!(all().is_sorted_by_key(|definition| definition.name));
    for definition in all() {
        assert!(definition.properties.is_sorted_by_key(|property| property.name), "{}", definition.name);
        for property in &definition.properties {
            for key in &property.list_map_keys {
                let Type::List(item) = &property.type_ else { panic!("{}.{}", definition.name, property.name) };
                let item = item.definition().expect("items of keyed lists are structs");
                assert!(item.property(key).is_some(), "{}.{} {key}", definition.name, property.name);
            }
        }
    }
}

#[test]
fn every_built_in_kind_has_its_definition() {
    for kind in crate::kinds::ALL {
        let definition = of_kind(kind).unwrap_or_else(|| panic!("{}", kind.definition));
        assert!(definition.kinds.contains(&(kind.group, kind.version, kind.kind)), "{}", kind.definition);
        assert!(definition.property("metadata").is_some(), "{}", kind.definition);
    }
}

#[test]
fn merge_facts() {
    let pod_spec = definition("io.k8s.api.core.v1.PodSpec").expect("in the table");
    let containers = pod_spec.property("containers").expect("a field");
    assert_eq!((containers.patch_strategy, containers.patch_merge_key), ("merge", "name"));
    assert_eq!(containers.list_type, Some(ListType::Map));
    assert!(containers.required);
    assert_eq!(pod_spec.property("volumes").expect("a field").patch_strategy, "merge,retainKeys");
    assert!(definition("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector").expect("in the table").map_atomic);
}

#[test]
fn unknown_fields_have_paths() {
    let value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "labels": {"any": "thing"}, "x": null},
        "spec": {"foo": 1, "template": {"spec": {"containers": [{"name": "a", "imagee": "b"}]}}},
    });
    let checked = check(&value, deployment());
    assert_eq!(checked.unknown, ["metadata.x", "spec.foo", "spec.template.spec.containers[0].imagee"]);
    assert_eq!(checked.type_error, None);
    let parsed = codec::parse_json(br#"{"spec":{"foo":1,"paused":true,"paused":false}}"#).expect("valid");
    assert_eq!(
        strict_message(&parsed, &check(&parsed.value, deployment())).as_deref(),
        Some(r#"strict decoding error: unknown field "spec.foo", duplicate field "spec.paused""#)
    );
}

#[test]
fn type_errors_are_worded_as_in_go() {
    let container = |fields: serde_json::Value| json!({"spec": {"template": {"spec": {"containers": [fields]}}}});
    for (value, error) in [
        (
            json!({"spec": {"replicas": "3"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"replicas": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"replicas": 3_000_000_000u64}}),
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            container(json!({"image": 5})),
            "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.image of type \
             string",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": {}}}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type \
             []v1.Container",
        ),
        (
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            json!({"metadata": {"creationTimestamp": "today"}}),
            "parsing time \"today\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"today\" as \"2006\"",
        ),
        (
            container(json!({"resources": {"limits": {"cpu": "lots"}}})),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (json!([]), "json: cannot unmarshal array into Go value of type v1.Deployment"),
    ] {
        assert_eq!(check(&value, deployment()).type_error.as_deref(), Some(error), "{value}");
    }
    let secret = definition("io.k8s.api.core.v1.Secret").expect("in the table");
    let error = check(&json!({"data": {"a": "%%"}}), secret).type_error;
    assert_eq!(error.as_deref(), Some("illegal base64 data at input byte 0"));
}

#[test]
fn what_go_reads_is_fine() {
    let value = json!({
        "metadata": {"creationTimestamp": null, "managedFields": [{"fieldsV1": {"f:a": {}}, "time": "2026-01-02T03:04:05Z"}]},
        "spec": {
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
            "template": {"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 1.5, "memory": "1Gi"}}}]}},
        },
    });
    assert_eq!(check(&value, deployment()), Checked::default());
    let crd = definition("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition");
    let value = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {
        "properties": {"a": {"type": "array", "items": {"type": "string"}, "default": [1, "x"], "x-kubernetes-list-type": "set"}},
        "additionalProperties": false,
    }}}]}});
    assert_eq!(check(&value, crd.expect("in the table")), Checked::default());
}

#[test]
fn normalized_as_go_reads_it() {
    let mut value = json!({
        "metadata": {"labels": {"a": null}, "creationTimestamp": null},
        "spec": {"replicas": null, "template": {"spec": {"containers": [
            {"name": "a", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}, null,
        ]}}},
    });
    normalize(&mut value, deployment());
    assert_eq!(
        value,
        json!({
            "metadata": {"labels": {"a": ""}},
            "spec": {"template": {"spec": {"containers": [
                {"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}, {},
            ]}}},
        })
    );
}

#[test]
fn descriptions_come_from_the_generated_types() {
    let kind = crate::kinds::find("apps/v1", "Deployment").expect("built in");
    let texts = Descriptions::of(&[kind]);
    let spec = "io.k8s.api.apps.v1.DeploymentSpec";
    assert_eq!(
        texts.definition(spec),
        Some("DeploymentSpec is the specification of the desired behavior of the Deployment.")
    );
    assert_eq!(texts.property(spec, "paused"), Some("Indicates that the deployment is paused."));
    assert!(texts.property(spec, "template").is_some_and(|text| text.starts_with("Template describes")));
    assert_eq!(texts.property("io.k8s.api.core.v1.Secret", "data"), None);
}
