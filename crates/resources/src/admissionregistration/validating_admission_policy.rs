//! ValidatingAdmissionPolicy: Expressions a write must fulfil to be taken.

use std::collections::BTreeSet;

use api::admissionregistration::v1::{
    AuditAnnotation, ValidatingAdmissionPolicy, ValidatingAdmissionPolicySpec, ValidatingAdmissionPolicyStatus,
    Validation,
};

use super::expressions::{Naming, Use};
use super::{match_resources, policy};
use crate::prelude::*;
use crate::{checks, metadata};

const ANNOTATIONS_MAX: usize = 20;
const ANNOTATION_BYTES_MAX: usize = 5 * 1024;
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ValidatingAdmissionPolicy;

    const NAMES: Names =
        Names::new("validatingadmissionpolicies", "validatingadmissionpolicy").categories(&["api-extensions"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "validatingadmissionpolicies" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column<ValidatingAdmissionPolicy>] = &[
        Column::name(),
        Column::new("Validations", "integer", |policy: &ValidatingAdmissionPolicy, _| {
            Value::from(validations(policy.spec.as_ref()).len())
        })
        .describe("How many expressions a write must fulfil."),
        Column::new("ParamKind", "string", |policy: &ValidatingAdmissionPolicy, _| {
            policy::param_kind_text(policy.spec.as_ref().and_then(|spec| spec.param_kind.as_ref()))
        })
        .describe("The kind of the policy's parameters."),
        Column::age(),
    ];

    fn default(policy: &mut ValidatingAdmissionPolicy) {
        let spec = policy.spec.get_or_insert_default();
        spec.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        spec.match_constraints.iter_mut().for_each(match_resources::default);
    }

    fn prepare_create(policy: &mut ValidatingAdmissionPolicy) {
        policy.status = Some(ValidatingAdmissionPolicyStatus::default());
        policy.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut ValidatingAdmissionPolicy, old: &ValidatingAdmissionPolicy) {
        new.status.clone_from(&old.status);
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn prepare_status_update(new: &mut ValidatingAdmissionPolicy, old: &ValidatingAdmissionPolicy) {
        new.spec.clone_from(&old.spec);
        metadata::keep_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(policy: &ValidatingAdmissionPolicy) -> FieldErrors {
        validate_policy(policy, true)
    }

    fn validate_update(new: &ValidatingAdmissionPolicy, old: &ValidatingAdmissionPolicy) -> FieldErrors {
        let conditions = |policy: &ValidatingAdmissionPolicy| {
            policy.spec.as_ref().map(|spec| (spec.param_kind.clone(), spec.match_conditions.clone()))
        };
        validate_policy(new, conditions(new) != conditions(old))
    }

    fn validate_status_update(new: &ValidatingAdmissionPolicy, _old: &ValidatingAdmissionPolicy) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let Some(status) = &new.status else { return errors };
        let path = Path::new("status");
        let warnings = status.type_checking.iter().flat_map(|checking| checking.expression_warnings.iter().flatten());
        for (index, warning) in warnings.enumerate() {
            let path = path.child("typeChecking").child("expressionWarnings").index(index);
            if warning.warning.is_empty() {
                errors.required(&path.child("warning"), "");
            }
            if warning.field_ref.trim().is_empty() {
                errors.required(&path.child("fieldRef"), "");
            }
        }
        checks::conditions(&mut errors, &path.child("conditions"), status.conditions.as_deref());
        errors
    }
}

fn validations(spec: Option<&ValidatingAdmissionPolicySpec>) -> &[Validation] {
    spec.and_then(|spec| spec.validations.as_deref()).unwrap_or_default()
}

fn validate_policy(policy: &ValidatingAdmissionPolicy, check_conditions: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("spec");
    let empty = ValidatingAdmissionPolicySpec::default();
    let spec = policy.spec.as_ref().unwrap_or(&empty);
    policy::validate_failure_policy(&mut errors, &path.child("failurePolicy"), spec.failure_policy.as_deref());
    if let Some(kind) = &spec.param_kind {
        policy::validate_param_kind(&mut errors, &path.child("paramKind"), kind);
    }
    let constraints = spec.match_constraints.as_ref();
    match_resources::validate_constraints(&mut errors, &path.child("matchConstraints"), constraints);
    let params = spec.param_kind.is_some();
    if check_conditions {
        let conditions = spec.match_conditions.as_deref().unwrap_or_default();
        match_resources::validate_conditions(&mut errors, &path.child("matchConditions"), conditions, params);
    }
    let variables = spec.variables.as_deref().unwrap_or_default();
    policy::validate_variables(&mut errors, &path.child("variables"), variables);
    let mut naming = Naming { params, ..Naming::default() };
    naming.declare(&mut errors, &path.child("variables"), variables);
    let annotations = spec.audit_annotations.as_deref().unwrap_or_default();
    if validations(Some(spec)).is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.required(&path.child("validations"), why);
        errors.required(&path.child("auditAnnotations"), why);
        return errors;
    }
    for (index, validation) in validations(Some(spec)).iter().enumerate() {
        validate_validation(&mut errors, &path.child("validations").index(index), validation, &naming);
    }
    validate_annotations(&mut errors, &path.child("auditAnnotations"), policy.name(), annotations, &naming);
    errors
}

fn validate_validation(errors: &mut FieldErrors, path: &Path, validation: &Validation, naming: &Naming) {
    if validation.expression.trim().is_empty() {
        errors.required(&path.child("expression"), "expression is not specified");
    } else {
        naming.check(errors, &path.child("expression"), Use::Condition, &validation.expression);
    }
    let blank = |text: &str| !text.is_empty() && text.trim().is_empty();
    let expression = validation.message_expression.as_deref().unwrap_or_default();
    if blank(expression) {
        errors.invalid(&path.child("messageExpression"), expression, "must be non-empty if specified");
    } else if !expression.is_empty() {
        naming.check(errors, &path.child("messageExpression"), Use::Message, expression);
    }
    let message = validation.message.as_deref().unwrap_or_default();
    if blank(message) {
        errors.invalid(&path.child("message"), message, "message must be non-empty if specified");
    } else if message.trim().contains(['\n', '\r']) {
        errors.invalid(&path.child("message"), message, "message must not contain line breaks");
    }
    checks::optional_one_of(errors, &path.child("reason"), validation.reason.as_deref(), &REASONS);
}

fn validate_annotations(
    errors: &mut FieldErrors,
    path: &Path,
    name: &str,
    annotations: &[AuditAnnotation],
    naming: &Naming,
) {
    if annotations.len() > ANNOTATIONS_MAX {
        let why = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.invalid(path, checks::shown(&annotations), why);
    }
    let mut seen = BTreeSet::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let path = path.index(index);
        let key = annotation.key.as_str();
        if name.is_empty() {
            errors.invalid(&path.child("key"), key, "requires metadata.name be non-empty");
        } else {
            checks::qualified(errors, &path.child("key"), &format!("{name}/{key}"));
        }
        match annotation.value_expression.trim().len() {
            0 => errors.required(&path.child("valueExpression"), "valueExpression is not specified"),
            bytes if bytes > ANNOTATION_BYTES_MAX => {
                let why = format!("must not exceed {ANNOTATION_BYTES_MAX} bytes in length");
                errors.required(&path.child("valueExpression"), why);
            }
            _ => {
                let path = path.child("valueExpression");
                naming.check(errors, &path, Use::Annotation, annotation.value_expression.trim());
            }
        }
        checks::unique(errors, &path.child("key"), &mut seen, key);
    }
}
