//! Deleting: grace, finalizers, preconditions, collections, namespaces.

use serde_json::json;

use crate::world::World;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn a_plain_object_goes_at_once() {
    let world = World::start().await;
    let uid = world.create(CONFIG_MAPS, r#"{"metadata":{"name":"a"}}"#).await.json()["metadata"]["uid"].clone();
    let path = format!("{CONFIG_MAPS}/a");
    let other = r#"{"kind":"DeleteOptions","apiVersion":"v1","preconditions":{"uid":"other"}}"#;
    let refused = world.delete(&path, other).await;
    assert_eq!(refused.code, 409, "{}", refused.text());
    assert!(refused.message().contains("the UID in the precondition (other) does not match the UID in record ("));
    let deleted = world.delete(&path, "").await;
    assert_eq!(deleted.code, 200);
    let details = json!({"name": "a", "kind": "configmaps", "uid": uid});
    assert_eq!((&deleted.json()["status"], &deleted.json()["details"]), (&json!("Success"), &details));
    assert_eq!(world.delete(&path, "").await.code, 404);
}

#[tokio::test]
async fn a_finalizer_holds_an_object_until_it_is_removed() {
    let world = World::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    world.create(CONFIG_MAPS, r#"{"metadata":{"name":"a","finalizers":["example.com/hold"]}}"#).await;
    let deleted = world.delete(&path, "").await.json();
    assert_eq!(deleted["metadata"]["deletionGracePeriodSeconds"], 0, "{deleted}");
    assert!(deleted["metadata"]["deletionTimestamp"].is_string());
    let added = r#"{"metadata":{"finalizers":["example.com/hold","example.com/more"]}}"#;
    let added = world.patch(&path, "application/merge-patch+json", added).await;
    assert_eq!(added.code, 422);
    assert!(added.message().contains("no new finalizers can be added if the object is being deleted, found new finalizers []string{\"example.com/more\"}"), "{}", added.message());
    let freed = world.patch(&path, "application/merge-patch+json", r#"{"metadata":{"finalizers":null}}"#).await;
    assert_eq!(freed.code, 200, "{}", freed.text());
    assert_eq!(world.get(&path).await.code, 404);
}

#[tokio::test]
async fn dependents_policies_become_finalizers() {
    let world = World::start().await;
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        world.create(CONFIG_MAPS, r#"{"metadata":{"name":"a"}}"#).await;
        let path = format!("{CONFIG_MAPS}/a");
        let deleted = world.delete(&format!("{path}?propagationPolicy={policy}"), "").await;
        assert_eq!(deleted.json()["metadata"]["finalizers"], json!([finalizer]));
        assert_eq!(deleted.code, 200);
        world.patch(&path, "application/merge-patch+json", r#"{"metadata":{"finalizers":[]}}"#).await;
        assert_eq!(world.get(&path).await.code, 404);
    }
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let world = World::start().await;
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let body = json!({"metadata": {"name": name, "labels": {"l": label}}}).to_string();
        world.create(CONFIG_MAPS, &body).await;
    }
    let deleted = world.delete(&format!("{CONFIG_MAPS}?labelSelector=l%3Dx"), "").await;
    assert_eq!((deleted.code, deleted.json()["items"].as_array().unwrap().len()), (200, 2));
    let left = world.get(CONFIG_MAPS).await.json();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
}

#[tokio::test]
async fn a_namespace_terminates_until_it_is_finalized() {
    let world = World::start().await;
    let created = world.create("/api/v1/namespaces", r#"{"metadata":{"name":"n"}}"#).await.json();
    assert_eq!(created["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(created["status"]["phase"], "Active");
    let path = "/api/v1/namespaces/n";
    let mut deleted = world.delete(path, "").await.json();
    assert_eq!(deleted["status"]["phase"], "Terminating");
    deleted["spec"]["finalizers"] = json!([]);
    let finalized = world.update(&format!("{path}/finalize"), &deleted.to_string()).await;
    assert_eq!(finalized.code, 200, "{}", finalized.text());
    assert_eq!(world.get(path).await.code, 404);
}

#[tokio::test]
async fn a_pod_is_given_time() {
    let world = World::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = r#"{"metadata":{"name":"p"},"spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}]}}"#;
    assert_eq!(world.create(pods, pod).await.code, 201);
    let path = format!("{pods}/p");
    let deleted = world.delete(&path, "").await.json();
    assert_eq!(deleted["metadata"]["deletionGracePeriodSeconds"], 30, "{deleted}");
    let again = world.delete(&path, "").await.json();
    assert_eq!(again, deleted, "a second delete does not extend the grace");
    let sooner = world.delete(&format!("{path}?gracePeriodSeconds=5"), "").await.json();
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    let now = world.delete(&format!("{path}?gracePeriodSeconds=0"), "").await;
    assert_eq!((now.code, &now.json()["kind"]), (200, &json!("Pod")));
    assert_eq!(world.get(&path).await.code, 404);
}
