//! MutatingAdmissionPolicyBinding: Where a policy changes writes, and with which parameters.

use api::admissionregistration::v1::{MutatingAdmissionPolicyBinding, MutatingAdmissionPolicyBindingSpec};

use super::{match_resources, policy};
use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = MutatingAdmissionPolicyBinding;

    const NAMES: Names =
        Names::new("mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding").categories(&["api-extensions"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "mutatingadmissionpolicybindings" };
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column<MutatingAdmissionPolicyBinding>] = &[
        Column::name(),
        Column::new("PolicyName", "string", |binding: &MutatingAdmissionPolicyBinding, _| {
            Value::from(binding.spec.as_ref().and_then(|spec| spec.policy_name.as_deref()).unwrap_or_default())
        })
        .describe("The policy that is bound."),
        Column::new("ParamRef", "string", |binding: &MutatingAdmissionPolicyBinding, _| {
            policy::param_ref_text(binding.spec.as_ref().and_then(|spec| spec.param_ref.as_ref()))
        })
        .describe("The parameters of the policy."),
        Column::age(),
    ];

    fn default(binding: &mut MutatingAdmissionPolicyBinding) {
        let matches = binding.spec.iter_mut().flat_map(|spec| spec.match_resources.iter_mut());
        matches.for_each(match_resources::default);
    }

    fn prepare_create(binding: &mut MutatingAdmissionPolicyBinding) {
        binding.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut MutatingAdmissionPolicyBinding, old: &MutatingAdmissionPolicyBinding) {
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn validate(binding: &MutatingAdmissionPolicyBinding) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec");
        let empty = MutatingAdmissionPolicyBindingSpec::default();
        let spec = binding.spec.as_ref().unwrap_or(&empty);
        let name = spec.policy_name.as_deref().unwrap_or_default();
        policy::validate_policy_name(&mut errors, &path.child("policyName"), name);
        policy::validate_param_ref(&mut errors, &path.child("paramRef"), spec.param_ref.as_ref());
        if let Some(matches) = &spec.match_resources {
            let path = path.child("matchResources");
            match_resources::validate(&mut errors, &path, matches);
            match_resources::validate_mutable(&mut errors, &path, Some(matches));
        }
        errors
    }
}
