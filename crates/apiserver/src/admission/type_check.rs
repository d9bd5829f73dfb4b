//! What of a `ValidatingAdmissionPolicy` cannot be right for the types it is about: warnings in its status.
//!
//! Upstream: apiserver/pkg/admission/plugin/policy/validating/typechecking.go,
//! pkg/controller/validatingadmissionpolicystatus.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::admissionregistration::v1::{
    ExpressionWarning, NamedRuleWithOperations, TypeChecking, ValidatingAdmissionPolicy, ValidatingAdmissionPolicySpec,
};
use api::{Body, Call, Kind, Object, Options, Target, Typed, Verb, WatchEvent};
use cel::{Environment, Type};

use super::declared;
use super::expression::{self, Names};
use crate::catalog::{Catalog, Resource};
use crate::{Caller, Server};

/// Types that one policy is checked for.
const TYPES_LEN_MAX: usize = 10;
/// How long to wait before the policies are watched anew after a watch that failed.
const WATCH_AGAIN: Duration = Duration::from_millis(200);
const FIELD_MANAGER: &str = "validatingadmissionpolicy-status-controller";

/// Keeps the status of every policy until the server ends: checks a policy when it changes, and all of them when what
/// is served does. (Upstream's looks at a policy once a generation; a schema that changes later goes unnoticed there.)
pub(crate) async fn follow(server: Arc<Server>) {
    let caller = Arc::new(Caller::apiserver());
    let target = Target::kind(ValidatingAdmissionPolicy::KIND);
    let mut served = server.description_changes();
    // Policies that changed while they were checked anew: their next event is as good as a change of schema.
    let mut due = BTreeSet::new();
    loop {
        let options = Options { allow_watch_bookmarks: true, ..Options::default() };
        let call = Call { verb: Verb::Watch, target: target.clone(), options, body: Body::None };
        if let Ok(stream) = server.watch(&caller, call).await {
            let mut stream = stream.passing();
            loop {
                let object = tokio::select! {
                    biased;
                    event = stream.next() => match event {
                        Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => object,
                        Some(WatchEvent::Deleted(object)) => {
                            due.remove(object.name());
                            continue;
                        }
                        Some(WatchEvent::Bookmark { .. }) => continue,
                        Some(WatchEvent::Error(_)) | None => break,
                    },
                    _ = served.changed() => {
                        for policy in server.lookup().list::<ValidatingAdmissionPolicy>(None) {
                            if !keep(&server, &caller, &policy, true).await {
                                due.insert(policy.name().to_owned());
                            }
                        }
                        continue;
                    }
                };
                let Some(policy) = api::downcast_arc::<ValidatingAdmissionPolicy>(object) else { continue };
                let anew = due.remove(policy.name());
                keep(&server, &caller, &policy, anew).await;
            }
        }
        tokio::select! {
            () = server.tasks().cancelled().cancelled_owned() => return,
            () = server.options().clock.sleep(WATCH_AGAIN) => {}
        }
    }
}

/// Checks a policy of which that was not done yet, or `anew`. False: another version of it is on its way.
async fn keep(server: &Arc<Server>, caller: &Arc<Caller>, policy: &ValidatingAdmissionPolicy, anew: bool) -> bool {
    let generation = policy.metadata.generation.unwrap_or_default();
    let status = policy.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation).unwrap_or_default();
    if generation <= observed && !anew {
        return true;
    }
    let warnings = policy.spec.as_ref().map(|spec| check(spec, server.lookup().catalog())).unwrap_or_default();
    let told = status.and_then(|status| status.type_checking.as_ref()?.expression_warnings.as_deref());
    if generation <= observed && told.unwrap_or_default() == warnings {
        return true;
    }
    let mut new = policy.clone();
    let status = new.status.get_or_insert_default();
    status.observed_generation = Some(generation);
    status.type_checking = Some(TypeChecking { expression_warnings: (!warnings.is_empty()).then_some(warnings) });
    let target = Target::kind(ValidatingAdmissionPolicy::KIND).named(policy.name()).subresource("status");
    let mut call = Call::new(Verb::Update, target);
    call.options.field_manager = Some(FIELD_MANAGER.to_owned());
    call.body = Body::Object(Arc::new(new));
    match server.call(caller, call).await {
        // It is gone, or another version is on its way: the event comes.
        Err(status) if matches!(status.code(), 404 | 409) => false,
        Err(error) => {
            tracing::warn!(policy = policy.name(), %error, "a policy's status could not be written");
            true
        }
        Ok(_) => true,
    }
}

/// A type that a policy is checked for, and what its expressions may name then.
struct Checked {
    kind: &'static Kind,
    environment: Environment,
}

fn check(spec: &ValidatingAdmissionPolicySpec, catalog: &Catalog) -> Vec<ExpressionWarning> {
    let params = spec.param_kind.as_ref().and_then(|kind| {
        let api_version = kind.api_version.as_deref().unwrap_or_default();
        let all = catalog.all();
        let found = all
            .iter()
            .find(|own| own.kind().api_version == api_version && Some(own.kind().kind) == kind.kind.as_deref())?;
        declared::of_resource(found)
    });
    let types: Vec<Checked> = resources(spec, catalog)
        .into_iter()
        .filter_map(|resource| {
            let object = declared::of_resource(&resource)?;
            Some(Checked { kind: resource.kind(), environment: environment(spec, object, params.as_ref()) })
        })
        .collect();
    let mut warnings = Vec::new();
    for (index, validation) in spec.validations.iter().flatten().enumerate() {
        let message = validation.message_expression.as_deref().filter(|text| !text.is_empty());
        let fields = [("expression", Some(validation.expression.as_str())), ("messageExpression", message)];
        for (field, text) in fields {
            let told = text.and_then(|text| problems(text, &types));
            warnings.extend(
                told.map(|warning| ExpressionWarning {
                    field_ref: format!("spec.validations[{index}].{field}"),
                    warning,
                }),
            );
        }
    }
    warnings
}

fn environment(spec: &ValidatingAdmissionPolicySpec, object: Type, params: Option<&Type>) -> Environment {
    let names = Names { params: params.is_some(), namespace: true, authorizer: true };
    let environment = expression::typed_environment(names, object, params.cloned().unwrap_or(Type::DYN));
    let environment =
        environment.variable("namespaceObject", resources::admissionregistration::expressions::namespace_type());
    let list = spec.variables.iter().flatten().map(|variable| (&*variable.name, &*variable.expression));
    expression::variables(environment, list).0
}

/// What is wrong with an expression, for each type that it is wrong for.
fn problems(text: &str, types: &[Checked]) -> Option<String> {
    let told: Vec<String> = types
        .iter()
        .filter_map(|Checked { kind, environment }| {
            let error = environment.compile(text).err()?;
            Some(format!("{}/{}, Kind={}: {error}\n", kind.group, kind.version, kind.kind))
        })
        .collect();
    (!told.is_empty()).then(|| told.join("\n"))
}

/// The resources that the rules name exactly, by group, version and kind.
fn resources(spec: &ValidatingAdmissionPolicySpec, catalog: &Catalog) -> Vec<Arc<Resource>> {
    let mut found = BTreeMap::new();
    let rules = spec.match_constraints.iter().flat_map(|constraints| constraints.resource_rules.iter().flatten());
    for (group, version, plural) in rules.flat_map(named) {
        if let Some(resource) = catalog.find(group, version, plural) {
            let kind = resource.kind();
            found.insert((kind.group, kind.version, kind.kind), resource);
            if found.len() == TYPES_LEN_MAX {
                break;
            }
        }
    }
    found.into_values().collect()
}

/// What one rule names; nothing if it has wildcards.
fn named(rule: &NamedRuleWithOperations) -> Vec<(&str, &str, &str)> {
    fn texts(list: &Option<Vec<String>>) -> Vec<&str> {
        let mut texts: Vec<&str> = list.iter().flatten().map(String::as_str).collect();
        texts.sort_unstable();
        texts
    }
    let (groups, versions) = (texts(&rule.api_groups), texts(&rule.api_versions));
    if groups.iter().chain(&versions).any(|text| text.contains('*')) {
        return Vec::new();
    }
    let mut all = Vec::new();
    for group in &groups {
        for version in &versions {
            let plurals = texts(&rule.resources).into_iter().filter(|name| !name.contains(['*', '/']));
            all.extend(plurals.map(|plural| (*group, *version, plural)));
        }
    }
    all
}
