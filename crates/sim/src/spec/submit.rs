//! Writes of a spec as calls: what `kubectl apply`, `create`, `patch` and `delete` send.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use api::call::PatchKind;
use api::meta::v1::DeleteOptions;
use api::{Body, Call, Options, Target, Verb};
use apiserver::Caller;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::answer::Got;
use super::block::{Patch, Settings, Subject, Write};
use super::request;
use crate::catalogue::{self, Found};
use crate::{Cluster, cluster};

/// The namespace of objects that name none.
pub const NAMESPACE: &str = "default";

/// Sends writes, and remembers what was applied: what an object no longer says is taken away, as `kubectl apply` does.
#[derive(Default)]
pub struct Submitter {
    applied: BTreeMap<String, Value>,
}

/// Who does a block's work.
pub fn caller_of(settings: &Settings) -> Arc<Caller> {
    let groups: Vec<&str> = settings.groups.iter().map(String::as_str).collect();
    settings.user.as_deref().map_or_else(cluster::admin, |user| cluster::caller(user, &groups))
}

/// The resource of a document.
///
/// # Errors
/// If it is not served.
pub async fn found(cluster: &Cluster, document: &Value) -> Result<Found> {
    let text = |key: &str| document[key].as_str().unwrap_or_default();
    if text("kind").is_empty() {
        bail!("a document has no kind");
    }
    catalogue::served(cluster, text("apiVersion"), text("kind")).await
}

/// Where a document's object is, or its collection if it has no name.
pub fn target(found: Found, document: &Value, settings: &Settings) -> Target {
    let own = document["metadata"]["namespace"].as_str();
    let target = found.target(own.or(settings.namespace.as_deref()).or(Some(NAMESPACE)));
    match document["metadata"]["name"].as_str() {
        Some(name) => target.named(name),
        None => target,
    }
}

impl Submitter {
    /// Sends one write for each document, in order; ends at the first refusal. A patch or delete of a named object
    /// takes
    /// its first document as patch or options.
    ///
    /// # Errors
    /// If the block makes no sense; a refusal is an answer.
    pub async fn submit(
        &mut self,
        cluster: &Cluster,
        write: &Write,
        documents: &[Value],
        settings: &Settings,
    ) -> Result<Got> {
        let caller = caller_of(settings);
        let options = options(settings)?;
        if let Some(call) = named(cluster, write, documents, settings, &options).await? {
            return Got::new(cluster.call(&caller, call).await);
        }
        let mut all = Got { code: 200, ..Got::default() };
        if documents.is_empty() {
            bail!("there is no document");
        }
        for document in documents {
            let got = self.one(cluster, &caller, write, document, settings, &options).await?;
            all.warnings.extend(got.warnings.clone());
            if !got.succeeded() {
                return Ok(got);
            }
            (all.code, all.body) = (got.code, got.body);
            cluster.settle().await;
        }
        Ok(all)
    }

    async fn one(
        &mut self,
        cluster: &Cluster,
        caller: &Arc<Caller>,
        write: &Write,
        document: &Value,
        settings: &Settings,
        options: &Options,
    ) -> Result<Got> {
        let found = found(cluster, document).await?;
        let target = target(found, document, settings);
        let mut collection = target.clone();
        collection.name = None;
        let body = Body::Json(Bytes::from(document.to_string()));
        let (verb, target, body) = match write {
            Write::Create => (Verb::Create, collection, body),
            Write::Replace => (Verb::Update, target, body),
            Write::Patch { kind, .. } => {
                (Verb::Patch, target, Body::Patch(patch_kind(*kind), Bytes::from(document.to_string())))
            }
            Write::Delete(_) => (Verb::Delete, target, Body::Delete(Box::default())),
            Write::Apply => {
                let exists = match &target.name {
                    Some(_) => cluster.call(&cluster::admin(), Call::new(Verb::Get, target.clone())).await.is_ok(),
                    None => false,
                };
                let key = format!("{target:?}");
                let before = self.applied.insert(key, document.clone());
                if exists {
                    let patch = patch_from(before.as_ref().unwrap_or(&Value::Null), document);
                    let kind = if found.is_custom() { PatchKind::Merge } else { PatchKind::Strategic };
                    (Verb::Patch, target, Body::Patch(kind, Bytes::from(patch.to_string())))
                } else {
                    (Verb::Create, collection, body)
                }
            }
        };
        Got::new(cluster.call(caller, Call { verb, target, options: options.clone(), body }).await)
    }
}

/// The call of a write whose object is named by the block itself.
async fn named(
    cluster: &Cluster,
    write: &Write,
    documents: &[Value],
    settings: &Settings,
    options: &Options,
) -> Result<Option<Call>> {
    let first = documents.first();
    let place = async |subject: &Subject| -> Result<Target> {
        let found = catalogue::served_as(cluster, &subject.kind).await?;
        Ok(found.target(Some(settings.namespace.as_deref().unwrap_or(NAMESPACE))).named(&subject.name))
    };
    let (verb, target, body) = match write {
        Write::Patch { subject: Some(subject), kind, subresource } => {
            let patch = first.context("there is no patch")?;
            let mut target = place(subject).await?;
            target.subresource = subresource.clone().map(Into::into);
            (Verb::Patch, target, Body::Patch(patch_kind(*kind), Bytes::from(patch.to_string())))
        }
        Write::Delete(Some(subject)) => {
            let options: DeleteOptions = match first {
                Some(options) => serde_json::from_value(options.clone()).map_err(|error| anyhow!("{error}"))?,
                None => DeleteOptions::default(),
            };
            (Verb::Delete, place(subject).await?, Body::Delete(Box::new(options)))
        }
        _ => return Ok(None),
    };
    Ok(Some(Call { verb, target, options: options.clone(), body }))
}

fn patch_kind(kind: Patch) -> PatchKind {
    match kind {
        Patch::Merge => PatchKind::Merge,
        Patch::Strategic => PatchKind::Strategic,
        Patch::Json => PatchKind::Json,
        Patch::ServerSide => PatchKind::Apply,
    }
}

fn options(settings: &Settings) -> Result<Options> {
    Ok(Options {
        dry_run: settings.dry_run,
        force: settings.force,
        field_manager: settings.manager.clone().or_else(|| Some("kubectl".to_owned())),
        field_validation: settings.validation.as_deref().map(request::validation).transpose()?.unwrap_or_default(),
        ..Options::default()
    })
}

/// The new document, with nulls where the last one had keys that it has not.
fn patch_from(before: &Value, after: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return after.clone() };
    let mut patch = Map::new();
    for (key, value) in after {
        patch.insert(key.clone(), patch_from(before.get(key).unwrap_or(&Value::Null), value));
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}
