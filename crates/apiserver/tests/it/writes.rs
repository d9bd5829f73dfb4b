//! Creating, changing and patching objects.

use http::Method;
use serde_json::json;

use crate::world::World;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}}).to_string()
}

#[tokio::test]
async fn what_was_written_is_read_back() {
    let world = World::start().await;
    let created = world.create(CONFIG_MAPS, &config_map("a")).await;
    assert_eq!(created.code, 201, "{}", created.text());
    let object = created.json();
    assert_eq!(object["data"]["a"], "1");
    assert_eq!(object["metadata"]["namespace"], "default");
    assert!(object["metadata"]["uid"].is_string() && object["metadata"]["creationTimestamp"].is_string());
    assert_eq!(world.get(&format!("{CONFIG_MAPS}/a")).await.json(), object);

    let again = world.create(CONFIG_MAPS, &config_map("a")).await;
    assert_eq!((again.code, again.message().as_str()), (409, "configmaps \"a\" already exists"));
    assert_eq!(again.json()["reason"], "AlreadyExists");

    let missing = world.get(&format!("{CONFIG_MAPS}/b")).await;
    assert_eq!((missing.code, missing.message().as_str()), (404, "configmaps \"b\" not found"));
    assert_eq!(missing.headers["cache-control"], "no-cache, private");
    assert!(missing.headers.contains_key("audit-id"));
}

#[tokio::test]
async fn updates_compare_versions() {
    let world = World::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    let mut object = world.create(CONFIG_MAPS, &config_map("a")).await.json();
    let first = object["metadata"]["resourceVersion"].clone();
    object["data"]["a"] = json!("2");
    let updated = world.update(&path, &object.to_string()).await;
    assert_eq!(updated.code, 200, "{}", updated.text());
    assert_ne!(updated.json()["metadata"]["resourceVersion"], first);

    object["data"]["a"] = json!("3");
    let stale = world.update(&path, &object.to_string()).await;
    assert_eq!(stale.code, 409);
    assert_eq!(
        stale.message(),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
    object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let forced = world.update(&path, &object.to_string()).await;
    assert_eq!((forced.code, &forced.json()["data"]["a"]), (200, &json!("3")));

    let same = world.update(&path, &forced.text()).await;
    assert_eq!(same.json(), forced.json(), "an update that changes nothing is not written");

    let renamed = world.update(&path, &config_map("b")).await;
    assert_eq!(renamed.message(), "the name of the object (b) does not match the name on the URL (a)");
    let elsewhere = r#"{"metadata":{"name":"a","namespace":"other"}}"#;
    let elsewhere = world.create(CONFIG_MAPS, elsewhere).await;
    assert_eq!(
        elsewhere.message(),
        "the namespace of the provided object does not match the namespace sent on the request"
    );
    let gone = world.update(&format!("{CONFIG_MAPS}/none"), &config_map("none")).await;
    assert_eq!(gone.code, 404);
}

#[tokio::test]
async fn unknown_fields_are_refused_warned_of_or_ignored() {
    let world = World::start().await;
    let body = r#"{"metadata":{"name":"a"},"dataa":{},"data":{"x":"1","x":"2"}}"#;
    let strict = world.create(&format!("{CONFIG_MAPS}?fieldValidation=Strict"), body).await;
    assert_eq!(strict.code, 400);
    assert_eq!(
        strict.message(),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \
         \"dataa\", duplicate field \"data.x\""
    );
    let warned = world.create(CONFIG_MAPS, body).await;
    assert_eq!(warned.code, 201);
    let warnings: Vec<_> = warned.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(warnings, [r#"299 - "unknown field \"dataa\"""#, r#"299 - "duplicate field \"data.x\"""#]);
    let ignored = world.create(&format!("{CONFIG_MAPS}?fieldValidation=Ignore"), &body.replace("\"a\"", "\"b\"")).await;
    assert_eq!((ignored.code, ignored.headers.contains_key("warning")), (201, false));

    let wrong = world.create(CONFIG_MAPS, r#"{"metadata":{"name":"c"},"data":{"x":1}}"#).await;
    assert_eq!(wrong.code, 400);
    assert!(
        wrong.message().contains("json: cannot unmarshal number into Go struct field ConfigMap.data"),
        "{}",
        wrong.message()
    );
}

#[tokio::test]
async fn names_are_checked_and_generated() {
    let world = World::start().await;
    let bad = world.create(CONFIG_MAPS, &config_map("A_b")).await;
    assert_eq!(bad.code, 422);
    assert!(
        bad.message().starts_with(
            "ConfigMap \"A_b\" is invalid: metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain"
        ),
        "{}",
        bad.message()
    );
    let none = world.create(CONFIG_MAPS, "{}").await;
    assert_eq!(
        none.message(),
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
    let made = world.create(CONFIG_MAPS, r#"{"metadata":{"generateName":"web-"}}"#).await;
    let made = made.json()["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(made.starts_with("web-") && made.len() == 9, "{made}");
}

/// The name that a server with fixed chances generates after an object called `taken` was made.
async fn generated_beside(taken: &str) -> String {
    let random = base::Random::seeded(7);
    let world = World::start_with(apiserver::Options { random, ..apiserver::Options::default() }).await;
    assert_eq!(world.create(CONFIG_MAPS, &config_map(taken)).await.code, 201);
    let made = world.create(CONFIG_MAPS, r#"{"metadata":{"generateName":"many-"}}"#).await;
    assert_eq!(made.code, 201, "{}", made.text());
    made.json()["metadata"]["name"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_generated_name_that_is_taken_is_drawn_anew() {
    let first = generated_beside("many-first").await;
    assert_eq!(generated_beside("many-other").await, first, "the same chances");
    let second = generated_beside(&first).await;
    assert!(second != first && second.starts_with("many-"), "{first}, then {second}");
}

#[tokio::test]
async fn patches_of_all_kinds() {
    let world = World::start().await;
    world.create(CONFIG_MAPS, &config_map("a")).await;
    let path = format!("{CONFIG_MAPS}/a");
    let merged = world.patch(&path, "application/merge-patch+json", r#"{"data":{"b":"2","a":null}}"#).await;
    assert_eq!(merged.json()["data"], json!({"b": "2"}), "{}", merged.text());
    let json_patched =
        world.patch(&path, "application/json-patch+json", r#"[{"op":"add","path":"/data/c","value":"3"}]"#).await;
    assert_eq!(json_patched.json()["data"], json!({"b": "2", "c": "3"}));
    let strategic =
        world.patch(&path, "application/strategic-merge-patch+json", r#"{"metadata":{"labels":{"x":"y"}}}"#).await;
    assert_eq!(strategic.json()["metadata"]["labels"], json!({"x": "y"}));
    let stale = r#"{"metadata":{"resourceVersion":"1"},"data":{"b":"9"}}"#;
    assert_eq!(world.patch(&path, "application/merge-patch+json", stale).await.code, 409);
    let unknown = world.patch(&path, "text/plain", "{}").await;
    assert_eq!(unknown.code, 415);
    assert!(unknown.message().contains("application/json-patch+json, application/merge-patch+json"));
}

#[tokio::test]
async fn concurrent_patches_are_all_kept() {
    let world = World::start().await;
    world.create(CONFIG_MAPS, &config_map("a")).await;
    let path = format!("{CONFIG_MAPS}/a");
    let patches = (0..5).map(|n| {
        let (world, path) = (&world, &path);
        async move {
            let patch = json!({"data": {format!("k{n}"): "v"}}).to_string();
            world.patch(path, "application/merge-patch+json", &patch).await.code
        }
    });
    assert_eq!(futures_util::future::join_all(patches).await, [200; 5]);
    assert_eq!(world.get(&path).await.json()["data"].as_object().unwrap().len(), 6);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let world = World::start().await;
    let dry = world.create(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("a")).await;
    assert_eq!((dry.code, world.get(&format!("{CONFIG_MAPS}/a")).await.code), (201, 404));
    world.create(CONFIG_MAPS, &config_map("a")).await;
    let path = format!("{CONFIG_MAPS}/a?dryRun=All");
    let patched = world.patch(&path, "application/merge-patch+json", r#"{"data":{"a":"2"}}"#).await;
    assert_eq!(patched.json()["data"]["a"], "2");
    assert_eq!(world.delete(&path, "").await.code, 200);
    assert_eq!(world.get(&format!("{CONFIG_MAPS}/a")).await.json()["data"]["a"], "1");
    let odd = world.create(&format!("{CONFIG_MAPS}?dryRun=Some"), &config_map("b")).await;
    assert_eq!(odd.code, 422);
}

#[tokio::test]
async fn yaml_is_read_and_written() {
    let world = World::start().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  x: 'yes'\n";
    let created = world.send(Method::POST, CONFIG_MAPS, &[("content-type", "application/yaml")], yaml).await;
    assert_eq!(created.code, 201, "{}", created.text());
    let read = world.send(Method::GET, &format!("{CONFIG_MAPS}/a"), &[("accept", "application/yaml")], "").await;
    assert_eq!(read.headers["content-type"], "application/yaml");
    assert!(read.text().contains("kind: ConfigMap\n"), "{}", read.text());
    let cbor = [("content-type", "application/cbor")];
    let refused = world.send(Method::POST, CONFIG_MAPS, &cbor, "{}").await;
    assert_eq!(refused.code, 415);
    assert!(refused.message().contains("accepted media types include: application/json, application/yaml"));
    let unacceptable = world.send(Method::GET, CONFIG_MAPS, &[("accept", "text/html")], "").await;
    assert_eq!((unacceptable.code, unacceptable.json()["reason"].as_str().unwrap()), (406, "NotAcceptable"));
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let world = World::start().await;
    let body = format!(r#"{{"metadata":{{"name":"a"}},"data":{{"x":"{}"}}}}"#, "x".repeat(3 * 1024 * 1024));
    let refused = world.create(CONFIG_MAPS, &body).await;
    assert_eq!((refused.code, refused.message().as_str()), (413, "Request entity too large: limit is 3145728"));
}

#[tokio::test]
async fn fields_have_owners_and_apply_minds_them() {
    let world = World::start().await;
    let apply = |manager: &str, body: &str, force: bool| {
        let path = format!("{CONFIG_MAPS}/a?fieldManager={manager}&force={force}");
        let body = body.to_owned();
        let world = &world;
        async move { world.patch(&path, "application/apply-patch+yaml", &body).await }
    };
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {p: '1', q: '1'}\n";
    let created = apply("one", body, false).await;
    assert_eq!(created.code, 201, "{}", created.text());
    let entries = created.json()["metadata"]["managedFields"].clone();
    assert_eq!((&entries[0]["manager"], &entries[0]["operation"]), (&json!("one"), &json!("Apply")));
    assert_eq!(entries[0]["fieldsV1"], json!({"f:data": {"f:p": {}, "f:q": {}}}));
    let other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {p: '2'}\n";
    let refused = apply("two", other, false).await;
    assert_eq!(
        (refused.code, refused.message().as_str()),
        (409, "Apply failed with 1 conflict: conflict with \"one\": .data.p")
    );
    assert_eq!(apply("two", other, true).await.json()["data"], json!({"p": "2", "q": "1"}));
    let fewer = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    assert_eq!(apply("one", fewer, false).await.json()["data"], json!({"p": "2"}));
    let same = world.get(&format!("{CONFIG_MAPS}/a")).await.json();
    assert_eq!(apply("one", fewer, false).await.json(), same, "an apply that changes nothing is not written");
    let nameless = world.patch(&format!("{CONFIG_MAPS}/a"), "application/apply-patch+yaml", fewer).await;
    assert_eq!(
        nameless.message(),
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let patched =
        world.patch(&format!("{CONFIG_MAPS}/a"), "application/merge-patch+json", r#"{"data":{"z":"1"}}"#).await;
    let entries = patched.json()["metadata"]["managedFields"].as_array().unwrap().clone();
    assert!(entries.iter().any(|entry| entry["manager"] == "unknown" && entry["operation"] == "Update"));
}

#[tokio::test]
async fn secrets_lie_sealed_in_the_store() {
    let sealing = apiserver::seal::KeyFile::generate().unwrap().rules();
    let world = World::start_with(apiserver::Options { sealing, ..apiserver::Options::default() }).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let created = world.create(secrets, r#"{"metadata":{"name":"s"},"stringData":{"a":"hidden"}}"#).await;
    assert_eq!(created.code, 201, "{}", created.text());
    let stored = world.server.store().get("/registry/secrets/default/s").await.unwrap().value.unwrap();
    assert!(stored.value.starts_with(b"k8s:enc:aesgcm:v1:key1:"));
    assert_eq!(world.get(&format!("{secrets}/s")).await.json()["data"], json!({"a": "aGlkZGVu"}));
    let same = world.update(&format!("{secrets}/s"), &created.text()).await;
    assert_eq!(same.json(), created.json(), "sealing anew is no change");
    let patched = world.patch(&format!("{secrets}/s"), "application/merge-patch+json", r#"{"data":{"a":null}}"#).await;
    assert_eq!((patched.code, world.get(secrets).await.json()["items"][0]["data"].get("a")), (200, None));
}

#[tokio::test]
async fn scaling_and_labelling_at_once_both_succeed() {
    let world = World::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "web:1"}]},
        }},
    });
    assert_eq!(world.create(deployments, &deployment.to_string()).await.code, 201);
    let (path, scale) = (format!("{deployments}/web"), format!("{deployments}/web/scale"));
    let merge = "application/merge-patch+json";
    for n in 0..20 {
        let (label, replicas) =
            (json!({"metadata": {"labels": {"n": n.to_string()}}}), json!({"spec": {"replicas": n}}));
        let (label, replicas) = (label.to_string(), replicas.to_string());
        let (labelled, scaled) = tokio::join!(world.patch(&path, merge, &label), world.patch(&scale, merge, &replicas));
        assert_eq!((labelled.code, scaled.code), (200, 200), "{} {}", labelled.text(), scaled.text());
    }
    let version = world.get(&scale).await.json()["metadata"]["resourceVersion"].clone();
    world.patch(&path, merge, r#"{"metadata":{"labels":{"n":"last"}}}"#).await;
    let stale = json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": 1}});
    assert_eq!(world.patch(&scale, merge, &stale.to_string()).await.code, 409);
}
