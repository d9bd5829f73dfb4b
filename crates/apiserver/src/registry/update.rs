//! Changing objects: update, and the step it shares with patch and scale.

use std::sync::Arc;

use api::status::MODIFIED;
use api::{Body, Object, Status};
use resources::Subresource;

use super::finish::Written;
use super::{Context, Phase, certificates, metadata, namespace, resource_version_required};
use crate::admission::Operation;
use crate::answer::{Answer, Payload};
use crate::body;
use crate::cache::Entry;

/// How often a write without a resourceVersion is tried against ever newer versions.
const TRIES_MAX: usize = 100;

/// What became of one try.
pub(super) enum Tried {
    Done(Arc<Entry>),
    Stale,
}

impl Context<'_> {
    /// `PUT`.
    pub(super) async fn update(&mut self, body: &Body) -> Result<Answer, Status> {
        let decoded = body::decode_for(self.resource, body, self.options.field_validation)?
            .ok_or_else(|| Status::bad_request("the request body is empty"))?;
        let warned = self.warnings.len();
        self.warnings.extend(decoded.warnings);
        let decoded_warnings = self.warnings.len();
        let object = decoded.object;
        self.record_asked(&*object);
        metadata::match_name(self.name(), self.target.namespace.as_deref().unwrap_or_default(), &*object)?;
        let asked = match object.resource_version() {
            "" | "0" => None,
            version => Some(version.to_owned()),
        };
        debug_assert!(warned <= decoded_warnings);
        for _ in 0..TRIES_MAX {
            self.warnings.truncate(decoded_warnings);
            let Some(old) = self.current().await? else {
                return self.create_by_update(object, asked.as_deref()).await;
            };
            self.check_uid(&*object, &old)?;
            match &asked {
                Some(version) if *version != old.revision.to_string() => return Err(self.conflict(MODIFIED)),
                None if !self.resource.strategy.unconditional_update() => {
                    return Err(self.invalid(self.name(), &resource_version_required()));
                }
                _ => {}
            }
            let whole = self.whole(&old).await?;
            if let Tried::Done(entry) = self.try_update(&old, &whole, object.boxed_clone()).await? {
                return Ok(Answer::ok(self.payload(entry).await?));
            }
            if asked.is_some() {
                return Err(self.conflict(MODIFIED));
            }
        }
        Err(self.conflict(MODIFIED))
    }

    fn check_uid(&self, object: &dyn Object, old: &Arc<Entry>) -> Result<(), Status> {
        if object.uid().is_empty() {
            return Ok(());
        }
        let current = old.metadata_only(old.kind())?;
        if object.uid() != current.uid() {
            return Err(self.uid_conflict(object.uid(), current.uid()));
        }
        Ok(())
    }

    pub(super) fn uid_conflict(&self, asked: &str, found: &str) -> Status {
        self.conflict(&format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
             failed: UID in precondition: {asked}, UID in object meta: {found}",
            self.key()
        ))
    }

    /// What a dry run made is in no cache and has no bytes in the store, but is an entry like any other.
    pub(super) async fn payload(&self, entry: Arc<Entry>) -> Result<Payload, Status> {
        let entry = self.resource.served_one(self.server, entry).await?;
        Ok(Payload::Entry(self.resource.clone(), entry))
    }

    async fn create_by_update(&mut self, mut object: Box<dyn Object>, asked: Option<&str>) -> Result<Answer, Status> {
        if !self.subresource.is_empty() || !self.resource.strategy.create_on_update() {
            return Err(self.resource.not_found(self.name()));
        }
        if asked.is_some() {
            return Err(self.conflict(MODIFIED));
        }
        if !object.uid().is_empty() {
            return Err(self.uid_conflict(object.uid(), ""));
        }
        object.metadata_mut().resource_version = None;
        self.create_object(object).await.map(Answer::created)
    }

    /// One try of changing `old` into `new`: every hook, then compare-and-swap. An object under deletion whose last
    /// finalizer goes, goes with it.
    pub(super) async fn try_update(
        &mut self,
        old_entry: &Arc<Entry>,
        old: &Arc<dyn Object>,
        mut new: Box<dyn Object>,
    ) -> Result<Tried, Status> {
        let strategy = &*self.resource.strategy;
        metadata::match_namespace(self.namespace(), &mut *new)?;
        new.metadata_mut().resource_version.clone_from(&old.metadata().resource_version);
        strategy.default(&mut *new);
        if !self.recorded {
            self.record(Some(&**old), &mut *new).await?;
        }
        let managed_fields = new.metadata().managed_fields.clone();
        self.admit(Phase::Mutate, Operation::Update, Some(&mut new), Some(old), None).await?;
        strategy.default(&mut *new);

        metadata::keep_system_fields(&mut *new, &**old);
        match self.subresource {
            "" | "scale" => {
                strategy.prepare_update(&mut *new, &**old);
                namespace::prepare_update(&mut *new, &**old);
            }
            "finalize" => namespace::prepare_finalize(&mut *new, &**old),
            "ephemeralcontainers" => super::pod::prepare_ephemeral_containers(&mut *new, &**old),
            "resize" => super::pod::prepare_resize(&mut *new, &**old),
            "approval" => strategy.prepare_subresource_update(Subresource::Approval, &mut *new, &**old),
            _ => strategy.prepare_status_update(&mut *new, &**old),
        }
        certificates::prepare_update(&mut *new, &**old, self.server.now());
        let allocated = match self.subresource {
            "" => self.allocate(&mut *new, Some(&**old)).await?,
            _ => None,
        };
        new.metadata_mut().managed_fields = managed_fields;
        let mut errors = metadata::validate_update(&*new, &**old);
        errors.extend(match self.subresource {
            "" | "scale" => strategy.validate_update(&*new, &**old),
            "finalize" => Default::default(),
            "ephemeralcontainers" => super::pod::validate_ephemeral_containers(&*new, &**old),
            "resize" => strategy.validate_subresource_update(Subresource::Resize, &*new, &**old),
            "approval" => strategy.validate_subresource_update(Subresource::Approval, &*new, &**old),
            _ => strategy.validate_status_update(&*new, &**old),
        });
        errors.extend(certificates::validate_certificates(&*new, Some(&**old)));
        if errors.is_empty() {
            errors.extend(super::pod_certificates::validate_answer(self.server, self.caller, &*new, &**old));
        }
        if !errors.is_empty() {
            return Err(self.invalid(old.name(), &errors));
        }
        if self.subresource.is_empty() {
            self.warnings.extend(strategy.warnings(&*new));
            self.warnings.extend(certificates::warnings(&*new));
            if self.resource.custom.is_some() {
                self.warnings.extend(metadata::finalizer_warnings(&*new, Some(&**old)));
            }
        }
        self.admit(Phase::Validate, Operation::Update, Some(&mut new), Some(old), None).await?;
        self.claim(&allocated, old.namespace(), old.name()).await?;
        let tried = self.finish_update(old_entry, &**old, new).await;
        self.conclude(allocated, (old.namespace(), old.name()), matches!(tried, Ok(Tried::Done(_)))).await;
        tried
    }

    async fn finish_update(
        &mut self,
        old_entry: &Arc<Entry>,
        old: &dyn Object,
        new: Box<dyn Object>,
    ) -> Result<Tried, Status> {
        if goes_with_its_finalizers(&*new, old) {
            let last = new.boxed_clone();
            let Some(gone) = self.store_gone(old_entry).await? else { return Ok(Tried::Stale) };
            self.release(&*last).await;
            return Ok(Tried::Done(self.last_form(&gone, last).await?));
        }
        Ok(match self.store_changed(old_entry, new).await? {
            Written::Done(entry) => Tried::Done(entry),
            Written::Stale => Tried::Stale,
        })
    }

    /// The object as the update would have left it: what the client sees of an object that is gone.
    async fn last_form(&self, gone: &Arc<Entry>, last: Box<dyn Object>) -> Result<Arc<Entry>, Status> {
        let mut last = self.resource.stored_form(self.server, last).await?;
        last.metadata_mut().resource_version = None;
        let json = bytes::Bytes::from(last.encode());
        Entry::from_object(&*self.cache.strategy, gone.key.clone(), gone.revision, json, last, true).map(Arc::new)
    }
}

/// Whether an update takes away what kept an object under deletion alive.
fn goes_with_its_finalizers(new: &dyn Object, old: &dyn Object) -> bool {
    let over = old.metadata().deletion_timestamp.is_some() && old.metadata().deletion_grace_period_seconds == Some(0);
    over && !namespace::has_finalizers(new)
}
