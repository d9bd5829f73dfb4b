//! Role: Rules that hold in one namespace.

use crate::prelude::*;
use api::rbac::v1::Role;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Role;

    const NAMES: Names = Names::new("roles", "role");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "roles" };
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
    const CREATE_ON_UPDATE: bool = true;
}
