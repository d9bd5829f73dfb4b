//! Other API servers behind this one: a real one over TLS on loopback, which trusts only the front proxy.

use std::sync::Arc;
use std::time::Duration;

use apiserver::authn::{Certificates, FRONT_PROXY, FrontProxy};
use apiserver::{Options, authz};
use base::{Clock, TaskGroup};
use base64::Engine;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use pki::tls::{Alpn, Reloadable};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::world::World;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const GROUP: &str = "things.example.com";
const THINGS: &str = "/apis/things.example.com/v1/namespaces/default/things";
const VALID: Duration = Duration::from_secs(3600);

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// What the other server was asked.
#[derive(Clone, Debug)]
struct Asked {
    path: String,
    /// `user groups... certificate`.
    who: String,
    headers: http::HeaderMap,
}

/// Another API server.
struct Extension {
    port: u16,
    ca: pki::Ca,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Lines that its watches send.
    lines: Arc<Mutex<Option<mpsc::Sender<&'static str>>>>,
    /// Ends it.
    tasks: TaskGroup,
}

#[derive(Clone)]
struct State {
    asked: Arc<Mutex<Vec<Asked>>>,
    lines: Arc<Mutex<Option<mpsc::Sender<&'static str>>>>,
    tasks: TaskGroup,
    aggregated: bool,
}

impl Extension {
    /// `aggregated`: it knows the aggregated form of discovery.
    async fn start(world: &World, aggregated: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let ca = pki::Ca::generate("extension-ca", world.clock.now(), VALID).unwrap();
        let identity = pki::Request {
            common_name: "extension".to_owned(),
            organizations: Vec::new(),
            dns_names: vec!["things.default.svc".to_owned()],
            ip_addresses: Vec::new(),
            usage: pki::Usage::Server,
            valid: VALID,
        };
        let identity = Reloadable::new(ca.issue(&identity, world.clock.now()).unwrap());
        let proxy_ca = world.front_proxy_ca.cert_pem();
        let tls = pki::tls::server_config(identity, Some(proxy_ca), world.clock).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(tls);
        let tasks = world.tasks.child();
        let state = State { asked: Arc::default(), lines: Arc::default(), tasks: tasks.clone(), aggregated };
        let (shared, group) = (state.clone(), tasks.clone());
        tasks.spawn("extension", async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), shared.clone());
                group.spawn("extension connection", async move {
                    let Ok(tls) = acceptor.accept(socket).await else { return };
                    let certificates = tls.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
                    let proxy = certificates.first().and_then(|first| pki::peer_identity(first).ok());
                    let proxy = proxy.map(|proxy| proxy.common_name).unwrap_or_default();
                    let serve = move |request: Request<Incoming>| {
                        let (state, proxy) = (state.clone(), proxy.clone());
                        async move { Ok::<_, std::convert::Infallible>(state.answer(request, &proxy).await) }
                    };
                    let builder = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                    let service = hyper::service::service_fn(serve);
                    drop(builder.serve_connection_with_upgrades(TokioIo::new(tls), service).await);
                });
            }
        });
        Self { port, ca, asked: state.asked, lines: state.lines, tasks }
    }

    /// The last request below a path.
    fn last(&self, prefix: &str) -> Asked {
        let asked = self.asked.lock();
        asked.iter().rev().find(|asked| asked.path.starts_with(prefix)).cloned().expect("it was asked")
    }

    fn service(&self, with: Value) -> Value {
        let ca = base64::engine::general_purpose::STANDARD.encode(self.ca.cert_pem());
        let mut spec = json!({
            "group": GROUP, "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 15, "caBundle": ca,
            "service": {"namespace": "default", "name": "things", "port": self.port},
        });
        let Value::Object(with) = with else { panic!("an object") };
        spec.as_object_mut().unwrap().extend(with);
        json!({"metadata": {"name": format!("v1.{GROUP}")}, "spec": spec})
    }
}

/// A document that says which dialect it is in.
fn openapi(dialect: &str) -> Value {
    let thing = json!({"$ref": "#/definitions/com.example.Thing"});
    let kind = json!({"group": GROUP, "version": "v1", "kind": "Thing"});
    let get = json!({
        "operationId": format!("listThing{dialect}"), "x-kubernetes-group-version-kind": kind,
        "responses": {"200": {"description": "OK", "schema": thing}},
    });
    json!({
        "paths": {"/apis/things.example.com/v1/things": {"get": get}, "/apis/apps/v1/forged": {"get": {}}},
        "definitions": {"com.example.Thing": {"type": "object", "x-kubernetes-group-version-kind": [kind]}},
    })
}

fn full(code: u16, content_type: &str, text: String) -> Response<Body> {
    let body = Full::from(text).boxed_unsync();
    Response::builder().status(code).header("content-type", content_type).body(body).unwrap()
}

impl State {
    async fn answer(&self, mut request: Request<Incoming>, proxy: &str) -> Response<Body> {
        let headers = request.headers().clone();
        let all = |name: &str| -> Vec<String> {
            headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        let who = format!("{} {} {proxy}", all("x-remote-user").join(","), all("x-remote-group").join(","));
        let path = request.uri().path_and_query().unwrap().to_string();
        self.asked.lock().push(Asked { path: path.clone(), who, headers: headers.clone() });
        let accepts = all("accept").join(",");
        match request.uri().path() {
            "/apis" if self.aggregated && accepts.contains("APIGroupDiscoveryList") => {
                let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": [
                    {"metadata": {"name": GROUP}, "versions": [{"version": "v1", "resources": [
                        {"resource": "things", "scope": "Namespaced", "singularResource": "thing",
                         "responseKind": {"group": "", "version": "", "kind": "Thing"}, "verbs": ["get", "list"]}]}]},
                ]});
                full(200, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", list.to_string())
            }
            "/apis" => full(406, "text/plain", String::new()),
            "/apis/things.example.com/v1" => {
                let list = json!({"kind": "APIResourceList", "groupVersion": "things.example.com/v1", "resources": [
                    {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing",
                     "verbs": ["get", "list"]}]});
                full(200, "application/json", list.to_string())
            }
            "/openapi/v2" => full(200, "application/json", openapi("2").to_string()),
            "/openapi/v3" if self.aggregated => {
                let url = "/openapi/v3/apis/things.example.com/v1?hash=ABC";
                let index = json!({"paths": {"apis/things.example.com/v1": {"serverRelativeURL": url}}});
                full(200, "application/json", index.to_string())
            }
            "/openapi/v3/apis/things.example.com/v1" => full(200, "application/json", openapi("3").to_string()),
            "/openapi/v3" => full(404, "text/plain", String::new()),
            path if path.ends_with("/elsewhere") => {
                let mut response = full(302, "text/plain", String::new());
                response.headers_mut().insert("location", "https://example.com/".parse().unwrap());
                response
            }
            _ if headers.contains_key("upgrade") => {
                let upgrade = hyper::upgrade::on(&mut request);
                self.tasks.spawn("echo", async move {
                    let mut stream = TokioIo::new(upgrade.await.unwrap());
                    let mut buffer = [0; 64];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        stream.write_all(&buffer[..count].to_ascii_uppercase()).await.unwrap();
                    }
                });
                let response = Response::builder().status(101).header("upgrade", "SPDY/3.1");
                response.header("connection", "Upgrade").body(Empty::new().boxed_unsync()).unwrap()
            }
            _ if path.contains("watch=true") => {
                let (sender, receiver) = mpsc::channel(4);
                *self.lines.lock() = Some(sender);
                let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
                    let line: &'static str = receiver.recv().await?;
                    Some((Ok(Frame::data(Bytes::from_static(line.as_bytes()))), receiver))
                });
                Response::new(StreamBody::new(frames).boxed_unsync())
            }
            _ => {
                let method = request.method().to_string();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body = String::from_utf8_lossy(&body).into_owned();
                full(200, "application/json", json!({"kind": "Thing", "method": method, "body": body}).to_string())
            }
        }
    }
}

async fn world() -> World {
    World::start_by(|proxy_ca| {
        let clock = Clock::system();
        let proxy = proxy_ca.issue(&pki::Request::client(FRONT_PROXY, &[], VALID), clock.now()).unwrap();
        let front_proxy = FrontProxy::new(proxy_ca.cert_pem(), &[FRONT_PROXY], clock).unwrap();
        Options {
            front_proxy: Some(Reloadable::new(proxy)),
            authenticator: Arc::new(Certificates::new(Some(front_proxy), None)),
            authorizer: Arc::new(authz::Union(vec![Arc::new(authz::Privileged), Arc::new(authz::Rbac::default())])),
            ..Options::default()
        }
    })
    .await
}

/// Registers the other server, and returns when its condition has this reason.
async fn register(world: &World, object: &Value, reason: &str) -> Value {
    let service =
        json!({"metadata": {"name": "things"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    world.create(SERVICES, &service.to_string()).await;
    let made = world.create(API_SERVICES, &object.to_string()).await;
    assert_eq!(made.code, 201, "{}", made.text());
    condition(world, reason).await
}

/// The condition of the other server's APIService once it has this reason.
async fn condition(world: &World, reason: &str) -> Value {
    let name = format!("v1.{GROUP}");
    let mut watch = world.watch(&format!("{API_SERVICES}?watch=true&fieldSelector=metadata.name={name}")).await;
    loop {
        let event = watch.next().await.expect("the watch goes on");
        let condition = event["object"]["status"]["conditions"][0].clone();
        if condition["reason"] == reason {
            return condition;
        }
    }
}

/// Asks, each time that routes or documents change, until the answer is as it should be.
async fn until(world: &World, path: &str, accept: &str, good: impl Fn(&crate::world::Answer) -> bool) {
    let mut changes = world.server.description_changes();
    loop {
        changes.borrow_and_update();
        let answer = world.send(Method::GET, path, &[("accept", accept)], "").await;
        if good(&answer) {
            return;
        }
        let changed = tokio::time::timeout(Duration::from_secs(10), changes.changed()).await;
        assert!(changed.is_ok(), "{path} stays {}: {}", answer.code, answer.text());
    }
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

#[tokio::test]
async fn requests_are_passed_on_in_the_callers_name() {
    let world = world().await;
    let extension = Extension::start(&world, true).await;
    let found = register(&world, &extension.service(json!({})), "Passed").await;
    assert_eq!((&found["status"], &found["message"]), (&json!("True"), &json!("all checks passed")));
    until(&world, &format!("{THINGS}/a"), "*/*", |answer| answer.code == 200).await;
    let headers = [
        ("authorization", "Bearer secret"),
        ("x-remote-user", "root"),
        ("x-remote-group", "system:masters"),
        ("x-remote-extra-scopes", "all"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("x-own", "kept"),
        ("audit-id", "an-id"),
    ];
    let posted = world.send(Method::POST, &format!("{THINGS}?fieldManager=me"), &headers, "{\"a\":1}").await;
    assert_eq!(posted.code, 200, "{}", posted.text());
    assert_eq!(posted.json(), json!({"kind": "Thing", "method": "POST", "body": "{\"a\":1}"}));
    assert_eq!(posted.headers["audit-id"], "an-id");
    let asked = extension.last(THINGS);
    assert_eq!(asked.path, format!("{THINGS}?fieldManager=me"));
    assert_eq!(asked.who, "admin system:masters,system:authenticated front-proxy-client");
    for gone in ["authorization", "x-remote-extra-scopes", "x-hop", "connection"] {
        assert!(!asked.headers.contains_key(gone), "{gone}");
    }
    for (name, value) in [("x-own", "kept"), ("audit-id", "an-id"), ("x-forwarded-for", "127.0.0.1")] {
        assert_eq!(asked.headers[name], value);
    }
    // Paths of any depth are the other server's affair; redirects are not passed back.
    let deep = world.get(&format!("{THINGS}/a/portforward/22/tcp")).await;
    assert_eq!(deep.code, 200, "{}", deep.text());
    let redirected = world.get(&format!("{THINGS}/elsewhere")).await;
    let why = "the backend attempted to redirect this request, which is not permitted";
    assert_eq!((redirected.code, redirected.text().as_str()), (502, why));
    // Probes and discovery come from the server itself.
    let own = "system:kube-aggregator system:masters,system:authenticated front-proxy-client";
    for path in ["/apis", "/apis/things.example.com/v1"] {
        assert!(extension.asked.lock().iter().any(|asked| asked.path == path && asked.who == own), "{path}");
    }
}

#[tokio::test]
async fn who_may_not_is_not_passed_on() {
    let world = world().await;
    let extension = Extension::start(&world, true).await;
    register(&world, &extension.service(json!({})), "Passed").await;
    until(&world, &format!("{THINGS}/a"), "*/*", |answer| answer.code == 200).await;
    let before = extension.asked.lock().len();
    let mut sender = world.connect(world.client_for(Some(("eve", &["dev"])))).await;
    let request = Request::get(format!("{THINGS}/a")).header("host", "test").body(Full::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 403);
    let body: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(
        body["message"],
        "things.things.example.com \"a\" is forbidden: User \"eve\" cannot get resource \"things\" in API group \
         \"things.example.com\" in the namespace \"default\""
    );
    assert_eq!(extension.asked.lock().len(), before);
}

#[tokio::test]
async fn watches_and_upgrades_pass_through() {
    let world = world().await;
    let extension = Extension::start(&world, true).await;
    register(&world, &extension.service(json!({})), "Passed").await;
    until(&world, &format!("{THINGS}/a"), "*/*", |answer| answer.code == 200).await;
    let mut watch = world.watch(&format!("{THINGS}?watch=true")).await;
    let sender = extension.lines.lock().clone().unwrap();
    for line in ["{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\"}}}\n", "{\"type\":\"X\"}\n"] {
        sender.send(line).await.unwrap();
        // Each comes before the next is sent: nothing is held back.
        assert_eq!(watch.next().await.unwrap()["type"], serde_json::from_str::<Value>(line).unwrap()["type"]);
    }
    drop((sender, extension.lines.lock().take()));
    assert!(watch.next().await.is_none());

    let path = format!("{THINGS}/a/exec");
    let headers = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("x-remote-user", "root")];
    let response = world.open(Method::POST, &path, &headers, "").await;
    assert_eq!((response.status().as_u16(), &response.headers()["upgrade"]), (101, &"SPDY/3.1".parse().unwrap()));
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 5];
    stream.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"HELLO");
    assert_eq!(extension.last(&path).who, "admin system:masters,system:authenticated front-proxy-client");
}

#[tokio::test]
async fn discovery_says_what_the_other_server_serves() {
    for aggregated in [true, false] {
        let world = world().await;
        let before = world.send(Method::GET, "/apis", &[("accept", AGGREGATED)], "").await.headers["etag"].clone();
        let extension = Extension::start(&world, aggregated).await;
        register(&world, &extension.service(json!({})), "Passed").await;
        let of = |answer: &crate::world::Answer| {
            let json = answer.json();
            let item = json["items"].as_array().unwrap().iter().find(|item| item["metadata"]["name"] == GROUP);
            item.map(|item| item["versions"][0].clone()).unwrap_or_default()
        };
        until(&world, "/apis", AGGREGATED, |answer| of(answer)["resources"][0]["resource"] == "things").await;
        let now = world.send(Method::GET, "/apis", &[("accept", AGGREGATED)], "").await;
        assert_ne!(now.headers["etag"], before);
        assert_eq!((&of(&now)["version"], &of(&now)["freshness"]), (&json!("v1"), &json!("Current")));
        let group = world.get(&format!("/apis/{GROUP}")).await.json();
        assert_eq!(group["preferredVersion"]["groupVersion"], "things.example.com/v1");
        // The old form of a version is the other server's own.
        let list = world.get(&format!("/apis/{GROUP}/v1")).await;
        assert_eq!(list.json()["resources"][0]["kind"], "Thing");

        extension.tasks.cancel();
        let failed = condition(&world, "FailedDiscoveryCheck");
        world.create(SERVICES, &json!({"metadata": {"name": "x"}, "spec": {"ports": [{"port": 1}]}}).to_string()).await;
        let gone = json!({"spec": {"externalName": "127.0.0.1"}}).to_string();
        world.patch(&format!("{SERVICES}/things"), "application/merge-patch+json", &gone).await;
        let failed = failed.await;
        let url = format!("https://127.0.0.1:{}/apis/{GROUP}/v1", extension.port);
        let refused = format!("dial tcp 127.0.0.1:{}: connect: connection refused", extension.port);
        let why = format!("failing or missing response from {url}: Get \"{url}\": {refused}");
        assert_eq!((&failed["status"], &failed["message"]), (&json!("False"), &json!(why)));
        until(&world, "/apis", AGGREGATED, |answer| of(answer) == json!({"version": "v1", "freshness": "Stale"})).await;
        until(&world, THINGS, "*/*", |answer| answer.code == 503).await;
        let refused = world.get(THINGS).await;
        assert_eq!((refused.code, refused.text().as_str()), (503, "service unavailable\n"));
        assert_eq!(refused.headers["content-type"], "text/plain; charset=utf-8");

        assert_eq!(world.delete(&format!("{API_SERVICES}/v1.{GROUP}"), "").await.code, 200);
        until(&world, &format!("/apis/{GROUP}"), "*/*", |answer| answer.code == 404).await;
        let unknown = world.get(THINGS).await;
        assert_eq!(unknown.message(), "the server could not find the requested resource");
    }
}

#[tokio::test]
async fn openapi_is_merged_or_asked_there() {
    for aggregated in [true, false] {
        let world = world().await;
        let before = world.get("/openapi/v2").await.headers["etag"].clone();
        let extension = Extension::start(&world, aggregated).await;
        register(&world, &extension.service(json!({})), "Passed").await;
        let link = |answer: &crate::world::Answer| {
            answer.json()["paths"]["apis/things.example.com/v1"]["serverRelativeURL"].as_str().map(str::to_owned)
        };
        until(&world, "/openapi/v3", "application/json", |answer| link(answer).is_some()).await;
        let url = link(&world.get("/openapi/v3").await).unwrap();
        let document = world.get(&url).await;
        let operation = document.json()["paths"]["/apis/things.example.com/v1/things"]["get"].clone();
        if aggregated {
            assert_eq!(url, "/openapi/v3/apis/things.example.com/v1?hash=ABC");
            assert_eq!(operation["operationId"], "listThing3");
            assert_eq!(extension.last(&url).who, "admin system:masters,system:authenticated front-proxy-client");
        } else {
            assert_eq!(operation["operationId"], "listThing2");
            let thing = json!({"schema": {"$ref": "#/components/schemas/com.example.Thing"}});
            assert_eq!(operation["responses"]["200"]["content"]["application/json"], thing);
        }
        let v2 = world.get("/openapi/v2").await;
        assert_ne!(v2.headers["etag"], before);
        let v2 = v2.json();
        assert_eq!(v2["paths"]["/apis/things.example.com/v1/things"]["get"]["operationId"], "listThing2");
        assert_eq!(v2["definitions"]["com.example.Thing"]["type"], "object");
        assert_eq!((&v2["paths"]["/apis/apps/v1/forged"], &v2["swagger"]), (&Value::Null, &json!("2.0")));
        assert!(v2["definitions"]["io.k8s.api.apps.v1.Deployment"].is_object());
        let accept = ("accept", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
        let protobuf = world.send(Method::GET, "/openapi/v2", &[accept], "").await;
        assert!(protobuf.bytes.windows(17).any(|text| text == b"com.example.Thing"));
    }
}

#[tokio::test]
async fn a_stranger_is_not_trusted_unless_it_is_said() {
    let world = world().await;
    let extension = Extension::start(&world, true).await;
    let other = pki::Ca::generate("other", world.clock.now(), VALID).unwrap();
    let ca = base64::engine::general_purpose::STANDARD.encode(other.cert_pem());
    // The check of availability does not look at the certificate; requests do.
    register(&world, &extension.service(json!({"caBundle": ca})), "Passed").await;
    until(&world, THINGS, "*/*", |answer| answer.text().contains("x509")).await;
    let refused = world.get(THINGS).await;
    let why = "tls: failed to verify certificate: x509: certificate signed by unknown authority\n";
    assert_eq!((refused.code, refused.text().as_str()), (503, why));
    let insecure = json!({"spec": {"caBundle": null, "insecureSkipTLSVerify": true}}).to_string();
    let path = format!("{API_SERVICES}/v1.{GROUP}");
    let patched = world.patch(&path, "application/merge-patch+json", &insecure).await;
    assert_eq!(patched.code, 200, "{}", patched.text());
    until(&world, THINGS, "*/*", |answer| answer.code == 200).await;
    let junk = base64::engine::general_purpose::STANDARD.encode("no certificate");
    let bad = json!({"spec": {"caBundle": junk, "insecureSkipTLSVerify": null}}).to_string();
    world.patch(&path, "application/merge-patch+json", &bad).await;
    let why = "unable to load root certificates: unable to parse bytes as PEM block\n";
    until(&world, THINGS, "*/*", |answer| answer.code == 500 && answer.text() == why).await;
}

#[tokio::test]
async fn definitions_have_api_services_of_their_own() {
    let world = world().await;
    let crd = |versions: &[(&str, bool)]| {
        let version = |(name, served): &(&str, bool)| {
            json!({"name": name, "served": served, "storage": *name == "v1",
                   "schema": {"openAPIV3Schema": {"type": "object"}}})
        };
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "gadgets.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced",
                     "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"},
                     "versions": versions.iter().map(version).collect::<Vec<_>>()},
        })
    };
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut watch = world.watch(&format!("{API_SERVICES}?watch=true")).await;
    let made = world.create(crds, &crd(&[("v1", true), ("v2", true), ("v3", false)]).to_string()).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let mut names = [watch.next().await.unwrap(), watch.next().await.unwrap()];
    names.sort_by_key(|event| event["object"]["metadata"]["name"].to_string());
    let [first, second] = names;
    assert_eq!(second["object"]["metadata"]["name"], "v2.example.com");
    assert_eq!(first["object"]["metadata"]["labels"], json!({"kube-aggregator.kubernetes.io/automanaged": "true"}));
    assert_eq!(
        first["object"]["spec"],
        json!({"group": "example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100})
    );
    assert_eq!(first["object"]["status"]["conditions"][0]["reason"], "Local");
    // It is kept as it should be, and made again.
    let path = format!("{API_SERVICES}/v1.example.com");
    world.patch(&path, "application/merge-patch+json", r#"{"spec": {"versionPriority": 7}}"#).await;
    assert_eq!(watch.next().await.unwrap()["object"]["spec"]["versionPriority"], 7);
    assert_eq!(watch.next().await.unwrap()["object"]["spec"]["versionPriority"], 100);
    world.delete(&path, "").await;
    assert_eq!(watch.next_name().await, "DELETED v1.example.com");
    assert_eq!(watch.next_name().await, "ADDED v1.example.com");
    // Who takes the label off keeps what they make of it.
    let own = json!({"metadata": {"labels": null}, "spec": {"versionPriority": 7}}).to_string();
    world.patch(&path, "application/merge-patch+json", &own).await;
    assert_eq!(watch.next_name().await, "MODIFIED v1.example.com");
    world.delete(&format!("{crds}/gadgets.example.com"), "").await;
    assert_eq!(watch.next_name().await, "DELETED v2.example.com");
    assert_eq!(world.get(&path).await.json()["spec"]["versionPriority"], 7);
}

#[tokio::test]
async fn a_front_proxy_vouches_for_users() {
    let world = world().await;
    let ask = async |ca: &pki::Ca, name: &str, headers: &[(&str, &str)]| {
        let identity = ca.issue(&pki::Request::client(name, &[], VALID), world.clock.now()).unwrap();
        let tls =
            pki::tls::client_config(world.ca.cert_pem(), Some(Reloadable::new(identity)), Alpn::Http1, world.clock);
        let mut sender = world.connect(tls.unwrap()).await;
        let mut request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews").header("host", "test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender.send_request(request.body(Full::from("{}")).unwrap()).await.unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let jane = [("x-remote-user", "jane"), ("x-remote-group", "system:masters"), ("x-remote-extra-scope", "a")];
    let (code, review) = ask(&world.front_proxy_ca, FRONT_PROXY, &jane).await;
    assert_eq!(code, 201, "{review}");
    let user =
        json!({"username": "jane", "groups": ["system:masters", "system:authenticated"], "extra": {"scope": ["a"]}});
    assert_eq!(review["status"]["userInfo"], user);
    // Another name, no user, another CA: the headers mean nothing.
    assert_eq!(ask(&world.front_proxy_ca, "somebody", &jane).await.0, 401);
    assert_eq!(ask(&world.front_proxy_ca, FRONT_PROXY, &[]).await.0, 401);
    let (code, refusal) = ask(&world.ca, FRONT_PROXY, &jane).await;
    assert_eq!(code, 403, "{refusal}");
    assert!(refusal["message"].as_str().unwrap().contains("User \"front-proxy-client\""), "{refusal}");
}
