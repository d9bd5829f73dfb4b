//! Calls and their answers as HTTP has them, apart from any connection: what is sent, and what becomes of what comes
//! back.

use std::sync::Arc;

use api::call::PatchKind;
use api::{Body, Call, Kind, List, Object, Options, Reply, Status, Target, Verb, WatchEvent};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{Method, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{BoxStream, Error};

/// The largest answer read into memory, in bytes; lists are paged far below it.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// The largest single watch event, in bytes.
const EVENT_BYTES_MAX: usize = 16 << 20;
/// Metadata alone, or the whole of what cannot be had without.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// A call as a request: path and query, no host.
///
/// # Errors
/// If a part of it cannot be written.
pub fn request(call: &Call) -> Result<Request<Bytes>, Error> {
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
    let mut request = Request::builder().method(method).uri(path_and_query(call)).header(header::ACCEPT, accept);
    if let Some(content_type) = content.0 {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    request.body(content.1).map_err(malformed)
}

/// What a call that is no watch was answered.
///
/// # Errors
/// The server's Status, or why the answer is none.
pub async fn reply(call: &Call, response: Response<Incoming>) -> Result<Reply, Error> {
    if !response.status().is_success() {
        return Err(failure(response).await);
    }
    let body = collect(response.into_body()).await?;
    if call.verb == Verb::List {
        return list(&body, Wanted::of(call)).map(Reply::List);
    }
    if let Some(status) = Status::decode(&body).filter(|_| is_status(&body)) {
        return Ok(Reply::Status(Box::new(status)));
    }
    // Bodies carry their kind; deletecollection answers a list, of which nobody asks the items.
    let value: serde_json::Value = serde_json::from_slice(&body).map_err(malformed)?;
    if call.verb == Verb::DeleteCollection {
        return Ok(Reply::Status(Box::new(Status::success())));
    }
    Wanted { kind: None, ..Wanted::of(call) }.object(value).map(Reply::Object)
}

/// The events of a watch.
///
/// # Errors
/// The server's Status, or why the answer is none; errors later on are events.
pub async fn events(call: &Call, response: Response<Incoming>) -> Result<BoxStream<WatchEvent>, Error> {
    if !response.status().is_success() {
        return Err(failure(response).await);
    }
    let lines = Lines { body: response.into_body(), buffer: BytesMut::new(), ended: false };
    let events = futures_util::stream::unfold((lines, Wanted::of(call)), |(mut lines, wanted)| async move {
        let line = lines.next().await?;
        Some((event(&line, wanted), (lines, wanted)))
    });
    Ok(events.boxed() as BoxStream<WatchEvent>)
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

/// What is wrong with a request or an answer.
pub(crate) fn malformed(error: impl std::fmt::Display) -> Error {
    Error::Malformed(error.to_string())
}

/// A body of bounded length.
pub(crate) async fn collect(body: Incoming) -> Result<Bytes, Error> {
    let body = http_body_util::Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| Error::Unavailable(error.to_string()))
}

/// What an answer that is no success says.
pub(crate) async fn failure(response: Response<Incoming>) -> Error {
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

    fn shaped(self, object: Box<dyn Object>) -> Arc<dyn Object> {
        match api::lean::form(object.kind()).filter(|_| self.lean) {
            Some(lean) => Arc::from((lean.of)(object)),
            None => Arc::from(object),
        }
    }

    /// As [`Wanted::object`], of one that is known to be of that kind.
    fn decode(self, kind: &'static Kind, json: &[u8]) -> Result<Arc<dyn Object>, Error> {
        let object = match api::lean::form(kind).filter(|_| self.lean) {
            Some(lean) => (lean.decode)(json),
            None => kind.decode(json),
        };
        object.map(Arc::from).map_err(malformed)
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
        Wanted { metadata_of: None, kind: Some(kind), .. } => wanted.decode(kind, item.get().as_bytes()),
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
