//! Tests of `channels`.

use bytes::BytesMut;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::spdy::frame::{self, Encoder};
use crate::websocket::channels::negotiate;

#[test]
fn plans_of_commands() {
    let plan = Plan::remote_command(Streams { stdin: true, stdout: true, stderr: true, tty: false });
    let order: Vec<(u8, &str)> = plan.bindings.iter().map(|b| (b.channel, b.headers[0].1.as_str())).collect();
    assert_eq!(order, [(3, "error"), (0, "stdin"), (1, "stdout"), (2, "stderr")]);
    assert_eq!(plan.greetings, [(1, Bytes::new())]);
    let only_stdin = Plan::remote_command(Streams { stdin: true, tty: true, ..Streams::default() });
    assert_eq!(only_stdin.greetings, [(3, Bytes::new())]);
    assert_eq!(only_stdin.bindings.last().map(|b| (b.channel, b.inward, b.outward)), Some((4, true, false)));
}

#[test]
fn plans_of_ports() {
    let plan = Plan::port_forward(&[80, 8080]);
    let streams: Vec<(u8, String)> = plan
        .bindings
        .iter()
        .map(|b| (b.channel, b.headers.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ")))
        .collect();
    let expected = [(1, "error 80 0"), (0, "data 80 0"), (3, "error 8080 1"), (2, "data 8080 1")];
    assert_eq!(streams, expected.map(|(channel, text)| (channel, text.to_owned())));
    assert_eq!(plan.greetings[3], (3, Bytes::from_static(&[0x90, 0x1f])));
}

#[test]
fn old_clients_are_told_messages() {
    let failed = br#"{"metadata":{},"status":"Failure","message":"command terminated with exit code 3"}"#;
    assert_eq!(failure_message(failed).as_deref(), Some("command terminated with exit code 3"));
    assert_eq!(failure_message(br#"{"metadata":{},"status":"Success"}"#), None);
    assert_eq!(failure_message(b""), None);
}

type Socket = WebSocketStream<DuplexStream>;

/// A session between a client and a runtime, both played by the test.
async fn session<F: Future<Output = ()>>(wanted: Streams, test: impl FnOnce(Socket, DuplexStream) -> F) {
    let (client, client_end) = tokio::io::duplex(4096);
    let (runtime, runtime_end) = tokio::io::duplex(4096);
    let v5 = negotiate(&["v5.channel.k8s.io"], |_| true).unwrap();
    let socket = WebSocketStream::from_raw_socket(client_end, Role::Client, None).await;
    let run = run(client, runtime, v5, Plan::remote_command(wanted), Clock::system());
    tokio::join!(run, test(socket, runtime_end));
}

const OUT: Streams = Streams { stdin: false, stdout: true, stderr: false, tty: false };
/// The streams of [`OUT`].
const ERROR_STREAM: u32 = 1;
const OUT_STREAM: u32 = 3;

async fn accept(runtime: &mut DuplexStream) {
    let mut wire = BytesMut::new();
    let mut encoder = Encoder::default();
    for stream in [ERROR_STREAM, OUT_STREAM] {
        encoder.syn_reply(stream, &[], &mut wire);
    }
    runtime.write_all(&wire).await.unwrap();
}

/// What the client is told, up to the close.
async fn told(socket: &mut Socket) -> Vec<(u8, String)> {
    let mut told = Vec::new();
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => told.push((bytes[0], String::from_utf8_lossy(&bytes[1..]).into_owned())),
            Message::Close(frame) => {
                assert_eq!(u16::from(frame.unwrap().code), 1000);
                return told;
            }
            other => panic!("{other:?}"),
        }
    }
}

fn assert_failure(told: &[(u8, String)], message: &str) {
    let (channel, status) = told.last().unwrap();
    let status: serde_json::Value = serde_json::from_str(status).unwrap();
    assert_eq!((*channel, &status["reason"]), (ERROR, &"InternalError".into()));
    assert_eq!(status["message"], format!("Internal error occurred: {message}"));
}

#[tokio::test]
async fn a_runtime_that_dies_is_a_failure_not_a_success() {
    session(OUT, async |mut socket, mut runtime| {
        accept(&mut runtime).await;
        let mut wire = BytesMut::new();
        frame::put_data_head(OUT_STREAM, false, 4, &mut wire);
        wire.extend_from_slice(b"half");
        runtime.write_all(&wire).await.unwrap();
        drop(runtime);
        let told = told(&mut socket).await;
        assert_eq!(told[..2], [(1, String::new()), (1, "half".to_owned())]);
        assert_failure(&told, "the container runtime closed the stream");
    })
    .await;
}

#[tokio::test]
async fn it_is_over_when_the_runtime_has_ended_its_streams() {
    session(OUT, async |mut socket, mut runtime| {
        accept(&mut runtime).await;
        let status = br#"{"metadata":{},"status":"Success"}"#;
        let mut wire = BytesMut::new();
        frame::put_rst_stream(OUT_STREAM, 5, &mut wire);
        frame::put_data_head(ERROR_STREAM, true, status.len(), &mut wire);
        wire.extend_from_slice(status);
        runtime.write_all(&wire).await.unwrap();
        let told = told(&mut socket).await;
        assert_eq!(told, [(1, String::new()), (3, String::from_utf8_lossy(status).into_owned())]);
        let mut rest = Vec::new();
        runtime.read_to_end(&mut rest).await.unwrap(); // and the runtime is told that it is over
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_takes_no_streams_is_given_up() {
    session(OUT, async |mut socket, _runtime| {
        assert_failure(&told(&mut socket).await, "the container runtime did not accept the streams");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_holds_the_runtime_back() {
    session(OUT, async |mut socket, mut runtime| {
        accept(&mut runtime).await;
        let mut wire = BytesMut::new();
        frame::put_data_head(OUT_STREAM, true, 10_000_000, &mut wire);
        runtime.write_all(&wire).await.unwrap();
        let mut written = 0;
        let piece = [0; 1000];
        while tokio::time::timeout(Duration::from_secs(1), runtime.write_all(&piece)).await.is_ok() {
            written += piece.len();
        }
        assert!(written < 1_000_000, "{written} bytes are held");
        drop(socket.close(None).await);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_session() {
    session(Streams { stdin: true, ..OUT }, async |socket, mut runtime| {
        let mut wire = BytesMut::new();
        let mut encoder = Encoder::default();
        for stream in [1, 3, 5] {
            encoder.syn_reply(stream, &[], &mut wire);
        }
        runtime.write_all(&wire).await.unwrap();
        drop(socket);
        let mut rest = Vec::new();
        runtime.read_to_end(&mut rest).await.unwrap();
    })
    .await;
}
