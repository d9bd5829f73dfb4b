//! `ValidatingAdmissionPolicy`: expressions that every write must satisfy.
//!
//! Upstream: apiserver/pkg/admission/plugin/policy/validating.
//! Spec: spec/api/validating_admission_policy.md

use api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use api::meta::v1::StatusCause;
use api::{Object, Status};
use cel::{Type, Value};
use futures_util::future::BoxFuture;
use serde_json::json;

use super::expression::{Expression, MATCH_BUDGET, Scope};
use super::matching::is_exempt;
use super::policy::{self, Binding, Declaration, Invocation, Policy};
use super::{Operation, Request};

/// Longest message that an expression makes.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
/// Longest value of an audit annotation.
const ANNOTATION_BYTES_MAX: usize = 10 * 1024;

pub struct Plugin;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, _: Operation, group: &str, resource: &str, _: &str) -> bool {
        !is_exempt(group, resource)
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(validate(request))
    }
}

struct Validation {
    expression: Expression,
    message: String,
    message_expression: Option<Expression>,
    reason: Option<String>,
}

/// A policy, compiled.
pub struct Validating {
    policy: Policy,
    validations: Vec<Validation>,
    annotations: Vec<(String, Expression)>,
}

impl AsRef<Policy> for Validating {
    fn as_ref(&self) -> &Policy {
        &self.policy
    }
}

pub fn compile(policy: &ValidatingAdmissionPolicy) -> Validating {
    let spec = policy.spec.clone().unwrap_or_default();
    let (compiled, environment, plain) = policy::compile(&Declaration {
        name: policy.name(),
        constraints: spec.match_constraints.as_ref(),
        param_kind: spec.param_kind.as_ref(),
        failure_policy: spec.failure_policy.as_deref(),
        conditions: spec.match_conditions.as_ref(),
        variables: spec.variables.as_ref(),
    });
    let validations = spec.validations.iter().flatten().map(|one| Validation {
        expression: Expression::compile(&environment, &one.expression, &[Type::Bool]),
        message: one.message.as_deref().unwrap_or_default().trim().to_owned(),
        message_expression: one
            .message_expression
            .as_ref()
            .map(|text| Expression::compile(&plain, text, &[Type::STRING])),
        reason: one.reason.clone(),
    });
    let annotations =
        spec.audit_annotations.iter().flatten().map(|one| {
            (one.key.clone(), Expression::compile(&plain, &one.value_expression, &[Type::STRING, Type::Null]))
        });
    Validating { policy: compiled, validations: validations.collect(), annotations: annotations.collect() }
}

pub fn bind(binding: &ValidatingAdmissionPolicyBinding) -> Binding {
    let spec = &binding.spec;
    let (resources, params) = (spec.match_resources.as_ref(), spec.param_ref.as_ref());
    Binding::new(binding.name(), &spec.policy_name, resources, params, &spec.validation_actions)
}

/// A refusal that is to be told.
struct Denied {
    policy: String,
    binding: Option<String>,
    message: String,
    reason: Option<String>,
}

/// What a validation came to, if not to consent.
struct Verdict {
    index: usize,
    message: String,
    reason: Option<String>,
}

async fn validate(request: &mut Request<'_>) -> Result<(), Status> {
    let (external, lookup) = (request.server.external(), request.lookup());
    let policies = external.validating_policies.get(lookup, compile);
    if policies.is_empty() {
        return Ok(());
    }
    let bindings = external.validating_bindings.get(lookup, bind);
    let selected = policy::select(request, &policies, &bindings).await?;
    let mut denied: Vec<Denied> = Vec::new();
    for one in selected.misconfigured.iter().filter(|one| !one.policy.ignores_failure) {
        let what = if one.binding.is_some() { "binding" } else { "policy" };
        denied.push(Denied {
            policy: one.policy.name.clone(),
            binding: one.binding.map(|binding| binding.name.clone()),
            message: format!("failed to configure {what}: {}", one.why),
            reason: None,
        });
    }
    let mut published: Vec<(String, Vec<String>)> = Vec::new();
    for invocation in &selected.invocations {
        invoke(request, invocation, &mut denied, &mut published);
    }
    request.annotations.extend(published.into_iter().map(|(key, values)| (key, values.join(", "))));
    denied.into_iter().next().map_or(Ok(()), |first| Err(refusal(request, first)))
}

fn invoke(
    request: &mut Request<'_>,
    invocation: &Invocation<'_, Validating>,
    denied: &mut Vec<Denied>,
    published: &mut Vec<(String, Vec<String>)>,
) {
    let (policy, binding) = (invocation.policy, invocation.binding);
    let (verdicts, annotations) = evaluate(invocation);
    let name = &policy.policy.name;
    for verdict in verdicts {
        for action in &binding.actions {
            match action.as_str() {
                "Deny" => denied.push(Denied {
                    policy: name.clone(),
                    binding: Some(binding.name.clone()),
                    message: verdict.message.clone(),
                    reason: verdict.reason.clone(),
                }),
                "Warn" => request.warnings.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{}': {}",
                    binding.name, verdict.message
                )),
                _ => {
                    let failure = json!([{
                        "message": verdict.message,
                        "policy": name,
                        "binding": binding.name,
                        "expressionIndex": verdict.index,
                        "validationActions": binding.actions,
                    }]);
                    let key = "validation.policy.admission.k8s.io/validation_failure";
                    request.annotations.push((key.to_owned(), failure.to_string()));
                }
            }
        }
    }
    for (key, value) in annotations {
        match value {
            Ok(value) => {
                let key = format!("{name}/{key}");
                match published.iter_mut().find(|(own, _)| *own == key) {
                    Some((_, values)) if values.contains(&value) => {}
                    Some((_, values)) => values.push(value),
                    None => published.push((key, vec![value])),
                }
            }
            Err(message) => {
                denied.push(Denied { policy: name.clone(), binding: Some(binding.name.clone()), message, reason: None })
            }
        }
    }
}

type Annotations = Vec<(String, Result<String, String>)>;

/// Evaluates a policy for one set of parameters: what does not hold, and what is to be written down.
fn evaluate(invocation: &Invocation<'_, Validating>) -> (Vec<Verdict>, Annotations) {
    let Validating { policy, validations, annotations } = invocation.policy;
    let scope = |budget| Scope::new(&invocation.input, &policy.variables, budget);
    let fails = !policy.ignores_failure;
    match policy.conditions.hold(&scope(MATCH_BUDGET)) {
        Ok(true) => {}
        Ok(false) => return (Vec::new(), Vec::new()),
        Err(message) if fails => return (vec![Verdict { index: 0, message, reason: None }], Vec::new()),
        Err(_) => return (Vec::new(), Vec::new()),
    }
    let own = scope(cel::PER_REQUEST_LIMIT);
    let mut verdicts = Vec::new();
    for (index, validation) in validations.iter().enumerate() {
        match own.evaluate(&validation.expression) {
            Ok(value) if value.as_bool() == Some(true) => {}
            Ok(_) => {
                let reason = Some(validation.reason.clone().unwrap_or_else(|| "Invalid".to_owned()));
                verdicts.push(Verdict { index, message: message(validation, &own), reason });
            }
            Err(message) if fails => verdicts.push(Verdict { index, message, reason: None }),
            Err(_) => {}
        }
    }
    let own = scope(cel::PER_REQUEST_LIMIT);
    let mut written = Vec::new();
    for (key, expression) in annotations {
        match own.evaluate(expression) {
            Ok(Value::Null) => {}
            Ok(value) => match value.as_str().map(str::trim) {
                Some("") => {}
                Some(text) => written.push((key.clone(), Ok(cut(text, ANNOTATION_BYTES_MAX).to_owned()))),
                None => written.push((
                    key.clone(),
                    Err(format!(
                        "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either \
                         string or null.",
                        expression.text,
                        value.type_name()
                    )),
                )),
            },
            Err(why) if fails => written.push((key.clone(), Err(why))),
            Err(_) => {}
        }
    }
    (verdicts, written)
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What a validation that does not hold says: its expression's text, its own, or the expression itself.
fn message(validation: &Validation, scope: &Scope<'_>) -> String {
    let made = validation.message_expression.as_ref().and_then(|expression| scope.evaluate(expression).ok());
    let made = made.as_ref().and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if !made.is_empty() && made.len() <= MESSAGE_BYTES_MAX && !made.contains('\n') {
        return made.to_owned();
    }
    if !validation.message.is_empty() {
        return validation.message.clone();
    }
    format!("failed expression: {}", validation.expression.text.trim())
}

fn refusal(request: &Request<'_>, denied: Denied) -> Status {
    let with = denied.binding.map(|binding| format!(" with binding '{binding}'")).unwrap_or_default();
    let message = format!("ValidatingAdmissionPolicy '{}'{with} denied request: {}", denied.policy, denied.message);
    let mut status = request.forbidden(&message);
    let reason = denied.reason.unwrap_or_else(|| "Invalid".to_owned());
    status.0.code = Some(match reason.as_str() {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    });
    status.0.reason = Some(reason);
    let details = status.0.details.get_or_insert_with(Default::default);
    let cause = StatusCause { message: Some(message), ..Default::default() };
    details.causes.get_or_insert_with(Vec::new).push(cause);
    status
}
