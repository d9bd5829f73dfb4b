//! The audit log as a client causes it: levels, stages, objects, annotations, and a webhook that takes the events.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apiserver::audit::{self, Audit, Policy, log, webhook};
use base::{Clock, TaskGroup};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::world::World;

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: None, verbs: [get], resources: [{group: "", resources: [configmaps]}]}
- {level: RequestResponse, omitManagedFields: true, resources: [{group: "", resources: [configmaps]}]}
- {level: Request, omitStages: [RequestReceived], resources: [{group: "", resources: [pods]}]}
- {level: Metadata, omitStages: [RequestReceived], resources: [{group: "", resources: [secrets, services]}]}
"#;

async fn world(options: audit::Options, logging: &TaskGroup) -> World {
    let audit = Audit::open(options, Clock::system(), logging).await.unwrap();
    World::start_with(apiserver::Options { audit: Some(audit), ..apiserver::Options::default() }).await
}

fn log_at(path: &Path) -> audit::Options {
    let policy = Policy::parse(POLICY).unwrap();
    audit::Options { policy, log: Some(log::Options::new(path)), webhook: None }
}

fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn levels_and_stages() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let logging = TaskGroup::new();
    let world = world(log_at(&path), &logging).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    world
        .send(
            http::Method::POST,
            maps,
            &[("audit-id", "mine"), ("x-forwarded-for", "192.0.2.7")],
            r#"{"metadata":{"name":"m"},"data":{"a":"b"}}"#,
        )
        .await;
    world.get(&format!("{maps}/m")).await;
    world.patch(&format!("{maps}/m"), "application/merge-patch+json", r#"{"data":{"a":"c"}}"#).await;
    world.patch(&format!("{maps}/none"), "application/merge-patch+json", "{}").await;
    world.delete(&format!("{maps}/m"), r#"{"gracePeriodSeconds":0}"#).await;
    world.create("/api/v1/namespaces/default/secrets", r#"{"metadata":{"name":"s"},"stringData":{"a":"hush"}}"#).await;
    let bad = r#"{"metadata":{"name":"t"},"stringData":{"a":"hush"}"#;
    let answer = world.create("/api/v1/namespaces/default/secrets", bad).await;
    assert!(answer.code == 400 && answer.text().contains("hush"), "who sent it is told: {}", answer.text());
    let watch = world.watch("/api/v1/services?watch=true").await;
    drop(watch);
    world.tasks.shutdown(Duration::from_secs(5)).await;
    drop(world);
    assert!(logging.shutdown(Duration::from_secs(5)).await);

    let events = events(&path);
    let of = |resource: &str| -> Vec<&Value> {
        events.iter().filter(|event| event["objectRef"]["resource"] == resource).collect()
    };
    let maps = of("configmaps");
    let (received, complete) = (maps[0], maps[1]);
    assert_eq!((&received["stage"], &received["auditID"]), (&json!("RequestReceived"), &json!("mine")));
    assert_eq!(received["requestReceivedTimestamp"], received["stageTimestamp"]);
    assert!(received.get("responseStatus").is_none() && received.get("annotations").is_none());
    assert_eq!((&complete["stage"], &complete["auditID"]), (&json!("ResponseComplete"), &json!("mine")));
    assert_eq!(complete["sourceIPs"], json!(["192.0.2.7", "127.0.0.1"]));
    assert_eq!(complete["requestObject"]["data"], json!({"a": "b"}));
    assert_eq!(
        (&complete["requestObject"]["kind"], &complete["objectRef"]["name"]),
        (&json!("ConfigMap"), &json!("m"))
    );
    assert_eq!(complete["responseObject"]["metadata"]["namespace"], "default");
    assert!(complete["responseObject"]["metadata"].get("managedFields").is_none(), "{complete:#}");
    assert_eq!(complete["annotations"]["authorization.k8s.io/decision"], "allow");
    assert!(!maps.iter().any(|event| event["verb"] == "get"), "level None");
    let patched = maps.iter().find(|event| event["verb"] == "patch" && event["stage"] == "ResponseComplete").unwrap();
    assert_eq!(
        (&patched["requestObject"], &patched["responseObject"]["data"]["a"]),
        (&json!({"data": {"a": "c"}}), &json!("c"))
    );
    let missing = maps.iter().find(|event| event["responseStatus"]["code"] == 404).unwrap();
    assert_eq!(missing["responseStatus"]["reason"], "NotFound");
    assert_eq!(missing["responseStatus"]["message"], "configmaps \"none\" not found");
    assert_eq!(missing["responseObject"]["kind"], "Status");
    let deleted = maps.iter().find(|event| event["verb"] == "delete" && event["stage"] == "ResponseComplete").unwrap();
    assert_eq!(
        (&deleted["requestObject"]["kind"], &deleted["responseStatus"]["status"]),
        (&json!("DeleteOptions"), &json!("Success"))
    );

    let secrets = of("secrets");
    assert_eq!(secrets.len(), 2);
    assert_eq!(
        (&secrets[1]["responseStatus"]["code"], &secrets[1]["responseStatus"]["reason"]),
        (&json!(400), &json!("BadRequest"))
    );
    assert!(secrets[0].get("requestObject").is_none() && !std::fs::read_to_string(&path).unwrap().contains("hush"));
    let stages: Vec<&Value> = of("services").iter().map(|event| &event["stage"]).collect();
    assert_eq!(stages, [&json!("ResponseStarted"), &json!("ResponseComplete")]);
}

#[tokio::test]
async fn a_refusal_by_admission_keeps_its_annotations() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let logging = TaskGroup::new();
    let world = world(log_at(&path), &logging).await;
    let labels = json!({
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/audit": "restricted",
        "pod-security.kubernetes.io/audit-version": "v1.7",
    });
    let namespace = json!({"metadata": {"name": "strict", "labels": labels}});
    world.create("/api/v1/namespaces", &namespace.to_string()).await;
    world.create("/api/v1/namespaces/strict/serviceaccounts", r#"{"metadata":{"name":"default"}}"#).await;
    let pod = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    assert_eq!(world.create("/api/v1/namespaces/strict/pods", pod).await.code, 403);
    assert!(logging.shutdown(Duration::from_secs(5)).await);
    let events = events(&path);
    let refused = events.iter().find(|event| event["objectRef"]["resource"] == "pods").unwrap();
    assert_eq!(refused["level"], "Request");
    assert_eq!(refused["annotations"]["pod-security.kubernetes.io/enforce-policy"], "restricted:latest");
    assert_eq!(
        refused["annotations"]["pod-security.kubernetes.io/audit-violations"],
        "would violate PodSecurity \"restricted:v1.7\": runAsNonRoot != true (pod or container \"c\" must set \
         securityContext.runAsNonRoot=true)",
        "each mode has its own version"
    );
    assert_eq!(refused["requestObject"]["spec"]["containers"][0]["image"], "i");
    assert_eq!(refused["requestObject"]["spec"]["restartPolicy"], "Always", "with its defaults");
    assert!(refused.get("responseObject").is_none());
}

/// A webhook that fails its first request and sends on what it is sent.
async fn receiver(ca: &pki::Ca, tasks: &TaskGroup) -> (std::net::SocketAddr, mpsc::Receiver<(bool, Value)>) {
    let clock = Clock::system();
    let identity = pki::Request {
        common_name: "auditor".to_owned(),
        organizations: Vec::new(),
        dns_names: Vec::new(),
        ip_addresses: vec!["127.0.0.1".parse().unwrap()],
        usage: pki::Usage::Server,
        valid: Duration::from_secs(3600),
    };
    let identity = pki::tls::Reloadable::new(ca.issue(&identity, clock.now()).unwrap());
    let tls = pki::tls::server_config(identity, None, clock).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, heard) = mpsc::channel(100);
    tasks.spawn("auditor", async move {
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        while let Ok((socket, _)) = listener.accept().await {
            let stream = tokio_rustls::TlsAcceptor::from(tls.clone()).accept(socket).await.unwrap();
            let (sender, count) = (sender.clone(), count.clone());
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (sender, count) = (sender.clone(), count.clone());
                async move {
                    let first = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
                    assert_eq!(request.headers()["authorization"], "Bearer sesame");
                    assert_eq!(request.uri().path(), "/events");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    sender.send((first, serde_json::from_slice(&body).unwrap())).await.unwrap();
                    let mut answer = http::Response::new(Full::new(Bytes::new()));
                    if first {
                        *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                    }
                    Ok::<_, std::convert::Infallible>(answer)
                }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
    });
    (address, heard)
}

#[tokio::test]
async fn a_webhook_takes_batches_and_is_asked_again() {
    let directory = tempfile::tempdir().unwrap();
    let (logging, outside) = (TaskGroup::new(), TaskGroup::new());
    let ca = pki::Ca::generate("auditors", Clock::system().now(), Duration::from_secs(3600)).unwrap();
    let (address, mut heard) = receiver(&ca, &outside).await;
    let file = directory.path().join("webhook.kubeconfig");
    let config = pki::Kubeconfig::new(&format!("https://{address}/events"), ca.cert_pem(), "auditor", "pintle");
    config.with_token("sesame").save(&file).unwrap();
    let webhook = webhook::Options {
        batch_len_max: 3,
        batch_wait_max: Duration::from_millis(50),
        initial_backoff: Duration::from_millis(1),
        ..webhook::Options::default()
    };
    let options = audit::Options { policy: Policy::standard(), log: None, webhook: Some((file, webhook)) };
    let world = world(options, &logging).await;
    let (failed, first) = heard.recv().await.unwrap();
    assert!(failed);
    for number in 0..5 {
        let body = format!(r#"{{"metadata":{{"name":"m{number}"}}}}"#);
        world.create("/api/v1/namespaces/default/configmaps", &body).await;
    }
    assert!(logging.shutdown(Duration::from_secs(10)).await, "what is under way is sent before the end");
    drop(logging);
    outside.cancel();
    let mut lists = vec![first.clone()];
    let mut again = 0;
    while let Some((failed, list)) = heard.recv().await {
        assert!(!failed);
        if list == first {
            again += 1;
        } else {
            lists.push(list);
        }
    }
    assert_eq!(again, 1, "the batch that failed is sent once more");
    assert!(lists.iter().all(|list| list["kind"] == "EventList" && list["items"].as_array().unwrap().len() <= 3));
    let mut names: Vec<&str> = lists
        .iter()
        .flat_map(|list| list["items"].as_array().unwrap())
        .filter(|event| event["objectRef"]["resource"] == "configmaps")
        .filter_map(|event| event["objectRef"]["name"].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4"]);
}

#[tokio::test]
async fn what_no_backend_takes_is_counted_and_serving_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let logging = TaskGroup::new();
    let file = directory.path().join("webhook.kubeconfig");
    // Nobody listens there.
    let ca = pki::Ca::generate("auditors", Clock::system().now(), Duration::from_secs(3600)).unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    pki::Kubeconfig::new(&format!("https://{closed}"), ca.cert_pem(), "auditor", "pintle").save(&file).unwrap();
    let webhook =
        webhook::Options { buffer_len_max: 1, batch_wait_max: Duration::from_secs(600), ..Default::default() };
    let options = audit::Options { policy: Policy::standard(), log: None, webhook: Some((file, webhook)) };
    let world = world(options, &logging).await;
    assert!(logging.shutdown(Duration::from_secs(10)).await);
    world.get("/api/v1/namespaces").await;
    let text = world.get("/metrics").await.text();
    let value = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("apiserver_audit_error_total{plugin=\"webhook\"}") >= 1);
    assert!(value("pintle_audit_dropped_events_total{backend=\"webhook\",reason=\"closed\"}") >= 1);
    assert!(value("apiserver_audit_event_total") >= 3);
    assert!(value("apiserver_audit_level_total{level=\"Metadata\"}") >= 3);
    assert_eq!(value("apiserver_audit_requests_rejected_total"), 0);
}

#[tokio::test]
async fn what_is_too_large_for_a_backend_is_cut_or_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let logging = TaskGroup::new();
    let mut options = log_at(&path);
    let truncate = audit::Truncate { event_bytes_max: 1500, batch_bytes_max: 2000 };
    options.log.as_mut().unwrap().truncate = Some(truncate);
    let world = world(options, &logging).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let body =
        |name: &str, len: usize| format!(r#"{{"metadata":{{"name":"{name}"}},"data":{{"a":"{}"}}}}"#, "x".repeat(len));
    assert_eq!(world.create(maps, &body("small", 10)).await.code, 201);
    assert_eq!(world.create(maps, &body("large", 3000)).await.code, 201);
    // The path alone is too long: there is nothing to leave out.
    assert_eq!(world.get(&format!("/api/v1/namespaces/default/secrets/{}", "n".repeat(1500))).await.code, 404);
    let figures = world.get("/metrics").await.text();
    for wanted in [
        "apiserver_audit_error_total{plugin=\"truncate\"} 1\n",
        "pintle_audit_dropped_events_total{backend=\"log\",reason=\"too large\"} 1\n",
    ] {
        assert!(figures.contains(wanted), "{wanted} in {figures}");
    }
    world.tasks.shutdown(Duration::from_secs(5)).await;
    drop(world);
    assert!(logging.shutdown(Duration::from_secs(5)).await);
    let events = events(&path);
    let of = |name: &str| {
        let complete = |event: &&Value| event["stage"] == "ResponseComplete" && event["objectRef"]["name"] == name;
        events.iter().find(complete).unwrap()
    };
    let (small, large) = (of("small"), of("large"));
    assert_eq!(small["requestObject"]["data"]["a"], "xxxxxxxxxx");
    assert!(small["annotations"].get("audit.k8s.io/truncated").is_none(), "{small:#}");
    assert_eq!(large["annotations"]["audit.k8s.io/truncated"], "true", "{large:#}");
    assert!(large.get("requestObject").is_none() && large.get("responseObject").is_none());
    assert_eq!((&large["level"], &large["responseStatus"]["code"]), (&json!("RequestResponse"), &json!(201)));
    assert!(events.iter().all(|event| event.to_string().len() <= 1500));
}
