//! RoleBinding: Grants a Role or ClusterRole in one namespace.

use crate::prelude::*;
use api::rbac::v1::RoleBinding;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = RoleBinding;

    const NAMES: Names = Names::new("rolebindings", "rolebinding");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "rolebindings" };
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
    const CREATE_ON_UPDATE: bool = true;
}
