//! Admission by webhooks, with a real webhook server over TLS on loopback.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::world::World;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const VALID: Duration = Duration::from_secs(3600);

/// Answers reviews by a function, and remembers them.
struct Hook {
    port: u16,
    ca: String,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
}

type Answer = fn(&Value) -> (u16, Value);

impl Hook {
    async fn start(world: &World, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let identity = pki::Request {
            common_name: "hook".to_owned(),
            organizations: Vec::new(),
            dns_names: vec!["hook.default.svc".to_owned()],
            ip_addresses: vec!["127.0.0.1".parse().unwrap()],
            usage: pki::Usage::Server,
            valid: VALID,
        };
        let identity = pki::tls::Reloadable::new(world.ca.issue(&identity, world.clock.now()).unwrap());
        let tls = pki::tls::server_config(identity, None, world.clock).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        let acceptor = tokio_rustls::TlsAcceptor::from(tls);
        let tasks = world.tasks.clone();
        world.tasks.spawn("webhook", async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, kept) = (acceptor.clone(), kept.clone());
                tasks.spawn("webhook connection", async move {
                    let Ok(tls) = acceptor.accept(socket).await else { return };
                    let serve = |request: Request<Incoming>| {
                        let kept = kept.clone();
                        async move { Ok::<_, std::convert::Infallible>(review(request, &kept, answer).await) }
                    };
                    let service = hyper::service::service_fn(serve);
                    let builder = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                    drop(builder.serve_connection(TokioIo::new(tls), service).await);
                });
            }
        });
        Self { port, ca: world.ca.cert_pem().to_owned(), seen }
    }

    fn requests(&self) -> Vec<Value> {
        self.seen.lock().iter().map(|(_, review)| review["request"].clone()).collect()
    }

    fn webhook(&self, name: &str, with: Value) -> Value {
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.ca);
        let mut webhook = json!({
            "name": name,
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": {"url": format!("https://127.0.0.1:{}/check", self.port), "caBundle": ca},
            "rules": [{
                "operations": ["CREATE", "UPDATE", "DELETE"],
                "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]
            }],
        });
        let Value::Object(with) = with else { panic!("an object") };
        webhook.as_object_mut().unwrap().extend(with);
        webhook
    }
}

async fn review(
    request: Request<Incoming>,
    seen: &Mutex<Vec<(String, Value)>>,
    answer: Answer,
) -> Response<Full<Bytes>> {
    let path = request.uri().path_and_query().unwrap().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let (code, mut response) = answer(&review["request"]);
    if response["uid"].is_null() {
        response["uid"] = review["request"]["uid"].clone();
    }
    seen.lock().push((path, review));
    let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Response::builder().status(code).body(Full::new(Bytes::from(body.to_string()))).unwrap()
}

fn config_map(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}}).to_string()
}

async fn configure(world: &World, kind: &str, name: &str, webhooks: Vec<Value>) {
    let plural = format!("{}s", kind.to_lowercase());
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": name}, "webhooks": webhooks
    });
    let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
    let made = world.create(&path, &object.to_string()).await;
    assert_eq!(made.code, 201, "{}", made.text());
    world.server.lookup().wait_fresh().await.unwrap();
}

const VALIDATING: &str = "ValidatingWebhookConfiguration";
const MUTATING: &str = "MutatingWebhookConfiguration";

#[tokio::test]
async fn a_webhook_sees_everything_and_refuses() {
    let world = World::start().await;
    let hook = Hook::start(&world, |request| {
        let bad = request["name"] == "bad";
        (
            200,
            json!({
                "allowed": !bad, "warnings": ["careful"],
                "status": {"message": "it is bad", "code": 403, "reason": "Forbidden"}
            }),
        )
    })
    .await;
    configure(&world, VALIDATING, "v", vec![hook.webhook("v.example.com", json!({}))]).await;
    let good = world.create(&format!("{CONFIG_MAPS}?fieldManager=me"), &config_map("good")).await;
    assert_eq!(good.code, 201, "{}", good.text());
    assert_eq!(good.headers["warning"], r#"299 - "careful""#);
    let seen = hook.requests().remove(0);
    let resource = json!({"group": "", "version": "v1", "resource": "configmaps"});
    let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    for (field, value) in [
        ("kind", kind.clone()),
        ("requestKind", kind),
        ("resource", resource.clone()),
        ("requestResource", resource),
        ("name", json!("good")),
        ("namespace", json!("default")),
        ("operation", json!("CREATE")),
        ("oldObject", Value::Null),
        ("dryRun", json!(false)),
    ] {
        assert_eq!(seen[field], value, "{field}");
    }
    assert_eq!(seen["userInfo"]["username"], "admin");
    assert_eq!(seen["object"]["data"]["a"], "1");
    assert_eq!((&seen["options"]["kind"], &seen["options"]["fieldManager"]), (&json!("CreateOptions"), &json!("me")));
    assert_eq!(hook.seen.lock()[0].0, "/check?timeout=10s");

    let bad = world.create(CONFIG_MAPS, &config_map("bad")).await;
    assert_eq!((bad.code, bad.json()["reason"].as_str()), (403, Some("Forbidden")));
    assert_eq!(bad.message(), "admission webhook \"v.example.com\" denied the request: it is bad");

    let gone = world.delete(&format!("{CONFIG_MAPS}/good"), "").await;
    assert_eq!(gone.code, 200, "{}", gone.text());
    let last = hook.requests().pop().unwrap();
    assert_eq!((&last["operation"], &last["object"]), (&json!("DELETE"), &Value::Null));
    assert_eq!(last["oldObject"]["metadata"]["name"], "good");
}

#[tokio::test]
async fn a_patch_changes_what_is_stored_and_others_are_asked_again() {
    let world = World::start().await;
    let hook = Hook::start(&world, |request| {
        let patch = json!([{"op": "add", "path": "/data/by", "value": "hook"}]).to_string();
        let patch = base64::engine::general_purpose::STANDARD.encode(patch);
        if request["object"]["data"]["by"] == "hook" {
            return (200, json!({"allowed": true}));
        }
        (200, json!({"allowed": true, "patch": patch, "patchType": "JSONPatch"}))
    })
    .await;
    let quiet = Hook::start(&world, |_| (200, json!({"allowed": true}))).await;
    let first = quiet.webhook("first.example.com", json!({"reinvocationPolicy": "IfNeeded"}));
    configure(&world, MUTATING, "m", vec![first, hook.webhook("second.example.com", json!({}))]).await;
    let made = world.create(CONFIG_MAPS, &config_map("a")).await;
    assert_eq!((made.code, &made.json()["data"]["by"]), (201, &json!("hook")), "{}", made.text());
    let seen = quiet.requests();
    assert_eq!(seen.len(), 2, "asked once, and once more after the change");
    assert_eq!((&seen[0]["object"]["data"]["by"], &seen[1]["object"]["data"]["by"]), (&Value::Null, &json!("hook")));
    assert_eq!(hook.requests().len(), 1);
}

#[tokio::test]
async fn a_call_that_fails_is_what_the_policy_says() {
    let world = World::start().await;
    let hook = Hook::start(&world, |_| (500, json!({}))).await;
    let away = json!({"clientConfig": {"url": "https://127.0.0.1:1/check", "caBundle": ""}, "failurePolicy": "Ignore"});
    configure(&world, VALIDATING, "away", vec![hook.webhook("away.example.com", away)]).await;
    let made = world.create(CONFIG_MAPS, &config_map("a")).await;
    assert_eq!(made.code, 201, "{}", made.text());
    configure(&world, VALIDATING, "v", vec![hook.webhook("v.example.com", json!({}))]).await;
    let refused = world.create(CONFIG_MAPS, &config_map("b")).await;
    assert_eq!(refused.code, 500);
    let start = "Internal error occurred: failed calling webhook \"v.example.com\": failed to call webhook: an error on \
                 the server (";
    assert!(refused.message().starts_with(start), "{}", refused.message());

    let other = pki::Ca::generate("other", world.clock.now(), VALID).unwrap();
    let ca = base64::engine::general_purpose::STANDARD.encode(other.cert_pem());
    let url = format!("https://127.0.0.1:{}/check", hook.port);
    let stranger = json!({"clientConfig": {"url": url, "caBundle": ca}});
    configure(&world, MUTATING, "m", vec![hook.webhook("m.example.com", stranger)]).await;
    let refused = world.create(CONFIG_MAPS, &config_map("c")).await;
    assert_eq!(
        refused.message(),
        format!(
            "Internal error occurred: failed calling webhook \"m.example.com\": failed to call webhook: Post \
             \"{url}?timeout=10s\": tls: failed to verify certificate: x509: certificate signed by unknown authority"
        )
    );
}

#[tokio::test]
async fn a_service_conditions_and_dry_runs() {
    let world = World::start().await;
    let hook = Hook::start(&world, |_| (200, json!({"allowed": false}))).await;
    let service = json!({
        "metadata": {"name": "hook"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}
    });
    let made = world.create("/api/v1/namespaces/default/services", &service.to_string()).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let ca = base64::engine::general_purpose::STANDARD.encode(&hook.ca);
    let by_service = json!({
        "clientConfig": {
            "service": {"namespace": "default", "name": "hook", "port": hook.port, "path": "/s"}, "caBundle": ca
        },
        "matchConditions": [{"name": "only-b", "expression": "object.metadata.name == 'b'"}],
        "sideEffects": "NoneOnDryRun",
    });
    configure(&world, VALIDATING, "v", vec![hook.webhook("v.example.com", by_service)]).await;
    assert_eq!(world.create(CONFIG_MAPS, &config_map("a")).await.code, 201);
    assert_eq!(hook.requests().len(), 0);
    let refused = world.send(Method::POST, &format!("{CONFIG_MAPS}?dryRun=All"), &[], &config_map("b")).await;
    assert_eq!(refused.message(), "admission webhook \"v.example.com\" denied the request without explanation");
    let seen = hook.seen.lock().pop().unwrap();
    assert_eq!((seen.0.as_str(), &seen.1["request"]["dryRun"]), ("/s?timeout=10s", &json!(true)));
}
