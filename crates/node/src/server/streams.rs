//! `/exec`, `/attach` and `/portForward`: finds the container, asks the runtime for a stream, and joins it to the
//! client's connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Object;
use api::core::v1::Pod;
use cri::v1;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;

use super::reply::{self, Failure, Nothing, Reply};
use super::route::ContainerPath;
use super::{Shared, query};
use crate::streaming::channels::{self, Plan};
use crate::streaming::{PORT_FORWARD, PROTOCOL_HEADER, REMOTE_COMMAND, SPDY, pass, runtime, tunnel};
use crate::websocket::channels::{Protocol, negotiate};
use crate::websocket::{handshake, tunnel as tunnelled};
use crate::{labels, pod};

/// Why a new stream is refused when there are too many.
const TOO_MANY: &str = "too many streams are open on this node, please try again later";

impl Shared {
    /// Leave to have one more stream open.
    pub(super) fn stream_permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let permit = self.streams.clone().try_acquire_owned();
        permit.map_err(|_| Failure::new(StatusCode::TOO_MANY_REQUESTS, TOO_MANY))
    }
}

/// Runs a command.
pub async fn exec(shared: &Shared, path: &ContainerPath, request: Request<Incoming>) -> Result<Reply, Failure> {
    let pairs = query::pairs(request.uri().query());
    let wanted = query::streams(&pairs).map_err(Failure::bad_request)?;
    let p = find_pod(shared, &path.namespace, &path.pod)?;
    let container_id = running_container(shared, &p, path).await?;
    let start = Start::of(request, |protocols| client_of_command(protocols, Plan::remote_command(wanted)))?;
    let channels::Streams { stdin, stdout, stderr, tty } = wanted;
    let cmd = query::command(&pairs);
    let request = v1::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr, ..Default::default() };
    let url = shared.runtime.exec(request).await?;
    start.join(shared, &url, &[REMOTE_COMMAND]).await
}

/// Joins a container's first process.
pub async fn attach(shared: &Shared, path: &ContainerPath, request: Request<Incoming>) -> Result<Reply, Failure> {
    let pairs = query::pairs(request.uri().query());
    let mut wanted = query::streams(&pairs).map_err(Failure::bad_request)?;
    let p = find_pod(shared, &path.namespace, &path.pod)?;
    let container_id = running_container(shared, &p, path).await?;
    let spec = pod::find_container(&p, &path.container);
    let spec = spec.ok_or_else(|| {
        Failure::internal(format!("container {} not found in pod {}_{}", path.container, path.pod, path.namespace))
    })?;
    // Whether there is a terminal was settled when the container was made; one has no second output.
    wanted.tty = spec.tty == Some(true);
    wanted.stderr &= !wanted.tty;
    let start = Start::of(request, |protocols| client_of_command(protocols, Plan::remote_command(wanted)))?;
    let channels::Streams { stdin, stdout, stderr, tty } = wanted;
    let request = v1::AttachRequest { container_id, stdin, tty, stdout, stderr, ..Default::default() };
    let url = shared.runtime.attach(request).await?;
    start.join(shared, &url, &[REMOTE_COMMAND]).await
}

/// Forwards ports of a pod.
pub async fn port_forward(
    shared: &Shared,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
    request: Request<Incoming>,
) -> Result<Reply, Failure> {
    let pairs = query::pairs(request.uri().query());
    let p = find_pod(shared, namespace, name)?;
    if uid.is_some_and(|uid| uid != p.uid()) {
        return Err(Failure::not_found("pod not found"));
    }
    let pod_sandbox_id = ready_sandbox(shared, &p).await?;
    let start = Start::of(request, |protocols| client_of_ports(protocols, &pairs))?;
    let port = match &start.client {
        Client::Channels(_, plan) => plan.ports(),
        _ => Vec::new(),
    };
    let url = shared.runtime.port_forward(v1::PortForwardRequest { pod_sandbox_id, port }).await?;
    start.join(shared, &url, &[PORT_FORWARD]).await
}

fn find_pod(shared: &Shared, namespace: &str, name: &str) -> Result<Arc<Pod>, Failure> {
    shared.pods.pod(namespace, name).ok_or_else(|| Failure::not_found("pod does not exist"))
}

/// The id of the running container that is meant.
async fn running_container(shared: &Shared, p: &Pod, path: &ContainerPath) -> Result<String, Failure> {
    if path.uid.as_deref().is_some_and(|uid| uid != p.uid()) {
        return Err(Failure::not_found("pod does not exist"));
    }
    let selector = [(labels::POD_UID, p.uid()), (labels::CONTAINER_NAME, path.container.as_str())];
    let filter = v1::ContainerFilter {
        label_selector: owned(&selector),
        state: Some(v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning.into() }),
        ..Default::default()
    };
    let found = shared.runtime.list_containers(Some(filter)).await?;
    let newest = found.into_iter().max_by_key(|container| container.created_at).map(|container| container.id);
    newest.ok_or_else(|| Failure::internal(format!("container not found ({:?})", path.container)))
}

/// The id of the pod's newest sandbox.
async fn ready_sandbox(shared: &Shared, p: &Pod) -> Result<String, Failure> {
    let filter = v1::PodSandboxFilter {
        label_selector: owned(&[(labels::POD_UID, p.uid())]),
        state: Some(v1::PodSandboxStateValue { state: v1::PodSandboxState::SandboxReady.into() }),
        ..Default::default()
    };
    let found = shared.runtime.list_pod_sandbox(Some(filter)).await?;
    let newest = found.into_iter().max_by_key(|sandbox| sandbox.created_at).map(|sandbox| sandbox.id);
    newest.ok_or_else(|| Failure::internal(format!("failed to find sandboxID for pod {}", p.name())))
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// How a client wants to be spoken to.
enum Client {
    /// The runtime's bytes as they are.
    Spdy,
    /// The runtime's bytes in messages; the subprotocol.
    Tunnel(String),
    /// Channels.
    Channels(Protocol, Plan),
}

/// Picks among a WebSocket client's offers for exec and attach.
fn client_of_command(offered: &[&str], plan: Plan) -> Result<Client, String> {
    let protocol = negotiate(offered, |_| true).ok_or_else(|| unsupported(offered))?;
    Ok(Client::Channels(protocol, plan))
}

/// Picks among a WebSocket client's offers for port-forward.
fn client_of_ports(offered: &[&str], pairs: &[(String, String)]) -> Result<Client, String> {
    if let Some((name, _)) = tunnelled::negotiate(offered, &[PORT_FORWARD]) {
        return Ok(Client::Tunnel(name.to_owned()));
    }
    let older = |p: &Protocol| !p.close_signal && p.status == p.name.starts_with("v4");
    let protocol = negotiate(offered, older).ok_or_else(|| unsupported(offered))?;
    Ok(Client::Channels(protocol, Plan::port_forward(&query::ports(pairs)?)))
}

fn unsupported(offered: &[&str]) -> String {
    format!("requested protocol(s) are not supported: [{}]", offered.join(" "))
}

/// A client that has asked for a stream and waits for the answer.
struct Start {
    client: Client,
    headers: HeaderMap,
    upgrade: OnUpgrade,
}

impl Start {
    fn of(
        mut request: Request<Incoming>,
        choose: impl FnOnce(&[&str]) -> Result<Client, String>,
    ) -> Result<Self, Failure> {
        let headers = request.headers().clone();
        let client = if handshake::asks_for(&headers, "websocket") {
            let client = choose(&handshake::offered(&headers));
            client.map_err(|message| Failure::new(StatusCode::FORBIDDEN, message))?
        } else if handshake::asks_for(&headers, SPDY) {
            Client::Spdy
        } else {
            return Err(Failure::bad_request("Upgrade request required"));
        };
        Ok(Self { client, headers, upgrade: hyper::upgrade::on(&mut request) })
    }

    /// Opens the runtime's side, answers the client, and lets both talk.
    async fn join(self, shared: &Shared, url: &str, protocols: &[&str]) -> Result<Reply, Failure> {
        let permit = shared.stream_permit()?;
        let asked: Vec<&str> = match &self.client {
            Client::Spdy => {
                let asked = self.headers.get_all(PROTOCOL_HEADER).iter();
                asked.filter_map(|value| value.to_str().ok()).collect()
            }
            _ => protocols.to_vec(),
        };
        let dialled = runtime::dial(url, &asked, &shared.tasks).await.map_err(|error| match error {
            runtime::Error::Refused { code, message } => Failure::new(code, message),
            error => Failure::internal(error.to_string()),
        })?;
        let answer = match &self.client {
            Client::Spdy => spdy_answer(&dialled.headers),
            Client::Tunnel(name) => websocket_answer(&self.headers, name)?,
            Client::Channels(protocol, _) => websocket_answer(&self.headers, protocol.name)?,
        };
        let clock = shared.clock;
        shared.tasks.spawn("stream", async move {
            let _permit = permit;
            let connection = match self.upgrade.await {
                Ok(upgraded) => TokioIo::new(upgraded),
                Err(error) => return tracing::debug!(%error, "a client did not go through with its upgrade"),
            };
            match self.client {
                Client::Spdy => pass::both_ways(connection, dialled.io, clock).await,
                Client::Tunnel(_) => tunnel::run(connection, dialled.io, clock).await,
                Client::Channels(protocol, plan) => {
                    channels::run(connection, dialled.io, protocol, plan, clock).await;
                }
            }
        });
        Ok(answer)
    }
}

/// The runtime's own acceptance.
fn spdy_answer(runtime: &HeaderMap) -> Reply {
    let mut answer = Response::new(Nothing);
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
    for value in runtime.get_all(PROTOCOL_HEADER) {
        headers.append(PROTOCOL_HEADER, value.clone());
    }
    reply::bodyless(answer)
}

fn websocket_answer(headers: &HeaderMap, subprotocol: &str) -> Result<Reply, Failure> {
    let answer = handshake::accept(headers, subprotocol);
    answer.map(reply::bodyless).ok_or_else(|| Failure::bad_request("the WebSocket handshake is not complete"))
}
