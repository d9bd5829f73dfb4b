//! ReplicaSet: A number of pods of one template.

use crate::prelude::*;
use api::apps::v1::ReplicaSet;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ReplicaSet;

    const NAMES: Names = Names::new("replicasets", "replicaset").short(&["rs"]).categories(&["all"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "replicasets" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
