//! Deployment: Pods of one template, replaced gradually when it changes.

use crate::prelude::*;
use api::apps::v1::Deployment;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Deployment;

    const NAMES: Names = Names::new("deployments", "deployment").short(&["deploy"]).categories(&["all"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "deployments" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
