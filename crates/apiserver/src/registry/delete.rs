//! Deleting: preconditions, grace, finalizers, and what becomes of dependents.

use std::sync::Arc;

use api::meta::v1::{DeleteOptions, Time};
use api::status::MODIFIED;
use api::{Body, Call, FieldErrors, Object, Path, Status};
use base::Timestamp;

use super::finish::Written;
use super::metadata::{FOREGROUND, ORPHAN};
use super::{Context, Phase, metadata, namespace};
use crate::admission::Operation;
use crate::answer::{Answer, Payload};
use crate::cache::Entry;

/// How often a delete is tried against ever newer versions.
const TRIES_MAX: usize = 100;
/// How many deletes of a collection are under way at once.
const COLLECTION_WORKERS: usize = 8;

/// Resources whose delete answers with the object that is gone, not with a Status (upstream's `ReturnDeletedObject`).
const ANSWERS_OBJECT: &[(&str, &str)] = &[
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "csistoragecapacities"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "volumeattributesclasses"),
];

const ORPHANED: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background \
                        to remove them or set propagationPolicy=Orphan to suppress this warning";

/// What a delete does to an object, decided without touching anything.
enum Step {
    /// It is gone now.
    Remove,
    /// It is marked, and goes later.
    Mark(Box<dyn Object>),
    /// It is marked already.
    Nothing,
}

impl Context<'_> {
    pub(super) async fn delete(&mut self, body: &Body) -> Result<Answer, Status> {
        let options = options_of(body);
        check_options(&options)?;
        if self.orphans_by_default(&options) {
            self.warnings.push(ORPHANED.to_owned());
        }
        for _ in 0..TRIES_MAX {
            let entry = self.existing().await?;
            if let Some(answer) = self.try_delete(&entry, &options).await? {
                return Ok(answer);
            }
        }
        Err(self.conflict(MODIFIED))
    }

    pub(super) async fn delete_collection(&mut self, call: &Call) -> Result<Answer, Status> {
        let options = options_of(&call.body);
        check_options(&options)?;
        let listing = super::read::list_options(self.server, self.resource, call)?;
        let listed = self.server.caches().list(self.cache, &listing).await?;
        let mut entries = listed.entries.clone().into_iter();
        loop {
            let batch: Vec<Arc<Entry>> = entries.by_ref().take(COLLECTION_WORKERS).collect();
            if batch.is_empty() {
                break;
            }
            let deletes = batch.iter().map(|entry| self.delete_one_of(entry, &options));
            let (results, warnings): (Vec<_>, Vec<_>) =
                futures_util::future::join_all(deletes).await.into_iter().unzip();
            for warning in warnings.into_iter().flatten() {
                if !self.warnings.contains(&warning) {
                    self.warnings.push(warning);
                }
            }
            results.into_iter().collect::<Result<Vec<()>, _>>()?;
        }
        let code = if listed.entries.is_empty() { None } else { Some(listed.entries.len()) };
        tracing::debug!(resource = self.resource.plural(), deleted = code, "a collection was deleted");
        let mut listed = listed;
        listed.entries = self.resource.served(self.server, listed.entries).await?;
        Ok(Answer::ok(Payload::List(self.resource.clone(), listed)))
    }

    async fn delete_one_of(&self, entry: &Arc<Entry>, options: &DeleteOptions) -> (Result<(), Status>, Vec<String>) {
        let mut target = self.target.clone();
        target.name = Some(entry.name().to_owned());
        target.namespace = self.resource.namespaced().then(|| entry.namespace().to_owned());
        let mut one = Context::new(self.server, self.caller, (self.resource, self.cache), &target, self.options, "");
        one.trail = self.trail;
        let result = one.delete(&Body::Delete(Box::new(options.clone()))).await;
        let result = match result {
            // Somebody else was faster: gone is gone.
            Err(status) if status.code() == 404 => Ok(()),
            other => other.map(drop),
        };
        (result, one.warnings)
    }

    fn orphans_by_default(&self, options: &DeleteOptions) -> bool {
        let silent = options.propagation_policy.is_none() && options.orphan_dependents.is_none();
        silent && self.resource.strategy.orphans_dependents()
    }

    /// One try; `None` if the object changed meanwhile.
    async fn try_delete(&mut self, entry: &Arc<Entry>, options: &DeleteOptions) -> Result<Option<Answer>, Status> {
        let object = self.whole(entry).await?;
        check_preconditions(options, &*object)?;
        self.admit(Phase::Mutate, Operation::Delete, None, Some(&object), Some(options)).await?;
        self.admit(Phase::Validate, Operation::Delete, None, Some(&object), Some(options)).await?;
        let grace = self.resource.strategy.delete_grace_seconds(&*object, options);
        let mut options = options.clone();
        if self.orphans_by_default(&options) && !decided(&*object) {
            options.propagation_policy = Some("Orphan".to_owned());
        }
        let options = &options;
        match plan(&*object, options, grace, self.server.now()) {
            Step::Remove => {
                let Some(gone) = self.store_gone(entry).await? else { return Ok(None) };
                self.release(&*object).await;
                let names = (self.resource.group(), self.resource.plural());
                Ok(Some(Answer::ok(if ANSWERS_OBJECT.contains(&names) {
                    self.payload(gone).await?
                } else {
                    Payload::Status(Box::new(Status::deleted(names.0, names.1, entry.name(), object.uid())))
                })))
            }
            Step::Mark(marked) => match self.store_changed(entry, marked).await? {
                Written::Done(entry) => Ok(Some(self.accepted(entry, options).await?)),
                Written::Stale => Ok(None),
            },
            Step::Nothing => Ok(Some(self.accepted(entry.clone(), options).await?)),
        }
    }

    async fn accepted(&self, entry: Arc<Entry>, options: &DeleteOptions) -> Result<Answer, Status> {
        // Only who asks in the old words is told that it is not done yet, as upstream has it.
        let code = if options.orphan_dependents == Some(false) { 202 } else { 200 };
        Ok(Answer { code, payload: self.payload(entry).await?, warnings: Vec::new() })
    }
}

fn check_preconditions(options: &DeleteOptions, object: &dyn Object) -> Result<(), Status> {
    let Some(wanted) = &options.preconditions else { return Ok(()) };
    if let Some(uid) = wanted.uid.as_deref()
        && uid != object.uid()
    {
        return Err(unmet(
            object,
            &format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have \
             been deleted and then recreated",
                object.uid()
            ),
        ));
    }
    if let Some(version) = wanted.resource_version.as_deref()
        && version != object.resource_version()
    {
        return Err(unmet(
            object,
            &format!(
                "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record \
             ({}). The object might have been modified",
                object.resource_version()
            ),
        ));
    }
    Ok(())
}

/// 409; the object is named by its kind here, not by its resource.
fn unmet(object: &dyn Object, why: &str) -> Status {
    Status::conflict(object.kind().group, object.kind().kind, object.name(), why)
}

fn options_of(body: &Body) -> DeleteOptions {
    let mut options = match body {
        Body::Delete(options) => (**options).clone(),
        _ => DeleteOptions::default(),
    };
    // Upstream takes less than nothing for a second.
    if options.grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        options.grace_period_seconds = Some(1);
    }
    options
}

/// Upstream's `ValidateDeleteOptions`.
fn check_options(options: &DeleteOptions) -> Result<(), Status> {
    let mut errors = FieldErrors::new();
    let path = Path::new("propagationPolicy");
    if let Some(policy) = options.propagation_policy.as_deref() {
        if options.orphan_dependents.is_some() {
            errors.invalid(&path, policy, "orphanDependents and deletionPropagation cannot be both set");
        }
        if !matches!(policy, "Foreground" | "Background" | "Orphan") {
            errors.not_supported(&path, policy, &["Foreground", "Background", "Orphan", "nil"]);
        }
    }
    if let Some(all) = &options.dry_run {
        crate::http::check_dry_run(&mut errors, all);
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &errors)) }
}

/// What a delete does. `grace` is what the resource makes of the wish in `options`; `None`: it knows no grace.
fn plan(object: &dyn Object, options: &DeleteOptions, grace: Option<i64>, now: Timestamp) -> Step {
    let mut marked = object.boxed_clone();
    crate::custom::terminate::mark(&mut *marked, now);
    set_dependents_finalizers(&mut *marked, options);
    let finalizers_changed = marked.metadata().finalizers != object.metadata().finalizers;
    let pending = namespace::has_finalizers(&*marked);
    let under_way = object.metadata().deletion_timestamp.is_some();
    let now = metadata::whole_second(now);

    if under_way {
        return again(marked, options, grace, pending, finalizers_changed);
    }
    let grace = grace.unwrap_or(0).max(0);
    if grace == 0 && !pending {
        return Step::Remove;
    }
    let metadata = marked.metadata_mut();
    let ends = now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(now);
    metadata.deletion_timestamp = Some(Time(ends));
    metadata.deletion_grace_period_seconds = Some(grace);
    if let Some(generation) = metadata.generation.as_mut().filter(|generation| **generation > 0) {
        *generation += 1;
    }
    namespace::terminate(&mut *marked);
    Step::Mark(marked)
}

/// A delete of what is under deletion: grace can only get shorter.
fn again(
    mut marked: Box<dyn Object>,
    options: &DeleteOptions,
    grace: Option<i64>,
    pending: bool,
    finalizers_changed: bool,
) -> Step {
    let metadata = marked.metadata_mut();
    let current = metadata.deletion_grace_period_seconds.unwrap_or(0);
    // Only a wish of the client's shortens it.
    let wanted = options.grace_period_seconds.and(grace).map_or(current, |grace| grace.max(0));
    if wanted < current {
        if wanted == 0 && !pending {
            return Step::Remove;
        }
        if let Some(Time(ends)) = &mut metadata.deletion_timestamp {
            let sooner = jiff::SignedDuration::from_secs(current - wanted);
            *ends = ends.checked_sub(sooner).unwrap_or(*ends);
        }
        metadata.deletion_grace_period_seconds = Some(wanted);
        return Step::Mark(marked);
    }
    match (current, pending) {
        (0, false) => Step::Remove,
        _ if finalizers_changed => Step::Mark(marked),
        _ => Step::Nothing,
    }
}

/// Whether an earlier delete said what is to become of the object's dependents.
fn decided(object: &dyn Object) -> bool {
    object.metadata().finalizers.iter().flatten().any(|own| own == ORPHAN || own == FOREGROUND)
}

/// The finalizers that tell the garbage collector what is to become of dependents.
fn set_dependents_finalizers(object: &mut dyn Object, options: &DeleteOptions) {
    let (orphan, foreground) = match (options.propagation_policy.as_deref(), options.orphan_dependents) {
        (Some("Orphan"), _) | (None, Some(true)) => (true, false),
        (Some("Foreground"), _) => (false, true),
        (Some(_), _) | (None, Some(false)) => (false, false),
        (None, None) => return,
    };
    let finalizers = object.metadata_mut().finalizers.get_or_insert_default();
    finalizers.retain(|own| own != ORPHAN && own != FOREGROUND);
    if orphan {
        finalizers.push(ORPHAN.to_owned());
    }
    if foreground {
        finalizers.push(FOREGROUND.to_owned());
    }
    if finalizers.is_empty() {
        object.metadata_mut().finalizers = None;
    }
}
