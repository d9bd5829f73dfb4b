//! A server over TLS on loopback, and a client that speaks plain HTTP/1.1 to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use apiserver::http::Listener;
use apiserver::{Caller, Options, Server};
use base::{Clock, TaskGroup};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use pki::tls::{Alpn, Reloadable};
use serde_json::Value;
use tokio::net::TcpStream;

const VALID: Duration = Duration::from_secs(3600);

pub struct World {
    pub server: Arc<Server>,
    pub tasks: TaskGroup,
    pub ca: pki::Ca,
    /// Signs proxies that vouch for users.
    pub front_proxy_ca: pki::Ca,
    pub clock: Clock,
    pub address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    admin: Arc<rustls::ClientConfig>,
    clients: TaskGroup,
}

pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| Value::String(self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub async fn start_with(options: Options) -> Self {
        Self::start_by(|_| options).await
    }

    /// With options that depend on the front proxy's CA.
    pub async fn start_by(options: impl FnOnce(&pki::Ca) -> Options) -> Self {
        Self::start_by_on(store::Store::memory(), options).await
    }

    pub async fn start_on(store: store::Store, options: Options) -> Self {
        Self::start_by_on(store, |_| options).await
    }

    async fn start_by_on(store: store::Store, options: impl FnOnce(&pki::Ca) -> Options) -> Self {
        let clock = Clock::system();
        let tasks = TaskGroup::new();
        let ca = pki::Ca::generate("test-ca", clock.now(), VALID).unwrap();
        let front_proxy_ca = pki::Ca::generate("front-proxy-ca", clock.now(), VALID).unwrap();
        let options = options(&front_proxy_ca);
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address();
        let identity = pki::Request {
            common_name: "kube-apiserver".to_owned(),
            organizations: Vec::new(),
            dns_names: Vec::new(),
            ip_addresses: vec![address.ip()],
            usage: pki::Usage::Server,
            valid: VALID,
        };
        let identity = Reloadable::new(ca.issue(&identity, clock.now()).unwrap());
        let client_cas = format!("{}{}", ca.cert_pem(), front_proxy_ca.cert_pem());
        let tls = pki::tls::server_config(identity, Some(&client_cas), clock).unwrap();
        let server = Server::start(store, options, tasks.clone()).await.unwrap();
        listener.serve(server.clone(), tls.clone(), 100, &tasks);
        let admin = client(&ca, Some(("admin", &["system:masters"])), clock);
        let world = Self { server, tasks, ca, front_proxy_ca, clock, address, tls, admin, clients: TaskGroup::new() };
        world.create("/api/v1/namespaces", r#"{"metadata":{"name":"default"}}"#).await;
        world.create("/api/v1/namespaces/default/serviceaccounts", r#"{"metadata":{"name":"default"}}"#).await;
        world
    }

    /// Another server on the same store, which ends with `tasks`; what carries its clients ends with `serving`.
    pub async fn beside(&self, tasks: &TaskGroup, serving: &TaskGroup) -> (Arc<Server>, SocketAddr) {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address();
        let store = self.server.store().clone();
        let server = Server::start(store, Options::default(), tasks.clone()).await.unwrap();
        listener.serve(server.clone(), self.tls.clone(), 100, serving);
        (server, address)
    }

    /// A caller that may do everything, for calls in process.
    pub fn admin() -> Arc<Caller> {
        Arc::new(Caller::new("admin", &["system:masters"]))
    }

    pub fn client_for(&self, user: Option<(&str, &[&str])>) -> Arc<rustls::ClientConfig> {
        client(&self.ca, user, self.clock)
    }

    pub async fn connect(&self, tls: Arc<rustls::ClientConfig>) -> SendRequest<Full<Bytes>> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let name = rustls_pki_types::ServerName::from(self.address.ip());
        let tls = tokio_rustls::TlsConnector::from(tls).connect(name, socket).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.unwrap();
        self.clients.spawn("client", async move { drop(connection.with_upgrades().await) });
        sender
    }

    pub async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> http::Response<Incoming> {
        let mut sender = self.connect(self.admin.clone()).await;
        let mut request = Request::new(Full::new(Bytes::from(body.to_owned())));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        request.headers_mut().insert("host", "test".parse().unwrap());
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        sender.send_request(request).await.unwrap()
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let response = self.open(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub async fn create(&self, path: &str, body: &str) -> Answer {
        self.send(Method::POST, path, &[], body).await
    }

    pub async fn update(&self, path: &str, body: &str) -> Answer {
        self.send(Method::PUT, path, &[], body).await
    }

    pub async fn patch(&self, path: &str, kind: &str, body: &str) -> Answer {
        self.send(Method::PATCH, path, &[("content-type", kind)], body).await
    }

    pub async fn delete(&self, path: &str, body: &str) -> Answer {
        self.send(Method::DELETE, path, &[], body).await
    }

    pub async fn watch(&self, path: &str) -> Watch {
        let response = self.open(Method::GET, path, &[], "").await;
        Watch { code: response.status().as_u16(), body: response.into_body(), buffer: Vec::new() }
    }
}

fn client(ca: &pki::Ca, user: Option<(&str, &[&str])>, clock: Clock) -> Arc<rustls::ClientConfig> {
    let identity = user.map(|(name, groups)| {
        Reloadable::new(ca.issue(&pki::Request::client(name, groups, VALID), clock.now()).unwrap())
    });
    pki::tls::client_config(ca.cert_pem(), identity, Alpn::Http1, clock).unwrap()
}

/// A watch over HTTP: one line per event.
pub struct Watch {
    pub code: u16,
    body: Incoming,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event, `None` at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await;
            let frame = frame.expect("an event within ten seconds")?.unwrap();
            self.buffer.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }

    /// The next event as `TYPE name`.
    pub async fn next_name(&mut self) -> String {
        let event = self.next().await.unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{} {}", text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}
