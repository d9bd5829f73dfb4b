//! MutatingAdmissionPolicy: Expressions that change a write before it is taken.

use api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicySpec, Mutation};

use super::expressions::{Naming, Use};
use super::{match_resources, policy};
use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = MutatingAdmissionPolicy;

    const NAMES: Names =
        Names::new("mutatingadmissionpolicies", "mutatingadmissionpolicy").categories(&["api-extensions"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "mutatingadmissionpolicies" };
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column<MutatingAdmissionPolicy>] = &[
        Column::name(),
        Column::new("Mutations", "integer", |policy: &MutatingAdmissionPolicy, _| {
            Value::from(policy.spec.as_ref().map_or(0, |spec| mutations(spec).len()))
        })
        .describe("How many expressions change a write."),
        Column::new("ParamKind", "string", |policy: &MutatingAdmissionPolicy, _| {
            policy::param_kind_text(policy.spec.as_ref().and_then(|spec| spec.param_kind.as_ref()))
        })
        .describe("The kind of the policy's parameters."),
        Column::age(),
    ];

    fn default(policy: &mut MutatingAdmissionPolicy) {
        let spec = policy.spec.get_or_insert_default();
        spec.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        spec.match_constraints.iter_mut().for_each(match_resources::default);
    }

    fn prepare_create(policy: &mut MutatingAdmissionPolicy) {
        policy.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut MutatingAdmissionPolicy, old: &MutatingAdmissionPolicy) {
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn validate(policy: &MutatingAdmissionPolicy) -> FieldErrors {
        validate_policy(policy, true)
    }

    fn validate_update(new: &MutatingAdmissionPolicy, old: &MutatingAdmissionPolicy) -> FieldErrors {
        let conditions = |policy: &MutatingAdmissionPolicy| {
            policy.spec.as_ref().map(|spec| (spec.param_kind.clone(), spec.match_conditions.clone()))
        };
        validate_policy(new, conditions(new) != conditions(old))
    }
}

fn mutations(spec: &MutatingAdmissionPolicySpec) -> &[Mutation] {
    spec.mutations.as_deref().unwrap_or_default()
}

fn validate_policy(policy: &MutatingAdmissionPolicy, check_conditions: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("spec");
    let empty = MutatingAdmissionPolicySpec::default();
    let spec = policy.spec.as_ref().unwrap_or(&empty);
    policy::validate_failure_policy(&mut errors, &path.child("failurePolicy"), spec.failure_policy.as_deref());
    if let Some(kind) = &spec.param_kind {
        policy::validate_param_kind(&mut errors, &path.child("paramKind"), kind);
    }
    let (constraints, constraints_path) = (spec.match_constraints.as_ref(), path.child("matchConstraints"));
    match_resources::validate_constraints(&mut errors, &constraints_path, constraints);
    match_resources::validate_mutable(&mut errors, &constraints_path, constraints);
    let params = spec.param_kind.is_some();
    if check_conditions {
        let conditions = spec.match_conditions.as_deref().unwrap_or_default();
        match_resources::validate_conditions(&mut errors, &path.child("matchConditions"), conditions, params);
    }
    let variables = spec.variables.as_deref().unwrap_or_default();
    policy::validate_variables(&mut errors, &path.child("variables"), variables);
    let mut naming = Naming { params, ..Naming::default() };
    naming.declare(&mut errors, &path.child("variables"), variables);
    if mutations(spec).is_empty() {
        errors.required(&path.child("mutations"), "mutations must contain at least one item");
    }
    for (index, mutation) in mutations(spec).iter().enumerate() {
        validate_mutation(&mut errors, &path.child("mutations").index(index), mutation, &naming);
    }
    let reinvocation_path = path.child("reinvocationPolicy");
    match spec.reinvocation_policy.as_deref() {
        None | Some("") => errors.required(&reinvocation_path, ""),
        Some("Never" | "IfNeeded") => {}
        Some(other) => errors.not_supported(&reinvocation_path, other, &["Never", "IfNeeded"]),
    }
    errors
}

fn validate_mutation(errors: &mut FieldErrors, path: &Path, mutation: &Mutation, naming: &Naming) {
    let type_ = mutation.patch_type.as_str();
    let patch = mutation.json_patch.as_ref().map(|patch| patch.expression.as_deref().unwrap_or_default());
    let apply = mutation.apply_configuration.as_ref().map(|apply| apply.expression.as_deref().unwrap_or_default());
    let (wanted, other) = match type_ {
        "" => return errors.required(&path.child("patchType"), ""),
        "JSONPatch" => (("jsonPatch", patch), ("applyConfiguration", apply)),
        "ApplyConfiguration" => (("applyConfiguration", apply), ("jsonPatch", patch)),
        _ => {
            return errors.not_supported(&path.child("patchType"), type_, &["ApplyConfiguration", "JSONPatch"]);
        }
    };
    match wanted {
        (name, None) => errors.required(&path.child(name), format!("must be specified when patchType is {type_}")),
        (name, Some(expression)) if expression.trim().is_empty() => {
            errors.required(&path.child(name).child("expression"), "");
        }
        (name, Some(expression)) => {
            let use_ = if type_ == "JSONPatch" { Use::JsonPatch } else { Use::ApplyConfiguration };
            naming.check(errors, &path.child(name).child("expression"), use_, expression.trim());
        }
    }
    if let (name, Some(_)) = other {
        let why = format!("must not be specified when patchType is {type_}");
        errors.invalid(&path.child(name), format!("{{{name}}}"), why);
    }
}
