//! Node: A machine that runs pods.

use crate::prelude::*;
use api::core::v1::Node;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Node;

    const NAMES: Names = Names::new("nodes", "node").short(&["no"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "minions" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Proxy, Subresource::Status];
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
