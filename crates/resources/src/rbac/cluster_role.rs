//! ClusterRole: Rules that hold cluster-wide, or wherever a RoleBinding grants them.

use crate::prelude::*;
use api::rbac::v1::ClusterRole;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ClusterRole;

    const NAMES: Names = Names::new("clusterroles", "clusterrole");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "clusterroles" };
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
    const CREATE_ON_UPDATE: bool = true;
}
