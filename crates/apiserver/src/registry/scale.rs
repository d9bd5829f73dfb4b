//! The `scale` subresource: the replica count of workloads, whatever their kind.

use std::sync::Arc;

use api::autoscaling::v1::Scale;
use api::call::PatchKind;
use api::status::MODIFIED;
use api::{Body, FieldErrors, Object, Path, Status, Typed};
use bytes::Bytes;

use super::update::Tried;
use super::{Context, metadata};
use crate::answer::{Answer, Payload};
use crate::body;
use crate::cache::Entry;

const TRIES_MAX: usize = 5;

impl Context<'_> {
    async fn scale_of(&self, entry: &Arc<Entry>) -> Result<Scale, Status> {
        let entry = self.resource.served_one(self.server, entry.clone()).await?;
        let object = self.resource.object(&entry)?;
        self.resource.strategy.scale(&*object).ok_or_else(Status::unknown_resource)
    }

    pub(super) async fn get_scale(&self) -> Result<Answer, Status> {
        let scale = self.scale_of(&self.existing().await?).await?;
        Ok(Answer::ok(Payload::Object(Arc::new(scale))))
    }

    pub(super) async fn update_scale(&mut self, body: &Body) -> Result<Answer, Status> {
        let decoded = body::decode(Scale::KIND, body, self.options.field_validation)?
            .ok_or_else(|| Status::bad_request("the request body is empty"))?;
        self.warnings.extend(decoded.warnings);
        self.record_asked(&*decoded.object);
        metadata::match_name(self.name(), self.namespace(), &*decoded.object)?;
        self.write_scale(|_| Ok(decoded.object.boxed_clone())).await
    }

    pub(super) async fn patch_scale(&mut self, kind: PatchKind, text: &Bytes) -> Result<Answer, Status> {
        let validation = self.options.field_validation;
        self.write_scale(|scale| Ok(super::patch::apply(Scale::KIND, kind, scale, text, validation)?.0)).await
    }

    async fn write_scale(
        &mut self,
        change: impl Fn(&Scale) -> Result<Box<dyn Object>, Status>,
    ) -> Result<Answer, Status> {
        for _ in 0..=TRIES_MAX {
            let old = self.existing().await?;
            let current = self.scale_of(&old).await?;
            let changed = change(&current)?;
            let wanted: &Scale = changed.as_any().downcast_ref().ok_or_else(Status::unknown_resource)?;
            if !matches!(wanted.resource_version(), "" | "0") && wanted.resource_version() != current.resource_version()
            {
                return Err(self.conflict(MODIFIED));
            }
            if !wanted.uid().is_empty() && wanted.uid() != current.uid() {
                return Err(self.uid_conflict(wanted.uid(), current.uid()));
            }
            let replicas = wanted.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
            self.check_replicas(replicas)?;
            let whole = self.whole(&old).await?;
            let mut object = whole.boxed_clone();
            self.resource.strategy.set_scale(&mut *object, replicas);
            if let Tried::Done(entry) = self.try_update(&old, &whole, object).await? {
                return Ok(Answer::ok(Payload::Object(Arc::new(self.scale_of(&entry).await?))));
            }
            // Somebody was faster: a client that named a version is refused above, others are served on the new one.
        }
        Err(self.conflict(MODIFIED))
    }

    fn check_replicas(&self, replicas: i32) -> Result<(), Status> {
        if replicas >= 0 {
            return Ok(());
        }
        let mut errors = FieldErrors::new();
        let path = Path::new("spec").child("replicas");
        errors.invalid(&path, replicas, "must be greater than or equal to 0");
        Err(Status::invalid("autoscaling", "Scale", self.name(), &errors))
    }
}
