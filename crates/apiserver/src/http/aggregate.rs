//! Requests for what another API server serves: authorized and counted here, then passed on in the caller's name.
//! Bodies, watches and upgraded connections pass through as they are.
//!
//! Upstream: kube-aggregator/pkg/apiserver/handler_proxy.go.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{Body, Call, Options, Status, Target, Verb};
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, LOCATION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{Response, StatusCode, request};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::handler::{AUDIT_ID, REQUEST_TIMEOUT, Seen, within};
use super::path::Asked;
use super::payload::Payload;
use super::proxy;
use super::query::Query;
use crate::aggregation::backend::Backend;
use crate::aggregation::{Failure, identity};
use crate::audit::Trail;
use crate::authn::Peer;
use crate::authz::{Attributes, What};
use crate::flow::queue_set::Work;
use crate::{Caller, Server};

/// What clients ask often, and wait for.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");

/// A request on its way to another server.
pub struct Request<'a> {
    pub asked: Asked,
    pub parts: request::Parts,
    pub body: Incoming,
    pub query: &'a Query<'a>,
}

/// Who serves what is asked for, if it is another server.
pub fn route(server: &Server, asked: &Asked) -> Option<Arc<Backend>> {
    match asked {
        Asked::Resource { target, .. } => server.aggregation().route(&target.group, &target.version),
        Asked::Path(path) => {
            if let Some(document) = path.strip_prefix("/openapi/v3/apis/") {
                let (group, version) = document.split_once('/')?;
                return server.aggregation().openapi_route(group, version);
            }
            let (group, version) = path.strip_prefix("/apis/")?.split_once('/')?;
            server.aggregation().route(group, version)
        }
        Asked::Malformed => None,
    }
}

/// Whether the answer may go on for ever (upstream's long-running requests).
fn is_long(target: &Target, verb: Verb) -> bool {
    let subresource = target.subresource.as_deref();
    verb == Verb::Watch || matches!(subresource, Some("attach" | "exec" | "proxy" | "log" | "portforward"))
}

/// Answers a request by passing it on.
pub async fn answer(
    server: &Arc<Server>,
    peer: &Peer,
    caller: &Arc<Caller>,
    backend: &Backend,
    request: Request<'_>,
    seen: &mut Seen,
) -> Result<Response<Payload>, Status> {
    let Request { asked, parts, body, query } = request;
    let time = query.timeout(REQUEST_TIMEOUT)?;
    let upgrade = parts.headers.contains_key(UPGRADE);
    let (mut discovery, mut long) = (false, upgrade);
    let seat = match asked {
        Asked::Malformed => return Ok(plain(404, "404 page not found")),
        Asked::Path(path) => {
            discovery = path.starts_with("/apis/");
            let verb = parts.method.as_str().to_ascii_lowercase();
            let attributes = Attributes { caller, verb: &verb, what: What::Path(&path) };
            let arriving = server.flow.arrive(&attributes, |_, _| Work::seats(1));
            let seat = seen.seat(server.options().clock, arriving, time).await?;
            seen.decide(server.authorize(&attributes).await)?;
            seat
        }
        Asked::Resource { target, verb, .. } => {
            seen.target = Some(target.clone());
            let Some(verb) = verb else {
                return Err(Status::method_not_allowed(&target.group, &target.resource, parts.method.as_str()));
            };
            seen.verb = Some(verb.as_str());
            long |= is_long(&target, verb);
            // Of the query only what authorization looks at matters here; the rest is the other server's affair.
            let options = Options {
                field_selector: query.get("fieldSelector").map(str::to_owned),
                label_selector: query.get("labelSelector").map(str::to_owned),
                ..Options::default()
            };
            let call = Call { verb, target, options, body: Body::None };
            let seat = seen.seat(server.options().clock, server.arrive(caller, &call), time).await?;
            seen.decide(server.authorize_call(caller, &call).await)?;
            seat
        }
    };
    seen.long = long;
    // Long requests hold no seat once they are passed on.
    let _seat = (!long).then_some(seat);
    let trail = seen.trail().cloned();
    let mut forwarded = Forwarded { server, caller, backend, parts, body, upgrade, until: None, trail };
    forwarded.take_credentials(peer.address.ip(), &seen.audit_id);
    if long {
        return forwarded.send().await;
    }
    forwarded.until = Some(server.options().clock.monotonic() + time);
    if discovery {
        let sent = tokio::time::timeout(DISCOVERY_TIMEOUT, forwarded.send()).await;
        return sent.unwrap_or_else(|_| Ok(plain(503, "context deadline exceeded")));
    }
    within(time, forwarded.send()).await
}

/// Upstream's `http.Error`.
fn plain(code: u16, text: &str) -> Response<Payload> {
    let body = format!("{text}\n").into_bytes().into();
    let mut response = super::write::respond(code, "text/plain; charset=utf-8", body);
    response.headers_mut().insert(&CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

struct Forwarded<'a> {
    server: &'a Arc<Server>,
    caller: &'a Caller,
    backend: &'a Backend,
    parts: request::Parts,
    body: Incoming,
    upgrade: bool,
    /// When the answer must have ended.
    until: Option<tokio::time::Instant>,
    trail: Option<Arc<Trail>>,
}

impl Forwarded<'_> {
    /// Leaves of the headers what concerns the other server.
    fn take_credentials(&mut self, client: IpAddr, audit_id: &HeaderValue) {
        let headers = &mut self.parts.headers;
        strip_named(headers);
        proxy::strip(headers, self.upgrade);
        headers.remove(TE);
        let before = headers.get(&FORWARDED_FOR).and_then(|value| value.to_str().ok());
        let all = before.map_or_else(|| client.to_string(), |before| format!("{before}, {client}"));
        if let Ok(all) = HeaderValue::from_str(&all) {
            headers.insert(&FORWARDED_FOR, all);
        }
        headers.insert(&AUDIT_ID, audit_id.clone());
    }

    async fn send(mut self) -> Result<Response<Payload>, Status> {
        if !self.backend.available {
            return Ok(plain(503, "service unavailable"));
        }
        let client = match &self.backend.client {
            Ok(client) => client.clone(),
            Err(why) => return Ok(plain(500, why)),
        };
        let ours: Option<OnUpgrade> = self.parts.extensions.remove();
        let path = self.parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri = client.uri(path).map_err(Status::internal)?;
        if let Err(why) = identity::set(&mut self.parts.headers, self.caller) {
            return Ok(plain(500, &why));
        }
        let mut request = http::Request::new(Either::Left(self.body));
        *request.method_mut() = self.parts.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.parts.headers;
        let response = match client.send(request, self.upgrade).await {
            Ok(response) => response,
            Err(failure) => {
                let name = &*self.backend.name;
                tracing::debug!(apiservice = name, why = failure.text(), "another API server did not answer");
                return Ok(match failure {
                    Failure::Unresolved(_) => plain(503, "service unavailable"),
                    Failure::Unreachable(why) => plain(503, &why),
                });
            }
        };
        received(self.server, response, ours.filter(|_| self.upgrade), self.until, self.trail)
    }
}

/// The other server's answer as the client gets it.
fn received(
    server: &Arc<Server>,
    mut response: Response<Incoming>,
    ours: Option<OnUpgrade>,
    until: Option<tokio::time::Instant>,
    trail: Option<Arc<Trail>>,
) -> Result<Response<Payload>, Status> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(ours) = ours else { return Ok(plain(502, "the backend switched protocols without being asked")) };
        let theirs = hyper::upgrade::on(&mut response);
        server.tasks().spawn("stream", async move {
            proxy::pass(ours, theirs).await;
            drop(trail);
        });
        let (parts, _) = response.into_parts();
        return Ok(Response::from_parts(parts, Payload::empty()));
    }
    if response.status().is_redirection() && response.headers().contains_key(LOCATION) {
        let why = "the backend attempted to redirect this request, which is not permitted";
        let mut refused = Response::new(Payload::Bytes(why.into()));
        *refused.status_mut() = StatusCode::BAD_GATEWAY;
        return Ok(refused);
    }
    let (mut parts, body) = response.into_parts();
    strip_named(&mut parts.headers);
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, HeaderName::from_static("keep-alive")] {
        parts.headers.remove(name);
    }
    // The version is each connection's own.
    parts.version = http::Version::HTTP_11;
    Ok(match until {
        Some(until) => Response::from_parts(parts, Payload::timed(body, until, trail)),
        None => Response::from_parts(parts, Payload::Incoming(body, trail)),
    })
}

/// Takes out what `Connection` says concerns this connection alone.
fn strip_named(headers: &mut HeaderMap) {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> = values
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .filter(|name| *name != UPGRADE)
        .collect();
    for name in named {
        headers.remove(name);
    }
}
