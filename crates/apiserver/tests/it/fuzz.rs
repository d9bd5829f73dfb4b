//! Requests that no client would send, the same ones in every run: each is answered, none is answered by a panic, and
//! one that is refused has changed nothing.

use std::sync::Arc;
use std::time::Duration;

use base::Random;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::World;

const REQUESTS: u64 = 1000;
/// A debug build on a busy machine answers in far less.
const PATIENCE: Duration = Duration::from_secs(20);

const METHODS: &[&str] = &[
    "GET", "GET", "POST", "POST", "POST", "PUT", "PUT", "PATCH", "PATCH", "PATCH", "DELETE", "DELETE", "HEAD",
    "OPTIONS",
];
const PATHS: &[&str] = &[
    "/api/v1/namespaces/default/configmaps",
    "/api/v1/namespaces/default/configmaps/one",
    "/api/v1/namespaces/default/pods/p/eviction",
    "/api/v1/namespaces/default/bindings",
    "/api/v1/namespaces/default/serviceaccounts/default/token",
    "/api/v1/componentstatuses",
    "/apis/apps/v1/namespaces/default/deployments/web",
    "/apis/apps/v1/namespaces/default/deployments/web/scale",
    "/apis/apps/v1/namespaces/default/deployments/web/status",
    "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/a.example.com",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis",
    "/openapi/v3",
    "/version",
    "/readyz",
];
const QUERIES: &[&str] = &[
    "limit=1",
    "limit=-1&continue=x",
    "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0",
    "resourceVersion=0&resourceVersionMatch=Exact",
    "resourceVersion=99999999999999999999",
    "labelSelector=a%3Db,c+in+(d",
    "fieldSelector=metadata.name%3Done",
    "fieldValidation=Strict&dryRun=All",
    "dryRun=Some",
    "fieldManager=x&force=true",
    "propagationPolicy=Foreground&orphanDependents=true&gracePeriodSeconds=-5",
    "timeout=1ns",
    "pretty=%ff",
    "sendInitialEvents=maybe",
];
const TYPES: &[&str] = &[
    "application/json",
    "application/json",
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "text/plain",
    "",
];
const ACCEPTS: &[&str] = &[
    "*/*",
    "*/*",
    "*/*",
    "application/json, */*",
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;as=Table;g=meta.k8s.io;v=v1",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,;q=,",
    "image/png",
];
const BODIES: &[&str] = &[
    "",
    r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one","namespace":"default"},"data":{"a":"b"}}"#,
    r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"g-"},"data":{"a":1},"data":null}"#,
    r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":-1,"selector":{}}}"#,
    r#"[{"op":"add","path":"/data/x","value":"y"},{"op":"copy","from":"/data","path":"/metadata/labels"}]"#,
    r#"{"data":{"a":null,"$patch":"delete"},"metadata":{"resourceVersion":"1","uid":"x"}}"#,
    r#"{"kind":"DeleteOptions","apiVersion":"v1","preconditions":{"uid":"no"},"gracePeriodSeconds":"x"}"#,
    r#"{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"web"},"spec":{"replicas":99999999999}}"#,
    "kind: ConfigMap\napiVersion: v1\nmetadata: {name: &a one, labels: {x: *a}}\n",
    "k8s\0\n\u{f}\n\u{2}v1\u{12}\tConfigMap\u{12}\u{2}\n\0",
];

/// Requests that are good until one part of them is spoilt: method, path, type, body.
const FITTING: &[[&str; 4]] = &[
    ["POST", PATHS[0], "application/json", BODIES[1]],
    ["POST", PATHS[0], "application/json", r#"{"metadata":{"generateName":"g-"},"data":{"a":"1"}}"#],
    [
        "POST",
        PATHS[0],
        "application/yaml",
        "kind: ConfigMap\napiVersion: v1\nmetadata: {generateName: y-}\ndata: {a: b}\n",
    ],
    ["PATCH", PATHS[1], "application/merge-patch+json", r#"{"data":{"a":null,"b":"c"}}"#],
    ["PATCH", PATHS[1], "application/json-patch+json", BODIES[4]],
    ["PATCH", PATHS[6], "application/strategic-merge-patch+json", r#"{"spec":{"template":{"$patch":"merge"}}}"#],
    ["PATCH", PATHS[6], "application/apply-patch+yaml", "apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: 2}\n"],
    ["PATCH", PATHS[7], "application/merge-patch+json", r#"{"spec":{"replicas":3}}"#],
    ["PUT", PATHS[1], "application/json", BODIES[1]],
    ["DELETE", PATHS[1], "application/json", r#"{"gracePeriodSeconds":0,"propagationPolicy":"Orphan"}"#],
    ["POST", PATHS[11], "application/json", r#"{"spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}"#],
    ["POST", PATHS[4], "application/json", r#"{"spec":{"expirationSeconds":600}}"#],
];

/// Upstream answers the first three with a 500 too; this server has no key.
const FAILURES: &[&str] = &[
    "strconv.ParseUint: parsing ",
    "resourceVersion should not be set on objects to be created",
    "unknown patch type: ",
    "no service account signing key is configured",
];

struct Dice(Random);

impl Dice {
    fn below(&self, end: usize) -> usize {
        usize::try_from(self.0.below(u64::try_from(end.max(1)).unwrap())).unwrap()
    }

    fn one<'a>(&self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// Bytes are lost, doubled, changed; those in `but` cannot be where the text goes.
    fn spoil(&self, text: &str, but: &[u8]) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..=self.below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => drop(bytes.remove(at)),
                1 => {
                    let end = (at + 8).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                2 => bytes.truncate(at),
                _ => bytes[at] = b"/%.~\"{}[]:,0-9aZ\xff\xc3\x01"[self.below(18)],
            }
        }
        bytes.retain(|byte| !but.contains(byte));
        bytes
    }

    /// One part of it is spoilt, or none; half of them are parts that need not fit each other.
    fn request(&self) -> Vec<u8> {
        let [method, path, media, body] = match self.below(2) {
            0 => FITTING[self.below(FITTING.len())],
            _ => [METHODS, PATHS, TYPES, BODIES].map(|parts| self.one(parts)),
        };
        let (query, accept) = match self.below(4) {
            0 => (self.one(QUERIES), self.one(ACCEPTS)),
            _ => ("", "*/*"),
        };
        let spoilt = self.below(7);
        let part = |number: usize, text: &str, but: &[u8]| match number == spoilt {
            true => self.spoil(text, but),
            false => text.as_bytes().to_vec(),
        };
        let mut request = method.as_bytes().to_vec();
        request.push(b' ');
        request.extend(part(0, path, b" \x01\xff\xc3"));
        if !query.is_empty() {
            request.push(b'?');
            request.extend(part(1, query, b" \x01\xff\xc3"));
        }
        request.extend_from_slice(b" HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: ");
        request.extend(part(2, media, b"\r\n\x01"));
        request.extend_from_slice(b"\r\naccept: ");
        request.extend(part(3, accept, b"\r\n\x01"));
        let body = part(4, body, b"");
        request.extend_from_slice(format!("\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes());
        request.extend(body);
        request
    }
}

/// The answer's code and text.
async fn send(world: &World, tls: &Arc<rustls::ClientConfig>, request: &[u8]) -> (u16, String) {
    let exchange = async {
        let socket = TcpStream::connect(world.address).await.unwrap();
        let name = rustls_pki_types::ServerName::from(world.address.ip());
        let mut tls = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, socket).await.unwrap();
        tls.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // The server may close without TLS's farewell.
        let _ = tls.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let shown = || String::from_utf8_lossy(request).into_owned();
    let text = tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("no answer: {}", shown()));
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.unwrap_or_else(|| panic!("no HTTP: {} {text:?}", shown())), text)
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let world = World::start().await;
    let deployment = r#"{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"a":"b"}},
        "template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;
    assert_eq!(world.create("/apis/apps/v1/namespaces/default/deployments", deployment).await.code, 201);
    let tls = world.client_for(Some(("admin", &["system:masters"])));
    let dice = Dice(Random::seeded(7));
    let mut codes = std::collections::BTreeMap::<u16, u32>::new();
    for _ in 0..REQUESTS {
        let request = dice.request();
        let shown = || String::from_utf8_lossy(&request).into_owned();
        let before = world.server.store().revision();
        let (code, text) = send(&world, &tls, &request).await;
        *codes.entry(code).or_default() += 1;
        let known = code == 504 || FAILURES.iter().any(|failure| text.contains(failure));
        assert!(code < 500 || known, "{code} {}\n{text}", shown());
        if code >= 400 && world.server.store().revision() != before {
            // The server's own tasks write too: but not once more for the same request.
            let before = world.server.store().revision();
            let (again, _) = send(&world, &tls, &request).await;
            let changed = world.server.store().revision() != before;
            assert!(!changed || again < 400, "{code}, but something changed: {}", shown());
        }
    }
    let metrics = world.get("/metrics").await.text();
    assert!(metrics.contains("apiserver_panics_total 0\n"), "a request panicked");
    for expected in [200, 201, 400, 404, 405, 406, 409, 415, 422] {
        assert!(codes.contains_key(&expected), "no {expected}: the requests miss their aim: {codes:?}");
    }
}
