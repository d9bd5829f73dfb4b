//! Tests of `patch`.

use serde_json::json;

use super::*;
use crate::schema;

fn json_patch(object: Value, patch: Value) -> Result<Value, PatchError> {
    json(object, patch.to_string().as_bytes()).map(|patched| patched.value)
}

fn deployment(patch: Value, object: Value) -> Result<Value, PatchError> {
    let definition = schema::definition("io.k8s.api.apps.v1.Deployment").expect("in the table");
    strategic(object, patch.to_string().as_bytes(), definition).map(|patched| patched.value)
}

fn pod(object: Value, patch: Value) -> Result<Value, PatchError> {
    let definition = schema::definition("io.k8s.api.core.v1.Pod").expect("in the table");
    let spec = |value: Value| json!({"spec": value});
    let patched = strategic(spec(object), spec(patch).to_string().as_bytes(), definition)?;
    Ok(patched.value.get("spec").cloned().unwrap_or_default())
}

#[test]
fn json_operations() {
    let object = || json!({"a": {"b": [1, 2, 3]}, "x/y": 1, "z~": 2});
    for (patch, expected) in [
        (json!([{"op": "add", "path": "/a/c", "value": 1}]), json!({"a": {"b": [1, 2, 3], "c": 1}, "x/y": 1, "z~": 2})),
        (json!([{"op": "add", "path": "/a/b/-", "value": 4}]), json!({"a": {"b": [1, 2, 3, 4]}, "x/y": 1, "z~": 2})),
        (json!([{"op": "add", "path": "/a/b/0", "value": 0}]), json!({"a": {"b": [0, 1, 2, 3]}, "x/y": 1, "z~": 2})),
        (json!([{"op": "remove", "path": "/a/b/-1"}]), json!({"a": {"b": [1, 2]}, "x/y": 1, "z~": 2})),
        (json!([{"op": "remove", "path": "/x~1y"}, {"op": "remove", "path": "/z~0"}]), json!({"a": {"b": [1, 2, 3]}})),
        (json!([{"op": "replace", "path": "/a", "value": 1}]), json!({"a": 1, "x/y": 1, "z~": 2})),
        (json!([{"op": "move", "from": "/a/b", "path": "/c"}]), json!({"a": {}, "x/y": 1, "z~": 2, "c": [1, 2, 3]})),
        (json!([{"op": "copy", "from": "/x~1y", "path": "/a"}]), json!({"a": 1, "x/y": 1, "z~": 2})),
        (
            json!([{"op": "test", "path": "/x~1y", "value": 1.0}, {"op": "test", "path": "/no", "value": null}]),
            object(),
        ),
    ] {
        assert_eq!(json_patch(object(), patch.clone()), Ok(expected), "{patch}");
    }
}

#[test]
fn json_patches_that_do_not_fit() {
    for (patch, error) in [
        (json!([{"op": "test", "path": "/a", "value": 2}]), "testing value /a failed: test failed"),
        (
            json!([{"op": "remove", "path": "/b"}]),
            "error in remove for path: '/b': Unable to remove nonexistent key: b: missing value",
        ),
        (
            json!([{"op": "add", "path": "/b/c", "value": 1}]),
            "add operation does not apply: doc is missing path: \"/b/c\": missing value",
        ),
        (
            json!([{"op": "replace", "path": "/b", "value": 1}]),
            "replace operation does not apply: doc is missing key: /b: missing value",
        ),
    ] {
        let found = json_patch(json!({"a": 1}), patch);
        assert_eq!(found, Err(PatchError::Unprocessable(error.to_owned())));
    }
    let status = Status::from(PatchError::Unprocessable(String::new()));
    assert_eq!((status.code(), status.reason()), (422, "Invalid"));
    assert!(matches!(json_patch(json!({}), json!({})), Err(PatchError::Malformed(_))));
    let many = vec![json!({"op": "test", "path": "/no", "value": null}); OPERATIONS_MAX + 1];
    assert_eq!(json_patch(json!({}), json!(many)), Err(PatchError::TooManyOperations(10_001)));
    let patched = json(json!({}), br#"[{"op":"add","path":"/a","value":1,"foo":2,"op":"add"}]"#).expect("fits");
    assert_eq!(
        patched.strict_problems,
        [r#"json patch unknown field "[0].foo""#, r#"json patch duplicate field "[0].op""#]
    );
}

#[test]
fn merge_patches() {
    let patched = merge(json!({"a": {"b": 1, "c": 2}, "d": [1]}), br#"{"a":{"b":null,"e":{"f":null,"g":1}},"d":[2]}"#);
    assert_eq!(patched.expect("fits").value, json!({"a": {"c": 2, "e": {"g": 1}}, "d": [2]}));
    assert!(merge(json!({}), b"[]").is_err());
}

#[test]
fn strategic_maps_and_keyed_lists_merge() {
    let object = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"replicas": 1, "template": {"spec": {"containers": [
        {"name": "a", "image": "x", "env": [{"name": "K", "value": "v"}], "args": ["1"]}, {"name": "b", "image": "y"},
    ]}}}});
    let patch = json!({"metadata": {"labels": {"b": "2", "a": null}}, "spec": {"template": {"spec": {"containers": [
        {"name": "b", "image": "z"}, {"name": "c"}, {"name": "a", "env": [{"name": "L"}], "args": ["2"]},
    ]}}}});
    assert_eq!(
        deployment(patch, object),
        Ok(json!({"metadata": {"labels": {"b": "2"}}, "spec": {"replicas": 1, "template": {"spec": {"containers": [
            {"name": "b", "image": "z"},
            {"name": "c"},
            {"name": "a", "image": "x", "env": [{"name": "L"}, {"name": "K", "value": "v"}], "args": ["2"]},
        ]}}}}))
    );
}

#[test]
fn strategic_directives() {
    let containers = || json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]});
    for (patch, expected) in [
        (
            json!({"containers": [{"name": "b", "$patch": "delete"}]}),
            json!({"containers": [{"name": "a"}, {"name": "c"}]}),
        ),
        (json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}), json!({"containers": [{"name": "z"}]})),
        (
            json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [{"name": "b", "$patch": "delete"}]}),
            json!({"containers": [{"name": "c"}, {"name": "a"}]}),
        ),
        (
            json!({"$setElementOrder/containers": [{"name": "d"}, {"name": "a"}], "containers": [{"name": "d", "image": "i"}]}),
            json!({"containers": [{"name": "d", "image": "i"}, {"name": "a"}, {"name": "b"}, {"name": "c"}]}),
        ),
        (json!({"$patch": "replace", "nodeName": "n"}), json!({"nodeName": "n"})),
    ] {
        assert_eq!(pod(containers(), patch.clone()), Ok(expected), "{patch}");
    }
    let found = pod(containers(), json!({"containers": [{"image": "x"}]}));
    assert_eq!(
        found,
        Err(PatchError::Unmergeable("map: map[image:x] does not contain declared merge key: name".to_owned()))
    );
}

#[test]
fn strategic_retain_keys() {
    let object = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(deployment(patch, object.clone()), Ok(json!({"spec": {"strategy": {"type": "Recreate"}}})));
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["rollingUpdate"], "type": "Recreate"}}});
    assert_eq!(deployment(patch, object), Err(PatchError::Malformed("invalid patch format of retainKeys".to_owned())));
    let volumes = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
    let patch = json!({"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}]});
    assert_eq!(pod(volumes, patch), Ok(json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]})));
}

#[test]
fn strategic_primitive_lists() {
    let definition = schema::definition("io.k8s.api.core.v1.Pod").expect("in the table");
    let apply = |patch: Value| {
        let object = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
        strategic(object, json!({"metadata": patch}).to_string().as_bytes(), definition).map(|patched| patched.value)
    };
    let finalizers = |list: Value| Ok(json!({"metadata": {"finalizers": list}}));
    assert_eq!(apply(json!({"finalizers": ["d", "a"]})), finalizers(json!(["d", "a", "b", "c"])));
    assert_eq!(apply(json!({"$deleteFromPrimitiveList/finalizers": ["b"]})), finalizers(json!(["a", "c"])));
    assert_eq!(
        apply(json!({
            "$deleteFromPrimitiveList/finalizers": ["b"],
            "$setElementOrder/finalizers": ["c", "d", "a"],
            "finalizers": ["d"],
        })),
        finalizers(json!(["c", "d", "a"]))
    );
}

#[test]
fn what_is_new_comes_in_without_directives() {
    assert_eq!(
        pod(
            json!({}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name"], "x": null}, {"name": "w", "$patch": "delete"}]})
        ),
        Ok(json!({"volumes": [{"name": "v"}]}))
    );
}
