//! Watches: what is there, what happens, what is too old, how it ends.

use std::time::Duration;

use api::{Call, Options, Target, Typed, Verb, WatchEvent};
use serde_json::json;

use crate::world::World;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn create(world: &World, name: &str, label: &str) -> String {
    let body = json!({"metadata": {"name": name, "labels": {"l": label}}}).to_string();
    world.create(CONFIG_MAPS, &body).await.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_watch_tells_what_is_and_what_happens() {
    let world = World::start().await;
    let revision = create(&world, "a", "x").await;
    let mut from_now = world.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    let mut after = world.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={revision}")).await;
    assert_eq!(from_now.next_name().await, "ADDED a");
    create(&world, "b", "x").await;
    world.patch(&format!("{CONFIG_MAPS}/a"), "application/merge-patch+json", r#"{"data":{"k":"v"}}"#).await;
    world.delete(&format!("{CONFIG_MAPS}/b"), "").await;
    for watch in [&mut from_now, &mut after] {
        assert_eq!(watch.next_name().await, "ADDED b");
        let modified = watch.next().await.unwrap();
        assert_eq!((&modified["type"], &modified["object"]["data"]["k"]), (&json!("MODIFIED"), &json!("v")));
        let deleted = watch.next().await.unwrap();
        assert_eq!((&deleted["type"], &deleted["object"]["metadata"]["name"]), (&json!("DELETED"), &json!("b")));
        let at = |event: &serde_json::Value| -> u64 {
            event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
        };
        assert!(at(&deleted) > at(&modified), "a DELETED event bears the revision of the delete");
    }
}

#[tokio::test]
async fn objects_come_into_a_selection_and_leave_it() {
    let world = World::start().await;
    create(&world, "a", "x").await;
    let mut watch = world.watch(&format!("{CONFIG_MAPS}?watch=true&labelSelector=l%3Dy")).await;
    for label in ["y", "z", "y"] {
        let patch = json!({"metadata": {"labels": {"l": label}}}).to_string();
        world.patch(&format!("{CONFIG_MAPS}/a"), "application/merge-patch+json", &patch).await;
    }
    assert_eq!(watch.next_name().await, "ADDED a");
    let left = watch.next().await.unwrap();
    assert_eq!((&left["type"], &left["object"]["metadata"]["labels"]["l"]), (&json!("DELETED"), &json!("y")));
    assert_eq!(watch.next_name().await, "ADDED a");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let world = World::start().await;
    create(&world, "a", "x").await;
    create(&world, "b", "x").await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = world.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    assert_eq!(watch.next_name().await, "ADDED a");
    assert_eq!(watch.next_name().await, "ADDED b");
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    let revision = create(&world, "c", "x").await;
    let added = watch.next().await.unwrap();
    assert_eq!(added["object"]["metadata"]["resourceVersion"], json!(revision));
    let without = world.watch(&format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true")).await;
    assert_eq!(without.code, 422);
}

#[tokio::test]
async fn a_watch_ends_in_time_with_a_last_bookmark() {
    let world = World::start().await;
    let revision = create(&world, "a", "x").await;
    let query = format!("watch=true&timeoutSeconds=3&allowWatchBookmarks=true&resourceVersion={revision}");
    let mut watch = world.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    world.create("/api/v1/namespaces", r#"{"metadata":{"name":"other"}}"#).await;
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    let at: u64 = bookmark["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(at > revision.parse().unwrap(), "a bookmark tells of progress elsewhere");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_revision_from_before_the_start_is_too_old() {
    let world = World::start().await;
    create(&world, "a", "x").await;
    let tasks = base::TaskGroup::new();
    let store = world.server.store().clone();
    let restarted = apiserver::Server::start(store, apiserver::Options::default(), tasks.clone()).await.unwrap();
    let mut call = Call::new(Verb::Watch, Target::kind(api::core::v1::ConfigMap::KIND));
    call.options.resource_version = Some("1".to_owned());
    let old = restarted.watch(&World::admin(), call).await.map(drop).unwrap_err();
    let now = world.server.store().revision();
    assert_eq!((old.code(), old.message()), (410, format!("too old resource version: 1 ({now})").as_str()));
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn in_process_watches_share_typed_objects() {
    let world = World::start().await;
    let admin = World::admin();
    let target = Target::kind(api::core::v1::ConfigMap::KIND);
    let mut first = world.server.watch(&admin, Call::new(Verb::Watch, target.clone())).await.unwrap();
    let mut second = world.server.watch(&admin, Call::new(Verb::Watch, target.clone())).await.unwrap();
    create(&world, "a", "x").await;
    let wait = Duration::from_secs(5);
    let a = tokio::time::timeout(wait, first.next()).await.unwrap().unwrap();
    let b = tokio::time::timeout(wait, second.next()).await.unwrap().unwrap();
    let (WatchEvent::Added(a), WatchEvent::Added(b)) = (a, b) else { panic!("two ADDED events") };
    assert!(std::sync::Arc::ptr_eq(&a, &b), "one version is decoded once");
    assert_eq!(a.resource_version(), create_revision(&world).await);
    // Authorization is not left out for callers in process.
    let nobody = std::sync::Arc::new(apiserver::Caller::new("nobody", &[]));
    let refused = world.server.watch(&nobody, Call::new(Verb::Watch, target)).await.map(drop).unwrap_err();
    assert_eq!(
        refused.message(),
        "configmaps is forbidden: User \"nobody\" cannot watch resource \"configmaps\" in API group \"\" at the cluster \
         scope"
    );
}

async fn create_revision(world: &World) -> String {
    let read = world.get(&format!("{CONFIG_MAPS}/a")).await.json();
    read["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_told_so() {
    let world = World::start().await;
    let admin = World::admin();
    let target = Target::kind(api::core::v1::ConfigMap::KIND).namespaced("default");
    let mut watch = world.server.watch(&admin, Call::new(Verb::Watch, target.clone())).await.unwrap();
    let big = "y".repeat(900_000);
    for n in 0..80 {
        let body = json!({"metadata": {"name": "a"}, "data": {"x": big, "n": n.to_string()}}).to_string();
        let verb = if n == 0 { Verb::Create } else { Verb::Update };
        let mut call = Call::new(verb, if n == 0 { target.clone() } else { target.clone().named("a") });
        call.options = Options { field_validation: api::call::FieldValidation::Ignore, ..Options::default() };
        call.body = api::Body::Json(body.into());
        world.server.call(&admin, call).await.unwrap();
    }
    let event = watch.next().await.unwrap();
    let WatchEvent::Error(status) = event else { panic!("an error, not {event:?}") };
    assert_eq!(status.code(), 410);
    assert!(status.message().starts_with("too old resource version: "), "{status}");
    assert!(watch.next().await.is_none());
}
