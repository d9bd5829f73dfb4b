//! Logs, exec and the like: passed on to the node's kubelet, bytes both ways after an upgrade.

use std::net::SocketAddr;
use std::time::Duration;

use apiserver::Options;
use base::{Clock, TaskGroup};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pki::tls::{Alpn, Reloadable};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::world::World;

const PODS: &str = "/api/v1/namespaces/default/pods";

/// A kubelet that answers with what it was asked, and echoes bytes after an upgrade.
async fn kubelet(identity: pki::Identity, client_ca: String, tasks: &TaskGroup) -> SocketAddr {
    let tls = pki::tls::server_config(Reloadable::new(identity), Some(&client_ca), Clock::system()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    let group = tasks.clone();
    tasks.spawn("kubelet", async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (acceptor, inner) = (acceptor.clone(), group.clone());
            group.spawn("kubelet connection", async move {
                let Ok(tls) = acceptor.accept(socket).await else { return };
                let user = tls.get_ref().1.peer_certificates().and_then(|all| pki::peer_identity(&all[0]).ok());
                let user = user.map(|identity| identity.common_name).unwrap_or_default();
                let service = service_fn(move |request| answer(request, user.clone(), inner.clone()));
                let builder = hyper::server::conn::http1::Builder::new();
                drop(builder.serve_connection(TokioIo::new(tls), service).with_upgrades().await);
            });
        }
    });
    address
}

async fn answer(
    mut request: Request<Incoming>,
    user: String,
    tasks: TaskGroup,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    assert!(!request.headers().contains_key("authorization"), "credentials stay with the server");
    if request.uri().path().ends_with("/waiting") {
        let text = "container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating";
        return Ok(Response::builder().status(400).body(Full::from(text)).unwrap());
    }
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tasks.spawn("echo", async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut buffer = [0; 64];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                stream.write_all(&buffer[..count].to_ascii_uppercase()).await.unwrap();
            }
        });
        let response = Response::builder().status(101).header("upgrade", "SPDY/3.1").header("connection", "Upgrade");
        return Ok(response.header("x-asked", request.uri().to_string()).body(Full::default()).unwrap());
    }
    Ok(Response::new(Full::from(format!("{user} {}", request.uri()))))
}

async fn world() -> World {
    let clock = Clock::system();
    let valid = Duration::from_secs(3600);
    let ca = pki::Ca::generate("kubelet-ca", clock.now(), valid).unwrap();
    let client = ca.issue(&pki::Request::client("kube-apiserver-kubelet-client", &[], valid), clock.now()).unwrap();
    let tls = pki::tls::client_config(ca.cert_pem(), Some(Reloadable::new(client)), Alpn::Http1, clock).unwrap();
    let world = World::start_with(Options { kubelet: Some(tls), ..Options::default() }).await;
    let request = pki::Request {
        common_name: "system:node:n".to_owned(),
        organizations: Vec::new(),
        dns_names: Vec::new(),
        ip_addresses: vec!["127.0.0.1".parse().unwrap()],
        usage: pki::Usage::Server,
        valid,
    };
    let identity = ca.issue(&request, clock.now()).unwrap();
    let address = kubelet(identity, ca.cert_pem().to_owned(), &world.tasks).await;
    world.create("/api/v1/nodes", r#"{"metadata":{"name":"n"}}"#).await;
    let status = json!({"metadata": {"name": "n"}, "status": {
        "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}},
    }});
    let updated = world.update("/api/v1/nodes/n/status", &status.to_string()).await;
    assert_eq!(updated.code, 200, "{}", updated.text());
    pod(&world, "p", Some("n"), &["main"]).await;
    world
}

async fn pod(world: &World, name: &str, node: Option<&str>, containers: &[&str]) {
    let containers: Vec<_> = containers.iter().map(|name| json!({"name": name, "image": "i"})).collect();
    let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": containers}});
    let created = world.create(PODS, &pod.to_string()).await;
    assert_eq!(created.code, 201, "{}", created.text());
}

#[tokio::test]
async fn logs_come_from_the_node() {
    let world = world().await;
    let logs = world.get(&format!("{PODS}/p/log?follow=true&tailLines=5&pretty=true")).await;
    let expected = "kube-apiserver-kubelet-client /containerLogs/default/p/main?follow=true&tailLines=5";
    assert_eq!((logs.code, logs.text().as_str()), (200, expected));
    let wrong = world.get(&format!("{PODS}/p/log?container=other")).await;
    assert_eq!((wrong.code, wrong.message().as_str()), (400, "container other is not valid for pod p"));
    pod(&world, "q", Some("n"), &["a", "b"]).await;
    let which = world.get(&format!("{PODS}/q/log")).await;
    assert_eq!(which.message(), "a container name must be specified for pod q, choose one of: [a b]");
    pod(&world, "r", Some("n"), &["waiting"]).await;
    let waiting = world.get(&format!("{PODS}/r/log")).await;
    let why = "container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating";
    assert_eq!((waiting.code, waiting.message().as_str()), (400, why));
    let odd = world.get(&format!("{PODS}/p/log?limitBytes=0")).await;
    assert_eq!(odd.message(), "PodLogOptions \"\" is invalid: limitBytes: Invalid value: 0: must be greater than 0");
}

#[tokio::test]
async fn bytes_pass_both_ways_after_an_upgrade() {
    let world = world().await;
    let path = format!("{PODS}/p/exec?command=ls&command=-l+%2F&stdin=true&stdout=true&container=main");
    let headers = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("authorization", "Bearer x")];
    let mut response = world.open(Method::POST, &path, &headers[..2], "").await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["x-asked"], "/exec/default/p/main?input=1&output=1&command=ls&command=-l+%2F");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    for text in [&b"hello"[..], b"again"] {
        stream.write_all(text).await.unwrap();
        let mut echoed = [0; 5];
        stream.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, *text.to_ascii_uppercase());
    }
    drop(stream);

    let forward = world.open(Method::GET, &format!("{PODS}/p/portforward?ports=80"), &headers[..2], "").await;
    assert_eq!(forward.headers()["x-asked"], "/portForward/default/p?port=80");
    let nodes = world.get("/api/v1/nodes/n/proxy/metrics/cadvisor?x=y").await;
    assert_eq!(nodes.text(), "kube-apiserver-kubelet-client /metrics/cadvisor?x=y");
}

#[tokio::test]
async fn what_cannot_be_reached_is_named() {
    let world = world().await;
    pod(&world, "s", None, &["main"]).await;
    let nowhere = world.create(&format!("{PODS}/s/exec?command=ls"), "").await;
    assert_eq!((nowhere.code, nowhere.message().as_str()), (400, "pod s does not have a host assigned"));
    let empty = world.get(&format!("{PODS}/s/log")).await;
    assert_eq!((empty.code, empty.text().as_str()), (200, ""));
    let missing = world.get(&format!("{PODS}/none/log")).await;
    assert_eq!((missing.code, missing.message().as_str()), (404, "pods \"none\" not found"));
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let status = json!({"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": closed}}}}).to_string();
    world.patch("/api/v1/nodes/n/status", "application/merge-patch+json", &status).await;
    let refused = world.get(&format!("{PODS}/p/log")).await;
    let why = format!("error dialing backend: dial tcp 127.0.0.1:{closed}: connect: connection refused");
    assert_eq!((refused.code, refused.message()), (500, why));
}

#[tokio::test]
async fn binding_scale_and_eviction() {
    let world = world().await;
    pod(&world, "b", None, &["main"]).await;
    let binding = r#"{"metadata":{"name":"b"},"target":{"kind":"Node","name":"n"}}"#;
    let bound = world.create(&format!("{PODS}/b/binding"), binding).await;
    assert_eq!((bound.code, &bound.json()["status"]), (201, &json!("Success")), "{}", bound.text());
    let read = world.get(&format!("{PODS}/b")).await.json();
    assert_eq!(read["spec"]["nodeName"], "n");
    let condition = &read["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("PodScheduled"), &json!("True")));
    let again = world.create(&format!("{PODS}/b/binding"), binding).await;
    assert_eq!(
        (again.code, again.message().as_str()),
        (409, "Operation cannot be fulfilled on pods/binding \"b\": pod b is already assigned to node \"n\"")
    );
    let evicted = world.create(&format!("{PODS}/b/eviction"), r#"{"metadata":{"name":"b"}}"#).await;
    assert_eq!((evicted.code, &evicted.json()["status"]), (201, &json!("Success")));
    assert!(world.get(&format!("{PODS}/b")).await.json()["metadata"]["deletionTimestamp"].is_string());

    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({"metadata": {"name": "d"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    assert_eq!(world.create(deployments, &deployment.to_string()).await.code, 201);
    let path = format!("{deployments}/d/scale");
    let mut scale = world.get(&path).await.json();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
    assert_eq!(scale["status"]["selector"], "a=b");
    scale["spec"]["replicas"] = json!(5);
    assert_eq!(world.update(&path, &scale.to_string()).await.json()["spec"]["replicas"], 5);
    assert_eq!(world.update(&path, &scale.to_string()).await.code, 409);
    let patched = world.patch(&path, "application/merge-patch+json", r#"{"spec":{"replicas":-1}}"#).await;
    assert_eq!(patched.code, 422);
    let read = world.get(&format!("{deployments}/d")).await.json();
    assert_eq!((&read["spec"]["replicas"], &read["metadata"]["generation"]), (&json!(5), &json!(2)));
}

#[tokio::test]
async fn tokens_are_signed() {
    let clock = Clock::system();
    let key = pki::PrivateKey::generate().unwrap();
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let verifier =
        pki::token::Verifier::new(vec![issuer.to_owned()], vec![key.public_key().clone()], vec![issuer.to_owned()]);
    let signer = std::sync::Arc::new(pki::token::Signer::new(issuer, key));
    let world = World::start_with(Options { tokens: Some(signer), ..Options::default() }).await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let answer = world.create(path, r#"{"spec":{"expirationSeconds":600}}"#).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let token = answer.json()["status"]["token"].as_str().unwrap().to_owned();
    let verified = verifier.verify(&token, &[issuer.to_owned()], clock.now()).unwrap();
    assert_eq!(verified.claims.kubernetes.service_account.name, "default");
    let short = world.create(path, r#"{"spec":{"expirationSeconds":60}}"#).await;
    assert_eq!(short.code, 422);
    let bound = r#"{"spec":{"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"none"}}}"#;
    assert_eq!(world.create(path, bound).await.message(), "pods \"none\" not found");
}
