//! ControllerRevision: A snapshot of a controller's template, for roll-back.

use api::apps::v1::ControllerRevision;

use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ControllerRevision;

    const NAMES: Names = Names::new("controllerrevisions", "controllerrevision");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "controllerrevisions" };
    const COLUMNS: &'static [Column<ControllerRevision>] = &[
        Column::name(),
        Column::new("Controller", "string", |revision: &ControllerRevision, _| {
            let Some(owner) = api::owner::controller_of(revision) else { return Value::from("<none>") };
            let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
            let kind = owner.kind.to_lowercase();
            let kind = if group.is_empty() { kind } else { format!("{kind}.{group}") };
            Value::from(format!("{kind}/{}", owner.name))
        })
        .describe("Controller of the object"),
        Column::new("Revision", "string", |revision: &ControllerRevision, _| {
            Value::from(revision.revision.unwrap_or_default())
        })
        .describe("The number of the snapshot."),
        Column::age(),
    ];

    fn validate(revision: &ControllerRevision) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if revision.data.0.is_null() {
            errors.required(&Path::new("data"), "data is mandatory");
        }
        checks::not_negative(&mut errors, &Path::new("revision"), revision.revision.unwrap_or_default());
        errors
    }

    fn validate_update(new: &ControllerRevision, old: &ControllerRevision) -> FieldErrors {
        let mut errors = Self::validate(new);
        checks::immutable(&mut errors, &Path::new("data"), &new.data, &old.data);
        errors
    }
}
