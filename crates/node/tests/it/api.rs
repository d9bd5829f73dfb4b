//! An API small enough for the node's own tests: objects by kind and name in memory, with the verbs the node uses and
//! the semantics they have on pods. Specs run against the real server; here only the node is under test.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::call::PatchKind;
use api::meta::v1::Time;
use api::{Body, Call, List, Object, Reply, Status, Target, Verb, WatchEvent};
use base::{Clock, Random};
use client::{BoxFuture, BoxStream, Client, Error, Transport};
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

/// Resource, namespace, name.
type Key = (String, String, String);

pub struct Api {
    clock: Clock,
    random: Random,
    state: Mutex<State>,
    events: broadcast::Sender<(Key, WatchEvent)>,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Key, Arc<dyn Object>>,
}

impl Api {
    pub fn new(clock: Clock, random: Random) -> Arc<Self> {
        let (events, _) = broadcast::channel(4096);
        Arc::new(Self { clock, random, state: Mutex::default(), events })
    }

    pub fn client(self: &Arc<Self>) -> Client {
        Client::new(Arc::new(Door(self.clone())))
    }

    fn answer(&self, call: Call) -> Result<Reply, Status> {
        let target = &call.target;
        let key = key(target);
        if target.subresource.as_deref() == Some("token") {
            return Ok(Reply::Object(self.token(&call)));
        }
        let not_found = || Status::not_found(&target.group, &target.resource, &key.2);
        let mut state = self.state.lock();
        match call.verb {
            Verb::Get => state.objects.get(&key).cloned().map(Reply::Object).ok_or_else(not_found),
            Verb::List => {
                let items = state.objects.iter().filter(|(k, o)| selects(&call, k, &***o)).map(|(_, o)| o.clone());
                let resource_version = state.revision.to_string();
                Ok(Reply::List(List { resource_version, items: items.collect(), ..List::default() }))
            }
            Verb::Create => {
                let Body::Object(object) = &call.body else { panic!("a create without an object") };
                let key = (key.0, object.namespace().to_owned(), object.name().to_owned());
                if state.objects.contains_key(&key) {
                    return Err(Status::already_exists(&target.group, &target.resource, &key.2));
                }
                let mut object = object.boxed_clone();
                object.metadata_mut().uid = Some(self.random.uid());
                object.metadata_mut().creation_timestamp = Some(Time(self.clock.now()));
                object.metadata_mut().generation = Some(1);
                Ok(Reply::Object(self.put(&mut state, key, object)))
            }
            Verb::Update => {
                let Body::Object(object) = &call.body else { panic!("an update without an object") };
                if !state.objects.contains_key(&key) {
                    return Err(not_found());
                }
                Ok(Reply::Object(self.put(&mut state, key, object.boxed_clone())))
            }
            Verb::Patch => {
                let Body::Patch(kind, patch) = &call.body else { panic!("a patch without one") };
                let old = state.objects.get(&key).cloned().ok_or_else(not_found)?;
                let patched = patched(&old, *kind, patch);
                Ok(Reply::Object(self.put(&mut state, key, patched)))
            }
            Verb::Delete => {
                let old = state.objects.get(&key).cloned().ok_or_else(not_found)?;
                let Body::Delete(options) = &call.body else { panic!("a delete without options") };
                let asked = options.grace_period_seconds;
                let own = old.to_value()["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
                let grace = if key.0 == "pods" { asked.unwrap_or(own) } else { 0 };
                if grace > 0 {
                    let mut marked = old.boxed_clone();
                    let metadata = marked.metadata_mut();
                    metadata.deletion_timestamp.get_or_insert(Time(self.clock.now()));
                    metadata.deletion_grace_period_seconds = Some(grace);
                    return Ok(Reply::Object(self.put(&mut state, key, marked)));
                }
                state.objects.remove(&key);
                state.revision += 1;
                let mut last = old.boxed_clone();
                last.metadata_mut().resource_version = Some(state.revision.to_string());
                let _ = self.events.send((key, WatchEvent::Deleted(last.into())));
                Ok(Reply::Object(old))
            }
            Verb::Watch | Verb::DeleteCollection => panic!("not a verb the node uses here"),
        }
    }

    fn put(&self, state: &mut State, key: Key, mut object: Box<dyn Object>) -> Arc<dyn Object> {
        state.revision += 1;
        object.metadata_mut().resource_version = Some(state.revision.to_string());
        let object: Arc<dyn Object> = object.into();
        let event = match state.objects.insert(key.clone(), object.clone()) {
            None => WatchEvent::Added(object.clone()),
            Some(_) => WatchEvent::Modified(object.clone()),
        };
        let _ = self.events.send((key, event));
        object
    }

    fn token(&self, call: &Call) -> Arc<dyn Object> {
        let Body::Object(body) = &call.body else { panic!("a token request without a body") };
        let mut value = body.to_value();
        let seconds = value["spec"]["expirationSeconds"].as_i64().expect("a life");
        let end = self.clock.now() + jiff::SignedDuration::from_secs(seconds);
        value["status"] =
            json!({"token": format!("token-{}", self.random.suffix(5)), "expirationTimestamp": Time(end)});
        body.kind().decode_value(value).expect("a token request").into()
    }
}

fn key(target: &Target) -> Key {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (target.resource.to_string(), text(&target.namespace), text(&target.name))
}

fn selects(call: &Call, key: &Key, object: &dyn Object) -> bool {
    let namespace = call.target.namespace.as_deref().unwrap_or_default();
    if key.0 != call.target.resource || !(namespace.is_empty() || key.1 == namespace) {
        return false;
    }
    match call.options.field_selector.as_deref().and_then(|selector| selector.split_once('=')) {
        None => true,
        Some(("metadata.name", name)) => object.name() == name,
        Some(("spec.nodeName", node)) => object.to_value()["spec"]["nodeName"] == node,
        Some((other, _)) => panic!("the selector {other} is not known here"),
    }
}

fn patched(old: &Arc<dyn Object>, kind: PatchKind, patch: &[u8]) -> Box<dyn Object> {
    let patch: Value = serde_json::from_slice(patch).expect("JSON");
    let mut value = old.to_value();
    merge(&mut value, &patch, kind == PatchKind::Strategic);
    old.kind().decode_value(value).expect("the patch leaves an object of its kind")
}

/// A merge patch; `strategic` merges lists of conditions by type and knows `$patch: replace`.
fn merge(old: &mut Value, patch: &Value, strategic: bool) {
    let Some(changes) = patch.as_object() else {
        *old = patch.clone();
        return;
    };
    if !old.is_object() {
        *old = json!({});
    }
    let target = old.as_object_mut().expect("just made one");
    for (name, change) in changes {
        match change {
            Value::Null => {
                target.remove(name);
            }
            Value::Array(items) if strategic && name == "conditions" => {
                let list = target.entry(name.clone()).or_insert_with(|| json!([])).as_array_mut().expect("a list");
                for item in items {
                    match list.iter_mut().find(|known| known["type"] == item["type"]) {
                        Some(known) => merge(known, item, strategic),
                        None => list.push(item.clone()),
                    }
                }
            }
            Value::Array(items) if strategic => {
                let items = items.iter().filter(|item| item.get("$patch").is_none()).cloned().collect();
                target.insert(name.clone(), Value::Array(items));
            }
            change => merge(target.entry(name.clone()).or_insert(Value::Null), change, strategic),
        }
    }
}

struct Door(Arc<Api>);

impl Transport for Door {
    fn document(&self, path: &'static str, _: &'static str) -> BoxFuture<Result<client::Bytes, Error>> {
        Box::pin(async move { Err(Error::Unavailable(format!("{path} is not served here"))) })
    }

    fn call(&self, call: Call) -> BoxFuture<Result<Reply, Error>> {
        let api = self.0.clone();
        Box::pin(async move { Ok(api.answer(call)?) })
    }

    fn watch(&self, call: Call) -> BoxFuture<Result<BoxStream<WatchEvent>, Error>> {
        let api = self.0.clone();
        Box::pin(async move {
            let after: u64 = call.options.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0);
            let state = api.state.lock();
            let events = BroadcastStream::new(api.events.subscribe());
            // What came between the list and the watch.
            let version = |o: &Arc<dyn Object>| o.resource_version().parse::<u64>().unwrap_or(0);
            let missed: Vec<WatchEvent> = state
                .objects
                .iter()
                .filter(|(k, o)| selects(&call, k, &***o) && version(o) > after)
                .map(|(_, o)| WatchEvent::Modified(o.clone()))
                .collect();
            let live = events.filter_map(move |event| {
                let (key, event) = event.expect("the tests are slower than this channel is long");
                let object = match &event {
                    WatchEvent::Added(o) | WatchEvent::Modified(o) | WatchEvent::Deleted(o) => o.clone(),
                    _ => unreachable!("only objects are sent"),
                };
                let told = selects(&call, &key, &*object).then_some(event);
                async move { told }
            });
            let all = futures_util::stream::iter(missed).chain(live);
            Ok(all.boxed() as BoxStream<WatchEvent>)
        })
    }
}
