//! Every answer in every encoding: JSON, YAML and protobuf; objects, lists, watches and failures; compressed, pretty.

use api::protobuf::decode;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::world::{Answer, World};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

async fn in_protobuf(world: &World, path: &str) -> Answer {
    world.send(Method::GET, path, &[("accept", PROTOBUF)], "").await
}

/// Without what the encoding leaves out: null, and empty lists and objects.
fn filled(value: &Value) -> Value {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    // What managers own is kept as it is.
    let shown = |key: &str, value: &Value| if key == "fieldsV1" { value.clone() } else { filled(value) };
    match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), shown(k, v))).filter(|(_, v)| !empty(v)).collect(),
        Value::Array(list) => list.iter().map(filled).collect(),
        other => other.clone(),
    }
}

async fn pod(world: &World, name: &str) -> Value {
    let body = json!({
        "metadata": {"name": name, "labels": {"z": "1", "a": "2"}},
        "spec": {"containers": [{
            "name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
            "readinessProbe": {"httpGet": {"port": "web", "path": "/"}},
            "ports": [{"name": "web", "containerPort": 80}],
        }], "volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": 0},
    });
    let created = world.create("/api/v1/namespaces/default/pods", &body.to_string()).await;
    assert_eq!(created.code, 201, "{}", created.text());
    created.json()
}

#[tokio::test]
async fn objects_and_lists_come_in_protobuf() {
    let world = World::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let created = pod(&world, "a").await;
    pod(&world, "b").await;
    let one = in_protobuf(&world, &format!("{pods}/a")).await;
    assert_eq!((one.code, &one.headers["content-type"]), (200, &PROTOBUF.parse().unwrap()));
    assert!(one.bytes.starts_with(b"k8s\0"));
    assert_eq!(filled(&decode(&one.bytes).unwrap()), filled(&created));

    let list = in_protobuf(&world, pods).await;
    let shown = decode(&list.bytes).unwrap();
    let plain = world.get(pods).await.json();
    assert_eq!(filled(&shown), filled(&plain));
    let page = decode(&in_protobuf(&world, &format!("{pods}?limit=1")).await.bytes).unwrap();
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    assert!(page["metadata"]["continue"].is_string());
    let none = decode(&in_protobuf(&world, "/api/v1/namespaces/none/pods").await.bytes).unwrap();
    assert_eq!((&none["kind"], none.get("items")), (&json!("PodList"), None));
    // Served in a version that is not the stored one.
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"name": "p"}, "message": "m", "reason": "R",
        "type": "Normal", "source": {"component": "c"}});
    world.create("/api/v1/namespaces/default/events", &event.to_string()).await;
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    let (shown, plain) = (in_protobuf(&world, events).await, world.get(events).await.json());
    assert_eq!(decode(&shown.bytes).unwrap()["items"][0]["note"], plain["items"][0]["note"]);
}

#[tokio::test]
async fn writes_and_failures_come_in_protobuf() {
    let world = World::start().await;
    let accept = ("accept", PROTOBUF);
    let body = r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#;
    let created = world.send(Method::POST, CONFIG_MAPS, &[accept], body).await;
    assert_eq!((created.code, &decode(&created.bytes).unwrap()["data"]["k"]), (201, &json!("v")));
    let again = world.send(Method::POST, CONFIG_MAPS, &[accept], body).await;
    let status = decode(&again.bytes).unwrap();
    assert_eq!((again.code, &status["kind"], &status["code"]), (409, &json!("Status"), &json!(409)));
    assert_eq!(status["details"], json!({"name": "a", "kind": "configmaps"}));
    let path = format!("{CONFIG_MAPS}/a");
    let merge = ("content-type", "application/merge-patch+json");
    let patched = world.send(Method::PATCH, &path, &[accept, merge], r#"{"data":{"k":"w"}}"#).await;
    assert_eq!(decode(&patched.bytes).unwrap()["data"]["k"], "w");
    let deleted = world.send(Method::DELETE, &path, &[accept], "").await;
    let status = decode(&deleted.bytes).unwrap();
    assert_eq!((deleted.code, &status["status"]), (200, &json!("Success")));
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}).to_string();
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = world.send(Method::POST, path, &[accept], &review).await;
    let review = decode(&review.bytes).unwrap();
    assert_eq!((&review["kind"], &review["status"]["allowed"]), (&json!("SelfSubjectAccessReview"), &json!(true)));
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    world.create(deployments, &deployment.to_string()).await;
    let scale = decode(&in_protobuf(&world, &format!("{deployments}/d/scale")).await.bytes).unwrap();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
}

#[tokio::test]
async fn what_there_is_no_form_of_is_not_acceptable() {
    let world = World::start().await;
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
    let refused = world.send(Method::GET, CONFIG_MAPS, &[("accept", &table)], "").await;
    assert_eq!((refused.code, &refused.json()["reason"]), (406, &json!("NotAcceptable")));
    assert_eq!(
        refused.message(),
        "only the following media types are accepted: application/json, application/yaml, \
         application/vnd.kubernetes.protobuf"
    );
    let or_json = format!("{table},application/json;as=Table;g=meta.k8s.io;v=v1,application/json");
    let shown = world.send(Method::GET, CONFIG_MAPS, &[("accept", &or_json)], "").await;
    assert_eq!(shown.json()["kind"], "Table");
    let watch = format!("{CONFIG_MAPS}?watch=true");
    let refused = world.send(Method::GET, &watch, &[("accept", "application/yaml")], "").await;
    assert_eq!(
        api::codec::parse_yaml(&refused.bytes).unwrap().value["message"],
        "only the following media types are accepted: application/json;stream=watch, \
         application/vnd.kubernetes.protobuf;stream=watch"
    );
    for kind in ["application/cbor", "text/plain"] {
        let refused = world.send(Method::POST, CONFIG_MAPS, &[("content-type", kind)], "{}").await;
        assert_eq!(
            (refused.code, refused.message().as_str()),
            (
                415,
                "the body of the request was in an unknown format - accepted media types include: application/json, \
                 application/yaml, application/vnd.kubernetes.protobuf"
            )
        );
    }
    let long = format!(r#"{{"metadata":{{"name":"a"}},"data":{{"k":"{}"}}}}"#, "x".repeat(3 * 1024 * 1024));
    let refused = world.create(CONFIG_MAPS, &long).await;
    assert_eq!((refused.code, refused.message().as_str()), (413, "Request entity too large: limit is 3145728"));
}

/// The frames of a protobuf watch: each event's type and its object.
fn events(mut bytes: &[u8]) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(usize::try_from(u32::from_be_bytes(*len)).unwrap());
        bytes = rest;
        let type_len = usize::from(frame[1]);
        let type_ = String::from_utf8(frame[2..2 + type_len].to_vec()).unwrap();
        let start = frame.windows(4).position(|window| window == b"k8s\0").unwrap();
        all.push((type_, decode(&frame[start..]).unwrap()));
    }
    all
}

/// Reads a watch until it holds `count` frames.
async fn read(world: &World, path: &str, accept: &str, count: usize) -> (String, Vec<u8>) {
    let response = world.open(Method::GET, path, &[("accept", accept)], "").await;
    assert_eq!(response.status(), 200);
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    let complete = |bytes: &[u8]| {
        let (mut rest, mut found) = (bytes, 0);
        while let Some((len, after)) = rest.split_first_chunk::<4>() {
            let len = usize::try_from(u32::from_be_bytes(*len)).unwrap();
            let Some(after) = after.get(len..) else { break };
            (rest, found) = (after, found + 1);
        }
        found >= count
    };
    while !complete(&bytes) {
        let frame = tokio::time::timeout(std::time::Duration::from_secs(10), body.frame()).await;
        let frame = frame.expect("an event within ten seconds").expect("not the end").unwrap();
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    (content_type, bytes)
}

#[tokio::test]
async fn watches_are_framed() {
    let world = World::start().await;
    for name in ["a", "b"] {
        world.create(CONFIG_MAPS, &json!({"metadata": {"name": name}, "data": {"k": "v"}}).to_string()).await;
    }
    let watch = format!(
        "{CONFIG_MAPS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    );
    let (content_type, bytes) = read(&world, &watch, &format!("{PROTOBUF};stream=watch"), 3).await;
    assert_eq!(content_type, format!("{PROTOBUF};stream=watch"));
    let seen = events(&bytes);
    let names: Vec<_> =
        seen.iter().map(|(type_, object)| (type_.as_str(), object["metadata"]["name"].as_str())).collect();
    assert_eq!(names, [("ADDED", Some("a")), ("ADDED", Some("b")), ("BOOKMARK", None)]);
    assert_eq!(seen[0].1["data"], json!({"k": "v"}));
    assert_eq!(seen[2].1["kind"], "ConfigMap");
    assert_eq!(seen[2].1["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));

    let partial = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let (_, bytes) = read(&world, &watch, &partial, 3).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.contains("PartialObjectMetadata") && text.contains("initial-events-end"), "{text}");
    assert!(!text.contains("ConfigMap"), "{text}");

    let json = world.open(Method::GET, &watch, &[("accept", "application/json;stream=watch")], "").await;
    assert_eq!(json.headers()["content-type"], "application/json");
}

#[tokio::test]
async fn a_watch_that_fails_says_so_in_its_encoding() {
    let world = World::start().await;
    let watch = format!("{CONFIG_MAPS}?watch=true");
    let response = world.open(Method::GET, &watch, &[("accept", PROTOBUF)], "").await;
    assert_eq!(response.status(), 200);
    // Nobody reads while more is written than is kept.
    let (store, key) = (world.server.store(), "/registry/configmaps/default/a");
    let big = "y".repeat(2_000_000);
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": big}});
    let value = bytes::Bytes::from(object.to_string());
    let mut revision = store.create(key, value.clone(), None).await.unwrap();
    for _ in 0..40 {
        revision = store.update(key, value.clone(), revision, None).await.unwrap();
    }
    world.server.lookup().wait_fresh().await.unwrap();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let (type_, status) = events(&bytes).pop().unwrap();
    assert_eq!((type_.as_str(), &status["kind"], &status["code"]), ("ERROR", &json!("Status"), &json!(410)));
}

async fn fill(world: &World, count: usize) {
    for n in 0..count {
        let body =
            json!({"metadata": {"name": format!("big{n:02}")}, "data": {"x": "y".repeat(20_000), "k": "\n#: π"}});
        assert_eq!(world.create(CONFIG_MAPS, &body.to_string()).await.code, 201);
    }
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read as _;
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

#[tokio::test]
async fn long_lists_are_the_same_in_every_encoding() {
    let world = World::start().await;
    fill(&world, 20).await;
    let plain = world.get(CONFIG_MAPS).await.json();
    let listed = in_protobuf(&world, CONFIG_MAPS).await;
    let shown = decode(&listed.bytes).unwrap();
    assert_eq!((&shown["kind"], &shown["metadata"]), (&plain["kind"], &plain["metadata"]));
    let items = |list: &Value| -> Vec<Value> {
        list["items"].as_array().unwrap().iter().map(|item| filled(&without_kind(item))).collect()
    };
    assert_eq!(items(&shown), items(&plain));
    // Lengths that were measured before are right the second time, too.
    assert_eq!(in_protobuf(&world, CONFIG_MAPS).await.bytes, listed.bytes);
    for accept in [PROTOBUF, "application/yaml", "application/json"] {
        let whole = world.send(Method::GET, CONFIG_MAPS, &[("accept", accept)], "").await;
        let headers = [("accept", accept), ("accept-encoding", "gzip")];
        let packed = world.send(Method::GET, CONFIG_MAPS, &headers, "").await;
        assert_eq!(packed.headers["content-encoding"], "gzip", "{accept}");
        assert_eq!(packed.headers["vary"], "Accept-Encoding", "{accept}");
        assert_eq!(unpacked(&packed.bytes), whole.bytes, "{accept}");
    }
    let yaml = world.send(Method::GET, CONFIG_MAPS, &[("accept", "application/yaml")], "").await;
    let read = api::codec::parse_yaml(&yaml.bytes).unwrap().value;
    let items: Vec<Value> = read["items"].as_array().unwrap().iter().map(without_kind).collect();
    let expected: Vec<Value> = plain["items"].as_array().unwrap().iter().map(without_kind).collect();
    assert_eq!((items, &read["metadata"], &read["kind"]), (expected, &plain["metadata"], &plain["kind"]));
    let pretty = world.get(&format!("{CONFIG_MAPS}?pretty=true")).await;
    assert_eq!(pretty.text(), serde_json::to_string_pretty(&pretty.json()).unwrap());
    assert_eq!(pretty.json(), plain);
    let none =
        world.send(Method::GET, "/api/v1/namespaces/none/configmaps", &[("accept", "application/yaml")], "").await;
    assert_eq!(api::codec::parse_yaml(&none.bytes).unwrap().value["items"], json!([]));
    // Short answers stay as they are.
    let short = world.send(Method::GET, &format!("{CONFIG_MAPS}/big00"), &[("accept-encoding", "gzip")], "").await;
    assert!(!short.headers.contains_key("content-encoding"));
}

fn without_kind(item: &Value) -> Value {
    let mut item = item.clone();
    item.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
    item
}

#[tokio::test]
async fn metadata_comes_in_protobuf() {
    let world = World::start().await;
    fill(&world, 8).await;
    let partial = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let list = world.send(Method::GET, CONFIG_MAPS, &[("accept", &partial)], "").await;
    assert_eq!(list.headers["content-type"], PROTOBUF);
    let text = String::from_utf8_lossy(&list.bytes).into_owned();
    assert!(text.contains("PartialObjectMetadataList") && text.contains("big07") && !text.contains("yyy"), "{text}");
    let one = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let one = world.send(Method::GET, &format!("{CONFIG_MAPS}/big03"), &[("accept", &one)], "").await;
    // Its only field is that of a ConfigMap.
    let start = b"k8s\0\n\x27\n\x0emeta.k8s.io/v1\x12\x15PartialObjectMetadata";
    assert!(one.bytes.starts_with(start), "{}", one.bytes.escape_ascii());
    let as_config_map = [b"k8s\0\n\x0f\n\x02v1\x12\x09ConfigMap".as_slice(), &one.bytes[start.len()..]].concat();
    assert_eq!(decode(&as_config_map).unwrap()["metadata"]["name"], "big03");
}

#[tokio::test]
async fn discovery_comes_in_every_encoding() {
    let world = World::start().await;
    for path in ["/apis", "/apis/apps", "/apis/apps/v1", "/api/v1", "/api"] {
        let plain = world.get(path).await.json();
        let answer = in_protobuf(&world, path).await;
        assert_eq!(answer.headers["content-type"], PROTOBUF, "{path}");
        let mut read = decode(&answer.bytes).unwrap();
        if plain.get("apiVersion").is_none() {
            read.as_object_mut().unwrap().remove("apiVersion");
        }
        assert_eq!(silent(&filled(&read)), silent(&filled(&plain)), "{path}");
        let yaml = world.send(Method::GET, path, &[("accept", "application/yaml")], "").await;
        assert_eq!(api::codec::parse_yaml(&yaml.bytes).unwrap().value, plain, "{path}");
    }
    let form = ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let accept = format!("{PROTOBUF}{form},application/json{form},application/json");
    let all = world.send(Method::GET, "/apis", &[("accept", &accept)], "").await;
    assert_eq!(all.headers["content-type"], format!("{PROTOBUF}{form}"));
    let text = String::from_utf8_lossy(&all.bytes).into_owned();
    for word in ["apidiscovery.k8s.io/v2", "APIGroupDiscoveryList", "deployments", "Namespaced", "Current"] {
        assert!(text.contains(word), "{word}");
    }
    let people = world.send(Method::GET, "/apis", &[("user-agent", "curl/8.5.0")], "").await;
    assert!(people.text().starts_with("{\n  \""), "{}", people.text());
}

/// Without empty texts, which are the same as none.
fn silent(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            map.iter().filter(|(_, v)| *v != "" && *v != false).map(|(k, v)| (k.clone(), silent(v))).collect()
        }
        Value::Array(list) => list.iter().map(silent).collect(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn tables_show_writes_and_dry_runs() {
    let world = World::start().await;
    let table = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let body = r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#;
    let path = format!("{CONFIG_MAPS}?dryRun=All");
    for (path, name) in [(path.as_str(), "a"), (CONFIG_MAPS, "a")] {
        let created = world.send(Method::POST, path, &[table], body).await;
        assert_eq!((created.code, &created.json()["rows"][0]["cells"][0]), (201, &json!(name)), "{}", created.text());
    }
    let yaml = ("accept", "application/yaml;as=Table;v=v1;g=meta.k8s.io");
    let shown = world.send(Method::GET, CONFIG_MAPS, &[yaml], "").await;
    let shown = api::codec::parse_yaml(&shown.bytes).unwrap().value;
    assert_eq!((&shown["kind"], &shown["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
}
