//! What is answered by a node or a pod: logs, exec, attach, port-forward, proxy. Once the other side has agreed to an
//! upgrade, bytes pass both ways untouched.

mod connect;
mod location;

use std::sync::Arc;

use api::{Call, Options, Reason, Status, Target, Verb};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::{Request, Response, StatusCode, request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::handler::{Seen, Wanted};
use super::payload::Payload;
use crate::audit::Trail;
use crate::{Caller, Server, registry};

use location::Location;

/// Longest error text taken from a node.
const ERROR_BYTES_MAX: usize = 50_000;

/// Whether a request for that subresource is passed on.
pub fn is_streamed(target: &Target, subresource: &str) -> bool {
    let resource: &str = &target.resource;
    target.group.is_empty()
        && matches!(
            (resource, subresource),
            ("pods", "log" | "exec" | "attach" | "portforward" | "proxy") | ("nodes" | "services", "proxy")
        )
}

/// Answers a request by passing it on.
pub async fn answer(
    server: &Arc<Server>,
    caller: &Arc<Caller>,
    wanted: Wanted<'_>,
    seen: &mut Seen,
) -> Result<Response<Payload>, Status> {
    let Wanted { target, verb, rest, parts, body, query } = wanted;
    let subresource = target.subresource.clone().unwrap_or_default();
    let call = Call { verb, target, options: Options::default(), body: api::Body::None };
    seen.decide(server.authorize_call(caller, &call).await)?;
    let resource = server.shown_resource(&call)?.clone();
    if matches!(&*subresource, "exec" | "attach" | "portforward") {
        if !matches!(verb, Verb::Get | Verb::Create) {
            return Err(Status::method_not_allowed("", &format!("pods/{subresource}"), verb.as_str()));
        }
        // Opening a session is more than reading, whatever the method.
        server.authorize_call(caller, &Call { verb: Verb::Create, ..call.clone() }).await?;
    } else if subresource == "log" && verb != Verb::Get {
        return Err(Status::method_not_allowed("", "pods/log", verb.as_str()));
    }
    if subresource != "log" {
        let query = parts.uri.query();
        registry::admit_connect(server, caller, &resource, &call.target, query, seen.trail()).await?;
    }
    let Some(location) = location::find(server, &call.target, &subresource, &rest, &parts, query).await? else {
        // The logs of a pod that is on no node yet: there are none.
        return Ok(super::write::respond(200, "text/plain", Payload::empty()));
    };
    let is_log = subresource == "log";
    let response = send(server, &location, parts, body, seen.trail().cloned()).await?;
    if is_log && !response.status().is_success() {
        return Err(log_failure(response, call.target.name.as_deref().unwrap_or_default()).await);
    }
    let mut response = response.map(|body| body);
    if is_log {
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().remove(TRANSFER_ENCODING);
    }
    Ok(response)
}

/// What a node says about logs it cannot give, as upstream passes it on.
async fn log_failure(response: Response<Payload>, name: &str) -> Status {
    let code = response.status();
    let text = match http_body_util::Limited::new(response.into_body(), ERROR_BYTES_MAX).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim_end().to_owned(),
        Err(_) => String::new(),
    };
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => {
            let mut status = Status::not_found("", "pods/log", name);
            status.0.message = Some(format!("the server could not find the requested resource ( pods/log {name})"));
            let cause = api::meta::v1::StatusCause {
                reason: Some("UnexpectedServerResponse".to_owned()),
                message: Some(text),
                ..Default::default()
            };
            status.0.details.get_or_insert_with(Default::default).causes = Some(vec![cause]);
            status
        }
        _ => Status::internal(text),
    }
}

/// Headers that concern one connection only, and the client's own credentials.
pub(super) fn strip(headers: &mut HeaderMap, upgrading: bool) {
    for name in [HOST, AUTHORIZATION, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let hops = ["keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"];
    hops.into_iter().for_each(|name| {
        headers.remove(name);
    });
    if !upgrading {
        headers.remove(CONNECTION);
        headers.remove(UPGRADE);
    }
    let acting: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    acting.into_iter().for_each(|name| {
        headers.remove(name);
    });
}

async fn send(
    server: &Arc<Server>,
    location: &Location,
    mut parts: request::Parts,
    body: Incoming,
    trail: Option<Arc<Trail>>,
) -> Result<Response<Payload>, Status> {
    let ours: Option<OnUpgrade> = parts.extensions.remove();
    let upgrading = parts.headers.contains_key(UPGRADE);
    let mut headers = std::mem::take(&mut parts.headers);
    strip(&mut headers, upgrading);
    let host = HeaderValue::from_str(&location.host()).map_err(Status::internal)?;
    headers.insert(HOST, host);
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = location.path.parse().map_err(Status::internal)?;
    *request.headers_mut() = headers;
    let mut response = connect::send(server, location, request).await.map_err(|why| {
        tracing::debug!(host = location.host(), why, "a backend cannot be reached");
        registry::plain(Reason::InternalError, &format!("error dialing backend: {why}"))
    })?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let theirs = hyper::upgrade::on(&mut response);
        let Some(ours) = ours else { return Err(Status::bad_request("the connection cannot be upgraded")) };
        server.tasks().spawn("stream", async move {
            pass(ours, theirs).await;
            drop(trail);
        });
        let (parts, _) = response.into_parts();
        return Ok(Response::from_parts(parts, Payload::empty()));
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONNECTION);
    parts.headers.remove(TRANSFER_ENCODING);
    Ok(Response::from_parts(parts, Payload::Incoming(body, trail)))
}

/// Bytes both ways until both sides are done.
pub(super) async fn pass(ours: OnUpgrade, theirs: OnUpgrade) {
    let (ours, theirs) = match tokio::join!(ours, theirs) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(error), _) | (_, Err(error)) => {
            tracing::debug!(%error, "an upgrade failed");
            return;
        }
    };
    let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
    if let Err(error) = tokio::io::copy_bidirectional_with_sizes(&mut ours, &mut theirs, 32 * 1024, 32 * 1024).await {
        tracing::debug!(%error, "a stream ended");
    }
}
