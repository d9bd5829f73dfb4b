//! Who wrote which field: `metadata.managedFields` of every write, and server-side apply.

use api::call::PatchKind;
use api::managed::{self, Writer};
use api::meta::v1::ManagedFieldsEntry;
use api::status::MODIFIED;
use api::{FieldErrors, Object, Path, Status, codec, schema};
use bytes::Bytes;
use resources::Subresource;
use serde_json::Value;

use super::update::Tried;
use super::{Context, metadata};
use crate::answer::Answer;
use crate::body;

/// How often an apply is tried against ever newer versions.
const TRIES_MAX: usize = 5;

impl Context<'_> {
    fn writer(&self) -> Writer<'_> {
        let strategy = &*self.resource.strategy;
        let ignored: &[&str] = match self.subresource {
            "status" => &["spec"],
            "" if strategy.subresources().contains(&Subresource::Status) => &["status"],
            _ => &[],
        };
        Writer {
            manager: self.options.field_manager.as_deref().unwrap_or(&self.caller.name),
            subresource: self.subresource,
            api_version: self.resource.kind().api_version,
            now: self.server.now(),
            ignored,
        }
    }

    /// Records in `new` that this request's writer changed what differs from `live`.
    pub(super) fn record(&self, live: Option<&dyn Object>, new: &mut dyn Object) {
        let Some(definition) = schema::definition(self.resource.kind().definition) else { return };
        let live = live.map(Object::to_value);
        let mut value = new.to_value();
        managed::update(live.as_ref(), &mut value, definition, &self.writer());
        new.metadata_mut().managed_fields = managed_fields(&mut value);
    }

    /// `PATCH` with an apply configuration: creates what is not there.
    pub(super) async fn apply(&mut self, text: &Bytes) -> Result<Answer, Status> {
        let kind = self.resource.kind();
        let definition = schema::definition(kind.definition)
            .ok_or_else(|| Status::unsupported_media_type(super::patch::patch_types(self.resource)))?;
        let parsed = codec::parse_yaml(text).map_err(|error| Status::bad_request(error.to_string()))?;
        let mut config = parsed.value;
        name_it(&mut config, self.name(), self.namespace());
        for _ in 0..=TRIES_MAX {
            let old = self.current().await?;
            let live = match &old {
                Some(old) => Some(self.whole(old).await?),
                None => None,
            };
            let asked = config["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            let version = live.as_ref().map_or("", |live| live.resource_version());
            if !asked.is_empty() && asked != version {
                return Err(self.conflict(MODIFIED));
            }
            let value = live.as_ref().map(|live| live.to_value());
            let force = self.options.force;
            let merged = managed::apply(value.as_ref(), config.clone(), definition, &self.writer(), force)?;
            let parsed = codec::Parsed { value: merged, duplicates: Vec::new() };
            let decoded = body::from_parsed(kind, parsed, self.options.field_validation)?;
            metadata::match_name(self.name(), self.namespace(), &*decoded.object)?;
            self.recorded = true;
            let (Some(old), Some(live)) = (old, live) else {
                if !self.subresource.is_empty() {
                    return Err(self.resource.not_found(self.name()));
                }
                return self.create_object(decoded.object).await.map(Answer::created);
            };
            if let Tried::Done(entry) = self.try_update(&old, &live, decoded.object).await? {
                return Ok(Answer::ok(self.payload(entry).await?));
            }
        }
        Err(self.conflict(MODIFIED))
    }

    /// What apply must say and others must not (upstream's `ValidatePatchOptions`).
    pub(super) fn check_patch_options(&self, kind: PatchKind) -> Result<(), Status> {
        let mut errors = FieldErrors::new();
        if kind == PatchKind::Apply {
            if self.options.field_manager.as_deref().unwrap_or_default().is_empty() {
                errors.required(&Path::new("fieldManager"), "is required for apply patch");
            }
        } else if self.options.force {
            errors.forbidden(&Path::new("force"), "may not be specified for non-apply patch");
        }
        if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &errors)) }
    }
}

/// A configuration may leave out what the path says.
fn name_it(config: &mut Value, name: &str, namespace: &str) {
    let Some(config) = config.as_object_mut() else { return };
    let metadata = config.entry("metadata").or_insert_with(|| Value::Object(serde_json::Map::new()));
    let Some(metadata) = metadata.as_object_mut() else { return };
    metadata.entry("name").or_insert_with(|| name.into());
    if !namespace.is_empty() {
        metadata.entry("namespace").or_insert_with(|| namespace.into());
    }
}

fn managed_fields(value: &mut Value) -> Option<Vec<ManagedFieldsEntry>> {
    let entries = value.get_mut("metadata")?.get_mut("managedFields")?.take();
    serde_json::from_value(entries).ok()
}
