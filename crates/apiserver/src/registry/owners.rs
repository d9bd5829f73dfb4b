//! Who wrote which field: `metadata.managedFields` of every write, and server-side apply.

use api::call::PatchKind;
use api::managed::{self, Merge, Other, Types, Writer};
use api::meta::v1::ManagedFieldsEntry;
use api::status::MODIFIED;
use api::{Custom, FieldErrors, Kind, Object, Path, Status, codec, schema};
use bytes::Bytes;
use resources::Subresource;
use serde_json::Value;

use super::patch::patch_types;
use super::update::Tried;
use super::{Context, metadata};
use crate::answer::Answer;
use crate::body;
use crate::custom::Version;
use crate::custom::define::Sibling;

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

    /// The type of what is written; `None` if nobody owns its fields.
    fn types(&self) -> Option<Types<'_>> {
        match &self.resource.custom {
            Some(version) => Some(version.types()),
            None => schema::definition(self.resource.kind().definition).map(Types::from),
        }
    }

    /// Records in `new` that this request's writer changed what differs from `live`.
    ///
    /// # Errors
    /// If a conversion to a version in which there are owners fails.
    pub(super) async fn record(&self, live: Option<&dyn Object>, new: &mut dyn Object) -> Result<(), Status> {
        let Some(types) = self.types() else { return Ok(()) };
        let live = live.map(Object::to_value);
        let mut value = new.to_value();
        let others = self.others(live.as_ref(), &value).await?;
        managed::update(live.as_ref(), &mut value, types, &self.writer(), others.as_deref());
        new.metadata_mut().managed_fields = managed_fields(&mut value);
        Ok(())
    }

    /// A write in the other versions in which there are owners; `None` if the fields of all versions are the same.
    async fn others(&self, live: Option<&Value>, new: &Value) -> Result<Option<Vec<Other<'_>>>, Status> {
        let Some(version) = self.resource.custom.as_ref().filter(|version| version.conversion.moves_fields()) else {
            return Ok(None);
        };
        let mut others = Vec::new();
        for name in managed::other_versions(live, version.kind.api_version) {
            let name = name.rsplit('/').next().unwrap_or_default();
            let Some(sibling) = version.siblings.get(name) else { continue };
            let mut all = vec![Custom::from_value(version.kind, new.clone()).map_err(Status::internal)?];
            if let Some(live) = live {
                all.push(Custom::from_value(version.kind, live.clone()).map_err(Status::internal)?);
            }
            let converted = version.conversion.convert(self.server, all, sibling.kind).await?;
            let mut values = converted.iter().map(Object::to_value);
            let new = values.next().unwrap_or_default();
            let live = values.next().unwrap_or_default();
            let types = Types::Custom(&sibling.shape);
            others.push(Other { api_version: sibling.kind.api_version, types, live, new });
        }
        Ok(Some(others))
    }

    /// The object that a configuration makes of `live`.
    async fn merge(&self, live: Option<&Value>, config: Value) -> Result<Value, Status> {
        let types = self.types().ok_or_else(|| Status::unsupported_media_type(patch_types(self.resource)))?;
        let writer = self.writer();
        let mut merge = Merge::begin(live, config, types, &writer)?;
        let moving = self.resource.custom.as_ref().filter(|version| version.conversion.moves_fields());
        match (moving, merge.last_version().and_then(|version| version.rsplit('/').next())) {
            (Some(version), Some(last)) => {
                // without that version nobody knows what was in the last configuration
                if let Some(sibling) = version.siblings.get(last) {
                    let pruned = self.prune_in_last(&merge, version, sibling).await?;
                    merge.take(pruned);
                }
            }
            _ => merge.prune(),
        }
        let others = self.others(live, merge.object()).await?;
        Ok(merge.finish(others.as_deref(), self.options.force)?)
    }

    async fn prune_in_last(&self, merge: &Merge<'_>, version: &Version, last: &Sibling) -> Result<Value, Status> {
        let convert = async |value: Value, from: &'static Kind, to: &'static Kind| {
            let object = Custom::from_value(from, value).map_err(Status::internal)?;
            let converted = version.conversion.convert(self.server, vec![object], to).await?;
            Ok::<Value, Status>(converted.first().map(Object::to_value).unwrap_or_default())
        };
        let mut value = convert(merge.object().clone(), version.kind, last.kind).await?;
        merge.prune_in_last(&mut value, Types::Custom(&last.shape));
        convert(value, last.kind, version.kind).await
    }

    /// `PATCH` with an apply configuration: creates what is not there.
    pub(super) async fn apply(&mut self, text: &Bytes) -> Result<Answer, Status> {
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
            let merged = self.merge(value.as_ref(), config.clone()).await?;
            let parsed = codec::Parsed { value: merged, duplicates: Vec::new() };
            let decoded = body::from_parsed_for(self.resource, parsed, self.options.field_validation)?;
            metadata::match_name(self.name(), self.namespace(), &*decoded.object)?;
            self.recorded = true;
            let (Some(old), Some(live)) = (old, live) else {
                if !self.subresource.is_empty() {
                    return Err(self.resource.not_found(self.name()));
                }
                let uid = decoded.object.uid();
                if !uid.is_empty() {
                    return Err(self.conflict(&format!(
                        "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                    )));
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
