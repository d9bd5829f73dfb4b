//! One audit event as text: `audit.k8s.io/v1` JSON, or upstream's old line. Pure.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use api::meta::v1::{ObjectMeta, StatusDetails};
use api::{Status, Target, Timestamp};
use bytes::Bytes;
use serde::Serialize;

use super::policy::{Level, Stage};
use crate::Caller;

/// The longest event. One that is longer loses its objects, and says so.
pub const EVENT_BYTES_MAX: usize = 10 << 20;
/// What an event without objects seldom exceeds.
const EVENT_BYTES_USUAL: usize = 1024;
/// What says so (upstream's truncating backend).
const TRUNCATED: &str = "audit.k8s.io/truncated";
/// What is recorded of a client's name for itself.
const USER_AGENT_LEN_MAX: usize = 1024;

/// What an event that stands alone begins with.
const HEAD: &[u8] = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","#;

/// What is known of a request from its head.
#[derive(Debug, Clone)]
pub struct Head {
    pub audit_id: String,
    pub uri: String,
    pub verb: String,
    pub caller: Option<Arc<Caller>>,
    pub source_ips: Vec<IpAddr>,
    pub user_agent: String,
    pub received: Timestamp,
    pub target: Option<Target>,
}

/// What becomes known later.
#[derive(Debug, Default)]
pub struct Tail {
    /// Whom the caller acts as.
    pub acting_as: Option<Arc<Caller>>,
    pub named: Named,
    /// `responseStatus`.
    pub status: Option<Outcome>,
    pub request_object: Option<Bytes>,
    pub response_object: Option<Bytes>,
    pub annotations: Annotations,
}

/// Text that is often the same.
pub type Text = Cow<'static, str>;

/// Few, each key once.
#[derive(Debug, Clone, Default)]
pub struct Annotations(Vec<(Text, Text)>);

impl Annotations {
    /// The first value of a key stays.
    pub fn add(&mut self, key: Text, value: impl FnOnce() -> Text) {
        if let Err(at) = self.0.binary_search_by(|(own, _)| own.cmp(&key)) {
            self.0.insert(at, (key, value()));
        }
    }
}

/// How a request ended, as `responseStatus` tells of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub code: u16,
    pub status: Text,
    pub message: Text,
    pub reason: String,
    pub details: Option<StatusDetails>,
}

impl Outcome {
    /// Of a Status what is bounded, as upstream.
    pub fn new(code: u16, status: Option<&Status>) -> Self {
        let Some(status) = status.map(|status| &status.0) else { return Self { code, ..Self::default() } };
        let text = |word: &Option<String>| word.clone().unwrap_or_default();
        Self {
            code,
            status: text(&status.status).into(),
            message: text(&status.message).into(),
            reason: text(&status.reason),
            details: status.details.clone(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        object(out, |own| {
            own.raw("metadata", b"{}");
            own.optional("status", &self.status);
            own.optional("message", &self.message);
            own.optional("reason", &self.reason);
            if let Some(details) = &self.details {
                own.value("details", details);
            }
            own.value("code", &self.code);
        });
    }
}

/// What the object says of itself where the path does not.
#[derive(Debug, Default)]
pub struct Named {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
}

impl Named {
    pub fn of(metadata: &ObjectMeta) -> Self {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Self {
            namespace: text(&metadata.namespace),
            name: text(&metadata.name),
            uid: text(&metadata.uid),
            resource_version: text(&metadata.resource_version),
        }
    }
}

/// An event, encoded once for all backends.
#[derive(Debug)]
pub struct Encoded {
    /// JSON without its first brace and type.
    fields: Vec<u8>,
    line: Option<String>,
}

impl Encoded {
    /// How much it takes.
    pub fn len(&self) -> usize {
        self.fields.len() + self.line.as_ref().map_or(0, String::len)
    }

    /// How long it is as an object of JSON.
    pub fn json_len(&self) -> usize {
        HEAD.len() + self.fields.len()
    }

    /// As a line of a log.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        if let Some(line) = &self.line {
            out.extend_from_slice(line.as_bytes());
        } else {
            out.extend_from_slice(HEAD);
            out.extend_from_slice(&self.fields);
        }
        out.push(b'\n');
    }

    /// As an item of an `EventList`.
    pub fn write_item(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        out.extend_from_slice(&self.fields);
    }
}

/// An event as text; `legacy`: with upstream's old line; not `whole`: without its objects, which it says.
pub fn encode(
    head: &Head,
    tail: &Tail,
    level: Level,
    stage: Stage,
    now: Timestamp,
    legacy: bool,
    whole: bool,
) -> Encoded {
    let bytes = |object: &Option<Bytes>| object.as_ref().map_or(0, Bytes::len);
    let objects = bytes(&tail.request_object) + bytes(&tail.response_object);
    let too_long = !whole || objects > EVENT_BYTES_MAX;
    let mut text = Vec::with_capacity(EVENT_BYTES_USUAL + if too_long { 0 } else { objects });
    let mut out = Fields { out: &mut text, first: true };
    out.text("level", level.as_str());
    out.text("auditID", &head.audit_id);
    out.text("stage", stage.as_str());
    out.text("requestURI", &head.uri);
    out.text("verb", &head.verb);
    user(head.caller.as_deref(), out.key("user"));
    if let Some(other) = &tail.acting_as {
        user(Some(other), out.key("impersonatedUser"));
    }
    out.value("sourceIPs", &head.source_ips);
    out.optional("userAgent", &short(&head.user_agent));
    if let Some(target) = &head.target {
        reference(target, &tail.named, out.key("objectRef"));
    }
    if let Some(status) = &tail.status {
        status.write(out.key("responseStatus"));
    }
    for (key, object) in [("requestObject", &tail.request_object), ("responseObject", &tail.response_object)] {
        if let Some(object) = object.as_ref().filter(|_| !too_long) {
            out.raw(key, object);
        }
    }
    out.time("requestReceivedTimestamp", head.received);
    out.time("stageTimestamp", now);
    let mut annotations = Cow::Borrowed(&tail.annotations);
    if too_long {
        annotations.to_mut().add(TRUNCATED.into(), || "true".into());
    }
    if !annotations.0.is_empty() {
        object(out.key("annotations"), |own| annotations.0.iter().for_each(|(key, value)| own.named(key, value)));
    }
    text.push(b'}');
    Encoded { fields: text, line: legacy.then(|| line(head, tail, stage)) }
}

fn user(caller: Option<&Caller>, out: &mut Vec<u8>) {
    object(out, |own| {
        let Some(caller) = caller else { return };
        own.text("username", &caller.name);
        own.optional("uid", &caller.uid);
        if !caller.groups.is_empty() {
            own.value("groups", &caller.groups);
        }
        if !caller.extra.is_empty() {
            own.value("extra", &caller.extra);
        }
    });
}

fn short(agent: &str) -> Cow<'_, str> {
    if agent.len() <= USER_AGENT_LEN_MAX {
        return agent.into();
    }
    let mut end = USER_AGENT_LEN_MAX;
    while !agent.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...TRUNCATED", &agent[..end]).into()
}

fn reference(target: &Target, named: &Named, out: &mut Vec<u8>) {
    fn or<'a>(own: Option<&'a str>, other: &'a str) -> &'a str {
        own.filter(|own| !own.is_empty()).unwrap_or(other)
    }
    object(out, |own| {
        own.text("resource", &target.resource);
        own.optional("namespace", or(target.namespace.as_deref(), &named.namespace));
        own.optional("name", or(target.name.as_deref(), &named.name));
        own.optional("uid", &named.uid);
        own.optional("apiGroup", &target.group);
        own.optional("apiVersion", &target.version);
        own.optional("resourceVersion", &named.resource_version);
        own.optional("subresource", target.subresource.as_deref().unwrap_or_default());
    });
}

/// Appends an object with the members that `write` adds.
fn object(out: &mut Vec<u8>, write: impl FnOnce(&mut Fields<'_>)) {
    out.push(b'{');
    write(&mut Fields { out, first: true });
    out.push(b'}');
}

/// The inside of a JSON object, written member by member.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Fields<'_> {
    /// Begins a member whose key needs no escapes; its value is to follow.
    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn comma(&mut self) {
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(b',');
        }
    }

    fn value(&mut self, key: &str, value: &impl Serialize) {
        json(value, self.key(key));
    }

    fn text(&mut self, key: &str, value: &str) {
        json(value, self.key(key));
    }

    /// Left out if it is empty.
    fn optional(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    /// A member with any key.
    fn named(&mut self, key: &str, value: &str) {
        self.comma();
        json(key, self.out);
        self.out.push(b':');
        json(value, self.out);
    }

    fn raw(&mut self, key: &str, json: &[u8]) {
        self.key(key).extend_from_slice(json);
    }

    /// To the microsecond.
    fn time(&mut self, key: &str, time: Timestamp) {
        // Writing into memory does not fail.
        let _ = write!(self.key(key), "\"{time:.6}\"");
    }
}

/// Appends a value that always has a form in JSON.
fn json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, value);
}

/// Upstream's `legacy` format.
fn line(head: &Head, tail: &Tail, stage: Stage) -> String {
    let groups_of =
        |caller: &Caller| caller.groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>().join(",");
    let caller = head.caller.as_deref().filter(|caller| !caller.name.is_empty());
    let user = caller.map_or("<none>", |caller| &caller.name);
    let groups = caller.filter(|caller| !caller.groups.is_empty()).map_or_else(|| "<none>".to_owned(), groups_of);
    let acting = tail.acting_as.as_deref();
    let (as_user, as_groups) = match acting {
        Some(other) => (other.name.as_str(), groups_of(other)),
        None => ("<self>", "<lookup>".to_owned()),
    };
    let namespace = head.target.as_ref().and_then(|target| target.namespace.as_deref());
    let namespace = namespace.filter(|namespace| !namespace.is_empty()).unwrap_or("<none>");
    let code = tail.status.as_ref().map(|status| status.code);
    let response = code.map_or_else(|| "<deferred>".to_owned(), |code| code.to_string());
    let ip = head.source_ips.first().map_or_else(|| "<unknown>".to_owned(), ToString::to_string);
    format!(
        "{} AUDIT: id={:?} stage={:?} ip={ip:?} method={:?} user={user:?} groups={groups:?} as={as_user:?} \
         asgroups={as_groups:?} user-agent={:?} namespace={namespace:?} uri={:?} response=\"{response}\"",
        head.received,
        head.audit_id,
        stage.as_str(),
        head.verb,
        short(&head.user_agent),
        head.uri,
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            audit_id: "id".to_owned(),
            uri: "/api/v1/namespaces/a/pods".to_owned(),
            verb: "create".to_owned(),
            caller: Some(Arc::new(Caller::new("jane", &[]))),
            source_ips: vec!["10.0.0.1".parse().unwrap()],
            user_agent: "kubectl".to_owned(),
            received: "2026-01-02T15:04:05.123456Z".parse().unwrap(),
            target: Some(Target::kind(<api::core::v1::Pod as api::Typed>::KIND).namespaced("a")),
        }
    }

    pub fn some() -> Encoded {
        let head = head();
        encode(&head, &Tail::default(), Level::Metadata, Stage::ResponseComplete, head.received, false, true)
    }

    fn text(event: &Encoded) -> String {
        let mut out = Vec::new();
        event.write_line(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_as_upstream_writes_it() {
        let head = head();
        let status = Status::forbidden("", "pods", "p", "no");
        let tail = Tail {
            acting_as: Some(Arc::new(Caller { name: "joe".to_owned(), ..Caller::default() })),
            named: Named { name: "p".to_owned(), uid: "u".to_owned(), ..Named::default() },
            status: Some(Outcome::new(403, Some(&status))),
            request_object: Some(Bytes::from_static(b"{\"x\":1}")),
            annotations: Annotations(vec![("a/b".into(), "c".into())]),
            ..Tail::default()
        };
        let event = encode(&head, &tail, Level::Request, Stage::ResponseComplete, head.received, false, true);
        let expected = concat!(
            r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"id","#,
            r#""stage":"ResponseComplete","requestURI":"/api/v1/namespaces/a/pods","verb":"create","#,
            r#""user":{"username":"jane","groups":["system:authenticated"]},"impersonatedUser":{"username":"joe"},"#,
            r#""sourceIPs":["10.0.0.1"],"userAgent":"kubectl","objectRef":{"resource":"pods","namespace":"a","#,
            r#""name":"p","uid":"u","apiVersion":"v1"},"responseStatus":{"metadata":{},"status":"Failure","#,
            r#""message":"pods \"p\" is forbidden: no","reason":"Forbidden","details":{"kind":"pods","name":"p"},"#,
            r#""code":403},"requestObject":{"x":1},"requestReceivedTimestamp":"2026-01-02T15:04:05.123456Z","#,
            r#""stageTimestamp":"2026-01-02T15:04:05.123456Z","annotations":{"a/b":"c"}}"#,
            "\n"
        );
        assert_eq!(text(&event), expected);
        let long = Bytes::from(format!("\"{}\"", "x".repeat(EVENT_BYTES_MAX)));
        let tail = Tail { response_object: Some(long), ..Tail::default() };
        let event = encode(&head, &tail, Level::RequestResponse, Stage::ResponseComplete, head.received, false, true);
        assert!(event.len() < 2000 && text(&event).contains(r#""annotations":{"audit.k8s.io/truncated":"true"}"#));
    }

    #[test]
    fn the_old_line() {
        let head = head();
        let tail = Tail { status: Some(Outcome::new(201, None)), ..Tail::default() };
        let event = encode(&head, &tail, Level::Metadata, Stage::ResponseComplete, head.received, true, true);
        assert_eq!(
            text(&event),
            "2026-01-02T15:04:05.123456Z AUDIT: id=\"id\" stage=\"ResponseComplete\" ip=\"10.0.0.1\" \
             method=\"create\" user=\"jane\" groups=\"\\\"system:authenticated\\\"\" as=\"<self>\" \
             asgroups=\"<lookup>\" user-agent=\"kubectl\" namespace=\"a\" uri=\"/api/v1/namespaces/a/pods\" \
             response=\"201\"\n"
        );
        assert_eq!(short(&"é".repeat(1000)).chars().count(), 512 + "...TRUNCATED".len());
    }
}
