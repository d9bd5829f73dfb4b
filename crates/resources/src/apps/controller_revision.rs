//! ControllerRevision: A snapshot of a controller's template, for roll-back.

use crate::prelude::*;
use api::apps::v1::ControllerRevision;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ControllerRevision;

    const NAMES: Names = Names::new("controllerrevisions", "controllerrevision");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "controllerrevisions" };
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
