//! The last step of a write: encode, compare-and-swap, and the entry that readers will share.

use std::sync::Arc;
use std::time::Duration;

use api::{Object, Status};
use bytes::Bytes;

use super::Context;
use crate::answer::Payload;
use crate::cache::{Entry, Prepared};

/// What became of a conditional write.
pub(crate) enum Written {
    Done(Arc<Entry>),
    /// Someone else was faster: decide anew.
    Stale,
}

impl Context<'_> {
    /// The object in its stored form: of the stored kind, without `resourceVersion`.
    async fn to_stored(&self, object: Box<dyn Object>) -> Result<(Box<dyn Object>, Bytes), Status> {
        let mut object = self.resource.stored_form(self.server, object).await?;
        let metadata = object.metadata_mut();
        metadata.resource_version = None;
        metadata.self_link = None;
        // Empty is absent, as Go's encoder has it.
        metadata.labels.take_if(|all| all.is_empty());
        metadata.annotations.take_if(|all| all.is_empty());
        metadata.finalizers.take_if(|all| all.is_empty());
        metadata.owner_references.take_if(|all| all.is_empty());
        metadata.managed_fields.take_if(|all| all.is_empty());
        // Kept for long: without the room an encoder leaves at the end.
        let json = Bytes::from(object.encode().into_boxed_slice());
        Ok((object, json))
    }

    fn ttl(&self) -> Option<Duration> {
        self.cache.ttl()
    }

    /// Writes a new object.
    ///
    /// # Errors
    /// 409 if there is one of that name.
    pub(crate) async fn store_new(&self, name: &str, object: Box<dyn Object>) -> Result<Payload, Status> {
        let key = self.cache.key(self.namespace(), name);
        let caches = self.server.caches();
        if self.options.dry_run {
            if super::read::current(self.server, self.cache, &key).await?.is_some() {
                return Err(Status::already_exists(self.resource.group(), self.resource.plural(), name));
            }
            return Ok(Payload::Object(Arc::from(object)));
        }
        let (object, json) = self.to_stored(object).await?;
        let _writing = caches.sealing.writing().await;
        let value = self.cache.seal(&key, json.clone())?;
        let prepared = Prepared::new(&key, json, value.clone(), object);
        caches.announce(prepared.clone());
        match caches.store.create(&key, value.clone(), self.ttl()).await {
            Ok(revision) => self.payload(prepared.entry(self.cache, revision.0)?).await,
            Err(error) => {
                caches.retract(&value);
                Err(crate::status::of_object(error, self.resource.group(), self.resource.plural(), name))
            }
        }
    }

    /// Replaces `old` with `object`. Nothing is written if nothing changed, or in a dry run (the entry is then one that
    /// is in no cache).
    pub(crate) async fn store_changed(&self, old: &Arc<Entry>, object: Box<dyn Object>) -> Result<Written, Status> {
        let (object, json) = self.to_stored(object).await?;
        if json == *old.stored() && !self.sealed_by_an_old_key(old).await? {
            return Ok(Written::Done(old.clone()));
        }
        let strategy = &*self.cache.strategy;
        if self.options.dry_run {
            let entry = Entry::from_object(strategy, old.key.clone(), old.revision, json, object, true)?;
            return Ok(Written::Done(Arc::new(entry)));
        }
        let caches = self.server.caches();
        let _writing = caches.sealing.writing().await;
        let value = self.cache.seal(&old.key, json.clone())?;
        let prepared = Prepared::new(&old.key, json, value.clone(), object);
        caches.announce(prepared.clone());
        let expect = store::Revision(old.revision);
        match caches.store.update(&old.key, value.clone(), expect, self.ttl()).await {
            Ok(revision) => Ok(Written::Done(prepared.entry(self.cache, revision.0)?)),
            Err(error) => {
                caches.retract(&value);
                match error {
                    store::Error::Conflict { .. } => Ok(Written::Stale),
                    error => Err(self.store_error(error, old.name())),
                }
            }
        }
    }

    /// Whether a write that changes nothing is done all the same, to seal the object by the newest key.
    async fn sealed_by_an_old_key(&self, old: &Arc<Entry>) -> Result<bool, Status> {
        if !self.cache.is_sealed() || self.options.dry_run {
            return Ok(false);
        }
        let stored =
            self.server.caches().store.get(&old.key).await.map_err(|error| self.store_error(error, old.name()))?;
        match stored.value {
            Some(stored) if stored.modified.0 == old.revision => Ok(self.cache.is_stale(&stored).await),
            _ => Ok(false),
        }
    }

    /// Deletes `old`, if it has not changed. `None`: it has.
    pub(crate) async fn store_gone(&self, old: &Arc<Entry>) -> Result<Option<Arc<Entry>>, Status> {
        if self.options.dry_run {
            return Ok(Some(old.clone()));
        }
        match self.server.caches().store.delete(&old.key, Some(store::Revision(old.revision))).await {
            Ok(gone) => Ok(Some(Arc::new(old.at_revision(gone.revision.0)))),
            Err(store::Error::Conflict { current: Some(_) }) => Ok(None),
            Err(error) => Err(self.store_error(error, old.name())),
        }
    }

    fn store_error(&self, error: store::Error, name: &str) -> Status {
        crate::status::of_object(error, self.resource.group(), self.resource.plural(), name)
    }
}
