//! Clients that mean no good, byte by byte: path tricks, smuggled requests, headers without end, slowness, idleness.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::world::World;

/// Longer answers are not read.
const ANSWER_LEN_MAX: u64 = 64 << 10;

async fn open(world: &World) -> TlsStream<TcpStream> {
    let tls = world.client_for(Some(("admin", &["system:masters"])));
    let socket = TcpStream::connect(world.address).await.unwrap();
    let name = rustls_pki_types::ServerName::from(world.address.ip());
    tokio_rustls::TlsConnector::from(tls).connect(name, socket).await.unwrap()
}

/// Everything that comes back for these bytes until the server closes, or for five seconds.
async fn send(world: &World, bytes: &[u8]) -> String {
    let mut stream = open(world).await;
    // The server may have answered and closed before it took everything.
    let _sent = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut bounded = stream.take(ANSWER_LEN_MAX);
    let reading = bounded.read_to_end(&mut answer);
    let _ended = tokio::time::timeout(Duration::from_secs(5), reading).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").into_bytes()
}

/// The code of the first answer, and how many answers there are.
fn codes(answer: &str) -> (String, usize) {
    let code = answer.split(' ').nth(1).unwrap_or("closed");
    (code.to_owned(), answer.matches("HTTP/1.1 ").count())
}

#[tokio::test]
async fn paths_that_try_to_be_clever_lead_nowhere() {
    let world = World::start().await;
    let secret = r#"{"metadata":{"name":"s"},"stringData":{"a":"hidden"}}"#;
    assert_eq!(world.create("/api/v1/namespaces/default/secrets", secret).await.code, 201);
    assert!(send(&world, &get("/api/v1/namespaces/default/secrets/s")).await.contains("aGlkZGVu"));
    for path in [
        "//api/v1/namespaces/default/secrets/s",
        "/api//v1/namespaces/default/secrets/s",
        "/api/v1/namespaces/default/configmaps/../secrets/s",
        "/api/v1/namespaces/default/configmaps/%2e%2e/secrets/s",
        "/api/v1/namespaces/default/configmaps/%2E%2E%2Fsecrets%2Fs",
        "/api/v1/namespaces/default%2fsecrets%2fs",
        "/api/v1/./namespaces/default/secrets/s",
        "/api/v1/namespaces/default/secrets/s%00",
        "/healthz/../api/v1/namespaces/default/secrets/s",
        "/version/%2e%2e/api/v1/namespaces/default/secrets/s",
    ] {
        let answer = send(&world, &get(path)).await;
        assert_eq!(codes(&answer), ("404".to_owned(), 1), "{path}: {answer}");
        assert!(!answer.contains("aGlkZGVu"), "{path}");
    }
    for path in ["/api/v1/namespaces/default/secrets/s HTTP/1.1\r\nx: y", "api/v1/secrets", "/api/v1/sec rets"] {
        let answer = send(&world, &get(path)).await;
        assert!(matches!(codes(&answer).0.as_str(), "400" | "404" | "200"), "{path}: {answer}");
        assert!(codes(&answer).1 <= 1, "{path}: {answer}");
    }
}

#[tokio::test]
async fn one_request_is_not_two() {
    let world = World::start().await;
    let inner = "GET /api/v1/secrets HTTP/1.1\r\nhost: a\r\n\r\n";
    let post = |headers: &str, body: &str| {
        format!("POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: a\r\n{headers}\r\n\r\n{body}")
            .into_bytes()
    };
    for (headers, what) in [
        ("content-length: 0\r\ncontent-length: 44", "two lengths"),
        ("content-length: 0, 44", "two lengths in one"),
        ("content-length: +44", "a sign"),
        ("content-length: 0x2c", "another base"),
        ("content-length : 44", "a blank before the colon"),
        ("transfer-encoding: xchunked", "an unknown encoding"),
        ("transfer-encoding: chunked, identity", "chunked is not the last"),
        ("content-length: 3\r\n folded: 1", "a folded line"),
    ] {
        let answer = send(&world, &post(headers, inner)).await;
        assert_eq!(codes(&answer), ("400".to_owned(), 1), "{what}: {answer}");
    }
    // With both, the chunks count (RFC 9112, 6.3): what follows the last one is a request of its own, never a body.
    let both = post("content-length: 500\r\ntransfer-encoding: chunked\r\nconnection: close", "2\r\n{}\r\n0\r\n\r\n");
    let answer = send(&world, &both).await;
    assert_eq!(codes(&answer).1, 1, "{answer}");
    // A chunk's size must be one.
    for size in ["-1", "fffffffffffffffff", "2 2", ""] {
        let body = format!("{size}\r\n{inner}\r\n0\r\n\r\n");
        let answer = send(&world, &post("transfer-encoding: chunked\r\nconnection: close", &body)).await;
        assert_eq!(codes(&answer), ("400".to_owned(), 1), "{size:?}: {answer}");
    }
}

#[tokio::test]
async fn headers_have_an_end() {
    let world = World::start().await;
    let long = format!("GET /version HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(600 << 10));
    assert_eq!(codes(&send(&world, long.as_bytes()).await).0, "431");
    let many: String = (0..200).map(|n| format!("x{n}: y\r\n")).collect();
    let many = format!("GET /version HTTP/1.1\r\nhost: a\r\n{many}\r\n");
    assert_eq!(codes(&send(&world, many.as_bytes()).await).0, "431");
    let path = format!("GET /api/v1/{} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "a".repeat(70_000));
    assert!(matches!(codes(&send(&world, path.as_bytes()).await).0.as_str(), "404" | "414"));
    assert_eq!(world.get("/version").await.code, 200);
}

/// Time stands still but for waiting: whoever dawdles is cut off at the deadline, and others are served meanwhile.
#[tokio::test]
async fn who_dawdles_over_the_headers_is_cut_off() {
    let world = World::start().await;
    let mut slow = open(&world).await;
    slow.write_all(b"GET /version HTTP/1.1\r\nhost: a\r\nx-slow: ").await.unwrap();
    slow.flush().await.unwrap();
    assert_eq!(world.get("/version").await.code, 200);
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let mut answer = Vec::new();
    let reading = slow.read_to_end(&mut answer);
    let ended = tokio::time::timeout(Duration::from_secs(120), reading).await;
    let took = began.elapsed();
    assert!(ended.is_ok(), "the connection is still open after {took:?}");
    assert!(took <= Duration::from_secs(31), "{took:?}");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(!answer.contains("200 OK"), "{answer}");
}

/// The world takes a hundred connections: the next one waits until one of them is gone, and then is served.
#[tokio::test]
async fn idle_connections_are_bounded() {
    const CONNECTIONS_LEN_MAX: usize = 100;
    let world = World::start().await;
    // What made the world may still be closing its connections.
    let mut idle = Vec::new();
    while idle.len() < CONNECTIONS_LEN_MAX {
        idle.push(open(&world).await);
    }
    let next = open(&world);
    tokio::pin!(next);
    let waited = tokio::time::timeout(Duration::from_millis(300), next.as_mut()).await;
    assert!(waited.is_err(), "one more than a hundred was taken");
    drop(idle.pop());
    let mut stream = tokio::time::timeout(Duration::from_secs(10), next).await.expect("the place is free");
    stream.write_all(&get("/version")).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(codes(&answer).0, "200");
}
