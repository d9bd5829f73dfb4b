//! Translates between a WebSocket with channels and a SPDY session with the runtime.

use std::time::Duration;

use base::Clock;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

use super::idle::Idle;
use super::pass::LINGER;
use crate::spdy::session::{self, Event};
use crate::websocket;
use crate::websocket::channels::{Incoming, Protocol, Sink, Source, split};

/// How long the runtime may take to accept the streams.
const ACCEPT_LIMIT: Duration = Duration::from_secs(30);
/// The longest error that is kept for a client of an old protocol.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// The channel of exec and attach that carries how it ended.
pub const ERROR: u8 = 3;
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const RESIZE: u8 = 4;

/// A channel and the stream that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The client's number.
    pub channel: u8,
    /// What opens the stream.
    pub headers: Vec<(&'static str, String)>,
    /// The client may write.
    pub inward: bool,
    /// The runtime may write; the session is over when it has ended all of these.
    pub outward: bool,
}

/// What a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which the streams are opened.
    pub bindings: Vec<Binding>,
    /// What the client is sent before anything else.
    pub greetings: Vec<(u8, Bytes)>,
    /// The channel that must say how it ended.
    pub status: Option<u8>,
}

/// Which of a command's streams are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Plan {
    /// For exec and attach. The client is greeted with an empty message on its lowest output, as upstream.
    pub fn remote_command(wanted: Streams) -> Self {
        let table = [
            (true, ERROR, "error", false),
            (wanted.stdin, STDIN, "stdin", true),
            (wanted.stdout, STDOUT, "stdout", false),
            (wanted.stderr, STDERR, "stderr", false),
            (wanted.tty, RESIZE, "resize", true),
        ];
        let bindings: Vec<Binding> = table
            .into_iter()
            .filter(|(wanted, ..)| *wanted)
            .map(|(_, channel, name, inward)| Binding {
                channel,
                headers: vec![("streamtype", name.to_owned())],
                inward,
                outward: !inward,
            })
            .collect();
        let lowest = bindings.iter().filter(|b| b.outward).map(|b| b.channel).min().unwrap_or(ERROR);
        Self { bindings, greetings: vec![(lowest, Bytes::new())], status: Some(ERROR) }
    }

    /// For port-forward: two channels a port, data and error, each greeted with the port's number (little endian).
    pub fn port_forward(ports: &[u16]) -> Self {
        let (mut bindings, mut greetings) = (Vec::new(), Vec::new());
        for (request, (port, channel)) in ports.iter().zip((0u8..).step_by(2)).enumerate() {
            for (channel, name) in [(channel + 1, "error"), (channel, "data")] {
                let headers = vec![
                    ("streamtype", name.to_owned()),
                    ("port", port.to_string()),
                    ("requestid", request.to_string()),
                ];
                bindings.push(Binding { channel, headers, inward: name == "data", outward: true });
            }
            for channel in [channel, channel + 1] {
                greetings.push((channel, Bytes::copy_from_slice(&port.to_le_bytes())));
            }
        }
        Self { bindings, greetings, status: None }
    }
}

impl Plan {
    /// The ports it forwards.
    pub fn ports(&self) -> Vec<i32> {
        let data = self.bindings.iter().filter(|binding| binding.inward);
        let ports = data.flat_map(|b| b.headers.iter().find(|(name, _)| *name == "port"));
        ports.filter_map(|(_, port)| port.parse().ok()).collect()
    }
}

/// One side of a session as it runs: the binding and its stream.
#[derive(Debug, Clone, Copy)]
struct Route {
    channel: u8,
    stream: u32,
    inward: bool,
    outward: bool,
}

/// Why a session ended.
enum End {
    /// The runtime had no more to say.
    Finished,
    /// The client closed, or either connection broke, or nothing moved for too long.
    Broken,
    /// The runtime did not take the streams.
    NotAccepted,
}

/// Runs a session to its end.
pub async fn run<C, R>(client: C, runtime: R, protocol: Protocol, plan: Plan, clock: Clock)
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut source) = split(websocket::serve(client).await, protocol);
    let (mut receiver, mut sender, mut replies) = session::session(runtime);
    let end = match open(&plan, &mut sender).await {
        Err(_) => End::NotAccepted,
        Ok(routes) => {
            let idle = Idle::new(clock);
            let (accept, accepted) = watch::channel(0);
            tokio::select! {
                outcome = outward(&mut receiver, &mut sink, &routes, &plan, protocol, &idle, accept) => {
                    if let Err(error) = outcome {
                        tracing::debug!(%error, "a stream to a client broke");
                    }
                    End::Finished
                }
                end = inward(&mut source, &mut sender, &mut replies, &routes, &idle, accepted) => end,
                () = idle.expired() => End::Broken,
            }
        }
    };
    if matches!(end, End::NotAccepted) {
        report_failure(&mut sink, &plan, protocol, "the container runtime did not accept the streams").await;
    }
    let _ = sender.close().await;
    let _ = sink.close().await;
    if !matches!(end, End::Broken) {
        let _ = tokio::time::timeout(LINGER, source.drain()).await;
    }
}

/// Opens the streams.
async fn open<R: AsyncWrite>(plan: &Plan, sender: &mut session::Sender<R>) -> Result<Vec<Route>, crate::spdy::Error> {
    let mut routes = Vec::new();
    for binding in &plan.bindings {
        let headers: Vec<(&str, &str)> = binding.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let stream = sender.open(&headers).await?;
        let Binding { channel, inward, outward, .. } = *binding;
        routes.push(Route { channel, stream, inward, outward });
    }
    Ok(routes)
}

/// From the runtime to the client, until the runtime has nothing more to say.
async fn outward<C, R>(
    receiver: &mut session::Receiver<R>,
    sink: &mut Sink<C>,
    routes: &[Route],
    plan: &Plan,
    protocol: Protocol,
    idle: &Idle,
    accepted: watch::Sender<usize>,
) -> std::io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead,
{
    for (channel, greeting) in &plan.greetings {
        sink.send(*channel, greeting).await?;
    }
    let mut open: Vec<Route> = routes.iter().copied().filter(|route| route.outward).collect();
    let mut status = Vec::new();
    let mut told = false;
    while !open.is_empty() {
        let (stream, data, ended) = match receiver.next().await {
            Ok(Some(Event::Data { stream, data, fin })) => (stream, data, fin),
            Ok(Some(Event::Reset { stream })) => (stream, Bytes::new(), true),
            Ok(Some(Event::Accepted { .. })) => {
                accepted.send_modify(|len| *len += 1);
                continue;
            }
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(%error, "a stream from the runtime broke");
                break;
            }
        };
        let Some(route) = open.iter().copied().find(|route| route.stream == stream) else { continue };
        let is_status = plan.status == Some(route.channel);
        told |= is_status && (ended || !data.is_empty());
        if is_status && !protocol.status {
            status.extend_from_slice(&data[..data.len().min(ERROR_BYTES_MAX - status.len())]);
        } else if !data.is_empty() {
            sink.send(route.channel, &data).await?;
        }
        if ended {
            open.retain(|route| route.stream != stream);
        }
        idle.touch();
    }
    if plan.status.is_some() && !told {
        report_failure(sink, plan, protocol, "the container runtime closed the stream").await;
    } else if let (Some(channel), Some(message)) = (plan.status, failure_message(&status)) {
        sink.send(channel, message.as_bytes()).await?;
    }
    Ok(())
}

/// What an old client is told of a `Status`: its message when it is a failure.
fn failure_message(status: &[u8]) -> Option<String> {
    let status: serde_json::Value = serde_json::from_slice(status).ok()?;
    let failed = status.get("status").and_then(|s| s.as_str()) != Some("Success");
    failed.then(|| status.get("message").and_then(|m| m.as_str()).unwrap_or_default().to_owned())
}

/// Tells the client of a failure that is the node's, not the command's.
async fn report_failure<C>(sink: &mut Sink<C>, plan: &Plan, protocol: Protocol, error: &str)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let message = format!("Internal error occurred: {error}");
    tracing::warn!(error, "a stream failed");
    let Some(channel) = plan.status else { return };
    let text = if protocol.status {
        let cause = serde_json::json!({ "message": error });
        serde_json::json!({
            "metadata": {}, "status": "Failure", "message": message, "reason": "InternalError",
            "details": { "causes": [cause] }, "code": 500,
        })
        .to_string()
    } else {
        message
    };
    let _ = sink.send(channel, text.as_bytes()).await;
}

/// From the client to the runtime, until the client has gone. What the runtime must be answered goes out here too.
/// The client is not read before the runtime has accepted all streams: it drops what is sent earlier.
async fn inward<C, R>(
    source: &mut Source<C>,
    sender: &mut session::Sender<R>,
    replies: &mut mpsc::Receiver<session::Reply>,
    routes: &[Route],
    idle: &Idle,
    mut accepted: watch::Receiver<usize>,
) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncWrite,
{
    let all_accepted = async { accepted.wait_for(|len| *len == routes.len()).await.is_ok() };
    match tokio::time::timeout(ACCEPT_LIMIT, all_accepted).await {
        Ok(true) => {}
        Ok(false) => return std::future::pending().await, // the other direction has ended and says how
        Err(_) => return End::NotAccepted,
    }
    let mut open: Vec<Route> = routes.iter().copied().filter(|route| route.inward).collect();
    loop {
        let incoming = tokio::select! {
            biased;
            Some(reply) = replies.recv() => {
                if sender.reply(reply).await.is_err() {
                    return std::future::pending().await; // the other direction will see the end
                }
                continue;
            }
            incoming = source.next() => incoming,
        };
        let (channel, data, fin) = match incoming {
            Some(Incoming::Data(channel, data)) => (channel, data, false),
            Some(Incoming::Close(channel)) => (channel, Bytes::new(), true),
            None => return End::Broken,
        };
        idle.touch();
        let Some(route) = open.iter().copied().find(|route| route.channel == channel) else { continue };
        if fin {
            open.retain(|route| route.channel != channel);
        } else if data.is_empty() {
            continue;
        }
        if sender.send(route.stream, data, fin).await.is_err() {
            // The runtime has closed: what it said before is still on its way to the client.
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests;
