//! Deletes objects whose owners are gone, and serves the finalizers `foregroundDeletion` and `orphan`.
//!
//! Upstream: pkg/controller/garbagecollector. A graph of all objects and their owners ([`graph`]) is kept by following
//! every resource that is served, custom ones included ([`monitors`]); whatever it suggests is checked against the live
//! object before anything is deleted ([`owners`]).

mod graph;
mod monitors;
mod owners;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::call::PatchKind;
use api::meta::v1::{DeleteOptions, OwnerReference, Preconditions};
use api::rbac::v1::PolicyRule;
use api::{Body, Call, Object, Reply, Verb};
use client::{Client, Error, Recorder, Served, WorkQueue};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;

use crate::harness::{AnyController, Context, events_rule};
use graph::{Graph, Look, Node};
use owners::Owner;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
const WORKERS: usize = 8;
/// Objects whose owners' kinds are not served, kept until one may be; the rest are looked at when they change.
const UNRESOLVED_LEN_MAX: usize = 10_000;

pub struct Controller;

impl AnyController for Controller {
    fn name(&self) -> &'static str {
        "generic-garbage-collector"
    }

    fn rules(&self) -> Vec<PolicyRule> {
        let verbs = ["get", "list", "watch", "patch", "update", "delete"].map(str::to_owned).to_vec();
        let all = PolicyRule {
            api_groups: Some(vec!["*".into()]),
            resources: Some(vec!["*".into()]),
            verbs,
            ..Default::default()
        };
        vec![all, events_rule()]
    }

    fn start(&'static self, context: Context) {
        let client = (context.client_for)(self.name());
        let shared = Arc::new(Shared {
            graph: Mutex::default(),
            queue: WorkQueue::new(Duration::from_millis(100), Duration::from_secs(30)),
            recorder: Recorder::start(
                client.clone(),
                "garbage-collector-controller",
                "",
                context.clock,
                &context.tasks,
            ),
            client,
            served: context.served.clone(),
            unresolved: Mutex::default(),
            waiting: watch::channel(None).0,
        });
        monitors::start(&shared, &context);
        for _ in 0..WORKERS {
            let shared = shared.clone();
            context.tasks.supervise("garbage collector", move || work(shared.clone()));
        }
    }
}

struct Shared {
    graph: Mutex<Graph>,
    queue: WorkQueue,
    client: Client,
    recorder: Recorder,
    served: Served,
    /// Uids of objects with an owner of a kind that was not served.
    unresolved: Mutex<BTreeSet<String>>,
    /// The resources not yet listed; `None` before it is known what there is.
    waiting: watch::Sender<Option<BTreeSet<monitors::Name>>>,
}

impl Shared {
    /// Takes in what a change in the graph calls for.
    fn follow_up(&self, look: Look) {
        for uid in look.uids {
            self.queue.add(&uid);
        }
        for (node, owner) in look.misplaced {
            let message = format!(
                "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {:?}",
                owner.api_version, owner.kind, node.namespace, owner.name, owner.uid, node.namespace
            );
            self.recorder.record(&node.reference(), "Warning", "OwnerRefInvalidNamespace", message);
        }
    }

    /// Looks at an object again when other resources are served.
    fn note_unresolved(&self, uid: &str) {
        let mut unresolved = self.unresolved.lock();
        if unresolved.len() < UNRESOLVED_LEN_MAX {
            unresolved.insert(uid.to_owned());
        }
    }
}

async fn work(shared: Arc<Shared>) {
    let mut waiting = shared.waiting.subscribe();
    loop {
        // Before every resource is listed, dependents may merely not be known yet.
        if waiting.wait_for(|waiting| waiting.as_ref().is_some_and(BTreeSet::is_empty)).await.is_err() {
            return;
        }
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
        let look = shared.graph.lock().remove(uid);
        shared.follow_up(look);
        return Ok(());
    };
    let owners = live.metadata().owner_references.clone().unwrap_or_default();
    if owners.is_empty() || live.is_terminating() {
        return Ok(());
    }
    let (mut solid, mut dangling, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    for owner in owners {
        match owners::state(shared, &owner, &node).await? {
            Owner::Solid => solid.push(owner),
            Owner::Absent => dangling.push(owner),
            Owner::Waiting => waiting.push(owner),
            // Nothing is done to an object as long as not all of its owners can be looked up.
            Owner::Unknown => {
                shared.note_unresolved(uid);
                return Ok(());
            }
            Owner::OutOfReach => return Ok(()),
        }
    }
    if !solid.is_empty() {
        dangling.extend(waiting);
        return release(shared, &node, dangling).await;
    }
    let dependents = shared.graph.lock().dependents(uid);
    if !waiting.is_empty() && !dependents.is_empty() {
        // The owner waits for this object, which must in turn wait for its own dependents; unless it is among what
        // those wait for, when each would wait for the other.
        if dependents.iter().any(|dependent| dependent.terminating && dependent.foreground) {
            unblock(shared, &node, &*live).await?;
            let Some(live) = self::live(shared, &node).await? else { return Ok(()) };
            return delete(shared, &node, &*live, "Foreground").await;
        }
        return delete(shared, &node, &*live, "Foreground").await;
    }
    let finalizers = live.metadata().finalizers.clone().unwrap_or_default();
    let policy = match () {
        () if finalizers.iter().any(|finalizer| finalizer == ORPHAN) => "Orphan",
        () if finalizers.iter().any(|finalizer| finalizer == FOREGROUND) => "Foreground",
        () => "Background",
    };
    delete(shared, &node, &*live, policy).await
}

/// The metadata of a node's object, if it is still that very object.
async fn live(shared: &Shared, node: &Node) -> Result<Option<Arc<dyn Object>>, Error> {
    let found = shared.client.find_metadata(node.kind, &node.namespace, &node.name).await?;
    Ok(found.filter(|object| object.uid() == node.uid))
}

/// Deletes an object as it was judged: one that has changed since is judged anew.
async fn delete(shared: &Shared, node: &Node, live: &dyn Object, policy: &str) -> Result<(), Error> {
    let mut call = Call::new(Verb::Delete, node.target());
    call.options.metadata_of = Some(node.kind);
    call.body = Body::Delete(Box::new(DeleteOptions {
        preconditions: Some(Preconditions {
            uid: Some(node.uid.clone()),
            resource_version: Some(live.resource_version().to_owned()),
        }),
        propagation_policy: Some(policy.to_owned()),
        ..Default::default()
    }));
    tracing::debug!(kind = node.kind.kind, name = node.name, policy, "collecting garbage");
    ignore_gone(shared.client.call(call).await)
}

fn ignore_gone(result: Result<Reply, Error>) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

async fn patch(shared: &Shared, node: &Node, patch: serde_json::Value) -> Result<(), Error> {
    let mut call = Call::new(Verb::Patch, node.target());
    call.options.metadata_of = Some(node.kind);
    call.body = Body::Patch(PatchKind::Merge, patch.to_string().into());
    ignore_gone(shared.client.call(call).await)
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

/// Lets an object block none of its owners any more.
async fn unblock(shared: &Shared, node: &Node, live: &dyn Object) -> Result<(), Error> {
    let mut owners = live.metadata().owner_references.clone().unwrap_or_default();
    if owners.iter().all(|owner| owner.block_owner_deletion != Some(true)) {
        return Ok(());
    }
    for owner in &mut owners {
        owner.block_owner_deletion = Some(false);
    }
    let version = live.resource_version();
    patch(shared, node, json!({"metadata": {"resourceVersion": version, "ownerReferences": owners}})).await
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
