//! Empties namespaces that are being deleted, then lets them go.
//!
//! Upstream: pkg/controller/namespace/deletion. What is deleted is every namespaced resource that discovery names at
//! that moment, custom ones included. Pods go before what they may still use (ordered deletion, GA 1.34).

mod conditions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Namespace;
use api::lean::Pod;
use api::meta::v1::{DeleteOptions, Preconditions};
use api::{Body, Call, Kind, List, Object, Options, Reply, Target, Typed, Verb};
use client::discovery::{Discovered, Resource};
use client::{Client, Error};

use crate::harness::{Actor, Context, Read, Write};
use conditions::Outcome;

/// The finalizer that this controller serves.
const FINALIZER: &str = "kubernetes";
/// Objects that others must finalize send no event that is read here: look again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Objects asked for per page when what is left is counted.
const PAGE_LEN: u64 = 500;

pub struct Controller;

impl Actor for Controller {
    const NAME: &'static str = "namespace-controller";
    type Primary = Namespace;

    fn reads() -> Vec<Read> {
        vec![Read::mapped::<Pod>(|change, reflectors, keys| {
            // A terminating namespace waits for its pods above all.
            if change.new.is_none()
                && let Some(old) = &change.old
                && reflectors.of::<Namespace>().get(old.namespace()).is_some_and(|n| n.is_terminating())
            {
                keys.insert(old.namespace().to_owned());
            }
        })]
    }

    fn writes() -> Vec<Write> {
        vec![
            Write { group: "*", resource: "*".into(), verbs: &["get", "list", "delete", "deletecollection"] },
            Write::status::<Namespace>(),
            Write::subresource::<Namespace>("finalize", &["update"]),
        ]
    }

    async fn act(
        &self,
        namespace: Arc<Namespace>,
        context: &Context,
        client: &Client,
    ) -> Result<Option<Duration>, Error> {
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        if !namespace.is_terminating() || !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(None);
        }
        let outcome = empty(namespace.name(), client).await;
        conditions::report(&namespace, &outcome, context.clock.now(), client).await?;
        if outcome.has_failed() {
            tracing::warn!(namespace = namespace.name(), "a namespace could not be emptied; its conditions tell why");
            return Ok(Some(LOOK_AGAIN));
        }
        if !outcome.remaining.is_empty() {
            return Ok(Some(LOOK_AGAIN));
        }
        finalize(&namespace, client).await?;
        Ok(None)
    }
}

/// What is left of one resource.
struct Remaining {
    kind: &'static Kind,
    count: usize,
    /// Finalizers, each with how many objects carry it.
    finalizers: BTreeMap<String, usize>,
}

/// Asks for the deletion of everything; answers what is still there, and what went wrong.
async fn empty(namespace: &str, client: &Client) -> Outcome {
    let mut outcome = Outcome::default();
    let discovered = client.discover().await.unwrap_or_else(|error| {
        outcome.discovery = Some(error.to_string());
        Discovered::default()
    });
    if let Some((count, text)) = discovered.failure() {
        outcome.discovery = Some(format!("Discovery failed for some groups, {count} failing: {text}"));
    }
    outcome.parsing = discovered.unparsed();
    let all = discovered.preferred().into_iter().filter(|one| one.namespaced && one.can(&["delete"]));
    let (pods, others): (Vec<&Resource>, Vec<&Resource>) = all.partition(|one| one.kind == Pod::KIND);
    for resource in pods {
        outcome.take(empty_resource(namespace, resource, client).await);
    }
    // While pods run, what they may use stays.
    if outcome.remaining.is_empty() && outcome.content.is_empty() {
        for resource in others {
            outcome.take(empty_resource(namespace, resource, client).await);
        }
    }
    outcome
}

/// Deletes all objects of one resource; what is left of them, or why not.
async fn empty_resource(namespace: &str, resource: &Resource, client: &Client) -> Result<Option<Remaining>, String> {
    let kind = resource.kind;
    let left = delete_all(namespace, resource, client).await.map_err(|error| error.to_string())?;
    if left.as_ref().is_some_and(|left| left.finalizers.is_empty() && kind != Pod::KIND) {
        // Nothing holds them, so they ought to be gone.
        let gvr = format!("{}/{}, Resource={}", kind.group, kind.version, kind.plural);
        return Err(format!("unexpected items still remain in namespace: {namespace} for gvr: {gvr}"));
    }
    Ok(left)
}

async fn delete_all(namespace: &str, resource: &Resource, client: &Client) -> Result<Option<Remaining>, Error> {
    let kind = resource.kind;
    if resource.can(&["list"]) && count(namespace, kind, client).await?.is_none() {
        return Ok(None);
    }
    if resource.can(&["deletecollection"]) {
        let mut call = Call::new(Verb::DeleteCollection, Target::kind(kind).namespaced(namespace));
        call.body = Body::Delete(Box::new(options(None)));
        ignore_unserved(client.call(call).await)?;
    } else if resource.can(&["list"]) {
        delete_each(namespace, kind, client).await?;
    }
    if !resource.can(&["list"]) {
        return Ok(None);
    }
    count(namespace, kind, client).await
}

fn options(uid: Option<&str>) -> DeleteOptions {
    DeleteOptions {
        preconditions: uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        propagation_policy: Some("Background".into()),
        ..Default::default()
    }
}

/// A resource that went meanwhile has no objects.
fn ignore_unserved<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(reply) => Ok(Some(reply)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(Error::Status(status)) if status.code() == 405 => Ok(None),
        Err(error) => Err(error),
    }
}

async fn page(
    namespace: &str,
    kind: &'static Kind,
    continue_token: Option<String>,
    client: &Client,
) -> Result<Option<List>, Error> {
    let mut call = Call::new(Verb::List, Target::kind(kind).namespaced(namespace));
    call.options = Options { limit: Some(PAGE_LEN), continue_token, metadata_of: Some(kind), ..Options::default() };
    match ignore_unserved(client.call(call).await)? {
        Some(Reply::List(list)) => Ok(Some(list)),
        None => Ok(None),
        Some(Reply::Object(_) | Reply::Status(_)) => Err(Error::Malformed("expected a list".into())),
    }
}

/// Counts what there is of a resource; `None` if nothing.
async fn count(namespace: &str, kind: &'static Kind, client: &Client) -> Result<Option<Remaining>, Error> {
    let mut left = Remaining { kind, count: 0, finalizers: BTreeMap::new() };
    let mut token = None;
    while let Some(list) = page(namespace, kind, token.take(), client).await? {
        left.count += list.items.len();
        for finalizer in list.items.iter().flat_map(|object| object.metadata().finalizers.iter().flatten()) {
            *left.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
        if list.continue_token.is_empty() {
            break;
        }
        token = Some(list.continue_token);
    }
    Ok((left.count > 0).then_some(left))
}

/// Deletes objects one by one, where a collection cannot be deleted as a whole.
async fn delete_each(namespace: &str, kind: &'static Kind, client: &Client) -> Result<(), Error> {
    let mut token = None;
    while let Some(list) = page(namespace, kind, token.take(), client).await? {
        for object in &list.items {
            let target = Target::kind(kind).namespaced(namespace).named(object.name());
            let mut call = Call::new(Verb::Delete, target);
            call.options.metadata_of = Some(kind);
            call.body = Body::Delete(Box::new(options(Some(object.uid()))));
            ignore_unserved(client.call(call).await)?;
        }
        if list.continue_token.is_empty() {
            break;
        }
        token = Some(list.continue_token);
    }
    Ok(())
}

/// Removes our finalizer; with the last one the namespace is gone.
async fn finalize(namespace: &Namespace, client: &Client) -> Result<(), Error> {
    let current = client.get::<Namespace>("", namespace.name()).await?;
    if current.uid() != namespace.uid() {
        return Ok(());
    }
    let mut new = Namespace::clone(&current);
    if let Some(finalizers) = new.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    let mut call =
        Call::new(Verb::Update, Target::kind(Namespace::KIND).named(namespace.name()).subresource("finalize"));
    call.body = Body::Object(Arc::new(new));
    match client.call(call).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
