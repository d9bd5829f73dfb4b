//! Role: Rules that hold in one namespace.

use api::rbac::v1::Role;

use super::rules;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Role;

    const NAMES: Names = Names::new("roles", "role");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "roles" };
    const CREATE_ON_UPDATE: bool = true;
    const COLUMNS: &'static [Column<Role>] = &[Column::name(), Column::created_at()];

    fn validate(role: &Role) -> FieldErrors {
        let mut errors = FieldErrors::new();
        rules::validate_rules(&mut errors, role.rules.as_deref().unwrap_or_default(), true);
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        api::name::path_segment(name, prefix)
    }
}
