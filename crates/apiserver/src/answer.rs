//! What a request is answered with, before it becomes bytes (HTTP) or shared objects (in process).

use std::sync::Arc;

use api::{Object, Options, Reply, Status, WatchEvent};

use crate::Server;
use crate::audit::{EVENT_BYTES_MAX, Level, Trail};
use crate::cache::{Entry, Listed, Out, Step, Watcher};
use crate::catalog::Resource;
use crate::flow::Seat;

/// A success. Failures are a [`Status`].
pub struct Answer {
    /// The HTTP code: 200, 201 or 202.
    pub code: u16,
    pub payload: Payload,
    /// For `Warning` headers.
    pub warnings: Vec<String>,
}

/// What is in it.
pub enum Payload {
    /// A stored version: bytes and, on demand, the typed object.
    Entry(Arc<Resource>, Arc<Entry>),
    /// An object that is not stored in this form (dry run, scale, review).
    Object(Arc<dyn Object>),
    List(Arc<Resource>, Listed),
    Status(Box<Status>),
}

impl Answer {
    /// 200.
    pub fn ok(payload: Payload) -> Self {
        Self { code: 200, payload, warnings: Vec::new() }
    }

    /// 201.
    pub fn created(payload: Payload) -> Self {
        Self { code: 201, payload, warnings: Vec::new() }
    }

    pub(crate) fn status(status: Status) -> Self {
        let code = status.code();
        Self { code, payload: Payload::Status(Box::new(status)), warnings: Vec::new() }
    }

    pub(crate) fn warn(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }

    /// Tells the audit log what is answered.
    pub(crate) fn record(&self, trail: &Trail) {
        let status = match &self.payload {
            Payload::Status(status) => Some(&**status),
            _ => None,
        };
        trail.answered(self.code, status);
        if status.is_none() && trail.wants(Level::RequestResponse) {
            trail.answered_with(self.json());
        }
    }

    /// As JSON; what is longer than an audit event may be ends early, which makes it too long for one.
    fn json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match &self.payload {
            Payload::Status(status) => return status.encode(),
            Payload::Object(object) => return object.encode(),
            Payload::Entry(resource, entry) => resource.write(entry, &mut out),
            Payload::List(resource, listed) => {
                let kind = resource.kind();
                let head = serde_json::json!({"resourceVersion": listed.revision.to_string()});
                let names = (kind.kind, kind.api_version);
                out.extend_from_slice(
                    format!(r#"{{"kind":"{}List","apiVersion":"{}","metadata":{head},"items":["#, names.0, names.1)
                        .as_bytes(),
                );
                for (at, entry) in listed.entries.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    resource.write_item(entry, &mut out);
                    if out.len() > EVENT_BYTES_MAX {
                        break;
                    }
                }
                out.extend_from_slice(b"]}");
            }
        }
        out
    }

    /// The typed form, sharing what is decoded already.
    ///
    /// # Errors
    /// 500 if stored bytes cannot be decoded.
    pub fn into_reply(self) -> Result<Reply, Status> {
        self.into_reply_for(&Options::default())
    }

    /// As [`Answer::into_reply`], in the form that the options of an in-process reader ask for.
    ///
    /// # Errors
    /// As [`Answer::into_reply`].
    pub fn into_reply_for(self, options: &Options) -> Result<Reply, Status> {
        let form = Form::of(options);
        let object = |resource: &Resource, entry: &Entry| form.object(resource, entry);
        Ok(match self.payload {
            Payload::Entry(resource, entry) => Reply::Object(object(&resource, &entry)?),
            Payload::Object(object) => Reply::Object(object),
            Payload::Status(status) => Reply::Status(status),
            Payload::List(resource, listed) => Reply::List(api::List {
                resource_version: listed.revision.to_string(),
                continue_token: listed.continue_token,
                remaining_item_count: listed.remaining,
                items: listed.entries.iter().map(|entry| object(&resource, entry)).collect::<Result<_, _>>()?,
            }),
        })
    }
}

/// In which form a reader in process gets objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Typed and whole, shared if it is kept at all.
    Whole,
    /// Typed, shared with every other reader, without what followers do not look at.
    Lean,
    /// Typed; the reader looks at each object once, so what had to be decoded is not kept.
    Passing,
    /// The metadata alone.
    Metadata,
}

impl Form {
    fn of(options: &Options) -> Self {
        match options {
            Options { metadata_of: Some(_), .. } => Self::Metadata,
            Options { passing: true, .. } => Self::Passing,
            Options { lean: true, .. } => Self::Lean,
            _ => Self::Whole,
        }
    }

    fn object(self, resource: &Resource, entry: &Entry) -> Result<Arc<dyn Object>, Status> {
        match self {
            Self::Whole => resource.object(entry),
            Self::Lean => resource.lean_object(entry),
            Self::Passing => resource.object_to_look_at(entry),
            Self::Metadata => resource.metadata_only(entry),
        }
    }
}

/// A watch under way, for HTTP ([`WatchStream::next_step`]) and in process ([`WatchStream::next`]).
pub struct WatchStream {
    pub(crate) resource: Arc<Resource>,
    pub(crate) watcher: Watcher,
    server: Arc<Server>,
    ready: std::collections::VecDeque<Out>,
    /// Events that are being converted: who stops waiting loses none.
    converting: Option<Vec<Out>>,
    form: Form,
    /// Held until the initial events are sent.
    seat: Option<Seat>,
    /// Ends with the watch.
    _trail: Option<Arc<Trail>>,
}

impl WatchStream {
    pub(crate) fn new(server: Arc<Server>, resource: Arc<Resource>, watcher: Watcher) -> Self {
        Self {
            resource,
            watcher,
            server,
            ready: Default::default(),
            converting: None,
            form: Form::Whole,
            seat: None,
            _trail: None,
        }
    }

    /// Holds a seat of flow control until the initial events are sent.
    pub(crate) fn seated(mut self, seat: Seat) -> Self {
        self.seat = Some(seat);
        self
    }

    /// Recorded as over when it is dropped.
    pub(crate) fn recorded(mut self, trail: Arc<Trail>) -> Self {
        self._trail = Some(trail);
        self
    }

    /// For a reader that looks at each object once: what had to be decoded is not kept.
    pub fn passing(mut self) -> Self {
        self.form = Form::Passing;
        self
    }

    /// In the form that the options of an in-process reader ask for.
    pub fn in_form_of(mut self, options: &Options) -> Self {
        self.form = Form::of(options);
        self
    }

    /// The resource watched.
    pub fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    /// The next batch, for transports that write bytes. Dropping the future loses nothing.
    pub async fn next_step(&mut self) -> Step {
        if self.converting.is_none() {
            let step = match self.initial_step() {
                Some(step) => step,
                None => self.watcher.next().await,
            };
            match step {
                // Metadata is the same in every version.
                Step::Events(events) if self.resource.custom.is_some() && self.form != Form::Metadata => {
                    self.converting = Some(events);
                }
                step => return step,
            }
        }
        let events = self.converting.clone().unwrap_or_default();
        let shown = self.resource.served_events(&self.server, events).await;
        self.converting = None;
        shown.map_or_else(|status| Step::End(Some(status)), Step::Events)
    }

    /// What is sent while the seat is held; after that it is free for others.
    fn initial_step(&mut self) -> Option<Step> {
        self.seat.as_ref()?;
        let step = self.watcher.next_initial();
        if step.is_none() {
            self.seat = None;
        }
        step
    }

    /// The next event; `None` when the watch ended in time. Dropping the future loses nothing. Events share their typed
    /// objects with every other in-process reader.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(out) = self.ready.pop_front() {
                return Some(self.typed(&out));
            }
            match self.next_step().await {
                Step::Events(events) => self.ready.extend(events),
                Step::Bookmark { revision, initial_events_end } => {
                    return Some(WatchEvent::Bookmark { resource_version: revision.to_string(), initial_events_end });
                }
                Step::End(Some(status)) => return Some(WatchEvent::Error(Box::new(status))),
                Step::End(None) => return None,
            }
        }
    }

    fn typed(&self, out: &Out) -> WatchEvent {
        let entry = out.parts().1;
        match self.form.object(&self.resource, entry) {
            Err(status) => WatchEvent::Error(Box::new(status)),
            Ok(object) => match out {
                Out::Added(_) => WatchEvent::Added(object),
                Out::Modified(_) => WatchEvent::Modified(object),
                Out::Deleted(_) => WatchEvent::Deleted(object),
            },
        }
    }
}
