//! Watches: what is there, what happens, what is too old, how it ends.

use std::time::Duration;

use api::{Call, Target, Typed, Verb, WatchEvent};
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

#[tokio::test]
async fn many_watchers_miss_nothing_and_wait_for_nothing_that_follows() {
    const CREATES: usize = 40;
    let world = World::start().await;
    let admin = World::admin();
    let target = Target::kind(api::core::v1::ConfigMap::KIND).namespaced("default");
    let mut watches = Vec::new();
    for _ in 0..300 {
        watches.push(world.server.watch(&admin, Call::new(Verb::Watch, target.clone())).await.unwrap());
    }
    let names: Vec<String> = (0..CREATES).map(|n| format!("c{n}")).collect();
    for name in &names {
        create(&world, name, "x").await;
    }
    let wait = Duration::from_secs(20);
    for mut watch in watches {
        for name in &names {
            let event = tokio::time::timeout(wait, watch.next()).await.unwrap().unwrap();
            let WatchEvent::Added(object) = event else { panic!("ADDED, not {event:?}") };
            assert_eq!(object.name(), name);
        }
    }
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
    let mut watch = world.server.watch(&admin, Call::new(Verb::Watch, target)).await.unwrap();
    // Written past the server, which is faster; the cache follows the store all the same.
    let (store, key) = (world.server.store(), "/registry/configmaps/default/a");
    let big = "y".repeat(2_000_000);
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": big}});
    let value = bytes::Bytes::from(object.to_string());
    let mut revision = store.create(key, value.clone(), None).await.unwrap();
    for _ in 0..30 {
        revision = store.update(key, value.clone(), revision, None).await.unwrap();
    }
    world.server.lookup().wait_fresh().await.unwrap();
    let event = watch.next().await.unwrap();
    let WatchEvent::Error(status) = event else { panic!("an error, not {event:?}") };
    assert_eq!(status.code(), 410);
    assert!(status.message().starts_with("too old resource version: "), "{status}");
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn events_are_the_same_in_both_groups() {
    let world = World::start().await;
    let core = "/api/v1/namespaces/default/events";
    let other = "/apis/events.k8s.io/v1/namespaces/default/events";
    let mut watch = world.watch(&format!("{other}?watch=true")).await;
    let event = json!({
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        "reason": "Started", "message": "Started container", "type": "Normal", "count": 1,
        "source": {"component": "kubelet"},
    });
    let created = world.create(core, &event.to_string()).await;
    assert_eq!(created.code, 201, "{}", created.text());
    let seen = watch.next().await.unwrap()["object"].clone();
    assert_eq!((&seen["apiVersion"], &seen["note"]), (&json!("events.k8s.io/v1"), &json!("Started container")));
    assert_eq!(seen["regarding"]["name"], "p");
    let list = world.get(&format!("{other}?fieldSelector=regarding.name%3Dp,reason%3DStarted")).await;
    assert_eq!(list.json()["items"][0]["metadata"], created.json()["metadata"], "{}", list.text());
    let none = world.get(&format!("{other}?fieldSelector=regarding.name%3Dq")).await.json();
    assert_eq!(none["items"], json!([]));
    let patched = world
        .patch(&format!("{other}/e"), "application/merge-patch+json", r#"{"metadata":{"labels":{"a":"b"}}}"#)
        .await;
    assert_eq!(patched.code, 200, "{}", patched.text());
    assert_eq!(world.get(&format!("{core}/e")).await.json()["metadata"]["labels"], json!({"a": "b"}));
}
