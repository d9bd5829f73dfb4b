//! Lists: pages at one revision, selectors, tables, old revisions.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::world::World;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn fill(world: &World, count: usize) {
    for n in 0..count {
        let body = json!({"metadata": {"name": format!("c{n:02}"), "labels": {"odd": (n % 2).to_string()}}});
        assert_eq!(world.create(CONFIG_MAPS, &body.to_string()).await.code, 201);
    }
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_list_is_as_upstream_writes_it() {
    let world = World::start().await;
    fill(&world, 2).await;
    let list = world.get("/api/v1/configmaps").await.json();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert_eq!(names(&list), ["c00", "c01"]);
    assert_eq!(list["items"][0]["kind"], Value::Null, "items do not repeat what the list says");
    let newest = list["items"][1]["metadata"]["resourceVersion"].as_str().unwrap();
    assert_eq!(list["metadata"], json!({"resourceVersion": newest}));
    let empty = world.get("/api/v1/namespaces/none/configmaps").await.json();
    assert_eq!(empty["items"], json!([]));
}

#[tokio::test]
async fn pages_belong_together_whatever_is_written_between() {
    let world = World::start().await;
    fill(&world, 5).await;
    let first = world.get(&format!("{CONFIG_MAPS}?limit=2")).await.json();
    assert_eq!(names(&first), ["c00", "c01"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    world.delete(&format!("{CONFIG_MAPS}/c02"), "").await;
    world.create(CONFIG_MAPS, r#"{"metadata":{"name":"c025"}}"#).await;
    let next = first["metadata"]["continue"].as_str().unwrap();
    let second = world.get(&format!("{CONFIG_MAPS}?limit=2&continue={next}")).await.json();
    assert_eq!(names(&second), ["c02", "c03"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let next = second["metadata"]["continue"].as_str().unwrap();
    let third = world.get(&format!("{CONFIG_MAPS}?limit=2&continue={next}")).await.json();
    assert_eq!(names(&third), ["c04"]);
    assert_eq!(third["metadata"].get("continue"), None);
    let both = world.get(&format!("{CONFIG_MAPS}?resourceVersion=5&continue={next}")).await;
    assert_eq!(both.message(), "specifying resource version is not allowed when using continue");
}

#[tokio::test]
async fn a_page_of_a_forgotten_revision_is_expired() {
    let world = World::start().await;
    fill(&world, 3).await;
    let token = json!({"v": "meta.k8s.io/v1", "rv": 2, "start": "c00\0"}).to_string();
    let token = base64_url(token.as_bytes());
    // The history is forgotten behind the server's back, as compaction does.
    let store = world.server.store();
    store.compact(store.revision()).await.unwrap();
    let expired = world.get(&format!("{CONFIG_MAPS}?limit=1&continue={token}")).await;
    assert_eq!((expired.code, &expired.json()["reason"]), (410, &json!("Expired")));
    assert!(expired.message().starts_with("The provided continue parameter is too old"), "{}", expired.message());
    let next = expired.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let rest = world.get(&format!("{CONFIG_MAPS}?continue={next}")).await.json();
    assert_eq!(names(&rest), ["c01", "c02"]);
}

fn base64_url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[tokio::test]
async fn exact_and_not_older_revisions() {
    let world = World::start().await;
    fill(&world, 2).await;
    let then = world.get(CONFIG_MAPS).await.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    world.delete(&format!("{CONFIG_MAPS}/c00"), "").await;
    let exact = format!("{CONFIG_MAPS}?resourceVersionMatch=Exact&resourceVersion={then}");
    assert_eq!(names(&world.get(&exact).await.json()), ["c00", "c01"]);
    let newer = format!("{CONFIG_MAPS}?resourceVersion={then}");
    assert_eq!(names(&world.get(&newer).await.json()), ["c01"]);
    let future = world.get(&format!("{CONFIG_MAPS}?resourceVersion=1000000")).await;
    assert_eq!(future.code, 504);
    assert!(future.message().starts_with("Timeout: Too large resource version: 1000000, current: "));
    assert_eq!(future.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    let without = world.get(&format!("{CONFIG_MAPS}?resourceVersionMatch=Exact")).await;
    assert_eq!(without.code, 422);
    assert!(without.message().contains("resourceVersionMatch is forbidden unless resourceVersion is provided"));
}

#[tokio::test]
async fn selectors_narrow() {
    let world = World::start().await;
    fill(&world, 4).await;
    let odd = world.get(&format!("{CONFIG_MAPS}?labelSelector=odd%3D1")).await.json();
    assert_eq!(names(&odd), ["c01", "c03"]);
    let one = world.get("/api/v1/configmaps?fieldSelector=metadata.name%3Dc02").await.json();
    assert_eq!(names(&one), ["c02"]);
    let page = world.get(&format!("{CONFIG_MAPS}?labelSelector=odd%3D1&limit=1")).await.json();
    assert_eq!(page["metadata"].get("remainingItemCount"), None);
    assert!(page["metadata"]["continue"].is_string());
    let bad = world.get(&format!("{CONFIG_MAPS}?fieldSelector=spec.x%3Dy")).await;
    assert_eq!(
        (bad.code, bad.message().as_str()),
        (400, "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    );
    let pods = world.get("/api/v1/pods?fieldSelector=spec.x%3Dy").await;
    assert_eq!(pods.message(), "field label not supported: spec.x");
}

#[tokio::test]
async fn tables_and_metadata() {
    let world = World::start().await;
    fill(&world, 2).await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let shown = world.send(Method::GET, CONFIG_MAPS, &table, "").await.json();
    assert_eq!((&shown["kind"], &shown["columnDefinitions"][0]["name"]), (&json!("Table"), &json!("Name")));
    assert_eq!(shown["rows"][0]["cells"][0], "c00");
    assert_eq!(shown["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let one = world.send(Method::GET, &format!("{CONFIG_MAPS}/c01"), &table, "").await.json();
    assert_eq!(one["rows"].as_array().unwrap().len(), 1);
    let partial = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let shown = world.send(Method::GET, CONFIG_MAPS, &partial, "").await.json();
    assert_eq!(shown["kind"], "PartialObjectMetadataList");
    assert_eq!(shown["items"][0]["metadata"]["labels"], json!({"odd": "0"}));
    assert_eq!(shown["items"][0].get("data"), None);
}

#[tokio::test]
async fn long_lists_come_compressed_to_those_who_take_that() {
    use std::io::Read as _;
    let world = World::start().await;
    for n in 0..20 {
        let body = json!({"metadata": {"name": format!("big{n}")}, "data": {"x": "y".repeat(20_000)}});
        world.create(CONFIG_MAPS, &body.to_string()).await;
    }
    let plain = world.get(CONFIG_MAPS).await;
    let packed = world.send(Method::GET, CONFIG_MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed.bytes[..]).read_to_string(&mut text).unwrap();
    assert_eq!(text, plain.text());
    assert!(packed.bytes.len() * 10 < plain.bytes.len());
}

#[tokio::test]
async fn reads_see_writes_at_once() {
    let world = World::start().await;
    let admin = World::admin();
    for n in 0..200 {
        let body = json!({"metadata": {"name": format!("r{n}")}}).to_string();
        let target = api::Target::kind(<api::core::v1::ConfigMap as api::Typed>::KIND).namespaced("default");
        let mut create = api::Call::new(api::Verb::Create, target.clone());
        create.body = api::Body::Json(body.into());
        world.server.call(&admin, create).await.unwrap();
        let list = world.server.call(&admin, api::Call::new(api::Verb::List, target)).await.unwrap();
        let api::Reply::List(list) = list.into_reply().unwrap() else { panic!("a list") };
        assert_eq!(list.items.len(), n + 1);
    }
    tokio::time::timeout(Duration::from_secs(5), world.tasks.shutdown(Duration::from_secs(5))).await.unwrap();
}
