//! One HTTP request: who asks, for what, and the answer. Everything that can go wrong becomes a `Status`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::call::PatchKind;
use api::{Body, Call, Status, Target, Timestamp, Verb};
use base::Clock;
use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, USER_AGENT, VARY};
use http::{Method, Request, Response, request};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::metrics::{self, Ended, Subject};
use super::negotiate::{self, Form, Offer, Syntax};
use super::path::{self, Asked};
use super::payload::Payload;
use super::query::Query;
use super::table::Included;
use super::write::{self, Writing, respond};
use super::{aggregate, health, proxy, watch, zpages};
use crate::audit::Trail;
use crate::authn::{Peer, RequestParts};
use crate::authz::{Attributes, What};
use crate::catalog::Resource;
use crate::flow::level::Ids;
use crate::flow::queue_set::Work;
use crate::flow::{Arriving, Seat};
use crate::{Caller, Server, audit, certificates, discovery};

/// The longest body taken (upstream's 3 MiB).
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Of a body that is too long, so much more is read, and so long, that its sender can hear the answer.
const DRAIN_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// Requests that are neither watches nor streams are answered in this time.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What is shown without credentials unless it is configured.
pub(super) const HEALTH_PATHS: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Seals everything by a new key, and replaces the server's certificates: the paths that are not upstream's. Their
/// callers need the verb `post` on them.
const ROTATE_SECRETS: &str = "/pintle/secrets/rotate";
const ROTATE_CERTIFICATES: &str = "/pintle/certs/rotate";

/// The server's own paths, as far as requests for them are counted apart.
const OWN_PATHS: &[&str] =
    &["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"];

pub(super) static AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
static FLOW_SCHEMA: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
static PRIORITY_LEVEL: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// What a request turned out to be, for the counters and the audit log.
pub(super) struct Seen {
    pub(super) target: Option<Target>,
    pub(super) verb: Option<&'static str>,
    /// Watches and streams: their duration says nothing.
    pub(super) long: bool,
    /// A server-side apply.
    applies: bool,
    dry_run: bool,
    method: Method,
    /// One of the server's own paths, where no resource is asked for.
    path: &'static str,
    /// What flow control made of the request.
    flow: Option<Arc<Ids>>,
    received: Timestamp,
    pub(super) audit_id: HeaderValue,
    /// Set if the request is recorded.
    trail: Option<Arc<Trail>>,
}

impl Seen {
    fn new(received: Timestamp, audit_id: HeaderValue, request: &Request<Incoming>) -> Self {
        let path = request.uri().path();
        Self {
            target: None,
            verb: None,
            long: false,
            applies: false,
            dry_run: false,
            method: request.method().clone(),
            path: OWN_PATHS.iter().find(|own| **own == path).copied().unwrap_or_default(),
            flow: None,
            received,
            audit_id,
            trail: None,
        }
    }

    /// What the request was about, for the counters.
    pub(super) fn subject(&self) -> Subject {
        let Some(target) = &self.target else {
            let verb = match self.method {
                Method::GET | Method::HEAD => "GET",
                Method::POST => "POST",
                Method::PUT => "PUT",
                Method::PATCH => "PATCH",
                Method::DELETE => "DELETE",
                _ => "other",
            };
            return Subject { subresource: self.path.to_owned(), verb, ..Subject::new() };
        };
        let verb = match self.verb.unwrap_or_default() {
            "get" => "GET",
            "list" => "LIST",
            "watch" => "WATCH",
            "create" => "POST",
            "update" => "PUT",
            "patch" if self.applies => "APPLY",
            "patch" => "PATCH",
            "delete" => "DELETE",
            "deletecollection" => "DELETECOLLECTION",
            "CONNECT" => "CONNECT",
            _ => "other",
        };
        let scope = match (&target.name, &target.namespace) {
            (Some(_), _) => "resource",
            (None, _) if verb == "POST" => "resource",
            (None, Some(_)) => "namespace",
            (None, None) => "cluster",
        };
        Subject {
            group: target.group.to_string(),
            resource: target.resource.to_string(),
            scope,
            subresource: target.subresource.as_deref().unwrap_or_default().to_owned(),
            verb,
            version: target.version.to_string(),
            ..Subject::new()
        }
    }

    /// Remembers what the authorizers said.
    pub(super) fn decide(&mut self, decision: Result<String, Status>) -> Result<(), Status> {
        if let Some(trail) = &self.trail {
            trail.decided(decision.as_deref().ok());
        }
        decision.map(drop)
    }

    /// What the audit log is told of the request.
    pub(super) fn trail(&self) -> Option<&Arc<Trail>> {
        self.trail.as_ref()
    }

    /// Waits for the request's turn; one that is answered in `time` waits a quarter of it at most.
    pub(super) async fn seat(&mut self, clock: Clock, arriving: Arriving, time: Duration) -> Result<Seat, Status> {
        self.flow = Some(arriving.ids());
        metrics::away(clock, arriving.seat(time / 4)).await
    }

    /// Begins the request's record. `caller`: who proved to be who, if anybody did.
    fn record(
        &mut self,
        server: &Server,
        peer: &Peer,
        parts: &request::Parts,
        asked: &Asked,
        caller: Option<&Arc<Caller>>,
    ) {
        let Some(audit) = &server.options.audit else { return };
        let method = parts.method.as_str().to_ascii_lowercase();
        let selector = Query::parse(parts.uri.query()).get("fieldSelector").map(str::to_owned);
        let selected = selector.as_deref().and_then(crate::server::name_in_field_selector);
        let (verb, what, target) = match asked {
            Asked::Resource { target, verb, .. } => {
                let verb = verb.map(Verb::as_str).unwrap_or_default();
                (verb, crate::server::what_of(target, selected.as_deref()), Some(target))
            }
            Asked::Path(path) => (method.as_str(), What::Path(path), None),
            Asked::Malformed => (method.as_str(), What::Path(parts.uri.path()), None),
        };
        let request = audit::policy::Request { caller: caller.map(|caller| &**caller), verb, what };
        let agent = parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        self.trail = audit.follow(&request, || audit::Head {
            audit_id: self.audit_id.to_str().unwrap_or_default().to_owned(),
            uri: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            verb: verb.to_owned(),
            caller: caller.cloned(),
            source_ips: source_ips(&parts.headers, peer),
            user_agent: agent.to_owned(),
            received: self.received,
            target: target.cloned(),
        });
    }
}

/// Where a request comes from: what proxies say, and then the other end of the connection.
fn source_ips(headers: &http::HeaderMap, peer: &Peer) -> Vec<IpAddr> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let read = |word: &str| word.trim().parse::<IpAddr>().ok();
    let mut all: Vec<IpAddr> = text("x-forwarded-for").split(',').filter_map(read).collect();
    for further in read(text("x-real-ip")).into_iter().chain([peer.address.ip()]) {
        if all.last() != Some(&further) {
            all.push(further);
        }
    }
    all
}

/// What was tried to prove who asks, as upstream tells of it.
fn attempted(parts: &request::Parts, peer: &Peer) -> String {
    let header = parts.headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let scheme = header.and_then(|header| header.trim().split_once(' ')).map(|(scheme, _)| scheme.to_ascii_lowercase());
    let mut tried = Vec::new();
    match scheme.as_deref() {
        Some("basic") => tried.push("basic"),
        Some("bearer") => tried.push("bearer"),
        _ => {}
    }
    if !peer.certificates.is_empty() {
        tried.push("x509");
    }
    if tried.is_empty() {
        return "Authentication failed, no credentials provided".to_owned();
    }
    format!("Authentication failed, attempted: {}", tried.join(", "))
}

/// Answers one request.
pub async fn handle(server: Arc<Server>, peer: Arc<Peer>, request: Request<Incoming>) -> Response<Payload> {
    let began = server.options.clock.monotonic();
    let mut seen = Seen::new(server.now(), audit_id(&server, &request), &request);
    // In a box, as each of the layers around it would have room for a copy of its whole state on the stack.
    let answering = base::task::catch("request", Box::pin(answer(&server, &peer, request, &mut seen)));
    let (answered, away) = metrics::measured(answering).await;
    let trail = seen.trail.take();
    let mut response = answered.unwrap_or_else(|| {
        server.metrics.panicked();
        if let Some(trail) = &trail {
            trail.panicked();
        }
        let why = "This request caused apiserver to panic. Look in the logs for details.";
        write::failure(&Status::internal(why), Form::JSON)
    });
    if let Some(trail) = trail {
        trail.sent(response.status().as_u16());
        if seen.long {
            trail.begun();
        }
    }
    let headers = response.headers_mut();
    headers.insert(&AUDIT_ID, seen.audit_id.clone());
    if let Some(ids) = &seen.flow {
        headers.insert(&FLOW_SCHEMA, ids.flow_schema.clone());
        headers.insert(&PRIORITY_LEVEL, ids.priority_level.clone());
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    let subject = seen.subject();
    let took = (!seen.long).then(|| server.options.clock.monotonic() - began);
    let ended = Ended { code: response.status().as_u16(), dry_run: seen.dry_run, took, away };
    server.metrics.answered(&subject, ended);
    if matches!(subject.verb, "GET" | "LIST") && !seen.long {
        let sizes = server.metrics.response_size(&subject);
        response = response.map(|payload| payload.measured(sizes));
    }
    response
}

fn audit_id(server: &Server, request: &Request<Incoming>) -> HeaderValue {
    if let Some(given) = request.headers().get(&AUDIT_ID).filter(|id| !id.is_empty() && id.len() <= 64) {
        return given.clone();
    }
    HeaderValue::from_str(&server.options.random.uid()).unwrap_or(HeaderValue::from_static("-"))
}

async fn answer(
    server: &Arc<Server>,
    peer: &Arc<Peer>,
    request: Request<Incoming>,
    seen: &mut Seen,
) -> Response<Payload> {
    let (parts, body) = request.into_parts();
    let query_text = parts.uri.query().map(str::to_owned);
    let query = Query::parse(query_text.as_deref());
    let mut form = negotiate::failure(&parts.headers);
    form.pretty |= negotiate::pretty(&parts.headers, query.get("pretty"));
    let asked = path::parse(&parts.method, parts.uri.path(), query.watches());
    let result = async {
        let caller = caller(server, peer, &parts, &asked, seen).await?;
        if let Some(backend) = aggregate::route(server, &asked) {
            let request = aggregate::Request { asked, parts, body, query: &query };
            return Box::pin(aggregate::answer(server, peer, &caller, &backend, request, seen)).await;
        }
        match asked {
            Asked::Malformed | Asked::Resource { deep: true, .. } => Ok(not_found_page()),
            Asked::Path(path) => {
                let time = query.timeout(REQUEST_TIMEOUT)?;
                within(time, Box::pin(other_path(server, &caller, &parts, &path, &query, time, seen))).await
            }
            Asked::Resource { target, verb, rest, .. } => {
                seen.target = Some(target.clone());
                let Some(verb) = verb else {
                    return Err(Status::method_not_allowed(&target.group, &target.resource, parts.method.as_str()));
                };
                seen.verb = Some(verb.as_str());
                resource(server, &caller, Wanted { target, verb, rest, parts, body, query: &query }, seen).await
            }
        }
    };
    result.await.unwrap_or_else(|status| {
        if let Some(trail) = &seen.trail {
            trail.answered(status.code(), Some(&status));
        }
        write::failure(&status, form)
    })
}

/// Who asks. Without credentials only the health endpoints are open.
async fn caller(
    server: &Arc<Server>,
    peer: &Peer,
    parts: &request::Parts,
    asked: &Asked,
    seen: &mut Seen,
) -> Result<Arc<Caller>, Status> {
    let shown = RequestParts { headers: &parts.headers, peer };
    let found = server.options.authenticator.authenticate(shown, server.lookup()).await;
    let caller = match found {
        Ok(Some(caller)) => caller,
        Ok(None) if may_be_anonymous(server, parts.uri.path(), asked) => Arc::new(Caller::anonymous()),
        other => {
            if let Err(error) = other {
                tracing::debug!(%error, peer = %peer.address, "bad credentials");
            }
            seen.record(server, peer, parts, asked, None);
            if let Some(trail) = seen.trail.take() {
                trail.unauthenticated(&attempted(parts, peer));
            }
            return Err(Status::unauthorized());
        }
    };
    seen.record(server, peer, parts, asked, Some(&caller));
    let acting = crate::authn::impersonate(server, &caller, &parts.headers).await?;
    if !Arc::ptr_eq(&acting, &caller)
        && let Some(trail) = &seen.trail
    {
        trail.acts_as(acting.clone());
    }
    Ok(acting)
}

/// Whether a request may go without credentials: where it is configured, else to the health endpoints only.
fn may_be_anonymous(server: &Server, path: &str, asked: &Asked) -> bool {
    let health = || matches!(asked, Asked::Path(path) if HEALTH_PATHS.contains(&&**path));
    server.options.authenticator.anonymous(path).unwrap_or_else(health)
}

fn not_found_page() -> Response<Payload> {
    respond(404, "text/plain; charset=utf-8", Payload::Bytes(Bytes::from_static(b"404 page not found\n")))
}

async fn other_path(
    server: &Arc<Server>,
    caller: &Arc<Caller>,
    parts: &request::Parts,
    path: &str,
    query: &Query<'_>,
    time: Duration,
    seen: &mut Seen,
) -> Result<Response<Payload>, Status> {
    let verb = parts.method.as_str().to_ascii_lowercase();
    let attributes = Attributes { caller, verb: &verb, what: What::Path(path) };
    let arriving = server.flow.arrive(&attributes, |_, _| Work::seats(1));
    let _seat = seen.seat(server.options.clock, arriving, time).await?;
    seen.decide(server.authorize(&attributes).await)?;
    if let Some(response) = health::answer(server, path, query).await {
        return Ok(response);
    }
    let done = match path {
        ROTATE_SECRETS if parts.method == Method::POST => Some(serde_json::to_vec(&server.rotate_secrets().await?)),
        ROTATE_CERTIFICATES if parts.method == Method::POST => {
            let step = certificates::Step::parse(query.get("ca"))?;
            Some(serde_json::to_vec(&server.rotate_certificates(step).await?))
        }
        _ => None,
    };
    if let Some(done) = done {
        return Ok(respond(200, "application/json", done.map_err(Status::internal)?.into()));
    }
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        let known = matches!(path, "/" | "/api" | "/apis" | "/version" | "/metrics" | "/flagz" | "/statusz")
            || path.starts_with("/openapi");
        return if known {
            Err(Status::method_not_allowed("", "", parts.method.as_str()))
        } else {
            Ok(not_found_page())
        };
    }
    if let Some(page) = zpages::answer(server, path, &parts.headers) {
        return page;
    }
    if let Some(document) = discovery::answer(server, path, parts.uri.query(), &parts.headers) {
        let pretty = negotiate::pretty(&parts.headers, query.get("pretty"));
        return document.map(|document| send_document(document, parts, pretty));
    }
    let text = |content_type, text: String| Ok(respond(200, content_type, text.into_bytes().into()));
    if let Some(page) = path.strip_prefix("/debug/api_priority_and_fairness/")
        && let Some(page) = crate::flow::dump::page(&server.flow, page, query.has("includeRequestDetails"))
    {
        return text("text/plain; charset=utf-8", page);
    }
    match (path, &server.options.openid) {
        ("/version", _) => text("application/json", version(server)),
        ("/metrics", _) => text("text/plain; version=0.0.4; charset=utf-8", {
            server.flow.look();
            server.metrics.text()
        }),
        ("/.well-known/openid-configuration", Some((configuration, _))) => {
            text("application/json", configuration.clone())
        }
        ("/openid/v1/jwks", Some((_, keys))) => text("application/jwk-set+json", keys.clone()),
        _ => Ok(not_found_page()),
    }
}

fn send_document(mut document: discovery::Document, parts: &request::Parts, pretty: bool) -> Response<Payload> {
    if pretty && document.content_type.starts_with("application/json") && !parts.uri.path().starts_with("/openapi") {
        document.bytes = super::pretty::pretty(&document.bytes).into();
    }
    let etag = document.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok());
    let same = etag.as_ref().is_some_and(|etag| parts.headers.get(IF_NONE_MATCH) == Some(etag));
    let mut response = if same {
        let mut response = Response::new(Payload::empty());
        *response.status_mut() = http::StatusCode::NOT_MODIFIED;
        response
    } else {
        // What is compressed already stays as it is.
        let gzip = document.encoding.is_none() && negotiate::gzip(&parts.headers);
        write::whole(200, document.content_type, document.bytes, gzip)
    };
    let headers = response.headers_mut();
    if let Some(encoding) = document.encoding.filter(|_| !same) {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    headers.append(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(document.cache_control));
    if let Some(etag) = etag {
        headers.insert(ETAG, etag);
    }
    response
}

fn version(server: &Server) -> String {
    let version = &server.options.version;
    let version = serde_json::json!({
        "major": "1",
        "minor": "37",
        "emulationMajor": "1",
        "emulationMinor": "37",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "36",
        "gitVersion": format!("v1.37.0+pintle.{version}"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, platform()),
    });
    serde_json::to_string_pretty(&version).expect("a value tree always encodes")
}

/// The architecture as Go names it.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A resource request, not yet decoded.
pub(super) struct Wanted<'a> {
    pub target: Target,
    pub verb: Verb,
    pub rest: String,
    pub parts: request::Parts,
    pub body: Incoming,
    pub query: &'a Query<'a>,
}

async fn resource(
    server: &Arc<Server>,
    caller: &Arc<Caller>,
    wanted: Wanted<'_>,
    seen: &mut Seen,
) -> Result<Response<Payload>, Status> {
    if let Some(subresource) = wanted.target.subresource.as_deref()
        && proxy::is_streamed(&wanted.target, subresource)
    {
        seen.long = true;
        seen.verb = Some("CONNECT");
        return Box::pin(proxy::answer(server, caller, wanted, seen)).await;
    }
    if wanted.verb == Verb::Watch {
        seen.long = true;
        return Box::pin(start_watch(server, caller, wanted, seen)).await;
    }
    let time = wanted.query.timeout(REQUEST_TIMEOUT)?;
    within(time, Box::pin(ordinary(server, caller, wanted, time, seen))).await
}

/// The answer, if it comes in time.
pub(super) async fn within(
    time: Duration,
    answer: impl Future<Output = Result<Response<Payload>, Status>>,
) -> Result<Response<Payload>, Status> {
    let timeout = || Status::timeout("request did not complete within the allotted timeout", 0);
    tokio::time::timeout(time, answer).await.unwrap_or_else(|_| Err(timeout()))
}

async fn start_watch(
    server: &Arc<Server>,
    caller: &Arc<Caller>,
    wanted: Wanted<'_>,
    seen: &mut Seen,
) -> Result<Response<Payload>, Status> {
    let Wanted { target, verb, parts, query, .. } = wanted;
    let call = Call { verb, target, options: query.options(verb)?, body: Body::None };
    let seat = seen.seat(server.options.clock, server.arrive(caller, &call), REQUEST_TIMEOUT).await?;
    seen.decide(server.authorize_call(caller, &call).await)?;
    let resource = server.shown_resource(&call)?;
    let offer = Offer { shapes: true, protobuf: !resource.kind().is_custom(), stream: true };
    let form = negotiate::accept(&parts.headers, offer)?;
    let include = Included::parse(query.get("includeObject"))?;
    let events = server.metrics.watch_events(resource.group(), resource.kind().version, resource.plural());
    let counting = (events, server.metrics.long(&seen.subject()));
    let deprecation = resource.deprecation();
    let mut stream = server.start_watch(resource, &call, false).await?.seated(seat);
    if let Some(trail) = seen.trail() {
        trail.sent(200);
        stream = stream.recorded(trail.clone());
    }
    let body = watch::body(stream, form, include, server.options.clock, counting);
    let mut response = respond(200, form.syntax.stream_type(), body);
    write::warn(&mut response, deprecation.as_slice());
    Ok(response)
}

async fn ordinary(
    server: &Arc<Server>,
    caller: &Arc<Caller>,
    wanted: Wanted<'_>,
    time: Duration,
    seen: &mut Seen,
) -> Result<Response<Payload>, Status> {
    let Wanted { target, verb, parts, body, query, .. } = wanted;
    let mut call = Call { verb, target, options: query.options(verb)?, body: Body::None };
    seen.dry_run = call.options.dry_run;
    seen.applies = verb == Verb::Patch && matches!(negotiate::patch(&parts.headers), Ok(PatchKind::Apply));
    name_manager(&mut call, &parts);
    let _seat = seen.seat(server.options.clock, server.arrive(caller, &call), time).await?;
    // Asked before the body is read, so that nobody sends us bodies in vain.
    seen.decide(server.authorize_call(caller, &call).await)?;
    let resource = server.shown_resource(&call)?;
    let mut form = negotiate::accept(&parts.headers, offer(&resource, &call))?;
    form.pretty |= negotiate::pretty(&parts.headers, query.get("pretty"));
    call.body = match verb {
        Verb::Create | Verb::Update => {
            let syntax = negotiate::content_for(&parts.headers, resource.kind())?;
            let text = read(&parts, body).await?;
            match syntax {
                _ if text.is_empty() => Body::None,
                Syntax::Json => Body::Json(text),
                Syntax::Yaml => Body::Yaml(text),
                Syntax::Protobuf => Body::Json(from_protobuf(&text)?),
            }
        }
        Verb::Patch => Body::Patch(negotiate::patch(&parts.headers)?, read(&parts, body).await?),
        Verb::Delete | Verb::DeleteCollection => delete_body(&mut call, &parts, body, query).await?,
        Verb::Get | Verb::List | Verb::Watch => Body::None,
    };
    let writing = Writing {
        form,
        gzip: negotiate::gzip(&parts.headers),
        include: Included::parse(query.get("includeObject"))?,
        now: server.now(),
    };
    write::answer(server.proceed(caller, call, seen.trail()).await?, &resource, writing).await
}

/// In which forms a call can be answered.
fn offer(resource: &Resource, call: &Call) -> Offer {
    // Other subresources speak of kinds of their own.
    let own = matches!(call.target.subresource.as_deref(), None | Some("status" | "resize" | "ephemeralcontainers"));
    Offer { shapes: own && resource.cache.is_some(), protobuf: !resource.kind().is_custom(), stream: false }
}

/// Go clients with generated types send protobuf; from here on it is JSON.
fn from_protobuf(text: &[u8]) -> Result<Bytes, Status> {
    let value = api::protobuf::decode(text).map_err(|error| Status::bad_request(error.to_string()))?;
    serde_json::to_vec(&value).map(Bytes::from).map_err(Status::internal)
}

/// Writes are recorded under the field manager's name, or the program's. An apply must say it itself.
fn name_manager(call: &mut Call, parts: &request::Parts) {
    let applies = call.verb == Verb::Patch && matches!(negotiate::patch(&parts.headers), Ok(PatchKind::Apply));
    if call.options.field_manager.is_none() && !applies {
        let agent = parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("unknown");
        call.options.field_manager = Some(api::managed::manager_of(agent).to_owned());
    }
}

async fn delete_body(
    call: &mut Call,
    parts: &request::Parts,
    body: Incoming,
    query: &Query<'_>,
) -> Result<Body, Status> {
    let text = read(parts, body).await?;
    let mut options = if text.is_empty() {
        query.delete_options()?
    } else {
        let json = match negotiate::content(&parts.headers)? {
            Syntax::Json => text.to_vec(),
            Syntax::Yaml => api::codec::yaml_to_json(&text).map_err(|error| Status::bad_request(error.to_string()))?,
            Syntax::Protobuf => from_protobuf(&text)?.to_vec(),
        };
        serde_json::from_slice(&json).map_err(|error| Status::bad_request(error.to_string()))?
    };
    if options.dry_run.as_ref().is_some_and(|all: &Vec<String>| !all.is_empty()) {
        call.options.dry_run = true;
    } else if call.options.dry_run {
        options.dry_run = Some(vec!["All".to_owned()]);
    }
    Ok(Body::Delete(Box::new(options)))
}

/// Reads on and drops what is read, within bounds: a client that is still sending when the connection is closed over
/// HTTP/1.1 gets a reset in place of its answer.
async fn drain(body: &mut Incoming) {
    let reading = async {
        let mut left = DRAIN_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ended = tokio::time::timeout(DRAIN_TIMEOUT, reading).await;
}

/// The body, if it is not too long.
async fn read(parts: &request::Parts, mut body: Incoming) -> Result<Bytes, Status> {
    let announced = parts.headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| bytes > BODY_BYTES_MAX) {
        drain(&mut body).await;
        return Err(Status::too_large(BODY_BYTES_MAX));
    }
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("the body ended early: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        match first.take() {
            None if whole.is_empty() => first = Some(data),
            Some(start) => {
                whole.extend_from_slice(&start);
                whole.extend_from_slice(&data);
            }
            None => whole.extend_from_slice(&data),
        }
        if whole.len() > BODY_BYTES_MAX || first.as_ref().is_some_and(|first| first.len() > BODY_BYTES_MAX) {
            drain(&mut body).await;
            return Err(Status::too_large(BODY_BYTES_MAX));
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}
