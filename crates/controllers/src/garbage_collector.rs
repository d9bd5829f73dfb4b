//! Deletes objects whose owners are gone, and serves the finalizers `foregroundDeletion` and `orphan`.
//!
//! Upstream: pkg/controller/garbagecollector. A graph of all objects and their owners is kept by following every
//! kind ([`graph`]); whatever it suggests is checked against the live object before anything is deleted.

mod graph;

use std::sync::Arc;
use std::time::Duration;

use api::call::PatchKind;
use api::meta::v1::{DeleteOptions, OwnerReference, Preconditions};
use api::rbac::v1::PolicyRule;
use api::{Body, Call, Kind, Object, Options, Reply, Target, Verb, WatchEvent};
use base::Backoff;
use client::{Client, Error, WorkQueue};
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;

use crate::harness::{AnyController, Context, Resource};
use graph::{Graph, Node};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
const WORKERS: usize = 8;
/// Kinds that own nothing, are owned by nothing and come in great numbers.
const IGNORED: &[&str] = &["events"];

pub struct Controller;

impl AnyController for Controller {
    fn name(&self) -> &'static str {
        "generic-garbage-collector"
    }

    fn rules(&self) -> Vec<PolicyRule> {
        let verbs = ["get", "list", "watch", "patch", "update", "delete"].map(str::to_owned).to_vec();
        vec![PolicyRule {
            api_groups: Some(vec!["*".into()]),
            resources: Some(vec!["*".into()]),
            verbs,
            ..Default::default()
        }]
    }

    fn start(&'static self, context: Context) {
        let queue = WorkQueue::new(Duration::from_millis(100), Duration::from_secs(30));
        let client = (context.client_for)(self.name());
        let shared = Arc::new(Shared { graph: Mutex::default(), queue, client });
        let (left, synced) = watch::channel(0_usize);
        let left = Arc::new(left);
        for resource in context.facts.resources.iter().filter(|resource| !IGNORED.contains(&resource.kind.plural)) {
            left.send_modify(|left| *left += 1);
            let (shared, random, left, resource) = (shared.clone(), context.random.clone(), left.clone(), *resource);
            context.tasks.supervise("garbage collector: follow", move || {
                follow(shared.clone(), resource, random.clone(), left.clone())
            });
        }
        for _ in 0..WORKERS {
            let (shared, synced) = (shared.clone(), synced.clone());
            context.tasks.supervise("garbage collector", move || work(shared.clone(), synced.clone()));
        }
    }
}

struct Shared {
    graph: Mutex<Graph>,
    queue: WorkQueue,
    client: Client,
}

impl Shared {
    fn enqueue(&self, uids: Vec<String>) {
        for uid in uids {
            self.queue.add(&uid);
        }
    }
}

/// Feeds the graph with one kind.
async fn follow(shared: Arc<Shared>, resource: Resource, random: base::Random, left: Arc<watch::Sender<usize>>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
    let mut first = true;
    loop {
        match list(&shared, resource.kind).await {
            Ok(mut version) => {
                if std::mem::take(&mut first) {
                    left.send_modify(|left| *left = left.saturating_sub(1));
                }
                while let Ok(reached) = watch_from(&shared, resource.kind, version.clone()).await {
                    if reached == version {
                        // A server that is ending ends every watch at once: do not ask it again and again.
                        tokio::time::sleep(backoff.next_jittered(&random)).await;
                    } else {
                        backoff.reset();
                    }
                    version = reached;
                }
            }
            Err(error) => {
                tracing::warn!(kind = resource.kind.kind, %error, "the garbage collector cannot list");
                tokio::time::sleep(backoff.next_jittered(&random)).await;
            }
        }
    }
}

async fn list(shared: &Shared, kind: &'static Kind) -> Result<String, Error> {
    let mut continue_token = None;
    let mut seen = Vec::new();
    loop {
        let mut call = Call::new(Verb::List, Target::kind(kind));
        call.options =
            Options { limit: Some(500), continue_token: continue_token.take(), passing: true, ..Options::default() };
        let Reply::List(list) = shared.client.call(call).await? else {
            return Err(Error::Malformed("expected a list".into()));
        };
        for object in &list.items {
            seen.push(object.uid().to_owned());
            let uids = shared.graph.lock().put(&**object);
            shared.enqueue(uids);
        }
        if list.continue_token.is_empty() {
            let uids = shared.graph.lock().retain(kind, &seen);
            shared.enqueue(uids);
            return Ok(list.resource_version);
        }
        continue_token = Some(list.continue_token);
    }
}

async fn watch_from(shared: &Shared, kind: &'static Kind, version: String) -> Result<String, Error> {
    let mut call = Call::new(Verb::Watch, Target::kind(kind));
    call.options = Options {
        resource_version: Some(version.clone()),
        allow_watch_bookmarks: true,
        passing: true,
        ..Options::default()
    };
    let mut events = shared.client.watch_dyn(call).await?;
    let mut reached = version;
    while let Some(event) = events.next().await {
        let uids = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                reached = object.resource_version().to_owned();
                shared.graph.lock().put(&*object)
            }
            WatchEvent::Deleted(object) => {
                reached = object.resource_version().to_owned();
                shared.graph.lock().remove(object.uid())
            }
            WatchEvent::Bookmark { resource_version, .. } => {
                reached = resource_version;
                continue;
            }
            WatchEvent::Error(status) => return Err(Error::Status(*status)),
        };
        shared.enqueue(uids);
    }
    Ok(reached)
}

async fn work(shared: Arc<Shared>, mut synced: watch::Receiver<usize>) {
    // Before every kind is listed, owners may merely not be known yet.
    if synced.wait_for(|left| *left == 0).await.is_err() {
        return;
    }
    loop {
        let work = shared.queue.next().await;
        let uid = work.key().to_owned();
        match base::task::catch("garbage collector", attend(&shared, &uid)).await {
            Some(Ok(())) => work.done(),
            Some(Err(error)) => {
                let delay = work.failed();
                if !error.is_conflict() {
                    tracing::warn!(uid, %error, ?delay, "the garbage collector failed on an object");
                }
            }
            None => {
                work.failed();
            }
        }
    }
}

/// Looks at one object: as an owner being deleted, then as a dependent.
async fn attend(shared: &Shared, uid: &str) -> Result<(), Error> {
    let Some(node) = shared.graph.lock().get(uid) else { return Ok(()) };
    if node.terminating && node.orphan {
        return orphan(shared, &node).await;
    }
    if node.terminating && node.foreground {
        return foreground(shared, &node).await;
    }
    if node.owners.is_empty() || node.terminating {
        return Ok(());
    }
    let Some(live) = live(shared, &node).await? else {
        let uids = shared.graph.lock().remove(uid);
        shared.enqueue(uids);
        return Ok(());
    };
    let owners = live.metadata().owner_references.clone().unwrap_or_default();
    if owners.is_empty() || live.is_terminating() {
        return Ok(());
    }
    let (mut solid, mut dangling, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    for owner in owners {
        match state(shared, &owner, &node.namespace).await? {
            Owner::Solid => solid.push(owner),
            Owner::Absent => dangling.push(owner),
            Owner::Waiting => waiting.push(owner),
        }
    }
    if !solid.is_empty() {
        dangling.extend(waiting);
        return release(shared, &node, dangling).await;
    }
    if !waiting.is_empty() && shared.graph.lock().has_dependents(uid) {
        // The owner waits for this object, which must in turn wait for its own dependents.
        return delete(shared, &node, "Foreground").await;
    }
    let finalizers = live.metadata().finalizers.clone().unwrap_or_default();
    let policy = match () {
        () if finalizers.iter().any(|finalizer| finalizer == ORPHAN) => "Orphan",
        () if finalizers.iter().any(|finalizer| finalizer == FOREGROUND) => "Foreground",
        () => "Background",
    };
    delete(shared, &node, policy).await
}

enum Owner {
    /// It exists, and keeps its dependents.
    Solid,
    /// It does not exist, or another object has its name.
    Absent,
    /// It is being deleted and waits for its dependents to go first.
    Waiting,
}

async fn state(shared: &Shared, owner: &OwnerReference, namespace: &str) -> Result<Owner, Error> {
    if let Some(node) = shared.graph.lock().get(&owner.uid) {
        return Ok(if node.terminating && node.foreground { Owner::Waiting } else { Owner::Solid });
    }
    if shared.graph.lock().is_absent(&owner.uid) {
        return Ok(Owner::Absent);
    }
    let Some(kind) = api::kinds::find(&owner.api_version, &owner.kind).filter(|kind| !kind.plural.is_empty()) else {
        tracing::debug!(kind = owner.kind, api_version = owner.api_version, "an owner of a kind that is not served");
        return Ok(Owner::Solid);
    };
    let found = find(shared, kind, namespace, &owner.name).await?;
    match found {
        Some(object) if object.uid() == owner.uid => Ok(Owner::Solid),
        _ => {
            shared.graph.lock().note_absent(&owner.uid);
            Ok(Owner::Absent)
        }
    }
}

/// The object of that name, in the dependent's namespace or at cluster scope.
async fn find(
    shared: &Shared,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
) -> Result<Option<Arc<dyn Object>>, Error> {
    let scopes = if namespace.is_empty() { vec![""] } else { vec![namespace, ""] };
    for scope in scopes {
        match shared.client.get_dyn(Target::kind(kind).namespaced(scope).named(name)).await {
            Ok(object) => return Ok(Some(object)),
            // A namespaced kind asked for at cluster scope, or the other way round, is a 404 too.
            Err(error) if error.is_not_found() => {}
            Err(Error::Status(status)) if status.code() == 405 || status.code() == 400 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

async fn live(shared: &Shared, node: &Node) -> Result<Option<Arc<dyn Object>>, Error> {
    match shared.client.get_dyn(node.target()).await {
        Ok(object) => Ok((object.uid() == node.uid).then_some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn delete(shared: &Shared, node: &Node, policy: &str) -> Result<(), Error> {
    let mut call = Call::new(Verb::Delete, node.target());
    call.body = Body::Delete(Box::new(DeleteOptions {
        preconditions: Some(Preconditions { uid: Some(node.uid.clone()), resource_version: None }),
        propagation_policy: Some(policy.to_owned()),
        ..Default::default()
    }));
    tracing::debug!(kind = node.kind.kind, name = node.name, policy, "collecting garbage");
    ignore_gone(shared.client.call(call).await)
}

fn ignore_gone(result: Result<Reply, Error>) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

async fn patch(shared: &Shared, node: &Node, patch: serde_json::Value) -> Result<(), Error> {
    let mut call = Call::new(Verb::Patch, node.target());
    call.body = Body::Patch(PatchKind::Merge, patch.to_string().into());
    match shared.client.call(call).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes owner references off an object that has other owners.
async fn release(shared: &Shared, node: &Node, gone: Vec<OwnerReference>) -> Result<(), Error> {
    if gone.is_empty() {
        return Ok(());
    }
    let Some(live) = live(shared, node).await? else { return Ok(()) };
    let owners = live.metadata().owner_references.iter().flatten();
    let left: Vec<&OwnerReference> = owners.filter(|owner| !gone.iter().any(|gone| gone.uid == owner.uid)).collect();
    let version = live.resource_version();
    patch(shared, node, json!({"metadata": {"resourceVersion": version, "ownerReferences": left}})).await
}

/// Deletes the dependents of an owner that waits for them; when none blocks any more, lets the owner go.
async fn foreground(shared: &Shared, node: &Node) -> Result<(), Error> {
    let dependents = shared.graph.lock().dependents(&node.uid);
    let blocking = |dependent: &Node| {
        dependent.owners.iter().any(|owner| owner.uid == node.uid && owner.block_owner_deletion == Some(true))
    };
    let blocked = dependents.iter().any(blocking);
    for dependent in dependents.iter().filter(|dependent| !dependent.terminating) {
        shared.queue.add(&dependent.uid);
    }
    if blocked { Ok(()) } else { remove_finalizer(shared, node, FOREGROUND).await }
}

/// Takes the owner off its dependents, then lets it go.
async fn orphan(shared: &Shared, node: &Node) -> Result<(), Error> {
    let dependents = shared.graph.lock().dependents(&node.uid);
    let us: Vec<OwnerReference> = vec![OwnerReference { uid: node.uid.clone(), ..Default::default() }];
    for dependent in &dependents {
        release(shared, dependent, us.clone()).await?;
    }
    remove_finalizer(shared, node, ORPHAN).await
}

async fn remove_finalizer(shared: &Shared, node: &Node, finalizer: &str) -> Result<(), Error> {
    let Some(live) = live(shared, node).await? else { return Ok(()) };
    let finalizers = live.metadata().finalizers.iter().flatten();
    let left: Vec<&String> = finalizers.filter(|name| *name != finalizer).collect();
    let version = live.resource_version();
    patch(shared, node, json!({"metadata": {"resourceVersion": version, "finalizers": left}})).await
}
