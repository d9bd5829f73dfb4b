//! Namespace: A scope for names.

use crate::prelude::*;
use api::core::v1::Namespace;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Namespace;

    const NAMES: Names = Names::new("namespaces", "namespace").short(&["ns"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "namespaces" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Finalize, Subresource::Status];
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
    const VERBS: &'static [&'static str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
}
