//! A definition's schema changes while its instances are written and watched: nothing is lost, and nobody hears of it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::world::World;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const CATS: &str = "/apis/example.com/v1/namespaces/default/cats";
const WRITERS: usize = 10;
const OBJECTS_EACH: usize = 6;
const UPDATES_EACH: usize = 4;
const WATCHERS: usize = 3;
const TIME_MAX: Duration = Duration::from_secs(60);

/// The definition with that many fields beyond the first.
fn definition(fields: usize) -> Value {
    let extra = (0..fields).map(|at| (format!("extra{at}"), json!({"type": "string"})));
    let mut properties: serde_json::Map<String, Value> = extra.collect();
    properties.insert("lives".to_owned(), json!({"type": "integer"}));
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "cats.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "cats", "kind": "Cat"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}}}],
        },
    })
}

async fn is_served(world: &World) {
    let mut watch = world.watch(&format!("{CRDS}?watch=true")).await;
    loop {
        let event = watch.next().await.unwrap();
        let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True") {
            return;
        }
    }
}

/// Writes its own objects; every answer must be a success.
async fn write(world: &World, writer: usize) {
    for number in 0..OBJECTS_EACH {
        let name = format!("cat-{writer}-{number}");
        let cat =
            json!({"apiVersion": "example.com/v1", "kind": "Cat", "metadata": {"name": name}, "spec": {"lives": 0}});
        let made = world.create(CATS, &cat.to_string()).await;
        assert_eq!(made.code, 201, "{name}: {}", made.text());
        for lives in 1..=UPDATES_EACH {
            let patch = json!({"spec": {"lives": lives}}).to_string();
            let path = format!("{CATS}/{name}");
            let answer = world.patch(&path, "application/merge-patch+json", &patch).await;
            assert_eq!(answer.code, 200, "{name}: {}", answer.text());
            assert_eq!(answer.json()["spec"]["lives"], lives);
        }
    }
}

/// Adds one field after another, until the writers are done; how many. Each is in force before the next one comes.
async fn define(world: &World, mut done: watch::Receiver<bool>) -> usize {
    let mut fields = 0;
    while !*done.borrow_and_update() {
        fields += 1;
        let mut wanted = definition(fields);
        let path = format!("{CRDS}/cats.example.com");
        let current = world.get(&path).await.json();
        wanted["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
        let answer = world.update(&path, &wanted.to_string()).await;
        if answer.code == 409 {
            // Its status was written meanwhile.
            fields -= 1;
            continue;
        }
        assert_eq!(answer.code, 200, "{}", answer.text());
        let field = format!("extra{}", fields - 1);
        let probe = json!({"apiVersion": "example.com/v1", "kind": "Cat", "metadata": {"name": "probe"},
            "spec": {field.as_str(): "x"}});
        let path = format!("{CATS}?dryRun=All&fieldValidation=Strict");
        loop {
            let answer = world.create(&path, &probe.to_string()).await;
            if answer.code == 201 {
                break;
            }
            assert_eq!(answer.code, 400, "{}", answer.text());
        }
    }
    fields
}

type Seen = BTreeMap<String, String>;

fn version_of(object: &Value) -> (String, String) {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (text("name"), text("resourceVersion"))
}

async fn list(world: &World) -> (Seen, String) {
    let answer = world.send(Method::GET, CATS, &[], "").await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    let list = answer.json();
    let items = list["items"].as_array().unwrap().iter().map(version_of).collect();
    (items, list["metadata"]["resourceVersion"].as_str().unwrap().to_owned())
}

/// Follows as a reflector does, until it has seen what is there in the end. A watch may end, and then begins anew.
async fn follow(world: &World, mut end: watch::Receiver<Option<Seen>>) {
    let (mut seen, mut version) = list(world).await;
    loop {
        let mut events = world.watch(&format!("{CATS}?watch=true&resourceVersion={version}")).await;
        if events.code != 200 {
            assert_eq!(events.code, 410, "a watch is answered with this");
            (seen, version) = list(world).await;
            continue;
        }
        loop {
            if end.borrow_and_update().as_ref() == Some(&seen) {
                return;
            }
            let event = tokio::select! {
                event = events.next() => event,
                _ = end.changed() => continue,
            };
            match event {
                Some(event) if matches!(event["type"].as_str(), Some("ADDED" | "MODIFIED")) => {
                    let (name, newer) = version_of(&event["object"]);
                    seen.insert(name, newer.clone());
                    version = newer;
                }
                Some(event) => {
                    assert_eq!(event["object"]["code"], 410, "{event}");
                    (seen, version) = list(world).await;
                    break;
                }
                None => break,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_changes_under_load() {
    let world = World::start().await;
    assert_eq!(world.create(CRDS, &definition(0).to_string()).await.code, 201);
    is_served(&world).await;
    let (done, is_done) = watch::channel(false);
    let (end, is_end) = watch::channel(None);
    let writing = async {
        join_all((0..WRITERS).map(|writer| write(&world, writer))).await;
        done.send_replace(true);
    };
    let ending = async {
        let ((), changes) = tokio::join!(writing, define(&world, is_done));
        let (all, _) = list(&world).await;
        assert_eq!(all.len(), WRITERS * OBJECTS_EACH, "no object is lost");
        end.send_replace(Some(all));
        changes
    };
    let watching = join_all((0..WATCHERS).map(|_| follow(&world, is_end.clone())));
    let all = async { tokio::join!(ending, watching).0 };
    let changes = tokio::time::timeout(TIME_MAX, all).await.expect("every watcher sees the end");
    assert!(changes > 1, "the schema changed while all this went on: {changes} times");
    let list = world.get(CATS).await.json();
    for cat in list["items"].as_array().unwrap() {
        assert_eq!(cat["spec"]["lives"], UPDATES_EACH, "{cat}");
    }
}
