//! `MutatingAdmissionPolicy`: expressions that change what is written, as apply configurations or JSON patches.
//!
//! Upstream: apiserver/pkg/admission/plugin/policy/mutating.
//! Spec: spec/api/mutating_admission_policy.md

use api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, Mutation};
use api::managed::{self, Types, Writer};
use api::meta::v1::StatusCause;
use api::{Object, Status, patch, schema};
use cel::{ObjectType, Type};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::expression::{Expression, MATCH_BUDGET, Scope};
use super::matching::is_exempt;
use super::policy::{self, Binding, Declaration, Invocation, Policy};
use super::{Operation, Request, conversion};

pub struct Plugin;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "MutatingAdmissionPolicy"
    }

    fn handles(&self, _: Operation, group: &str, resource: &str, _: &str) -> bool {
        !is_exempt(group, resource)
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(admit(request))
    }
}

enum Change {
    Apply(Expression),
    Json(Expression),
}

/// A policy, compiled.
pub struct Mutating {
    policy: Policy,
    changes: Vec<Change>,
    reinvoked: bool,
}

impl AsRef<Policy> for Mutating {
    fn as_ref(&self) -> &Policy {
        &self.policy
    }
}

pub fn compile(policy: &MutatingAdmissionPolicy) -> Mutating {
    let spec = policy.spec.clone().unwrap_or_default();
    let (compiled, environment, _) = policy::compile(&Declaration {
        name: policy.name(),
        constraints: spec.match_constraints.as_ref(),
        param_kind: spec.param_kind.as_ref(),
        failure_policy: spec.failure_policy.as_deref(),
        conditions: spec.match_conditions.as_ref(),
        variables: spec.variables.as_ref(),
    });
    let environment = environment.mutation();
    let made = |name: &str| Type::object(ObjectType::new(name, []));
    let text = |expression: Option<&String>| expression.cloned().unwrap_or_default();
    let change = |mutation: &Mutation| match mutation.patch_type.as_str() {
        "JSONPatch" => {
            let own = text(mutation.json_patch.as_ref().and_then(|own| own.expression.as_ref()));
            Change::Json(Expression::compile(&environment, &own, &[Type::list(made("JSONPatch"))]))
        }
        _ => {
            let own = text(mutation.apply_configuration.as_ref().and_then(|own| own.expression.as_ref()));
            Change::Apply(Expression::compile(&environment, &own, &[made("Object")]))
        }
    };
    let changes = spec.mutations.iter().flatten().map(change).collect();
    Mutating { policy: compiled, changes, reinvoked: spec.reinvocation_policy.as_deref() == Some("IfNeeded") }
}

pub fn bind(binding: &MutatingAdmissionPolicyBinding) -> Binding {
    let spec = binding.spec.clone().unwrap_or_default();
    let (resources, params) = (spec.match_resources.as_ref(), spec.param_ref.as_ref());
    Binding::new(binding.name(), spec.policy_name.as_deref().unwrap_or_default(), resources, params, &[])
}

async fn admit(request: &mut Request<'_>) -> Result<(), Status> {
    let (external, lookup) = (request.server.external(), request.lookup());
    let policies = external.mutating_policies.get(lookup, compile);
    if policies.is_empty() {
        return Ok(());
    }
    let bindings = external.mutating_bindings.get(lookup, bind);
    if request.reinvocation.round > 0 {
        let now = request.object.as_ref().map(|object| object.encode()).unwrap_or_default();
        request.reinvocation.policies.compare(&now);
    }
    let selected = policy::select(request, &policies, &bindings).await?;
    let mut problems: Vec<(String, Option<&'static str>)> = Vec::new();
    for one in selected.misconfigured.iter().filter(|one| !one.policy.ignores_failure) {
        let what = if one.binding.is_some() { "binding" } else { "policy" };
        let why = format!("failed to configure {what}: {}", one.why);
        let binding = one.binding.map(|binding| binding.name.as_str());
        problems.push((denied(&one.policy.name, binding, &why), None));
    }
    for mut invocation in selected.invocations {
        let (policy, binding) = (invocation.policy, invocation.binding);
        let mut failed = |why: &str| {
            if !policy.policy.ignores_failure {
                problems.push((denied(&policy.policy.name, Some(&binding.name), why), Some("Invalid")));
            }
        };
        if let Some(object) = &request.object {
            // Policies before this one may have changed it.
            let shown = match &invocation.form.converted {
                Some(other) => conversion::to(request, &***object, other)?.to_value(),
                None => object.to_value(),
            };
            invocation.input.object = shown;
        }
        let scope = Scope::new(&invocation.input, &policy.policy.variables, MATCH_BUDGET);
        match policy.policy.conditions.hold(&scope) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(why) => {
                failed(&why);
                continue;
            }
        }
        let id = format!("{}/{}/{}", policy.policy.name, binding.name, invocation.input.params["metadata"]["uid"]);
        if request.reinvocation.round > 0 && !request.reinvocation.policies.is_again(&id) {
            continue;
        }
        let changed = mutate(request, &mut invocation, &mut failed)?;
        if changed {
            request.reinvocation.policies.changed();
            request.reinvocation.wanted = true;
        }
        if policy.reinvoked {
            request.reinvocation.policies.invoked(&id);
        }
    }
    let now = request.object.as_ref().map(|object| object.encode()).unwrap_or_default();
    request.reinvocation.policies.seen(now);
    refuse(request, problems)
}

/// Makes a policy's changes in their order; whether there were any.
fn mutate(
    request: &mut Request<'_>,
    invocation: &mut Invocation<'_, Mutating>,
    failed: &mut impl FnMut(&str),
) -> Result<bool, Status> {
    let policy = invocation.policy;
    let mut changed = false;
    for change in &policy.changes {
        let Some(kind) = request.object.as_ref().map(|object| object.kind()) else { return Ok(false) };
        let other = invocation.form.converted.as_ref().filter(|other| other.plural() == kind.plural);
        let kind = other.map_or(kind, |other| other.kind());
        let made = {
            let scope = Scope::new(&invocation.input, &policy.policy.variables, cel::PER_REQUEST_LIMIT);
            let (Change::Apply(expression) | Change::Json(expression)) = change;
            scope.evaluate(expression).and_then(|value| value.to_json())
        };
        let object = invocation.input.object.clone();
        let now = request.server.now();
        let result = made.and_then(|made| match change {
            Change::Apply(_) => {
                let resource = request.lookup().catalog().find(kind.group, kind.version, kind.plural);
                let custom = resource.as_ref().and_then(|resource| resource.custom.as_deref());
                let types = match custom {
                    Some(version) => Some(version.types()),
                    None => schema::definition(kind.definition).map(Types::from),
                };
                merged(object, made, types, kind, now)
            }
            Change::Json(_) => patched(object, &made),
        });
        let value = match result {
            Ok(value) => value,
            Err(why) => {
                failed(&why);
                continue;
            }
        };
        let object = match conversion::decode(request, kind, value) {
            Ok(object) => object,
            Err(status) => {
                failed(status.message());
                continue;
            }
        };
        let shown = object.to_value();
        if shown == invocation.input.object {
            continue;
        }
        invocation.input.object = shown;
        let object = match other {
            Some(other) => conversion::back(request, &*object, other)?,
            None => object,
        };
        if let Some(own) = request.object.as_mut() {
            **own = object;
        }
        changed = true;
    }
    Ok(changed)
}

/// The object with a configuration merged in, as an apply would, without anybody becoming an owner.
fn merged(
    mut object: Value,
    config: Value,
    types: Option<Types<'_>>,
    kind: &'static api::Kind,
    now: api::Timestamp,
) -> Result<Value, String> {
    let Some(types) = types else {
        return Err(format!(
            "Resource kind {}, Kind={} not found. There can be a delay between when CustomResourceDefinitions are \
             created and when they are available.",
            kind.api_version, kind.kind
        ));
    };
    let Value::Object(fields) = config else {
        return Err("unexpected result type from applyConfiguration expression".to_owned());
    };
    let mut config = Map::new();
    config.insert("apiVersion".to_owned(), kind.api_version.into());
    config.insert("kind".to_owned(), kind.kind.into());
    config.extend(fields.into_iter().filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind")));
    let owners = object["metadata"].as_object_mut().and_then(|metadata| metadata.shift_remove("managedFields"));
    let manager = "mutating-admission-policy";
    let writer = Writer { manager, subresource: "", api_version: kind.api_version, now, ignored: &[] };
    let merged = managed::apply(Some(&object), Value::Object(config), types, &writer, true);
    let mut merged = merged.map_err(|error| format!("error applying patch: {error}"))?;
    if let Some(metadata) = merged["metadata"].as_object_mut() {
        metadata.shift_remove("managedFields");
        if let Some(owners) = owners {
            metadata.insert("managedFields".to_owned(), owners);
        }
    }
    Ok(merged)
}

/// The object with a list of `JSONPatch{...}` applied.
fn patched(object: Value, operations: &Value) -> Result<Value, String> {
    let list = operations.as_array().ok_or("unexpected result type from jsonPatch expression")?;
    let operations: Vec<Value> = list
        .iter()
        .map(|one| {
            let mut operation = json!({"op": one["op"], "path": one["path"]});
            if !one["from"].is_null() {
                operation["from"] = one["from"].clone();
            }
            if let Some(value) = one.get("value") {
                operation["value"] = value.clone();
            }
            operation
        })
        .collect();
    let text = Value::Array(operations).to_string();
    let patched = patch::json(object, text.as_bytes());
    patched.map(|patched| patched.value).map_err(|error| format!("JSON Patch: {error}"))
}

fn denied(policy: &str, binding: Option<&str>, why: &str) -> String {
    match binding {
        Some(binding) => format!("policy '{policy}' with binding '{binding}' denied request: {why}"),
        None => format!("policy '{policy}' denied request: {why}"),
    }
}

fn refuse(request: &Request<'_>, problems: Vec<(String, Option<&'static str>)>) -> Result<(), Status> {
    let Some((message, reason)) = problems.first().cloned() else { return Ok(()) };
    let mut status = request.forbidden("admission request denied by policy");
    status.0.message = Some(message);
    if let Some(reason) = reason {
        status.0.reason = Some(reason.to_owned());
    }
    let causes = problems.into_iter().map(|(message, _)| StatusCause { message: Some(message), ..Default::default() });
    let details = status.0.details.get_or_insert_with(Default::default);
    details.causes.get_or_insert_with(Vec::new).extend(causes);
    Err(status)
}
