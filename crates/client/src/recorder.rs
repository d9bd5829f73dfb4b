//! Events: what happened to an object, for `kubectl describe`. Repeated events raise a count instead of piling up, as
//! client-go's correlator does; when the queue is full the newest event is dropped and counted, never the caller
//! held up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::Object;
use api::call::PatchKind;
use api::core::v1::{Event, EventSource, ObjectReference};
use api::meta::v1::{ObjectMeta, Time};
use base::{Clock, TaskGroup};
use serde_json::json;
use tokio::sync::mpsc;

use crate::Client;

/// Events waiting to be written.
const QUEUE_LEN_MAX: usize = 1000;
/// Distinct events remembered for counting.
const SEEN_LEN_MAX: usize = 4096;
/// After this long an event is written anew instead of counted up (client-go: 10 minutes).
const SEEN_SECONDS_MAX: i64 = 600;

/// Writes events in the background, in order. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Report>,
    dropped: Arc<AtomicU64>,
    component: Arc<str>,
    host: Arc<str>,
    clock: Clock,
}

struct Report {
    event: Event,
}

impl Recorder {
    /// `component` is the source's name (`kubelet`, `default-scheduler`), `host` its node or `""`.
    pub fn start(client: Client, component: &str, host: &str, clock: Clock, tasks: &TaskGroup) -> Self {
        let (queue, reports) = mpsc::channel(QUEUE_LEN_MAX);
        tasks.spawn("event recorder", write(client, reports));
        Self { queue, dropped: Arc::default(), component: component.into(), host: host.into(), clock }
    }

    /// `Normal` events.
    pub fn normal(&self, object: &dyn Object, reason: &str, message: impl Into<String>) {
        self.record(&reference(object), "Normal", reason, message.into());
    }

    /// `Warning` events.
    pub fn warning(&self, object: &dyn Object, reason: &str, message: impl Into<String>) {
        self.record(&reference(object), "Warning", reason, message.into());
    }

    /// An event about what `involved` points at (it may name a container through `fieldPath`).
    pub fn record(&self, involved: &ObjectReference, type_: &str, reason: &str, message: String) {
        let now = Time(self.clock.now());
        let namespace = involved.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".into());
        let name = format!("{}.{:x}", involved.name.as_deref().unwrap_or_default(), now.0.as_nanosecond());
        let host = (!self.host.is_empty()).then(|| self.host.to_string());
        let event = Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..Default::default() },
            involved_object: involved.clone(),
            type_: Some(type_.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message),
            source: Some(EventSource { component: Some(self.component.to_string()), host: host.clone() }),
            reporting_component: Some(self.component.to_string()),
            reporting_instance: host,
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Default::default()
        };
        if self.queue.try_send(Report { event }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// A reference to an object, as events carry it.
pub fn reference(object: &dyn Object) -> ObjectReference {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    ObjectReference {
        api_version: Some(object.kind().api_version.to_owned()),
        kind: Some(object.kind().kind.to_owned()),
        name: some(object.name()),
        namespace: some(object.namespace()),
        uid: some(object.uid()),
        resource_version: some(object.resource_version()),
        field_path: None,
    }
}

struct Seen {
    name: String,
    namespace: String,
    count: i32,
    last: api::Timestamp,
}

async fn write(client: Client, mut reports: mpsc::Receiver<Report>) {
    let mut seen: HashMap<String, Seen> = HashMap::new();
    while let Some(Report { mut event }) = reports.recv().await {
        let now = event.last_timestamp.as_ref().map_or(api::Timestamp::UNIX_EPOCH, |time| time.0);
        let key = identity(&event);
        if let Some(earlier) = seen.get_mut(&key).filter(|s| now.duration_since(s.last).as_secs() < SEEN_SECONDS_MAX) {
            let patch = json!({"count": earlier.count + 1, "lastTimestamp": event.last_timestamp});
            let patched =
                client.patch::<Event>(&earlier.namespace, &earlier.name, None, PatchKind::Merge, &patch).await;
            match patched {
                Ok(_) => {
                    earlier.count += 1;
                    earlier.last = now;
                    continue;
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    tracing::debug!(%error, "an event was not counted up");
                    continue;
                }
            }
        }
        if seen.len() >= SEEN_LEN_MAX {
            seen.retain(|_, s| now.duration_since(s.last).as_secs() < SEEN_SECONDS_MAX / 10);
        }
        if create(&client, &mut event).await {
            let (name, namespace) = (event.name().to_owned(), event.namespace().to_owned());
            seen.insert(key, Seen { name, namespace, count: 1, last: now });
        }
    }
}

/// Writes a new event; a server that cannot be reached is tried a few times, then the event is given up. Names are made
/// of the time: of two at the same instant the later one is moved.
async fn create(client: &Client, event: &mut Event) -> bool {
    let mut written_perhaps = false;
    for attempt in 1..=5_u32 {
        match client.create(event.clone()).await {
            Ok(_) => return true,
            Err(error) if error.is_already_exists() && written_perhaps => return true,
            Err(error) if error.is_already_exists() => event.metadata.name = Some(format!("{}{attempt}", event.name())),
            Err(error) if error.is_retryable() && attempt < 5 => {
                written_perhaps = true;
                tokio::time::sleep(Duration::from_millis(100 * u64::from(attempt))).await;
            }
            Err(error) => {
                // A namespace that is going away takes no more events: that is no fault.
                tracing::debug!(%error, "an event was not written");
                return false;
            }
        }
    }
    false
}

/// Events with the same identity are counted up.
fn identity(event: &Event) -> String {
    let object = &event.involved_object;
    let parts = [
        &object.kind,
        &object.namespace,
        &object.name,
        &object.uid,
        &object.field_path,
        &event.type_,
        &event.reason,
        &event.message,
    ];
    parts.map(|part| part.as_deref().unwrap_or_default()).join("\u{1}")
}
