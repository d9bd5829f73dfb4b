//! RoleBinding: Grants a Role or ClusterRole in one namespace.

use api::rbac::v1::RoleBinding;

use super::rules;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = RoleBinding;

    const NAMES: Names = Names::new("rolebindings", "rolebinding");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "rolebindings" };
    const CREATE_ON_UPDATE: bool = true;
    const COLUMNS: &'static [Column<RoleBinding>] = &[
        Column::name(),
        Column::new("Role", "string", |binding: &RoleBinding, _| rules::role_text(&binding.role_ref))
            .describe("The role that is granted."),
        Column::age(),
        Column::new("Users", "string", |binding: &RoleBinding, _| {
            rules::subjects_text(binding.subjects.as_ref(), "User")
        })
        .wide()
        .describe("Users in the binding."),
        Column::new("Groups", "string", |binding: &RoleBinding, _| {
            rules::subjects_text(binding.subjects.as_ref(), "Group")
        })
        .wide()
        .describe("Groups in the binding."),
        Column::new("ServiceAccounts", "string", |binding: &RoleBinding, _| {
            rules::subjects_text(binding.subjects.as_ref(), "ServiceAccount")
        })
        .wide()
        .describe("Service accounts in the binding."),
    ];

    fn default(binding: &mut RoleBinding) {
        rules::default_binding(&mut binding.role_ref, &mut binding.subjects);
    }

    fn validate(binding: &RoleBinding) -> FieldErrors {
        let mut errors = FieldErrors::new();
        rules::validate_role_ref(&mut errors, &binding.role_ref, &["Role", "ClusterRole"]);
        rules::validate_subjects(&mut errors, binding.subjects.as_deref().unwrap_or_default(), true);
        errors
    }

    fn validate_update(new: &RoleBinding, old: &RoleBinding) -> FieldErrors {
        let mut errors = Self::validate(new);
        rules::validate_same_role(&mut errors, &new.role_ref, &old.role_ref);
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        api::name::path_segment(name, prefix)
    }
}
