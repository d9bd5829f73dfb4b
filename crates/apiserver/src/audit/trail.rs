//! One request on its way, as the audit log will tell of it. The first event is made when it is known who asks; the
//! last one when the trail is dropped, which is when nobody works on the request any more.

use std::sync::Arc;

use api::{Object, Status};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

use super::Audit;
use super::event::{self, Head, Named, Outcome, Tail, Text};
use super::policy::{Decision, Level, Stage};
use crate::Caller;

/// Stands for a message that may quote the request's body.
const WITHHELD: &str = "the request was malformed; what is said of its body is not recorded at this level";

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    Panic,
    /// Nobody proved who they are: told already.
    Told,
}

struct State {
    tail: Tail,
    end: End,
}

/// A request that is recorded.
pub struct Trail {
    audit: Arc<Audit>,
    decision: Decision,
    head: Head,
    state: Mutex<State>,
}

impl Trail {
    pub(super) fn new(audit: Arc<Audit>, decision: Decision, head: Head) -> Self {
        let state = Mutex::new(State { tail: Tail::default(), end: End::Complete });
        Self { audit, decision, head, state }
    }

    /// The caller acts as somebody else.
    pub fn acts_as(&self, other: Arc<Caller>) {
        self.state.lock().tail.acting_as = Some(other);
    }

    /// An annotation; the first of a key stays.
    pub fn annotate(&self, key: impl Into<Text>, value: impl Into<Text>) {
        self.state.lock().tail.annotations.add(key.into(), || value.into());
    }

    /// What the authorizers said: the reason of their consent, if they gave it.
    pub fn decided(&self, reason: Option<&str>) {
        self.annotate("authorization.k8s.io/decision", if reason.is_some() { "allow" } else { "forbid" });
        self.annotate("authorization.k8s.io/reason", reason.unwrap_or_default().to_owned());
    }

    /// What was asked for, decoded and with its defaults.
    pub fn asked(&self, object: &dyn Object) {
        let json = self.wants(Level::Request).then(|| self.shown(object.encode()));
        let mut state = self.state.lock();
        state.tail.named = Named::of(object.metadata());
        state.tail.request_object = json.or(state.tail.request_object.take());
    }

    /// A body that is no object of its own: a patch, options of a delete.
    pub fn asked_with(&self, json: impl FnOnce() -> Option<Vec<u8>>) {
        if self.wants(Level::Request)
            && let Some(json) = json()
        {
            self.state.lock().tail.request_object = Some(json.into());
        }
    }

    /// Whether events of that level are written.
    pub fn wants(&self, level: Level) -> bool {
        self.decision.level >= level
    }

    /// What the client is answered.
    pub fn answered_with(&self, json: Vec<u8>) {
        let json = self.shown(json);
        self.state.lock().tail.response_object = Some(json);
    }

    /// The answer's code, and its Status if it is one.
    pub fn answered(&self, code: u16, status: Option<&Status>) {
        let mut state = self.state.lock();
        let mut outcome = Outcome::new(code, status);
        // A bad body is quoted to whoever sent it; below this level nothing of bodies is written.
        let sends = matches!(&*self.head.verb, "create" | "update" | "patch");
        if code == 400 && sends && !self.wants(Level::Request) {
            outcome.message = WITHHELD.into();
        }
        state.tail.status = Some(outcome);
        if let Some(status) = status.filter(|_| self.decision.level >= Level::RequestResponse) {
            state.tail.response_object = Some(status.encode().into());
        }
    }

    /// The code that is sent, unless it is known already.
    pub fn sent(&self, code: u16) {
        self.state.lock().tail.status.get_or_insert_with(|| Outcome::new(code, None));
    }

    /// The head of an answer is sent whose body goes on.
    pub fn begun(&self) {
        self.tell(Stage::ResponseStarted);
    }

    /// Nobody proved who they are.
    pub fn unauthenticated(&self, message: &str) {
        {
            let mut state = self.state.lock();
            state.tail.status = Some(Outcome { code: 401, message: message.to_owned().into(), ..Outcome::default() });
            state.end = End::Told;
        }
        self.tell(Stage::ResponseStarted);
    }

    /// The request panicked.
    pub fn panicked(&self) {
        let mut state = self.state.lock();
        state.end = End::Panic;
        let why = Status::failure(api::Reason::InternalError, "APIServer panic'd: see the server's log");
        state.tail.status = Some(Outcome::new(500, Some(&why)));
    }

    fn shown(&self, json: Vec<u8>) -> Bytes {
        if !self.decision.omit_managed_fields {
            return json.into();
        }
        let Ok(mut value) = serde_json::from_slice::<Value>(&json) else { return json.into() };
        without_managed_fields(&mut value);
        value.to_string().into()
    }

    pub(super) fn tell(&self, stage: Stage) {
        if !self.decision.records(stage) {
            return;
        }
        let now = if stage == Stage::RequestReceived { self.head.received } else { self.audit.clock.now() };
        let (level, legacy) = (self.decision.level, self.audit.legacy());
        let state = self.state.lock();
        self.audit.put(level, |whole| event::encode(&self.head, &state.tail, level, stage, now, legacy, whole));
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        match state.end {
            End::Told => {}
            End::Panic => self.tell(Stage::Panic),
            End::Complete => {
                state.tail.status.get_or_insert_with(|| Outcome {
                    code: 200,
                    status: "Success".into(),
                    message: "Connection closed early".into(),
                    ..Outcome::default()
                });
                self.tell(Stage::ResponseComplete);
            }
        }
    }
}

fn without_managed_fields(value: &mut Value) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    for items in ["items", "rows"] {
        for item in value.get_mut(items).and_then(Value::as_array_mut).into_iter().flatten() {
            without_managed_fields(item);
            if let Some(object) = item.get_mut("object") {
                without_managed_fields(object);
            }
        }
    }
}
