//! The server before a real containerd, with the clients' own protocols.

mod bench;
mod client;

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::spdy::session::{self, Event};
use bench::Bench;
use client::{Client, Outcome};

const EXEC: &str = "/exec/ns/web/main?input=1&output=1&error=1";

fn command(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("&command={}", form_urlencoded::byte_serialize(word.as_bytes()).collect::<String>()))
        .collect()
}

fn exec(words: &[&str]) -> String {
    format!("{EXEC}{}", command(words))
}

fn sh(script: &str) -> String {
    exec(&["sh", "-c", script])
}

/// Lines of numbers: more than ten megabytes.
fn numbers() -> String {
    (1..=1_500_000).fold(String::new(), |mut text, n| {
        text.push_str(&n.to_string());
        text.push('\n');
        text
    })
}

fn exit_code(status: &Value) -> &Value {
    &status["details"]["causes"][0]["message"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_a_pod() {
    Bench::run(async |bench| {
        let client = bench.client();
        access(bench).await;
        plain_requests(&client).await;
        commands(&client).await;
        old_protocols(&client).await;
        terminal(&client).await;
        much(&client).await;
        spdy(&client).await;
        port_forward(&client).await;
        logs(bench, &client).await;
        attach_and_follow(bench, &client).await;
    })
    .await;
}

async fn access(bench: &Bench) {
    let nobody = bench.client_as(None).get("/healthz").await;
    assert_eq!((nobody.code, nobody.text()), (401, "Unauthorized".to_owned()));
    let eve = bench.client_as(Some("eve")).get("/exec/ns/web/main").await;
    let words = "Forbidden (user=eve, verb=get, resource=nodes, subresource(s)=[proxy])";
    assert_eq!((eve.code, eve.text()), (403, words.to_owned()));
    let stranger = bench.stranger().try_get("/healthz").await;
    assert!(stranger.is_err(), "a certificate of another CA is refused in the handshake");
}

async fn plain_requests(client: &Client) {
    let table = [
        ("/healthz", 200, "ok"),
        ("/nothing", 404, "404 page not found"),
        ("/containerLogs/ns/gone/main", 404, "pod \"gone\" does not exist"),
        ("/containerLogs/ns/web/gone", 404, "container \"gone\" not found in pod \"web\""),
        (
            "/containerLogs/ns/web/waits",
            400,
            "container \"waits\" in pod \"web\" is waiting to start: ContainerCreating",
        ),
        (
            "/containerLogs/ns/web/main?previous=true",
            400,
            "previous terminated container \"main\" in pod \"web\" not found",
        ),
        ("/containerLogs/ns/web/main?tailLines=-1", 422, "{\"message\": \"Invalid request.\"}"),
        ("/containerLogs/ns/web/main?tailLines=x", 400, "{\"message\": \"Unable to decode query.\"}"),
        ("/exec/ns/web/main?tty=1", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("/exec/ns/gone/main?output=1", 404, "pod does not exist"),
        ("/exec/ns/web/waits?output=1", 500, "container not found (\"waits\")"),
        ("/exec/ns/web/main?output=1", 400, "Upgrade request required"),
        ("/portForward/ns/web/other-uid", 404, "pod not found"),
    ];
    for (path, code, text) in table {
        let answer = client.get(path).await;
        assert_eq!((answer.code, answer.text()), (code, text.to_owned()), "{path}");
    }
    let pods: Value = serde_json::from_slice(&client.get("/pods").await.body).unwrap();
    assert_eq!(pods["items"][0]["metadata"]["name"], "web");
    let summary: Value = serde_json::from_slice(&client.get("/stats/summary").await.body).unwrap();
    assert_eq!(summary["node"]["nodeName"], "node-1");
    assert_eq!(summary["pods"][0]["podRef"]["name"], "web");
    assert!(summary["pods"][0]["memory"]["workingSetBytes"].as_u64().unwrap() > 0, "{summary}");
    let metrics = client.get("/metrics/resource").await.text();
    assert!(metrics.contains("container_memory_working_set_bytes{container=\"main\",namespace=\"ns\",pod=\"web\"}"));
    assert!(metrics.contains("resource_scrape_error 0"), "{metrics}");
    assert!(client.get("/metrics").await.text().contains("pintle_node_streams 0"));
}

async fn commands(client: &Client) {
    // Input ends, the command ends, and says so.
    let mut stream = client.websocket(&exec(&["cat"]), "v5.channel.k8s.io").await;
    stream.send(0, b"x\n").await;
    stream.close_channel(0).await;
    let cat = stream.outcome().await;
    assert_eq!((cat.out(), cat.error.as_slice()), ("x\n", &b""[..]));
    assert_eq!(cat.status()["status"], "Success");
    assert_eq!(cat.greeted, Some(1));

    let mut stream = client.websocket(&sh("echo out; echo err >&2; exit 3"), "v5.channel.k8s.io").await;
    let failed = stream.outcome().await;
    assert_eq!((failed.out(), failed.error.as_slice()), ("out\n", &b"err\n"[..]));
    assert_eq!(failed.status()["reason"], "NonZeroExitCode");
    assert_eq!(exit_code(&failed.status()), "3");

    let mut stream = client.websocket(&exec(&["/no/such"]), "v5.channel.k8s.io").await;
    let missing = stream.outcome().await.status();
    assert_eq!(missing["status"], "Failure");
    assert!(missing["message"].as_str().unwrap().contains("no such file or directory"), "{missing}");

    let refused = client.try_websocket(&exec(&["cat"]), "v6.channel.k8s.io").await.err().unwrap();
    assert!(refused.contains("403"), "{refused}");

    // A client that goes away ends the stream, and the node can say how many are left.
    let mut stream = client.websocket(&exec(&["cat"]), "v5.channel.k8s.io").await;
    stream.send(0, b"y\n").await;
    drop(stream);
    let gone = async {
        while !client.get("/metrics").await.text().contains("pintle_node_streams 0") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the stream of a client that left is ended");
}

async fn old_protocols(client: &Client) {
    for protocol in ["v4.channel.k8s.io", "v4.base64.channel.k8s.io"] {
        let mut stream = client.websocket(&sh("read line; echo got $line; exit 4"), protocol).await;
        stream.send(0, b"x\n").await;
        let outcome = stream.outcome().await;
        assert_eq!(outcome.out(), "got x\n", "{protocol}");
        assert_eq!(exit_code(&outcome.status()), "4", "{protocol}");
    }
    for protocol in ["channel.k8s.io", "base64.channel.k8s.io"] {
        let outcome = client.websocket(&sh("exit 4"), protocol).await.outcome().await;
        let message = String::from_utf8(outcome.status).unwrap();
        assert!(message.contains("exit code 4") || message.contains("exit status 4"), "{protocol}: {message}");
        let outcome = client.websocket(&sh("echo a"), protocol).await.outcome().await;
        assert_eq!((outcome.out(), outcome.status.as_slice()), ("a\n", &b""[..]), "{protocol}");
    }
}

async fn terminal(client: &Client) {
    let script = "while [ \"$(busybox stty size 2>/dev/null)\" != '40 100' ]; do sleep 0.05; done; echo resized >&2";
    let path = format!("/exec/ns/web/main?input=1&output=1&error=1&tty=1{}", command(&["sh", "-c", script]));
    let mut stream = client.websocket(&path, "v5.channel.k8s.io").await;
    stream.send(4, br#"{"Width":100,"Height":40}"#).await;
    let outcome = stream.outcome().await;
    assert_eq!(outcome.out(), "resized\r\n", "a terminal has one output, and its own line ends");
    assert_eq!(outcome.status()["status"], "Success");
}

async fn much(client: &Client) {
    let expected = numbers();
    let outcome = client.websocket(&sh("busybox seq 1 1500000"), "v5.channel.k8s.io").await.outcome().await;
    assert!(outcome.out() == expected, "{} of {} bytes", outcome.out.len(), expected.len());

    // The runtime closes as soon as it has said all: nothing of it may be lost on the way.
    for _ in 0..8 {
        let outcome =
            client.websocket(&sh("busybox head -c 5000000 /dev/zero"), "v5.channel.k8s.io").await.outcome().await;
        assert_eq!((outcome.out.len(), &outcome.status()["status"]), (5_000_000, &Value::from("Success")));
    }

    let mut stream = client.websocket(&sh("busybox md5sum; echo done"), "v5.channel.k8s.io").await;
    for piece in expected.as_bytes().chunks(100_000) {
        stream.send(0, piece).await;
    }
    stream.close_channel(0).await;
    let theirs = stream.outcome().await;
    let ours = client.websocket(&sh("busybox seq 1 1500000 | busybox md5sum; echo done"), "v5.channel.k8s.io").await;
    assert_eq!(theirs.out(), { ours }.outcome().await.out());
}

/// What kubectl did before it spoke WebSocket.
async fn spdy(client: &Client) {
    let io = client.upgrade(&sh("cat; exit 5"), &["v5.channel.k8s.io", "v4.channel.k8s.io"]).await;
    let (mut receiver, mut sender, _replies) = session::session(io);
    let mut streams = Vec::new();
    for name in ["error", "stdin", "stdout", "stderr"] {
        streams.push(sender.open(&[("streamType", name)]).await.unwrap());
    }
    let (mut accepted, mut out, mut status) = (0, Vec::new(), Vec::new());
    while let Some(event) = receiver.next().await.unwrap() {
        match event {
            Event::Accepted { .. } => {
                accepted += 1;
                if accepted == streams.len() {
                    sender.send(streams[1], Bytes::from_static(b"through\n"), true).await.unwrap();
                }
            }
            Event::Data { stream, data, .. } if stream == streams[0] => status.extend_from_slice(&data),
            Event::Data { stream, data, .. } if stream == streams[2] => out.extend_from_slice(&data),
            _ => {}
        }
    }
    assert_eq!(out, b"through\n");
    assert_eq!(exit_code(&serde_json::from_slice(&status).unwrap()), "5");
}

const GET: &[u8] = b"GET /group HTTP/1.0\r\n\r\n";
const CONTENT: &str = "root:x:0:";

async fn port_forward(client: &Client) {
    // kubectl: a SPDY session in a WebSocket.
    let io = client.tunnel("/portForward/ns/web", "SPDY/3.1+portforward.k8s.io").await;
    let (mut receiver, mut sender, _replies) = session::session(io);
    let mut answers = Vec::new();
    for (request, port) in ["8080", "8080", "1"].iter().enumerate() {
        let request = request.to_string();
        let headers = |kind| [("streamType", kind), ("port", *port), ("requestID", request.as_str())];
        let error = sender.open(&headers("error")).await.unwrap();
        let data = sender.open(&headers("data")).await.unwrap();
        answers.push((error, data, Vec::new(), Vec::new()));
    }
    let mut accepted = 0;
    let mut waiting: Vec<u32> = answers.iter().flat_map(|(error, data, ..)| [*error, *data]).collect();
    while !waiting.is_empty() {
        match receiver.next().await.unwrap().expect("the session goes on") {
            Event::Accepted { .. } => {
                accepted += 1;
                if accepted == 6 {
                    for (_, data, ..) in &answers[..2] {
                        sender.send(*data, Bytes::from_static(GET), false).await.unwrap();
                    }
                }
            }
            Event::Data { stream, data, fin } => {
                for answer in &mut answers {
                    if answer.0 == stream {
                        answer.2.extend_from_slice(&data);
                    } else if answer.1 == stream {
                        answer.3.extend_from_slice(&data);
                    }
                }
                if fin {
                    waiting.retain(|open| *open != stream);
                }
            }
            Event::Reset { stream } => waiting.retain(|open| *open != stream),
        }
    }
    for (_, _, error, data) in &answers[..2] {
        let data = String::from_utf8_lossy(data);
        assert!(error.is_empty() && data.starts_with("HTTP/1.1 200") && data.contains(CONTENT), "{data}");
    }
    let refused = String::from_utf8_lossy(&answers[2].2);
    assert!(refused.contains("connection refused"), "{refused:?}");

    // Others: two channels a port.
    let mut stream = client.websocket("/portForward/ns/web?ports=8080,1", "v4.channel.k8s.io").await;
    stream.send(0, GET).await;
    let outcome = stream.outcome().await;
    let (port, data) = outcome.channels[&0].split_at(2);
    assert_eq!(port, 8080u16.to_le_bytes());
    let data = String::from_utf8_lossy(data);
    assert!(data.starts_with("HTTP/1.1 200") && data.contains(CONTENT), "{data:?}");
    assert_eq!(outcome.channels[&1], 8080u16.to_le_bytes());
    assert!(outcome.channels[&3].starts_with(&1u16.to_le_bytes()));
    assert!(String::from_utf8_lossy(&outcome.channels[&3]).contains("connection refused"));

    let none = client.try_websocket("/portForward/ns/web", "v4.channel.k8s.io").await.err().unwrap();
    assert!(none.contains("403") || none.contains("400"), "{none}");
}

async fn logs(bench: &Bench, client: &Client) {
    bench.wait_for_log("main", "started 5\n").await;
    let log = |query: &str| format!("/containerLogs/ns/web/main?{query}");
    let all = client.get(&log("")).await;
    assert_eq!(all.code, 200);
    assert_eq!(all.text(), "started 1\nstarted 2\nstarted 3\nstarted 4\nstarted 5\n");
    assert_eq!(client.get(&log("tailLines=2")).await.text(), "started 4\nstarted 5\n");
    assert_eq!(client.get(&log("limitBytes=12")).await.text(), "started 1\nst");
    assert_eq!(client.get(&log("stream=Stderr")).await.text(), "started 2\nstarted 4\n");
    assert_eq!(client.get(&log("sinceTime=2100-01-01T00:00:00Z")).await.text(), "");
    let shown = client.get(&log("timestamps=true&tailLines=1")).await.text();
    let (time, text) = shown.split_once(' ').unwrap();
    let time: base::Timestamp = time.parse().unwrap();
    assert_eq!(text, "started 5\n");
    assert!(Clock::system().now().duration_since(time).as_secs() < 600, "{shown}");
}

async fn attach_and_follow(bench: &Bench, client: &Client) {
    let mut follow = client.follow("/containerLogs/ns/web/echo?follow=true&timestamps=false").await;
    let other = client.follow("/containerLogs/ns/web/main?follow=true&tailLines=0").await;

    let mut stream = client.websocket("/attach/ns/web/echo?input=1&output=1&error=1", "v5.channel.k8s.io").await;
    stream.send(0, b"one\n").await;
    assert_eq!(follow.until("got one\n").await, "got one\n");
    stream.send(0, b"two\n").await;
    assert_eq!(follow.until("got two\n").await, "got two\n");
    stream.close_channel(0).await;
    let Outcome { out, .. } = stream.outcome().await;
    assert_eq!(String::from_utf8(out).unwrap(), "got one\ngot two\nbye\n");

    assert_eq!(follow.rest().await, "bye\n", "the log ends with the container");
    bench.runtime().stop_container(bench.container("main"), 0).await.unwrap();
    assert_eq!(other.rest().await, "");
}
