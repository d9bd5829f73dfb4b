//! What every request meets: credentials, paths, health, limits, the end of the server.

use std::sync::Arc;
use std::time::Duration;

use apiserver::Options;
use apiserver::enablement::Enablement;
use apiserver::http::{Error, Listener};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::json;

use crate::auth_flow::{cluster, send_as};
use crate::world::World;

async fn as_nobody(world: &World, path: &str) -> (u16, String) {
    let mut sender = world.connect(world.client_for(None)).await;
    let request = Request::get(path).header("host", "test").body(Full::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let code = response.status().as_u16();
    (code, String::from_utf8_lossy(&response.into_body().collect().await.unwrap().to_bytes()).into_owned())
}

#[tokio::test]
async fn without_credentials_only_health_is_shown() {
    let world = World::start().await;
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(as_nobody(&world, path).await, (200, "ok".to_owned()), "{path}");
    }
    for path in ["/api/v1/pods", "/version", "/metrics", "/nothing", "/readyz/etcd"] {
        let (code, text) = as_nobody(&world, path).await;
        assert_eq!(code, 401, "{path}: {text}");
        assert!(text.contains("\"message\":\"Unauthorized\""), "{text}");
    }
}

#[tokio::test]
async fn users_without_rights_are_told_which_they_lack() {
    let world = World::start().await;
    let mut sender = world.connect(world.client_for(Some(("eve", &["dev"])))).await;
    let path = "/apis/apps/v1/namespaces/default/deployments/web/scale";
    let request = Request::get(path).header("host", "test").body(Full::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 403);
    let body: serde_json::Value =
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(
        body["message"],
        "deployments.apps \"web\" is forbidden: User \"eve\" cannot get resource \"deployments/scale\" in API group \
         \"apps\" in the namespace \"default\""
    );
}

#[tokio::test]
async fn paths_that_are_not_served() {
    let world = World::start().await;
    let page = world.get("/nothing").await;
    assert_eq!((page.code, page.text().as_str()), (404, "404 page not found\n"));
    let unknown = world.get("/apis/apps/v1/foos").await;
    assert_eq!(unknown.message(), "the server could not find the requested resource");
    assert_eq!((unknown.code, &unknown.json()["reason"]), (404, &json!("NotFound")));
    for path in ["//api/v1/pods", "/api/v1/namespaces/a%2Fb/pods", "/api/v1/namespaces/../pods"] {
        assert_eq!(world.get(path).await.code, 404, "{path}");
    }
    for path in ["/api/v1/pods/p", "/api/v1/namespaces/default/nodes", "/api/v1/namespaces/default/nodes/n"] {
        assert_eq!(world.get(path).await.code, 404, "{path}");
    }
    assert_eq!(world.create("/api/v1/configmaps", r#"{"metadata":{"name":"a"}}"#).await.code, 405);
    let subresource = world.get("/api/v1/namespaces/default/configmaps/a/status").await;
    assert_eq!(subresource.code, 404);
    let method = world.send(Method::OPTIONS, "/api/v1/namespaces/default/configmaps", &[], "").await;
    assert_eq!(method.code, 405);
    let namespaces = world.delete("/api/v1/namespaces", "").await;
    assert_eq!(
        (namespaces.code, namespaces.message().as_str()),
        (405, "deletecollection is not supported on resources of kind \"namespaces\"")
    );
}

#[tokio::test]
async fn flags_and_status_are_shown_to_who_may_see_them() {
    let world = cluster().await;
    let ask = async |group: &str, path: &str, accept: &str| {
        let headers: &[(&str, &str)] = if accept.is_empty() { &[] } else { &[("accept", accept)] };
        send_as(&world, Some(("eve", &[group])), Method::GET, path, headers, "").await
    };
    for path in ["/flagz", "/statusz"] {
        assert_eq!(ask("dev", path, "").await.code, 403, "{path}");
        assert_eq!(ask("system:monitoring", path, "application/json").await.code, 406, "{path}");
        assert_eq!(world.create(path, "").await.code, 405, "{path}");
    }
    let text = ask("system:monitoring", "/flagz", "*/*").await;
    assert!(text.text().starts_with("\nkube-apiserver flagz\nWarning: This endpoint is not meant"), "{}", text.text());
    let accept = "application/json;v=v1beta1;g=config.k8s.io;as=Flagz";
    let flags = ask("system:monitoring", "/flagz", accept).await.json();
    assert_eq!((&flags["kind"], &flags["apiVersion"]), (&json!("Flagz"), &json!("config.k8s.io/v1beta1")));
    let flags = &flags["flags"];
    assert_eq!((&flags["authorization-mode"], &flags["request-timeout"]), (&json!("[Node,RBAC]"), &json!("1m0s")));
    assert_eq!(flags["anonymous-auth"], "[/healthz,/livez,/readyz]");
    assert_eq!(flags["effective-encryption-providers"], "[identity]", "nothing seals here, and it says so");
    assert!(flags["enable-admission-plugins"].as_str().unwrap().contains("NodeRestriction"), "{flags}");
    let accept = "application/yaml;v=v1alpha1;g=config.k8s.io;as=Statusz";
    let status = ask("system:monitoring", "/statusz", accept).await.text();
    assert!(status.contains("emulationVersion: ") && status.contains("uptimeSeconds: "), "{status}");
    let text = ask("system:monitoring", "/statusz", "").await.text();
    assert!(text.contains("Up") && text.contains(" hr ") && text.contains("/livez"), "{text}");
}

#[tokio::test]
async fn what_is_turned_off_is_not_shown() {
    let pairs = ["batch/v1=false", "batch/v1/jobs=true", "autoscaling/v2=false", "policy/v1=false"].map(str::to_owned);
    let enablement = Enablement::parse(&pairs, resources::ALL).unwrap();
    let world = World::start_with(Options { enablement, ..Options::default() }).await;
    let group = world.get("/apis/autoscaling").await.json();
    assert_eq!(group["versions"], json!([{"groupVersion": "autoscaling/v1", "version": "v1"}]));
    let list = world.get("/apis/batch/v1").await.json();
    let names: Vec<&str> =
        list["resources"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["jobs", "jobs/status"]);
    assert_eq!(world.get("/apis/policy").await.code, 404);
    for path in ["/apis/batch/v1/cronjobs", "/apis/policy/v1/poddisruptionbudgets?watch=true"] {
        let answer = world.get(path).await;
        let why = "the server could not find the requested resource";
        assert_eq!((answer.code, answer.message().as_str()), (404, why), "{path}");
    }
    assert_eq!(world.get("/apis/batch/v1/jobs").await.code, 200);
    // What is kept as another version's form is there all the same.
    let scaler = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "a"}}});
    let made =
        world.create("/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers", &scaler.to_string()).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let index = world.get("/openapi/v3").await.json();
    assert!(index["paths"]["apis/policy/v1"].is_null() && index["paths"]["apis/batch/v1"].is_object());
}

#[tokio::test]
async fn what_is_turned_on_is_shown() {
    let pairs =
        ["resource.k8s.io/v1beta1", "resource.k8s.io/v1beta2", "coordination.k8s.io/v1alpha2"].map(str::to_owned);
    let enablement = Enablement::parse(&pairs, resources::ALL).unwrap();
    let world = World::start_with(Options { enablement, ..Options::default() }).await;
    let group = world.get("/apis/resource.k8s.io").await.json();
    let versions: Vec<&str> =
        group["versions"].as_array().unwrap().iter().filter_map(|one| one["version"].as_str()).collect();
    assert_eq!(versions, ["v1", "v1beta2", "v1beta1"]);
    assert_eq!(group["preferredVersion"]["version"], "v1");
    assert_eq!(world.get("/apis/resource.k8s.io/v1alpha3/devicetaintrules").await.code, 404);
    // What the asked-for version is kept as is not shown for that.
    assert_eq!(world.get("/apis/coordination.k8s.io/v1alpha2/leasecandidates").await.code, 200);
    let hidden = world.get("/apis/coordination.k8s.io/v1beta1/leasecandidates").await;
    assert_eq!((hidden.code, hidden.message().as_str()), (404, "the server could not find the requested resource"));
    let group = world.get("/apis/coordination.k8s.io").await.json();
    assert_eq!(group["versions"].as_array().unwrap().len(), 2, "v1 and what was asked for: {group}");
}

#[tokio::test]
async fn health_in_detail() {
    let world = World::start().await;
    let verbose = world.get("/readyz?verbose").await.text();
    assert!(verbose.contains("[+]etcd ok\n") && verbose.ends_with("readyz check passed\n"), "{verbose}");
    let excluded = world.get("/readyz?verbose&exclude=etcd").await.text();
    assert!(excluded.contains("[+]etcd excluded: ok\n"), "{excluded}");
    assert_eq!(world.get("/livez/ping").await.text(), "ok");
    assert_eq!(world.get("/livez/none").await.code, 404);
}

#[tokio::test]
async fn the_version_and_the_figures() {
    let world = World::start().await;
    let version = world.get("/version").await.json();
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("37")));
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.37.0+pintle."));
    world.get("/api/v1/namespaces/default/configmaps/none").await;
    let metrics = world.get("/metrics").await.text();
    let line = "apiserver_request_total{code=\"404\",component=\"apiserver\",dry_run=\"\",group=\"\",\
                resource=\"configmaps\",scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"v1\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let error = Listener::bind(first.address()).await.unwrap_err();
    assert!(matches!(error, Error::AddressInUse(_)));
    assert_eq!(error.to_string(), format!("the address {} is already in use by another process", first.address()));
}

#[tokio::test]
async fn the_server_ends_watches_and_lets_requests_finish() {
    let world = World::start().await;
    let mut watch = world.watch("/api/v1/configmaps?watch=true").await;
    let tasks = world.tasks.clone();
    let (ended, event) = tokio::join!(tasks.shutdown(Duration::from_secs(5)), watch.next());
    assert!(ended, "all connections ended in time");
    assert_eq!(event, None, "a watch ends without an error");
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    struct Panics;
    impl apiserver::authz::Authorizer for Panics {
        fn authorize(
            &self,
            attributes: &apiserver::authz::Attributes<'_>,
            _: &apiserver::Lookup,
        ) -> apiserver::authz::Decision {
            assert!(!matches!(attributes.what, apiserver::authz::What::Path("/panic")), "on purpose");
            apiserver::authz::Decision::Allow(String::new())
        }
    }
    let before = base::task::panics();
    let world =
        World::start_with(apiserver::Options { authorizer: Arc::new(Panics), ..apiserver::Options::default() }).await;
    let answer = world.get("/panic").await;
    assert_eq!((answer.code, &answer.json()["reason"]), (500, &json!("InternalError")));
    assert_eq!(world.get("/version").await.code, 200);
    assert!(base::task::panics() > before);
}

#[tokio::test]
async fn requests_are_recorded_without_their_bodies() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let logging = base::TaskGroup::new();
    let options = apiserver::audit::Options::log(&path);
    let audit = apiserver::audit::Audit::open(options, base::Clock::system(), &logging).await.unwrap();
    let world = World::start_with(apiserver::Options { audit: Some(audit), ..apiserver::Options::default() }).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    world.create(secrets, r#"{"metadata":{"name":"s"},"stringData":{"a":"do not tell"}}"#).await;
    world.get("/readyz").await;
    as_nobody(&world, "/api/v1/pods").await;
    let eve = Arc::new(apiserver::Caller::new("eve", &[]));
    let target = api::Target::kind(<api::core::v1::Secret as api::Typed>::KIND).namespaced("default").named("s");
    assert!(world.server.call(&eve, api::Call::new(api::Verb::Get, target)).await.is_err());
    assert!(logging.shutdown(Duration::from_secs(5)).await);

    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("do not tell") && !text.contains("/readyz"), "{text}");
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let created = events.iter().find(|event| event["objectRef"]["resource"] == "secrets").unwrap();
    assert_eq!((&created["verb"], &created["user"]["username"]), (&json!("create"), &json!("admin")));
    assert_eq!((&created["requestURI"], &created["responseStatus"]["code"]), (&json!(secrets), &json!(201)));
    assert_eq!(created["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!((&created["stage"], &created["level"]), (&json!("ResponseComplete"), &json!("Metadata")));
    let nobody = events.iter().find(|event| event["responseStatus"]["code"] == 401).unwrap();
    assert_eq!((&nobody["user"], &nobody["requestURI"]), (&json!({}), &json!("/api/v1/pods")));
    assert_eq!(nobody["responseStatus"]["message"], "Authentication failed, no credentials provided");
    let refused = events.last().unwrap();
    assert_eq!((&refused["user"]["username"], &refused["responseStatus"]["code"]), (&json!("eve"), &json!(403)));
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(refused["requestURI"], "/api/v1/namespaces/default/secrets/s");
}
