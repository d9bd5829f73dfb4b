//! PodDisruptionBudget: How many of an application's pods may be evicted at the same time.

use api::IntOrString;
use api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use serde_json::json;

use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = PodDisruptionBudget;

    const NAMES: Names = Names::new("poddisruptionbudgets", "poddisruptionbudget").short(&["pdb"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "poddisruptionbudgets" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    /// A budget is a promise: nobody may overwrite one that they have not read.
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column<PodDisruptionBudget>] = &[
        Column::name(),
        Column::new("Min Available", "string", |budget: &PodDisruptionBudget, _| {
            amount(spec(budget).and_then(|spec| spec.min_available.as_ref()))
        })
        .describe("Number or share of pods that must stay available."),
        Column::new("Max Unavailable", "string", |budget: &PodDisruptionBudget, _| {
            amount(spec(budget).and_then(|spec| spec.max_unavailable.as_ref()))
        })
        .describe("Number or share of pods that may be unavailable."),
        Column::new("Allowed Disruptions", "integer", |budget: &PodDisruptionBudget, _| {
            let status = budget.status.as_ref();
            Value::from(status.and_then(|status| status.disruptions_allowed).unwrap_or_default())
        })
        .describe("Number of pods that may be evicted now."),
        Column::age(),
    ];

    fn prepare_create(budget: &mut PodDisruptionBudget) {
        budget.status = Some(PodDisruptionBudgetStatus::default());
        budget.metadata.generation = Some(1);
        explicit_counts(budget);
    }

    fn prepare_update(new: &mut PodDisruptionBudget, old: &PodDisruptionBudget) {
        new.status.clone_from(&old.status);
        let changed = !checks::same(&new.spec, &old.spec);
        checks::count_generation(&mut new.metadata, &old.metadata, changed);
    }

    fn prepare_status_update(new: &mut PodDisruptionBudget, old: &PodDisruptionBudget) {
        new.spec.clone_from(&old.spec);
        explicit_counts(new);
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        api::name::path_segment(name, prefix)
    }

    fn validate(budget: &PodDisruptionBudget) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec");
        let Some(spec) = spec(budget) else { return errors };
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            // Upstream shows the internal form, which has no field names of the wire.
            let shown = json!({
                "MinAvailable": spec.min_available,
                "Selector": spec.selector,
                "MaxUnavailable": spec.max_unavailable,
                "UnhealthyPodEvictionPolicy": spec.unhealthy_pod_eviction_policy,
            });
            errors.invalid(&path, shown, "minAvailable and maxUnavailable cannot be both set");
        }
        for (name, value) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
            if let Some(value) = value {
                checks::count_or_percent(&mut errors, &path.child(name), value);
                checks::at_most_all(&mut errors, &path.child(name), value);
            }
        }
        checks::label_selector(&mut errors, &path.child("selector"), spec.selector.as_ref());
        let policy = spec.unhealthy_pod_eviction_policy.as_deref();
        let policy_path = path.child("unhealthyPodEvictionPolicy");
        checks::optional_one_of(&mut errors, &policy_path, policy, &["AlwaysAllow", "IfHealthyBudget"]);
        errors
    }

    fn validate_status_update(new: &PodDisruptionBudget, _old: &PodDisruptionBudget) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("status");
        let Some(status) = &new.status else { return errors };
        checks::conditions(&mut errors, &path.child("conditions"), status.conditions.as_deref());
        let counts = [
            ("disruptionsAllowed", status.disruptions_allowed),
            ("currentHealthy", status.current_healthy),
            ("desiredHealthy", status.desired_healthy),
            ("expectedPods", status.expected_pods),
        ];
        for (name, count) in counts {
            checks::not_negative(&mut errors, &path.child(name), i64::from(count.unwrap_or_default()));
        }
        errors
    }
}

fn spec(budget: &PodDisruptionBudget) -> Option<&PodDisruptionBudgetSpec> {
    budget.spec.as_ref()
}

fn amount(value: Option<&IntOrString>) -> Value {
    match value {
        None => Value::from("N/A"),
        Some(IntOrString::Int(number)) => Value::from(number.to_string()),
        Some(IntOrString::String(text)) => Value::from(text.as_str()),
    }
}

/// Upstream writes these counts even where they are zero.
fn explicit_counts(budget: &mut PodDisruptionBudget) {
    let status = budget.status.get_or_insert_default();
    status.current_healthy.get_or_insert(0);
    status.desired_healthy.get_or_insert(0);
    status.disruptions_allowed.get_or_insert(0);
    status.expected_pods.get_or_insert(0);
}

#[cfg(test)]
mod tests {
    use super::Strategy as Budgets;
    use crate::Strategy as _;
    use api::Typed;
    use api::policy::v1::PodDisruptionBudget;
    use serde_json::{Value, json};

    fn budget(spec: Value) -> PodDisruptionBudget {
        let mut budget = PodDisruptionBudget::from_value(json!({"metadata": {"name": "b"}, "spec": spec})).unwrap();
        Budgets::prepare_create(&mut budget);
        budget
    }

    #[test]
    fn wrong_budgets_are_refused_in_upstreams_words() {
        let cases = [
            (json!({"minAvailable": -1}), "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"),
            (
                json!({"maxUnavailable": "101%"}),
                "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
            (
                json!({"minAvailable": 1, "maxUnavailable": 1}),
                "spec: Invalid value: {\"MinAvailable\":1,\"Selector\":null,\"MaxUnavailable\":1,\
                 \"UnhealthyPodEvictionPolicy\":null}: minAvailable and maxUnavailable cannot be both set",
            ),
            (
                json!({"unhealthyPodEvictionPolicy": "Never"}),
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \
                 \"IfHealthyBudget\"",
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(Budgets::validate(&budget(spec.clone())).to_string(), expected, "{spec}");
        }
        assert!(Budgets::validate(&budget(json!({"minAvailable": "100%", "selector": {}}))).is_empty());
    }

    #[test]
    fn a_new_spec_is_a_new_generation() {
        let old = budget(json!({"minAvailable": 1}));
        let mut new = budget(json!({"minAvailable": 2}));
        Budgets::prepare_update(&mut new, &old);
        assert_eq!(new.metadata.generation, Some(2));
    }
}
