//! ResourceQuota: what a write counts for is charged before it is done, so that writes at once cannot exceed a quota
//! together. What a write that fails after that was charged, and what deletions give back, the controller counts.
//!
//! Upstream: apiserver/pkg/admission/plugin/resourcequota. There, too, a namespace's writes are charged one after
//! another within a server, and by compare-and-swap between servers.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use api::core::v1::{ResourceQuota, ScopedResourceSelectorRequirement};
use api::quota::{self, Charge, Limited, Uncovered, What};
use api::{Body, Call, FieldErrors, Object, Path, Reason, Status, Target, Typed, Verb};
use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::{Operation, Request};
use crate::Caller;
use crate::configuration::{self, Shape};

pub struct Plugin;

/// How often a write is charged anew because a quota changed under it.
const TRIES_MAX: usize = 10;
/// Namespaces share this many turns.
const TURNS: usize = 64;

const KIND: &str = "ResourceQuotaConfiguration";
const VERSIONS: &[&str] = &["apiserver.config.k8s.io/v1"];
/// As it was called before.
const OLD_KIND: &str = "Configuration";
const OLD_VERSIONS: &[&str] = &["resourcequota.admission.k8s.io/v1beta1", "resourcequota.admission.k8s.io/v1alpha1"];

static SHAPE: Shape = Shape::Object(&[(
    "limitedResources",
    &Shape::List(&Shape::Object(&[
        ("apiGroup", &Shape::Any),
        ("resource", &Shape::Any),
        ("matchContains", &Shape::Any),
        (
            "matchScopes",
            &Shape::List(&Shape::Object(&[
                ("scopeName", &Shape::Any),
                ("operator", &Shape::Any),
                ("values", &Shape::Any),
            ])),
        ),
    ])),
)]);

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    limited_resources: Vec<Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Entry {
    api_group: String,
    resource: String,
    match_contains: Vec<String>,
    match_scopes: Vec<ScopedResourceSelectorRequirement>,
}

/// What may be consumed only where a quota covers it, from the plugin's configuration.
///
/// # Errors
/// What is wrong with it, in upstream's words.
pub fn limited(text: &[u8]) -> Result<Vec<Limited>, String> {
    let old = configuration::kind_of(text).as_deref() == Some(OLD_KIND);
    let (kind, versions) = if old { (OLD_KIND, OLD_VERSIONS) } else { (KIND, VERSIONS) };
    let file: File = configuration::decode(text, kind, versions, &SHAPE)?;
    let mut errors = FieldErrors::new();
    for (index, entry) in file.limited_resources.iter().enumerate() {
        if entry.resource.is_empty() {
            errors.required(&Path::new("limitedResources").index(index).child("resource"), "");
        }
    }
    if !errors.is_empty() {
        return Err(errors.to_string());
    }
    let limited = |entry: Entry| Limited {
        group: entry.api_group,
        resource: entry.resource,
        contains: entry.match_contains,
        scopes: entry.match_scopes,
    };
    Ok(file.limited_resources.into_iter().map(limited).collect())
}

/// Whose turn it is to charge, by namespace.
pub struct Turns([tokio::sync::Mutex<()>; TURNS]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| tokio::sync::Mutex::default()))
    }
}

impl Turns {
    fn of(&self, namespace: &str) -> &tokio::sync::Mutex<()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        let turns = u64::try_from(TURNS).unwrap_or(1);
        &self.0[usize::try_from(hasher.finish() % turns).unwrap_or_default()]
    }
}

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        if matches!((group, resource), ("" | "events.k8s.io", "events")) {
            return false;
        }
        match (operation, subresource) {
            (Operation::Create, "") => true,
            (Operation::Update, "") => group.is_empty() && matches!(resource, "services" | "persistentvolumeclaims"),
            (Operation::Update, "resize") => group.is_empty() && resource == "pods",
            (Operation::Update, "status") => group.is_empty() && resource == "persistentvolumeclaims",
            _ => false,
        }
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let limited = &request.server.options().admission_settings.limited;
            if request.namespace.is_empty()
                || limited.is_empty() && request.lookup().list::<ResourceQuota>(Some(request.namespace)).is_empty()
            {
                return Ok(());
            }
            let turns = &request.server.external().quotas;
            let _turn = turns.of(request.namespace).lock().await;
            for _ in 0..TRIES_MAX {
                match evaluate(request).await {
                    Err(status) if status.code() == 409 => {}
                    other => return other,
                }
            }
            Err(Status::conflict("", "resourcequotas", "", "the quotas of the namespace change all the time"))
        })
    }
}

async fn evaluate(request: &Request<'_>) -> Result<(), Status> {
    let mut quotas: Vec<Arc<ResourceQuota>> = Vec::new();
    for known in request.lookup().list::<ResourceQuota>(Some(request.namespace)) {
        quotas.extend(request.lookup().get_live::<ResourceQuota>(request.namespace, known.name()).await?);
    }
    let Some(object) = request.object.as_ref().map(|object| &***object) else { return Ok(()) };
    let charge = Charge {
        what: What { group: request.group, plural: request.resource },
        object,
        old: request.old.map(|old| &**old),
        status: request.subresource == "status",
        now: request.server.now(),
    };
    let borrowed: Vec<&ResourceQuota> = quotas.iter().map(|quota| &**quota).collect();
    let limited = &request.server.options().admission_settings.limited;
    quota::covered(&borrowed, &charge, limited).map_err(|uncovered| match uncovered {
        Uncovered::Resources(why) => request.forbidden(&why),
        Uncovered::Scopes(why) => crate::registry::plain(Reason::InternalError, &why),
    })?;
    let changed = quota::charge(&borrowed, &charge).map_err(|why| request.forbidden(&why))?;
    if request.dry_run {
        return Ok(());
    }
    for (at, used) in changed {
        let mut quota = ResourceQuota::clone(&quotas[at]);
        quota.status.get_or_insert_default().used = Some(quota::quantities(&used));
        let target = Target::kind(ResourceQuota::KIND).namespaced(request.namespace).named(quota.name());
        let mut call = Call::new(Verb::Update, target.subresource("status"));
        call.body = Body::Object(Arc::new(quota));
        call.options.field_manager = Some("kube-apiserver".to_owned());
        match request.server.proceed(&Arc::new(Caller::apiserver()), call, None).await {
            // A quota that is gone forbids nothing.
            Err(status) if status.code() == 404 => {}
            other => drop(other?),
        }
    }
    Ok(())
}
