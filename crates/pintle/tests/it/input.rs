//! Requests that are wrong: the answers clients know, word for word.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::tools::{BOTH, eventually};

const JSON: &[&str] = &["Content-Type: application/json"];
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Door<'a>(&'a Cluster);

impl Door<'_> {
    /// Posts a body.
    fn post(&self, path: &str, body: &str) -> (u16, Value) {
        self.0.http("POST", path, JSON, body.as_bytes())
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.0.http("GET", path, &[], b"")
    }
}

/// Code, reason and message of a Status.
#[track_caller]
fn is((code, status): (u16, Value), wanted: u16, reason: &str, message: &str) {
    assert_eq!((code, &status["kind"], &status["apiVersion"]), (wanted, &json!("Status"), &json!("v1")), "{status:#}");
    assert_eq!((&status["status"], &status["code"]), (&json!("Failure"), &json!(wanted)), "{status:#}");
    assert_eq!(status["reason"], reason, "{status:#}");
    let text = status["message"].as_str().unwrap_or_default();
    assert!(text.contains(message), "`{message}` is not in {status:#}");
}

fn map(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}).to_string()
}

#[test]
fn wrong_requests_get_upstreams_answers() {
    let mut cluster = Cluster::control_plane();
    let door = Door(&cluster);
    eventually("the default namespace", 20, || match door.get("/api/v1/namespaces/default") {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    bodies(&door);
    unknown_fields(&door);
    paths(&door);
    conflicts(&door);
    selectors(&door);
    lists(&door);
    who(&cluster);
    words_of_kubectl(&cluster);
    too_old(&mut cluster);
    // After all that the server is as well as before.
    assert_eq!(Door(&cluster).get("/readyz").1, json!("ok"));
    cluster.finish();
}

fn bodies(door: &Door<'_>) {
    is(door.post(MAPS, "{\"apiVersion\": \"v1\", \"kind\": "), 400, "BadRequest", "");
    is(door.post(MAPS, "[1, 2"), 400, "BadRequest", "");
    // Version and kind may be left out where the path says them.
    let nameless = "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required";
    is(door.post(MAPS, "{}"), 422, "Invalid", nameless);
    let pod = "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"a\"}}";
    let message = "Pod in version \"v1\" cannot be handled as a ConfigMap";
    is(door.post(MAPS, pod), 400, "BadRequest", message);
    let wrong = "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"a\"}, \"data\": [1]}";
    is(door.post(MAPS, wrong), 400, "BadRequest", "ConfigMap in version \"v1\" cannot be handled as a ConfigMap");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    is(door.post(MAPS, &deep), 400, "BadRequest", "");
    let large = format!("{{\"data\": {{\"a\": \"{}\"}}}}", "x".repeat(3 << 20));
    let too_large = "Request entity too large: limit is 3145728";
    is(door.post(MAPS, &large), 413, "RequestEntityTooLarge", too_large);
    let unsupported = door.0.http("POST", MAPS, &["Content-Type: text/plain"], map("a").as_bytes());
    is(unsupported, 415, "UnsupportedMediaType", "the body of the request was in an unknown format");
    is(door.0.http("GET", MAPS, &["Accept: text/css"], b""), 406, "NotAcceptable", "only the following media types");
    let many =
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "Upper_Case", "labels": {"-": "x"}}});
    let (code, status) = door.post(MAPS, &many.to_string());
    is((code, status.clone()), 422, "Invalid", "ConfigMap \"Upper_Case\" is invalid: ");
    let fields: Vec<_> = status["details"]["causes"].as_array().unwrap().iter().map(|c| c["field"].clone()).collect();
    assert!(fields.contains(&json!("metadata.name")) && fields.contains(&json!("metadata.labels")), "{status:#}");
}

fn unknown_fields(door: &Door<'_>) {
    let body = |name: &str| {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}, "datta": {}
        });
        object.to_string()
    };
    let strict = door.post(&format!("{MAPS}?fieldValidation=Strict"), &body("strict"));
    is(strict, 400, "BadRequest", "strict decoding error: unknown field \"datta\"");
    assert_eq!(door.post(&format!("{MAPS}?fieldValidation=Ignore"), &body("ignore")).0, 201);
    assert_eq!(door.post(&format!("{MAPS}?fieldValidation=Warn"), &body("warn")).0, 201);
    let twice = "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"x\"}, \
                 \"data\": {\"a\": \"1\", \"a\": \"2\"}}";
    let strict = door.post(&format!("{MAPS}?fieldValidation=Strict"), twice);
    is(strict, 400, "BadRequest", "strict decoding error: duplicate field \"data.a\"");
    let wrong = door.post(&format!("{MAPS}?fieldValidation=Perhaps"), &body("perhaps"));
    assert_eq!((wrong.0, &wrong.1["kind"]), (422, &json!("Status")), "{wrong:?}");
}

fn paths(door: &Door<'_>) {
    for path in ["/api/v1/namespaces/default/gizmos", "/apis/nobody.example/v1/things", "/api/v7/pods", "/nonsense"] {
        let (code, _) = door.get(path);
        assert_eq!(code, 404, "{path}");
    }
    is(door.get("/api/v1/namespaces/default/pods/none"), 404, "NotFound", "pods \"none\" not found");
    let (code, status) = door.get("/apis/apps/v1/namespaces/default/deployments/none");
    is((code, status.clone()), 404, "NotFound", "deployments.apps \"none\" not found");
    assert_eq!(status["details"], json!({"name": "none", "group": "apps", "kind": "deployments"}));
    let nowhere = door.post("/api/v1/namespaces/nowhere/configmaps", &map("a"));
    is(nowhere, 404, "NotFound", "namespaces \"nowhere\" not found");
    let (code, status) = door.0.http("PUT", MAPS, JSON, map("a").as_bytes());
    is((code, status), 405, "MethodNotAllowed", "is not supported on resources of kind");
    is(door.post(&format!("{MAPS}/a"), &map("a")), 405, "MethodNotAllowed", "is not supported on resources of kind");
    let other = "the namespace of the provided object does not match the namespace sent on the request";
    let body = map("a").replace("\"name\":\"a\"", "\"name\":\"a\",\"namespace\":\"other\"");
    is(door.post(MAPS, &body), 400, "BadRequest", other);
}

fn conflicts(door: &Door<'_>) {
    let (code, first) = door.post(MAPS, &map("twice"));
    assert_eq!(code, 201, "{first:#}");
    is(door.post(MAPS, &map("twice")), 409, "AlreadyExists", "configmaps \"twice\" already exists");
    let path = format!("{MAPS}/twice");
    let put = |object: &Value| door.0.http("PUT", &path, JSON, object.to_string().as_bytes());
    let mut changed = first.clone();
    changed["data"] = json!({"a": "c"});
    assert_eq!(put(&changed).0, 200);
    let message = "Operation cannot be fulfilled on configmaps \"twice\": the object has been modified; \
                   please apply your changes to the latest version and try again";
    is(put(&changed), 409, "Conflict", message);
    let mut renamed = first;
    renamed["metadata"]["name"] = json!("thrice");
    let (code, status) = put(&renamed);
    is((code, status), 400, "BadRequest", "the name of the object (thrice) does not match the name on the URL (twice)");
    let precondition = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}});
    let (code, status) = door.0.http("DELETE", &path, JSON, precondition.to_string().as_bytes());
    is((code, status), 409, "Conflict", "the UID in the precondition (other) does not match the UID in record");
}

fn selectors(door: &Door<'_>) {
    is(door.get(&format!("{MAPS}?labelSelector=a%20in%20b")), 400, "BadRequest", "unable to parse requirement");
    let known = "\"data.a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
    is(door.get(&format!("{MAPS}?fieldSelector=data.a%3Db")), 400, "BadRequest", known);
    let pods = "/api/v1/pods?fieldSelector=spec.colour%3Dred";
    is(door.get(pods), 400, "BadRequest", "field label not supported: spec.colour");
    is(door.get(&format!("{MAPS}?fieldSelector=nonsense")), 400, "BadRequest", "invalid selector");
    is(door.get(&format!("{MAPS}?limit=many")), 400, "BadRequest", "");
    let future = "resourceVersion=999999999999&resourceVersionMatch=Exact";
    let (code, status) = door.get(&format!("{MAPS}?{future}"));
    assert!(matches!(code, 504 | 400 | 410) && status["kind"] == "Status", "{status:#}");
    let (code, status) = door.get(&format!("{MAPS}?resourceVersionMatch=Exact"));
    is((code, status), 422, "Invalid", "resourceVersionMatch is forbidden unless resourceVersion is provided");
}

fn lists(door: &Door<'_>) {
    for at in 0..3 {
        assert_eq!(door.post(MAPS, &map(&format!("page-{at}"))).0, 201);
    }
    let (code, page) = door.get(&format!("{MAPS}?limit=2"));
    let token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
    assert!(code == 200 && !token.is_empty() && page["items"].as_array().unwrap().len() == 2, "{page:#}");
    assert_eq!(door.get(&format!("{MAPS}?limit=2&continue={token}")).0, 200);
    is(door.get(&format!("{MAPS}?limit=2&continue=nonsense")), 400, "BadRequest", "continue key is not valid");
    let (code, status) = door.get(&format!("{MAPS}?watch=true&resourceVersion=x"));
    let why = "resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax";
    assert!(code == 500 && status["message"] == why, "{status:#}");
}

/// A server that has come back does not have the history of the one before.
fn too_old(cluster: &mut Cluster) {
    let (_, page) = Door(cluster).get(&format!("{MAPS}?limit=1"));
    let token = page["metadata"]["continue"].as_str().unwrap().to_owned();
    assert_eq!(Door(cluster).post(MAPS, &map("after-the-page")).0, 201);
    cluster.stop_server();
    cluster.launch();
    cluster.wait_api();
    let door = Door(cluster);
    let (code, status) = door.get(&format!("{MAPS}?limit=1&continue={token}"));
    let message = "The provided continue parameter is too old to display a consistent list result.";
    is((code, status.clone()), 410, "Expired", message);
    // The token that comes with it leads on, over what there is now.
    let (code, rest) = door.get(&format!("{MAPS}?continue={}", status["metadata"]["continue"].as_str().unwrap()));
    assert!(code == 200 && rest["items"].as_array().unwrap().len() > 1, "{rest:#}");
    let (code, event) = door.get(&format!("{MAPS}?watch=true&resourceVersion=1&timeoutSeconds=5"));
    let status = if code == 200 { event["object"].clone() } else { event };
    assert_eq!((&status["code"], &status["reason"]), (&json!(410), &json!("Expired")), "{status:#}");
    assert!(status["message"].as_str().unwrap().starts_with("too old resource version: 1 ("), "{status:#}");
}

/// Who may ask at all.
fn who(cluster: &Cluster) {
    let address = format!("https://127.0.0.1:{}", cluster.port);
    let ask = |path: &str, header: &str| {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sk", "-w", "\n%{http_code}", "-H", header, &format!("{address}{path}")]);
        let text = crate::tools::run(&mut curl, b"", 20).ok();
        let (body, code) = text.rsplit_once('\n').unwrap();
        (code.parse().unwrap(), serde_json::from_str(body).unwrap_or_else(|_| json!(body)))
    };
    is(ask(MAPS, "Authorization: Bearer nonsense"), 401, "Unauthorized", "Unauthorized");
    let (code, status) = ask(MAPS, "Accept: application/json");
    assert!(matches!(code, 401 | 403), "{status:#}");
    assert_eq!(ask("/readyz", "Accept: */*"), (200, json!("ok")));
}

fn words_of_kubectl(cluster: &Cluster) {
    for version in BOTH {
        let fails = |words: &[&str], stdin: &str, message: &str| {
            let error = cluster.kubectl_of(version, words).stdin(stdin).run(20).fails();
            assert!(error.contains(message), "{version:?} {words:?}: `{message}` is not in {error}");
        };
        let gizmo = "apiVersion: v1\nkind: Gizmo\nmetadata: {name: a}\n";
        fails(&["apply", "--validate=ignore", "-f", "-"], gizmo, "no matches for kind \"Gizmo\" in version \"v1\"");
        fails(&["get", "gizmos"], "", "the server doesn't have a resource type \"gizmos\"");
        fails(&["get", "pod", "none"], "", "Error from server (NotFound): pods \"none\" not found");
        fails(&["logs", "none"], "", "pods \"none\" not found");
        let typo = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: typo}\ndatta: {}\n";
        fails(&["apply", "-f", "-"], typo, "strict decoding error: unknown field \"datta\"");
        let warned = cluster.kubectl_of(version, &["apply", "--validate=warn", "-f", "-"]).stdin(typo).run(20);
        assert!(warned.code == 0 && warned.stderr.contains("Warning: unknown field \"datta\""), "{warned:#?}");
        let bad = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bad"},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "c"}}, "spec": {"containers": [{"name": "x"}]}},
            },
        });
        let bad = &bad.to_string();
        let error = cluster.kubectl_of(version, &["apply", "-f", "-"]).stdin(bad).run(20).fails();
        assert!(error.contains("The Deployment \"bad\" is invalid"), "{error}");
        assert!(error.contains("`selector` does not match template `labels`"), "{error}");
        assert!(error.contains("spec.template.spec.containers[0].image: Required value"), "{error}");
    }
}
