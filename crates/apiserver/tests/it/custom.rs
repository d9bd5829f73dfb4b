//! Custom resources over HTTP: from the definition to its end.

use http::Method;
use serde_json::{Value, json};

use crate::world::World;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const CATS: &str = "/apis/example.com/v1/namespaces/default/cats";

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "cats.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "cats", "kind": "Cat", "shortNames": ["c"]},
            "versions": [
                {
                    "name": "v1", "served": true, "storage": true,
                    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.lives",
                        "statusReplicasPath": ".status.lives"}},
                    "selectableFields": [{"jsonPath": ".spec.fur"}],
                    "additionalPrinterColumns": [{"name": "Lives", "type": "integer", "jsonPath": ".spec.lives"}],
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "required": ["fur"], "properties": {
                            "lives": {"type": "integer", "default": 9, "maximum": 9},
                            "fur": {"type": "string"},
                        }},
                        "status": {"type": "object", "properties": {"lives": {"type": "integer"}}},
                    }}},
                },
                {
                    "name": "v1beta1", "served": true, "storage": false, "deprecated": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                },
            ],
        },
    })
}

async fn established(world: &World, definition: &Value) {
    let mut watch = world.watch(&format!("{CRDS}?watch=true")).await;
    let created = world.create(CRDS, &definition.to_string()).await;
    assert_eq!(created.code, 201, "{}", created.text());
    loop {
        let event = watch.next().await.unwrap();
        let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True") {
            return;
        }
    }
}

async fn cat(world: &World, name: &str, fur: &str) -> Value {
    let body = json!({"apiVersion": "example.com/v1", "kind": "Cat", "metadata": {"name": name}, "spec": {"fur": fur}});
    let answer = world.create(CATS, &body.to_string()).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn a_custom_resource_is_like_any_other() {
    let world = World::start().await;
    assert_eq!(world.get(CATS).await.code, 404);
    established(&world, &definition()).await;
    let made = cat(&world, "tom", "grey").await;
    assert_eq!((&made["spec"]["lives"], &made["metadata"]["generation"]), (&json!(9), &json!(1)));

    let bad = json!({"apiVersion": "example.com/v1", "kind": "Cat", "metadata": {"name": "x"}, "spec": {"lives": "n"}});
    assert_eq!(
        world.create(CATS, &bad.to_string()).await.message(),
        "Cat.example.com \"x\" is invalid: [spec.fur: Required value, spec.lives: Invalid value: \"string\": spec.lives \
         in body must be of type integer: \"string\"]"
    );
    let odd = json!({"kind": "Cat", "apiVersion": "example.com/v1", "metadata": {"name": "x"},
        "spec": {"fur": "a", "wings": 2}});
    let strict = world.create(&format!("{CATS}?fieldValidation=Strict"), &odd.to_string()).await;
    assert_eq!(
        strict.message(),
        "Cat in version \"v1\" cannot be handled as a Cat: strict decoding error: unknown field \"spec.wings\""
    );

    // Who is refused is warned all the same.
    let bald = json!({"kind": "Cat", "apiVersion": "example.com/v1", "metadata": {"name": "x"}, "spec": {"wings": 2}});
    let refused = world.create(CATS, &bald.to_string()).await;
    assert_eq!(refused.code, 422);
    assert_eq!(refused.headers["warning"], "299 - \"unknown field \\\"spec.wings\\\"\"");
    let protobuf = [("content-type", "application/vnd.kubernetes.protobuf")];
    let refused = world.send(Method::POST, CATS, &protobuf, "k8s").await;
    assert_eq!(refused.code, 415);
    assert_eq!(
        refused.message(),
        "the body of the request was in an unknown format - accepted media types include: application/json, \
         application/yaml"
    );

    let merge = "application/merge-patch+json";
    let tom = format!("{CATS}/tom");
    let patched = world.patch(&tom, merge, r#"{"spec":{"lives":8},"status":{"lives":1}}"#).await.json();
    assert_eq!((&patched["metadata"]["generation"], &patched["status"]), (&json!(2), &Value::Null));
    let status = world.patch(&format!("{tom}/status"), merge, r#"{"spec":{"lives":1},"status":{"lives":7}}"#).await;
    assert_eq!((&status.json()["spec"]["lives"], &status.json()["status"]["lives"]), (&json!(8), &json!(7)));
    let scaled = world.patch(&format!("{tom}/scale"), merge, r#"{"spec":{"replicas":3}}"#).await.json();
    assert_eq!((&scaled["kind"], &scaled["status"]["replicas"]), (&json!("Scale"), &json!(7)));
    assert_eq!(world.get(&tom).await.json()["spec"]["lives"], 3);
    let strategic = world.patch(&tom, "application/strategic-merge-patch+json", "{}").await;
    assert_eq!(strategic.code, 415);
    let unversioned = json!({"apiVersion": "example.com/v1", "kind": "Cat", "metadata": {"name": "tom"},
        "spec": {"fur": "red"}});
    let refused = world.update(&tom, &unversioned.to_string()).await.message();
    assert!(refused.contains("metadata.resourceVersion: Invalid value"), "{refused}");

    cat(&world, "tim", "red").await;
    let red = world.get(&format!("{CATS}?fieldSelector=spec.fur%3Dred")).await.json();
    assert_eq!(red["items"].as_array().unwrap().len(), 1);
    let other = world.get(&format!("{CATS}?fieldSelector=spec.lives%3D1")).await;
    assert_eq!(other.message(), "field label not supported: spec.lives");

    let beta = world.get("/apis/example.com/v1beta1/namespaces/default/cats/tom").await;
    assert_eq!(beta.json()["apiVersion"], "example.com/v1beta1", "{}", beta.text());
    assert_eq!(beta.headers["warning"], "299 - \"example.com/v1beta1 Cat is deprecated\"");
    let mut watch = world.watch("/apis/example.com/v1beta1/cats?watch=true").await;
    assert_eq!(watch.next().await.unwrap()["object"]["apiVersion"], "example.com/v1beta1");

    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let rows = world.send(Method::GET, CATS, &[("accept", table)], "").await.json();
    assert_eq!(rows["rows"][1]["cells"], json!(["tom", 3]));
}

#[tokio::test]
async fn discovery_and_openapi_follow_the_definition() {
    let world = World::start().await;
    assert_eq!(world.get("/apis/example.com").await.code, 404);
    established(&world, &definition()).await;
    let list = world.get("/apis/example.com/v1").await.json();
    let names: Vec<&str> =
        list["resources"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["cats", "cats/scale", "cats/status"]);
    assert_eq!(list["resources"][0]["shortNames"], json!(["c"]));
    let openapi = world.get("/openapi/v3/apis/example.com/v1").await.json();
    let schema = &openapi["components"]["schemas"]["com.example.v1.Cat"];
    assert_eq!(schema["properties"]["spec"]["properties"]["lives"]["default"], 9);
    let patch = &openapi["paths"]["/apis/example.com/v1/namespaces/{namespace}/cats/{name}"]["patch"];
    assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_none());

    let mut next = world.get(&format!("{CRDS}/cats.example.com")).await.json();
    next["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["lives"]["default"] =
        json!(7);
    cat(&world, "tom", "grey").await;
    let mut watch = world.watch(&format!("{CATS}?watch=true")).await;
    assert_eq!(watch.next_name().await, "ADDED tom");
    assert_eq!(world.update(&format!("{CRDS}/cats.example.com"), &next.to_string()).await.code, 200);
    assert_eq!(watch.next().await, None, "a watch ends when its schema changes");
    assert_eq!(cat(&world, "tim", "grey").await["spec"]["lives"], 7);
    let kept = world.get(&format!("{CATS}/tom")).await.json();
    assert_eq!(kept["spec"]["lives"], 9);
}

#[tokio::test]
async fn a_definition_goes_after_its_instances() {
    let world = World::start().await;
    established(&world, &definition()).await;
    let held = json!({"apiVersion": "example.com/v1", "kind": "Cat", "spec": {"fur": "a"},
        "metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    assert_eq!(world.create(CATS, &held.to_string()).await.code, 201);
    cat(&world, "tom", "grey").await;
    let mut crds = world.watch(&format!("{CRDS}?watch=true")).await;
    let mut cats = world.watch(&format!("{CATS}?watch=true&resourceVersion=0")).await;
    for _ in 0..2 {
        cats.next().await;
    }
    assert_eq!(world.delete(&format!("{CRDS}/cats.example.com"), "").await.code, 200);
    // Whoever comes now is refused.
    let body =
        json!({"apiVersion": "example.com/v1", "kind": "Cat", "metadata": {"name": "late"}, "spec": {"fur": "a"}});
    loop {
        let refused = world.create(CATS, &body.to_string()).await;
        if refused.code == 201 {
            continue;
        }
        assert_eq!(
            (refused.code, refused.message().as_str()),
            (405, "create not allowed while custom resource definition is terminating")
        );
        let _ = world.delete(&format!("{CATS}/late"), "").await;
        break;
    }
    let mut progress = false;
    while !progress {
        let event = crds.next().await.unwrap();
        let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        progress = conditions.iter().any(|one| one["reason"] == "InstanceDeletionInProgress");
    }
    let merge = "application/merge-patch+json";
    let freed = world.patch(&format!("{CATS}/held"), merge, r#"{"metadata":{"finalizers":null}}"#).await;
    assert_eq!(freed.code, 200, "{}", freed.text());
    loop {
        let event = crds.next().await.unwrap();
        if event["type"] == "DELETED" {
            break;
        }
    }
    // The name is free again.
    established(&world, &definition()).await;
    let list = world.get(CATS).await.json();
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn names_belong_to_the_first() {
    let world = World::start().await;
    established(&world, &definition()).await;
    let mut other = definition();
    other["metadata"]["name"] = json!("cows.example.com");
    other["spec"]["names"] = json!({"plural": "cows", "kind": "Cow", "shortNames": ["c"]});
    let mut watch = world.watch(&format!("{CRDS}?watch=true&fieldSelector=metadata.name%3Dcows.example.com")).await;
    assert_eq!(world.create(CRDS, &other.to_string()).await.code, 201);
    loop {
        let event = watch.next().await.unwrap();
        let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if let Some(one) = conditions.iter().find(|one| one["type"] == "NamesAccepted") {
            assert_eq!(
                (&one["reason"], &one["message"]),
                (&json!("ShortNamesConflict"), &json!("\"c\" is already in use"))
            );
            break;
        }
    }
    assert_eq!(world.get("/apis/example.com/v1/cows").await.code, 404);
    // With the first gone the name is free.
    assert_eq!(world.delete(&format!("{CRDS}/cats.example.com"), "").await.code, 200);
    loop {
        let event = watch.next().await.unwrap();
        let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True") {
            break;
        }
    }
    assert_eq!(world.get("/apis/example.com/v1/cows").await.code, 200);
}
