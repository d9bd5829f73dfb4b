//! The end of a definition: its instances go first.
//!
//! Upstream: apiextensions-apiserver/pkg/controller/finalizer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::apiextensions::v1::CustomResourceDefinition;
use api::{Body, Call, Object, Options, Status, Target, Verb};

use super::follow::target;
use super::names::{self, TERMINATING};
use crate::cache::Cache;
use crate::catalog::Resource;
use crate::{Caller, Server, registry};

/// Keeps a definition until its instances are gone.
const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// How long to wait before deletes that failed are tried anew: at first, and at most.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// What becomes of a definition that is to be deleted: it waits for its instances.
pub(crate) fn mark(object: &mut dyn Object, now: api::Timestamp) {
    let Some(crd) = object.as_any_mut().downcast_mut::<CustomResourceDefinition>() else { return };
    let finalizers = crd.metadata.finalizers.get_or_insert_default();
    if crd.metadata.deletion_timestamp.is_none() && !finalizers.iter().any(|own| own == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
        let why = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        let status = crd.status.get_or_insert_default();
        names::set(status, TERMINATING, "True", "InstanceDeletionPending", why, now);
    }
}

/// Begins to delete the instances of a definition under deletion, unless that is under way.
pub(super) fn begin(server: &Arc<Server>, name: &str) {
    if !server.customs().cleaning.lock().insert(name.to_owned()) {
        return;
    }
    let (server, name) = (server.clone(), name.to_owned());
    let tasks = server.tasks().clone();
    tasks.spawn("custom resource cleanup", async move {
        let caller = Arc::new(Caller::apiserver());
        let mut wait = AGAIN;
        while let Err(error) = clean(&server, &caller, &name).await {
            tracing::warn!(definition = name, %error, "instances could not be deleted");
            server.options().clock.sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
        server.customs().cleaning.lock().remove(&name);
    });
}

/// One round; an error means that another one is needed.
async fn clean(server: &Arc<Server>, caller: &Arc<Caller>, name: &str) -> Result<(), Status> {
    let Some(crd) = server.lookup().get_live::<CustomResourceDefinition>("", name).await? else { return Ok(()) };
    let waits = crd.metadata.finalizers.iter().flatten().any(|own| own == FINALIZER);
    if crd.metadata.deletion_timestamp.is_none() || !waits {
        return Ok(());
    }
    if let Some(resource) = server.customs().stored(name, server.lookup().catalog()) {
        let cache = resource.cache("delete")?.clone();
        server.lookup().wait_fresh().await?;
        if !cache.state().items.is_empty() {
            let mut next = (*crd).clone();
            let status = next.status.get_or_insert_default();
            let why = "CustomResource deletion is in progress";
            names::set(status, TERMINATING, "True", "InstanceDeletionInProgress", why, server.now());
            if next.status != crd.status {
                write(server, caller, "status", next).await?;
            }
            delete_all(server, caller, &resource, &cache).await?;
            emptied(&cache).await;
        }
    }
    let Some(crd) = server.lookup().get_live::<CustomResourceDefinition>("", name).await? else { return Ok(()) };
    let mut next = (*crd).clone();
    next.metadata.finalizers.get_or_insert_default().retain(|own| own != FINALIZER);
    write(server, caller, "", next).await
}

async fn write(
    server: &Arc<Server>,
    caller: &Arc<Caller>,
    subresource: &'static str,
    crd: CustomResourceDefinition,
) -> Result<(), Status> {
    let mut to = target();
    to.name.clone_from(&crd.metadata.name);
    to.subresource = (!subresource.is_empty()).then(|| subresource.into());
    let call = Call { verb: Verb::Update, target: to, options: Options::default(), body: Body::Object(Arc::new(crd)) };
    match server.call(caller, call).await {
        Err(status) if status.code() != 404 => Err(status),
        _ => Ok(()),
    }
}

async fn delete_all(
    server: &Arc<Server>,
    caller: &Arc<Caller>,
    resource: &Arc<Resource>,
    cache: &Arc<Cache>,
) -> Result<(), Status> {
    let namespaces: BTreeSet<String> = cache.state().items.values().map(|entry| entry.namespace().to_owned()).collect();
    for namespace in namespaces {
        let mut to = Target::kind(resource.kind());
        if resource.namespaced() {
            to = to.namespaced(&namespace);
        }
        let body = Body::Delete(Box::default());
        let call = Call { verb: Verb::DeleteCollection, target: to, options: Options::default(), body };
        registry::call(server, caller, resource, call, None).await?;
    }
    Ok(())
}

/// Returns when nothing is left: what has finalizers goes when others are done with it.
async fn emptied(cache: &Arc<Cache>) {
    let mut signal = cache.signal();
    loop {
        signal.borrow_and_update();
        if cache.state().items.is_empty() || cache.is_closed() {
            return;
        }
        if signal.changed().await.is_err() {
            return;
        }
    }
}
