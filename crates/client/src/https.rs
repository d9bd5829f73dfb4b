//! Calls over HTTPS: what an agent on another machine uses, and any client outside the server's process.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api::call::PatchKind;
use api::{Body, Call, Kind, List, Object, Options, Reply, Status, Target, Verb, WatchEvent};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{BoxFuture, BoxStream, Error, Transport};

/// The largest answer read into memory, in bytes; lists are paged far below it.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// The largest single watch event, in bytes.
const EVENT_BYTES_MAX: usize = 16 << 20;
/// Metadata alone, or the whole of what cannot be had without.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// How long a call other than a watch may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(65);

/// Where the API server is and who we are to it.
pub struct Https {
    inner: Arc<Inner>,
}

struct Inner {
    client: hyper_util::client::legacy::Client<Connector, Full<Bytes>>,
    /// `https://host:port`, without a trailing slash.
    server: String,
    bearer_token: Option<String>,
}

impl Https {
    /// `server` is `https://HOST:PORT`; `tls` carries the CA and, if any, the client certificate.
    pub fn new(server: &str, tls: Arc<rustls::ClientConfig>, bearer_token: Option<String>) -> Self {
        let connector = Connector { tls: TlsConnector::from(tls) };
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .http2_only(true)
            .http2_initial_stream_window_size(1 << 20)
            // Many watches share the connection: a small window would let one that is not read stop the others.
            .http2_initial_connection_window_size(8 << 20)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(15))
            .timer(hyper_util::rt::TokioTimer::new())
            .build(connector);
        let server = server.trim_end_matches('/').to_owned();
        Self { inner: Arc::new(Inner { client, server, bearer_token }) }
    }
}

impl Https {
    /// POSTs nothing to a path that is no resource's; the answer's body.
    ///
    /// # Errors
    /// As any call.
    pub async fn post_path(&self, path: &str) -> Result<Bytes, Error> {
        let inner = &self.inner;
        let mut request = Request::builder().method(Method::POST).uri(format!("{}{path}", inner.server));
        request = request.header(header::USER_AGENT, concat!("pintle/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &inner.bearer_token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::new())).map_err(|error| Error::Malformed(error.to_string()))?;
        let answer = inner.client.request(request).await;
        let answer = answer.map_err(|error| Error::Unavailable(with_causes(&error)))?;
        if !answer.status().is_success() {
            return Err(failure(answer).await);
        }
        collect(answer.into_body()).await
    }
}

impl Transport for Https {
    fn call(&self, call: Call) -> BoxFuture<Result<Reply, Error>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            tokio::time::timeout(CALL_TIMEOUT, inner.call(call))
                .await
                .unwrap_or_else(|_| Err(Error::Unavailable("no answer within 65 s".into())))
        })
    }

    fn watch(&self, call: Call) -> BoxFuture<Result<BoxStream<WatchEvent>, Error>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let wanted = Wanted::of(&call);
            let response = tokio::time::timeout(CALL_TIMEOUT, inner.send(&call))
                .await
                .unwrap_or_else(|_| Err(Error::Unavailable("no answer within 65 s".into())))?;
            if !response.status().is_success() {
                return Err(failure(response).await);
            }
            let lines = Lines { body: response.into_body(), buffer: BytesMut::new(), ended: false };
            let events = futures_util::stream::unfold((lines, wanted), |(mut lines, wanted)| async move {
                let line = lines.next().await?;
                Some((event(&line, wanted), (lines, wanted)))
            });
            Ok(events.boxed() as BoxStream<WatchEvent>)
        })
    }

    fn document(&self, path: &'static str, accept: &'static str) -> BoxFuture<Result<Bytes, Error>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let reading = async {
                let response = inner.request(Method::GET, path, accept, (None, Bytes::new())).await?;
                if !response.status().is_success() {
                    return Err(failure(response).await);
                }
                collect(response.into_body()).await
            };
            tokio::time::timeout(CALL_TIMEOUT, reading)
                .await
                .unwrap_or_else(|_| Err(Error::Unavailable("no answer within 65 s".into())))
        })
    }
}

impl Inner {
    async fn send(&self, call: &Call) -> Result<Response<Incoming>, Error> {
        let method = match call.verb {
            Verb::Get | Verb::List | Verb::Watch => Method::GET,
            Verb::Create => Method::POST,
            Verb::Update => Method::PUT,
            Verb::Patch => Method::PATCH,
            Verb::Delete | Verb::DeleteCollection => Method::DELETE,
        };
        let accept = match (call.options.metadata_of, call.verb) {
            (None, _) => "application/json",
            (Some(_), Verb::List | Verb::DeleteCollection) => METADATA_LIST,
            (Some(_), _) => METADATA,
        };
        let content = match &call.body {
            Body::None => (None, Bytes::new()),
            Body::Object(object) => (Some("application/json"), Bytes::from(object.encode())),
            Body::Json(bytes) => (Some("application/json"), bytes.clone()),
            Body::Yaml(bytes) => (Some("application/yaml"), bytes.clone()),
            Body::Patch(kind, bytes) => (Some(patch_type(*kind)), bytes.clone()),
            Body::Delete(options) => {
                let bytes = serde_json::to_vec(options).map_err(|error| Error::Malformed(error.to_string()))?;
                (Some("application/json"), Bytes::from(bytes))
            }
        };
        self.request(method, &path_and_query(call), accept, content).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        (content_type, body): (Option<&str>, Bytes),
    ) -> Result<Response<Incoming>, Error> {
        let uri: Uri = format!("{}{path}", self.server)
            .parse()
            .map_err(|error| Error::Malformed(format!("the request's address: {error}")))?;
        let mut request = Request::builder().method(method).uri(uri).header(header::ACCEPT, accept);
        request = request.header(header::USER_AGENT, concat!("pintle/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.bearer_token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(Full::new(body)).map_err(|error| Error::Malformed(error.to_string()))?;
        self.client.request(request).await.map_err(|error| Error::Unavailable(with_causes(&error)))
    }

    async fn call(&self, call: Call) -> Result<Reply, Error> {
        let response = self.send(&call).await?;
        if !response.status().is_success() {
            return Err(failure(response).await);
        }
        let body = collect(response.into_body()).await?;
        if call.verb == Verb::List {
            return list(&body, Wanted::of(&call)).map(Reply::List);
        }
        if let Some(status) = Status::decode(&body).filter(|_| is_status(&body)) {
            return Ok(Reply::Status(Box::new(status)));
        }
        // Bodies carry their kind; deletecollection answers a list, of which nobody asks the items.
        let value: serde_json::Value = serde_json::from_slice(&body).map_err(malformed)?;
        if call.verb == Verb::DeleteCollection {
            return Ok(Reply::Status(Box::new(Status::success())));
        }
        Wanted { kind: None, ..Wanted::of(&call) }.object(value).map(Reply::Object)
    }
}

const SEGMENT: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'/').add(b'?').add(b'<').add(b'>');

/// The request's path and query as the API's grammar has it.
pub fn path_and_query(call: &Call) -> String {
    let target = &call.target;
    let mut path = if target.group.is_empty() {
        format!("/api/{}", target.version)
    } else {
        format!("/apis/{}/{}", target.group, target.version)
    };
    let mut push = |segment: &str| {
        path.push('/');
        path.extend(utf8_percent_encode(segment, SEGMENT));
    };
    if let Some(namespace) = &target.namespace {
        push("namespaces");
        push(namespace);
    }
    push(&target.resource);
    for segment in [target.name.as_deref(), target.subresource.as_deref()].into_iter().flatten() {
        push(segment);
    }
    let query = query(call.verb, &call.options);
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

fn query(verb: Verb, options: &Options) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let mut text = |key: &str, value: &Option<String>| {
        if let Some(value) = value {
            query.append_pair(key, value);
        }
    };
    text("labelSelector", &options.label_selector);
    text("fieldSelector", &options.field_selector);
    text("resourceVersion", &options.resource_version);
    text("resourceVersionMatch", &options.resource_version_match);
    text("continue", &options.continue_token);
    text("fieldManager", &options.field_manager);
    text("limit", &options.limit.map(|limit| limit.to_string()));
    text("timeoutSeconds", &options.timeout_seconds.map(|seconds| seconds.to_string()));
    text("sendInitialEvents", &options.send_initial_events.map(|yes| yes.to_string()));
    let mut flag = |key: &str, value: bool, shown: &str| {
        if value {
            query.append_pair(key, shown);
        }
    };
    flag("watch", verb == Verb::Watch, "true");
    flag("allowWatchBookmarks", options.allow_watch_bookmarks, "true");
    flag("dryRun", options.dry_run, "All");
    flag("force", options.force, "true");
    query.finish()
}

fn patch_type(kind: PatchKind) -> &'static str {
    match kind {
        PatchKind::Json => "application/json-patch+json",
        PatchKind::Merge => "application/merge-patch+json",
        PatchKind::Strategic => "application/strategic-merge-patch+json",
        PatchKind::Apply => "application/apply-patch+yaml",
    }
}

/// The kind served at the target; list items do not carry theirs.
fn kind_of(target: &Target) -> Option<&'static Kind> {
    api::kinds::ALL
        .iter()
        .copied()
        .find(|kind| kind.group == target.group && kind.version == target.version && kind.plural == target.resource)
}

fn malformed(error: impl std::fmt::Display) -> Error {
    Error::Malformed(error.to_string())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn collect(body: Incoming) -> Result<Bytes, Error> {
    let body = http_body_util::Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| Error::Unavailable(error.to_string()))
}

async fn failure(response: Response<Incoming>) -> Error {
    let code = response.status();
    match collect(response.into_body()).await {
        Ok(body) => match Status::decode(&body) {
            Some(status) => Error::Status(status),
            None => Error::Malformed(format!("{code}: {}", String::from_utf8_lossy(&body[..body.len().min(200)]))),
        },
        Err(error) => error,
    }
}

#[derive(serde::Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    kind: Option<std::borrow::Cow<'a, str>>,
}

fn is_status(body: &[u8]) -> bool {
    serde_json::from_slice::<Head<'_>>(body).is_ok_and(|head| head.kind.as_deref() == Some("Status"))
}

/// What an answer's objects are to become.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    /// What is served at the target: list items do not say theirs.
    kind: Option<&'static Kind>,
    /// Only the metadata, of this kind.
    metadata_of: Option<&'static Kind>,
    /// Without what followers do not look at.
    lean: bool,
}

impl Wanted {
    fn of(call: &Call) -> Self {
        Self { kind: kind_of(&call.target), metadata_of: call.options.metadata_of, lean: call.options.lean }
    }

    fn object(self, mut value: serde_json::Value) -> Result<Arc<dyn Object>, Error> {
        if let Some(kind) = self.metadata_of {
            let metadata = serde_json::from_value(value["metadata"].take()).map_err(malformed)?;
            return Ok(Arc::new(api::Custom::bare(kind, metadata)));
        }
        let text = |key: &str| value.get(key).and_then(|v| v.as_str()).unwrap_or_default();
        let kind = self
            .kind
            .or_else(|| api::kinds::find(text("apiVersion"), text("kind")))
            .ok_or_else(|| Error::Malformed(format!("unknown kind {}, {}", text("apiVersion"), text("kind"))))?;
        kind.decode_value(value).map(|object| self.shaped(object)).map_err(malformed)
    }

    fn shaped(self, mut object: Box<dyn Object>) -> Arc<dyn Object> {
        if let Some(lean) = api::lean::form(object.kind()).filter(|_| self.lean) {
            lean(&mut *object);
        }
        Arc::from(object)
    }
}

#[derive(serde::Deserialize)]
struct RawList<'a> {
    metadata: RawListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a serde_json::value::RawValue>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    continue_token: String,
    #[serde(default)]
    remaining_item_count: Option<u64>,
}

fn list(body: &[u8], wanted: Wanted) -> Result<List, Error> {
    let raw: RawList<'_> = serde_json::from_slice(body).map_err(malformed)?;
    let item = |item: &serde_json::value::RawValue| match wanted {
        Wanted { metadata_of: None, kind: Some(kind), .. } => {
            kind.decode(item.get().as_bytes()).map(|object| wanted.shaped(object)).map_err(malformed)
        }
        _ => wanted.object(serde_json::from_str(item.get()).map_err(malformed)?),
    };
    let items: Result<Vec<Arc<dyn Object>>, Error> = raw.items.unwrap_or_default().into_iter().map(item).collect();
    Ok(List {
        resource_version: raw.metadata.resource_version,
        continue_token: raw.metadata.continue_token,
        remaining_item_count: raw.metadata.remaining_item_count,
        items: items?,
    })
}

#[derive(serde::Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type")]
    type_: String,
    #[serde(borrow)]
    object: &'a serde_json::value::RawValue,
}

fn event(line: &Result<Bytes, Error>, wanted: Wanted) -> WatchEvent {
    let broken = |why: String| WatchEvent::Error(Box::new(Status::unavailable(why)));
    let line = match line {
        Ok(line) => line,
        Err(error) => return broken(error.to_string()),
    };
    let raw: RawEvent<'_> = match serde_json::from_slice(line) {
        Ok(raw) => raw,
        Err(error) => return broken(format!("a watch event cannot be read: {error}")),
    };
    let json = raw.object.get().as_bytes();
    match raw.type_.as_str() {
        "ERROR" => WatchEvent::Error(Box::new(
            Status::decode(json).unwrap_or_else(|| Status::internal("an error event without a Status")),
        )),
        "BOOKMARK" => {
            let value: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
            let metadata = &value["metadata"];
            WatchEvent::Bookmark {
                resource_version: metadata["resourceVersion"].as_str().unwrap_or_default().to_owned(),
                initial_events_end: metadata["annotations"]["k8s.io/initial-events-end"] == "true",
            }
        }
        type_ => {
            let value = serde_json::from_slice(json).map_err(malformed);
            match value.and_then(|value| wanted.object(value)) {
                Ok(object) => match type_ {
                    "ADDED" => WatchEvent::Added(object),
                    "MODIFIED" => WatchEvent::Modified(object),
                    "DELETED" => WatchEvent::Deleted(object),
                    other => broken(format!("unknown watch event type {other}")),
                },
                Err(error) => broken(error.to_string()),
            }
        }
    }
}

/// The lines of a streamed body, each at most [`EVENT_BYTES_MAX`].
struct Lines {
    body: Incoming,
    buffer: BytesMut,
    ended: bool,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(searched + at + 1).freeze();
                if line.len() > 1 {
                    return Some(Ok(line));
                }
                searched = 0;
                continue;
            }
            if self.ended {
                return None;
            }
            searched = self.buffer.len();
            if searched > EVENT_BYTES_MAX {
                self.ended = true;
                return Some(Err(Error::Malformed("a watch event of more than 16 MiB".into())));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                // A broken connection ends the watch as the server's own end does: the follower starts again from
                // where it was.
                Some(Err(_)) | None => self.ended = true,
            }
        }
    }
}

/// TCP, then TLS.
#[derive(Clone)]
struct Connector {
    tls: TlsConnector,
}

struct Stream(TokioIo<tokio_rustls::client::TlsStream<TcpStream>>);

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = std::io::Error;
    type Future = BoxFuture<Result<Stream, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move {
            let invalid = |why: String| std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let port = uri.port_u16().unwrap_or(443);
            let connect = TcpStream::connect((host.as_str(), port));
            let tcp = tokio::time::timeout(Duration::from_secs(10), connect).await??;
            tcp.set_nodelay(true)?;
            let name = rustls::pki_types::ServerName::try_from(host).map_err(|error| invalid(error.to_string()))?;
            let stream = tokio::time::timeout(Duration::from_secs(10), tls.connect(name, tcp)).await??;
            Ok(Stream(TokioIo::new(stream)))
        })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().negotiated_h2()
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_api_grammar() {
        let kind = <api::apps::v1::Deployment as api::Typed>::KIND;
        let mut call = Call::new(Verb::Get, Target::kind(kind).namespaced("ns").named("web").subresource("scale"));
        assert_eq!(path_and_query(&call), "/apis/apps/v1/namespaces/ns/deployments/web/scale");
        call = Call::new(Verb::Watch, Target::kind(<api::core::v1::Pod as api::Typed>::KIND));
        call.options.label_selector = Some("a in (b,c)".into());
        call.options.allow_watch_bookmarks = true;
        assert_eq!(
            path_and_query(&call),
            "/api/v1/pods?labelSelector=a+in+%28b%2Cc%29&watch=true&allowWatchBookmarks=true"
        );
    }
}
