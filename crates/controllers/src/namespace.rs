//! Empties namespaces that are being deleted, then lets them go.
//!
//! Upstream: pkg/controller/namespace/deletion. Pods go before what they may still use (ordered deletion, GA 1.34).

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Namespace, NamespaceCondition, Pod};
use api::meta::v1::{DeleteOptions, Time};
use api::{Body, Call, Kind, Object, Options, Reply, Target, Timestamp, Typed, Verb};
use client::{Client, Error};

use crate::harness::{Actor, Context, Read, Write};

/// The finalizer that this controller serves.
const FINALIZER: &str = "kubernetes";
/// Objects that others must finalize send no event that is read here: look again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

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
        let remaining = empty(&namespace, context, client).await?;
        report(&namespace, &remaining, context.clock.now(), client).await?;
        if !remaining.is_empty() {
            return Ok(Some(LOOK_AGAIN));
        }
        finalize(&namespace, client).await?;
        Ok(None)
    }
}

/// A kind of which objects are left, and what they wait for.
struct Remaining {
    kind: &'static Kind,
    count: usize,
    /// Finalizers, each with how many objects carry it.
    finalizers: Vec<(String, usize)>,
}

/// Asks for the deletion of everything; answers what is still there.
async fn empty(namespace: &Namespace, context: &Context, client: &Client) -> Result<Vec<Remaining>, Error> {
    let left = empty_kind(namespace, Pod::KIND, client).await?;
    if let Some(pods) = left {
        // While pods run, what they may use stays.
        return Ok(vec![pods]);
    }
    let mut remaining = Vec::new();
    let resources = context.facts.resources.iter().filter(|resource| resource.namespaced && resource.kind != Pod::KIND);
    for resource in resources {
        remaining.extend(empty_kind(namespace, resource.kind, client).await?);
    }
    Ok(remaining)
}

async fn empty_kind(namespace: &Namespace, kind: &'static Kind, client: &Client) -> Result<Option<Remaining>, Error> {
    let target = Target::kind(kind).namespaced(namespace.name());
    if list(&target, client).await?.is_empty() {
        return Ok(None);
    }
    let mut call = Call::new(Verb::DeleteCollection, target.clone());
    let options = DeleteOptions { propagation_policy: Some("Background".into()), ..Default::default() };
    call.body = Body::Delete(Box::new(options));
    client.call(call).await?;
    let objects = list(&target, client).await?;
    if objects.is_empty() {
        return Ok(None);
    }
    let mut finalizers: Vec<(String, usize)> = Vec::new();
    for finalizer in objects.iter().flat_map(|object| object.metadata().finalizers.iter().flatten()) {
        match finalizers.iter_mut().find(|(name, _)| name == finalizer) {
            Some((_, count)) => *count += 1,
            None => finalizers.push((finalizer.clone(), 1)),
        }
    }
    Ok(Some(Remaining { kind, count: objects.len(), finalizers }))
}

async fn list(target: &Target, client: &Client) -> Result<Vec<Arc<dyn Object>>, Error> {
    let mut call = Call::new(Verb::List, target.clone());
    call.options = Options { limit: Some(500), passing: true, ..Options::default() };
    match client.call(call).await? {
        Reply::List(list) => Ok(list.items),
        Reply::Object(_) | Reply::Status(_) => Err(Error::Malformed("expected a list".into())),
    }
}

/// The conditions of a namespace that is going away.
async fn report(namespace: &Namespace, remaining: &[Remaining], now: Timestamp, client: &Client) -> Result<(), Error> {
    let content: Vec<String> = remaining
        .iter()
        .map(|left| {
            // With its dot even where the group is empty, as upstream has it.
            format!("{}.{} has {} resource instances", left.kind.plural, left.kind.group, left.count)
        })
        .collect();
    let finalizers: Vec<String> = remaining
        .iter()
        .flat_map(|left| &left.finalizers)
        .map(|(name, count)| format!("{name} in {count} resource instances"))
        .collect();
    let wanted = [
        (
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered".into(),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".into(),
        ),
        (
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".into(),
        ),
        if content.is_empty() {
            ("NamespaceContentRemaining", false, "ContentRemoved", "All content successfully removed".into())
        } else {
            (
                "NamespaceContentRemaining",
                true,
                "SomeResourcesRemain",
                format!("Some resources are remaining: {}", content.join(", ")),
            )
        },
        if finalizers.is_empty() {
            (
                "NamespaceFinalizersRemaining",
                false,
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished".to_owned(),
            )
        } else {
            (
                "NamespaceFinalizersRemaining",
                true,
                "SomeFinalizersRemain",
                format!("Some content in the namespace has finalizers remaining: {}", finalizers.join(", ")),
            )
        },
    ];
    let mut status = namespace.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    for (type_, holds, reason, message) in wanted {
        let state = if holds { "True" } else { "False" };
        let old = conditions.iter().position(|condition| condition.type_ == type_);
        let same =
            old.is_some_and(|at| conditions[at].status == state && conditions[at].message.as_deref() == Some(&message));
        if same {
            continue;
        }
        let new = NamespaceCondition {
            type_: type_.into(),
            status: state.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        };
        match old {
            Some(at) => conditions[at] = new,
            None => conditions.push(new),
        }
    }
    if Some(&status) == namespace.status.as_ref()
        || (remaining.is_empty() && namespace.status.as_ref().is_none_or(|s| s.conditions.is_none()))
    {
        // Nothing to tell, or nobody who will read it before the namespace is gone.
        return Ok(());
    }
    let mut new = namespace.clone();
    new.status = Some(status);
    match client.update_status(new).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
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
