//! ValidatingAdmissionPolicyBinding: Where a policy holds, with which parameters, and what a violation leads to.

use std::collections::BTreeSet;

use api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;

use super::{match_resources, policy};
use crate::checks;
use crate::prelude::*;

const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ValidatingAdmissionPolicyBinding;

    const NAMES: Names = Names::new("validatingadmissionpolicybindings", "validatingadmissionpolicybinding")
        .categories(&["api-extensions"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "validatingadmissionpolicybindings" };
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column<ValidatingAdmissionPolicyBinding>] = &[
        Column::name(),
        Column::new("PolicyName", "string", |binding: &ValidatingAdmissionPolicyBinding, _| {
            Value::from(binding.spec.policy_name.as_str())
        })
        .describe("The policy that is bound."),
        Column::new("ParamRef", "string", |binding: &ValidatingAdmissionPolicyBinding, _| {
            policy::param_ref_text(binding.spec.param_ref.as_ref())
        })
        .describe("The parameters of the policy."),
        Column::age(),
    ];

    fn default(binding: &mut ValidatingAdmissionPolicyBinding) {
        binding.spec.match_resources.iter_mut().for_each(match_resources::default);
    }

    fn prepare_create(binding: &mut ValidatingAdmissionPolicyBinding) {
        binding.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut ValidatingAdmissionPolicyBinding, old: &ValidatingAdmissionPolicyBinding) {
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn validate(binding: &ValidatingAdmissionPolicyBinding) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (path, spec) = (Path::new("spec"), &binding.spec);
        policy::validate_policy_name(&mut errors, &path.child("policyName"), &spec.policy_name);
        policy::validate_param_ref(&mut errors, &path.child("paramRef"), spec.param_ref.as_ref());
        if let Some(matches) = &spec.match_resources {
            match_resources::validate(&mut errors, &path.child("matchResources"), matches);
        }
        validate_actions(&mut errors, &path.child("validationActions"), &spec.validation_actions);
        errors
    }
}

fn validate_actions(errors: &mut FieldErrors, path: &Path, actions: &[String]) {
    let mut seen = BTreeSet::new();
    for (index, action) in actions.iter().enumerate() {
        let path = path.index(index);
        checks::optional_one_of(errors, &path, Some(action), &ACTIONS);
        checks::unique(errors, &path, &mut seen, action);
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        errors.invalid(path, checks::shown(&actions), why);
    }
    if actions.is_empty() {
        errors.required(path, "at least one validation action is required");
    }
}
