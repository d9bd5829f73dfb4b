//! Flow control under a real overload, and requests that take too long.

use std::sync::Arc;
use std::time::Duration;

use apiserver::Options;
use apiserver::admission::{Chain, Operation, Plugin, Request as Admitted};
use apiserver::authz::{Attributes, Authorizer, Decision};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::world::World;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const FLOWS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const SEATS: usize = 4;

struct Anyone;

impl Authorizer for Anyone {
    fn authorize(&self, _: &Attributes<'_>, _: &apiserver::Lookup) -> Decision {
        Decision::Allow(String::new())
    }
}

/// Keeps what is named `held-*` until it is let go.
struct Gate(Semaphore);

impl Plugin for Gate {
    fn name(&self) -> &'static str {
        "Gate"
    }

    fn handles(&self, operation: Operation, _: &str, resource: &str, _: &str) -> bool {
        operation == Operation::Create && resource == "configmaps"
    }

    fn validate<'a>(&'a self, request: &'a mut Admitted<'_>) -> BoxFuture<'a, Result<(), api::Status>> {
        let held = request.object.as_ref().is_some_and(|object| object.name().starts_with("held-"));
        Box::pin(async move {
            if held {
                self.0.acquire().await.expect("the gate stays").forget();
            }
            Ok(())
        })
    }
}

struct Told {
    code: u16,
    headers: HeaderMap,
    body: Value,
}

async fn ask(world: &World, user: &str, method: Method, path: &str, body: String) -> Told {
    let mut sender = world.connect(world.client_for(Some((user, &[])))).await;
    let request = Request::builder().method(method).uri(path).header("host", "test");
    let response = sender.send_request(request.body(Full::from(body)).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
    Told { code: parts.status.as_u16(), headers: parts.headers, body }
}

async fn create(world: &World, user: &str, name: &str) -> Told {
    ask(world, user, Method::POST, CONFIG_MAPS, json!({"metadata": {"name": name}}).to_string()).await
}

/// Waits until the figures hold a line.
async fn figure(world: &World, line: &str) {
    let seen = async {
        loop {
            let text = world.get("/metrics").await.text();
            if text.lines().any(|own| own == line) {
                return;
            }
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
    assert!(seen.is_ok(), "no {line} in:\n{}", world.get("/metrics").await.text());
}

/// A level with four seats and room for two that wait, for ann.
async fn world() -> (World, &'static Gate) {
    let gate: &'static Gate = Box::leak(Box::new(Gate(Semaphore::new(0))));
    let options = Options {
        reads_len_max: SEATS - 1,
        writes_len_max: 1,
        admission: Chain(vec![gate]),
        authorizer: Arc::new(Anyone),
        ..Options::default()
    };
    let world = World::start_with(options).await;
    let level = json!({"metadata": {"name": "small"}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 100, "limitResponse": {"type": "Queue",
            "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 2}}}}});
    assert_eq!(world.create(&format!("{FLOWS}/prioritylevelconfigurations"), &level.to_string()).await.code, 201);
    let schema = json!({"metadata": {"name": "anns"}, "spec": {
        "matchingPrecedence": 10, "priorityLevelConfiguration": {"name": "small"},
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "ann"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]}]}});
    let mut watch = world.watch(&format!("{FLOWS}/flowschemas?watch=true")).await;
    assert_eq!(world.create(&format!("{FLOWS}/flowschemas"), &schema.to_string()).await.code, 201);
    // Its status is written once it is in effect.
    loop {
        let event = watch.next().await.unwrap();
        let condition = &event["object"]["status"]["conditions"][0];
        if condition["type"] == "Dangling" {
            assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("Found")));
            break;
        }
    }
    (world, gate)
}

#[tokio::test]
async fn an_overload_is_queued_then_refused_and_the_exempt_pass() {
    let (world, gate) = world().await;
    let world = Arc::new(world);
    let mut under_way = tokio::task::JoinSet::new();
    for number in 0..SEATS + 2 {
        let own = world.clone();
        under_way.spawn(async move { create(&own, "ann", &format!("held-{number}")).await });
        let (executing, waiting) = ((number + 1).min(SEATS), (number + 1).saturating_sub(SEATS));
        let of = "{priority_level=\"small\",flow_schema=\"anns\"}";
        figure(&world, &format!("apiserver_flowcontrol_current_executing_requests{of} {executing}")).await;
        if waiting > 0 {
            figure(&world, &format!("apiserver_flowcontrol_current_inqueue_requests{of} {waiting}")).await;
        }
    }

    let refused = create(&world, "ann", "one-too-many").await;
    assert_eq!((refused.code, &refused.body["reason"]), (429, &json!("TooManyRequests")));
    assert_eq!(refused.body["message"], "too many requests, please try again later.");
    assert_eq!(refused.headers["retry-after"], "1");
    for (header, path) in [
        ("x-kubernetes-pf-flowschema-uid", "flowschemas/anns"),
        ("x-kubernetes-pf-prioritylevel-uid", "prioritylevelconfigurations/small"),
    ] {
        let object = world.get(&format!("{FLOWS}/{path}")).await.json();
        assert_eq!(refused.headers[header], object["metadata"]["uid"].as_str().unwrap(), "{header}");
    }

    assert_eq!(world.create(CONFIG_MAPS, r#"{"metadata":{"name":"by-admin"}}"#).await.code, 201, "exempt");
    assert_eq!(ask(&world, "bob", Method::GET, CONFIG_MAPS, String::new()).await.code, 200, "another level");
    let requests = world.get("/debug/api_priority_and_fairness/dump_requests?includeRequestDetails=1").await.text();
    assert_eq!(requests.lines().filter(|line| line.contains("configmaps")).count(), 2, "{requests}");
    let levels = world.get("/debug/api_priority_and_fairness/dump_priority_levels").await.text();
    let small = levels.lines().find(|line| line.starts_with("small,")).unwrap();
    let small: Vec<&str> = small.split(',').map(str::trim).collect();
    assert_eq!(small, ["small", "1", "false", "false", "2", "4"], "{levels}");
    assert_eq!(world.get("/debug/api_priority_and_fairness/dump_queues").await.text().lines().count(), 3);

    gate.0.add_permits(SEATS + 2);
    while let Some(one) = under_way.join_next().await {
        assert_eq!(one.unwrap().code, 201);
    }
    let of = "priority_level=\"small\",flow_schema=\"anns\"";
    figure(&world, &format!("apiserver_flowcontrol_current_executing_requests{{{of}}} 0")).await;
    figure(&world, &format!("apiserver_flowcontrol_current_executing_seats{{{of}}} 0")).await;
    let text = world.get("/metrics").await.text();
    for line in [
        format!("apiserver_flowcontrol_rejected_requests_total{{{of},reason=\"queue-full\"}} 1"),
        format!("apiserver_flowcontrol_dispatched_requests_total{{{of}}} 6"),
        format!("apiserver_flowcontrol_request_wait_duration_seconds_count{{{of},execute=\"true\"}} 6"),
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"small\"} 4".to_owned(),
    ] {
        assert!(text.lines().any(|own| own == line), "no {line} in:\n{text}");
    }
}

#[tokio::test]
async fn a_watch_holds_its_seat_until_it_has_begun() {
    let (world, _) = world().await;
    let mut watches = Vec::new();
    for _ in 0..SEATS * 3 {
        let mut sender = world.connect(world.client_for(Some(("ann", &[])))).await;
        let request = Request::get(format!("{CONFIG_MAPS}?watch=true")).header("host", "test");
        let response = sender.send_request(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        watches.push((sender, response));
    }
    let of = "{priority_level=\"small\",flow_schema=\"anns\"}";
    figure(&world, &format!("apiserver_flowcontrol_current_executing_requests{of} 0")).await;
}

#[tokio::test]
async fn requests_are_given_the_time_they_ask_for() {
    let (world, _) = world().await;
    let body = r#"{"metadata":{"name":"held-for-ever"}}"#;
    let late = world.create(&format!("{CONFIG_MAPS}?timeout=50ms"), body).await;
    assert_eq!((late.code, &late.json()["reason"]), (504, &json!("Timeout")));
    assert_eq!(late.message(), "Timeout: request did not complete within the allotted timeout");
    let wrong = world.get(&format!("{CONFIG_MAPS}?timeout=soon")).await;
    assert_eq!(wrong.code, 400);
    assert_eq!(wrong.message(), "invalid timeout specified in the request URL - time: invalid duration \"soon\"");
    for fine in ["0", "10m", "5s"] {
        assert_eq!(world.get(&format!("{CONFIG_MAPS}?timeout={fine}")).await.code, 200, "{fine}");
    }
    assert_eq!(world.get(&format!("{CONFIG_MAPS}/held-for-ever")).await.code, 404, "it was given up");
}
