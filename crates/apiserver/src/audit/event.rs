//! One audit event as text: `audit.k8s.io/v1` JSON, or upstream's old line. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::meta::v1::ObjectMeta;
use api::{Status, Target, Timestamp};
use bytes::Bytes;
use serde_json::{Value, json};

use super::policy::{Level, Stage};
use crate::Caller;

/// The longest event. One that is longer loses its objects, and says so.
pub const EVENT_BYTES_MAX: usize = 10 << 20;
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
    pub source_ips: Vec<String>,
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
    pub status: Option<Value>,
    pub request_object: Option<Bytes>,
    pub response_object: Option<Bytes>,
    pub annotations: BTreeMap<String, String>,
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
    let too_long = !whole || bytes(&tail.request_object) + bytes(&tail.response_object) > EVENT_BYTES_MAX;
    let mut out = Fields(Vec::with_capacity(512));
    out.value("level", &level.as_str().into());
    out.value("auditID", &head.audit_id.as_str().into());
    out.value("stage", &stage.as_str().into());
    out.value("requestURI", &head.uri.as_str().into());
    out.value("verb", &head.verb.as_str().into());
    out.value("user", &head.caller.as_deref().map_or_else(|| json!({}), user));
    if let Some(other) = &tail.acting_as {
        out.value("impersonatedUser", &user(other));
    }
    out.value("sourceIPs", &head.source_ips.as_slice().into());
    if !head.user_agent.is_empty() {
        out.value("userAgent", &short(&head.user_agent).into());
    }
    if let Some(target) = &head.target {
        out.value("objectRef", &reference(target, &tail.named));
    }
    if let Some(status) = &tail.status {
        out.value("responseStatus", status);
    }
    for (key, object) in [("requestObject", &tail.request_object), ("responseObject", &tail.response_object)] {
        if let Some(object) = object.as_ref().filter(|_| !too_long) {
            out.raw(key, object);
        }
    }
    out.value("requestReceivedTimestamp", &micros(head.received).into());
    out.value("stageTimestamp", &micros(now).into());
    if too_long {
        let mut annotations = tail.annotations.clone();
        annotations.insert(TRUNCATED.to_owned(), "true".to_owned());
        out.value("annotations", &json!(annotations));
    } else if !tail.annotations.is_empty() {
        out.value("annotations", &json!(tail.annotations));
    }
    Encoded { fields: out.end(), line: legacy.then(|| line(head, tail, stage)) }
}

/// A request's outcome as `responseStatus`: of a Status what is bounded, as upstream.
pub fn outcome(code: u16, status: Option<&Status>) -> Value {
    let mut shown = json!({"metadata": {}});
    if let Some(status) = status.map(|status| &status.0) {
        let words = [("status", &status.status), ("message", &status.message), ("reason", &status.reason)];
        for (key, word) in words {
            if let Some(word) = word.as_deref().filter(|word| !word.is_empty()) {
                shown[key] = word.into();
            }
        }
        if let Some(details) = &status.details {
            shown["details"] = serde_json::to_value(details).unwrap_or_default();
        }
    }
    shown["code"] = code.into();
    shown
}

fn user(caller: &Caller) -> Value {
    let mut user = json!({"username": caller.name});
    if !caller.uid.is_empty() {
        user["uid"] = caller.uid.as_str().into();
    }
    if !caller.groups.is_empty() {
        user["groups"] = json!(caller.groups);
    }
    if !caller.extra.is_empty() {
        user["extra"] = json!(caller.extra);
    }
    user
}

fn short(agent: &str) -> String {
    if agent.len() <= USER_AGENT_LEN_MAX {
        return agent.to_owned();
    }
    let mut end = USER_AGENT_LEN_MAX;
    while !agent.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...TRUNCATED", &agent[..end])
}

fn reference(target: &Target, named: &Named) -> Value {
    let mut reference = json!({"resource": target.resource});
    let or = |own: Option<&str>, other: &str| own.filter(|own| !own.is_empty()).unwrap_or(other).to_owned();
    let optional = [
        ("namespace", or(target.namespace.as_deref(), &named.namespace)),
        ("name", or(target.name.as_deref(), &named.name)),
        ("uid", named.uid.clone()),
        ("apiGroup", target.group.to_string()),
        ("apiVersion", target.version.to_string()),
        ("resourceVersion", named.resource_version.clone()),
        ("subresource", target.subresource.as_deref().unwrap_or_default().to_owned()),
    ];
    for (key, value) in optional {
        if !value.is_empty() {
            reference[key] = value.into();
        }
    }
    reference
}

fn micros(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// The inside of a JSON object, key by key.
struct Fields(Vec<u8>);

impl Fields {
    fn value(&mut self, key: &str, value: &Value) {
        self.raw(key, value.to_string().as_bytes());
    }

    fn raw(&mut self, key: &str, json: &[u8]) {
        if !self.0.is_empty() {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
        self.0.extend_from_slice(json);
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
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
    let code = tail.status.as_ref().and_then(|status| status["code"].as_u64());
    let response = code.map_or_else(|| "<deferred>".to_owned(), |code| code.to_string());
    let ip = head.source_ips.first().map_or("<unknown>", String::as_str);
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
            source_ips: vec!["10.0.0.1".to_owned()],
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
            status: Some(outcome(403, Some(&status))),
            request_object: Some(Bytes::from_static(b"{\"x\":1}")),
            annotations: [("a/b".to_owned(), "c".to_owned())].into(),
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
        let tail = Tail { status: Some(outcome(201, None)), ..Tail::default() };
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
