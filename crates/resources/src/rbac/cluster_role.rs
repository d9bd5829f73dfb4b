//! ClusterRole: Rules that hold cluster-wide, or wherever a RoleBinding grants them.

use api::rbac::v1::ClusterRole;

use super::rules;
use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ClusterRole;

    const NAMES: Names = Names::new("clusterroles", "clusterrole");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "clusterroles" };
    const CREATE_ON_UPDATE: bool = true;
    const COLUMNS: &'static [Column<ClusterRole>] = &[Column::name(), Column::created_at()];

    fn validate(role: &ClusterRole) -> FieldErrors {
        let mut errors = FieldErrors::new();
        rules::validate_rules(&mut errors, role.rules.as_deref().unwrap_or_default(), false);
        if let Some(aggregation) = &role.aggregation_rule {
            let path = Path::new("aggregationRule").child("clusterRoleSelectors");
            let selectors = aggregation.cluster_role_selectors.as_deref().unwrap_or_default();
            if selectors.is_empty() {
                let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.required(&path, why);
            }
            for (index, selector) in selectors.iter().enumerate() {
                checks::label_selector(&mut errors, &path.index(index), Some(selector));
            }
        }
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        api::name::path_segment(name, prefix)
    }
}
