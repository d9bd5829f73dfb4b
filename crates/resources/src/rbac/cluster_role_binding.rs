//! ClusterRoleBinding: Grants a ClusterRole everywhere.

use crate::prelude::*;
use api::rbac::v1::ClusterRoleBinding;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ClusterRoleBinding;

    const NAMES: Names = Names::new("clusterrolebindings", "clusterrolebinding");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "clusterrolebindings" };
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
    const CREATE_ON_UPDATE: bool = true;
}
