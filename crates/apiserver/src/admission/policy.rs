//! What validating and mutating policies share: their compiled form, their bindings, and the parameters of those.

use std::sync::Arc;

use api::admissionregistration::v1::Variable as Declared;
use api::admissionregistration::v1::{MatchCondition, MatchResources, ParamKind, ParamRef};
use api::{Kind, LabelSelector, Object, Status};
use cel::Environment;
use serde_json::Value;

use super::expression::{self, Asker, Conditions, Input, Names, Variable};
use super::matching::{self, Form, Matcher};
use super::{Request, review};
use crate::catalog::Resource;

/// The part of a policy that is the same for both kinds.
pub struct Policy {
    pub name: String,
    pub matcher: Matcher,
    param_kind: Option<(String, String)>,
    pub ignores_failure: bool,
    pub conditions: Conditions,
    pub variables: Vec<Variable>,
}

/// Its declaration.
pub struct Declaration<'a> {
    pub name: &'a str,
    pub constraints: Option<&'a MatchResources>,
    pub param_kind: Option<&'a ParamKind>,
    pub failure_policy: Option<&'a str>,
    pub conditions: Option<&'a Vec<MatchCondition>>,
    pub variables: Option<&'a Vec<Declared>>,
}

/// Compiles what is common. The environments are those of expressions with and without the authorizer.
pub fn compile(declared: &Declaration<'_>) -> (Policy, Environment, Environment) {
    let params = declared.param_kind.is_some();
    let names = |authorizer| Names { params, namespace: true, authorizer };
    let list = || declared.variables.into_iter().flatten().map(|variable| (&*variable.name, &*variable.expression));
    let (environment, variables) = expression::variables(expression::environment(names(true)), list());
    let (plain, _) = expression::variables(expression::environment(names(false)), list());
    let conditions = Conditions::compile(&environment, declared.conditions);
    let policy = Policy {
        name: declared.name.to_owned(),
        matcher: matcher(declared.constraints),
        param_kind: declared
            .param_kind
            .map(|kind| (kind.api_version.clone().unwrap_or_default(), kind.kind.clone().unwrap_or_default())),
        ignores_failure: declared.failure_policy == Some("Ignore"),
        conditions,
        variables,
    };
    (policy, environment, plain)
}

/// Which requests a policy or a binding is about.
pub fn matcher(resources: Option<&MatchResources>) -> Matcher {
    let Some(resources) = resources else { return Matcher::open() };
    Matcher {
        rules: resources.resource_rules.iter().flatten().map(Into::into).collect(),
        excluded: resources.exclude_resource_rules.iter().flatten().map(Into::into).collect(),
        equivalent: resources.match_policy.as_deref() != Some("Exact"),
        namespaces: resources.namespace_selector.as_ref().into(),
        objects: resources.object_selector.as_ref().into(),
        ..Matcher::open()
    }
}

/// A binding of either kind.
pub struct Binding {
    pub name: String,
    pub policy: String,
    pub matcher: Matcher,
    params: Option<ParamRef>,
    /// `Deny`, `Warn`, `Audit`.
    pub actions: Vec<String>,
}

impl Binding {
    pub fn new(
        name: &str,
        policy: &str,
        resources: Option<&MatchResources>,
        params: Option<&ParamRef>,
        actions: &[String],
    ) -> Self {
        Self {
            name: name.to_owned(),
            policy: policy.to_owned(),
            matcher: matcher(resources),
            params: params.cloned(),
            actions: actions.to_vec(),
        }
    }
}

/// A policy that is to be evaluated, with everything it may look at but the objects.
pub struct Invocation<'a, P> {
    pub policy: &'a P,
    pub binding: &'a Binding,
    pub form: Form,
    pub input: Input,
}

/// Why a policy cannot be evaluated.
pub struct Misconfigured<'a> {
    pub policy: &'a Policy,
    /// `None`: it is the policy's own fault.
    pub binding: Option<&'a Binding>,
    pub why: String,
}

/// What is to be done about one request.
pub struct Selected<'a, P> {
    pub invocations: Vec<Invocation<'a, P>>,
    pub misconfigured: Vec<Misconfigured<'a>>,
}

/// Finds the policies, bindings and parameters that a request meets.
///
/// # Errors
/// 404 if the request's namespace is not there.
pub async fn select<'a, P: AsRef<Policy>>(
    request: &Request<'_>,
    policies: &'a [Arc<P>],
    bindings: &'a [Arc<Binding>],
) -> Result<Selected<'a, P>, Status> {
    let mut selected = Selected { invocations: Vec::new(), misconfigured: Vec::new() };
    for policy in policies {
        let own = (**policy).as_ref();
        let bound = bound_to(own, bindings);
        if bound.is_empty() {
            continue;
        }
        let form = match own.matcher.matches(request).await {
            Ok(Some(form)) => form,
            Ok(None) => continue,
            Err(status) => {
                let why = status.message().to_owned();
                selected.misconfigured.push(Misconfigured { policy: own, binding: None, why });
                continue;
            }
        };
        let resource = match own.param_resource(request) {
            Ok(resource) => resource,
            Err(why) => {
                selected.misconfigured.push(Misconfigured { policy: own, binding: None, why });
                continue;
            }
        };
        for binding in bound {
            let params = match binding.matcher.matches(request).await {
                Ok(Some(_)) => params(request, resource.as_deref(), binding).await,
                Ok(None) => continue,
                Err(status) => Err(status.message().to_owned()),
            };
            match params {
                Ok(all) => {
                    for params in all {
                        let input = input(request, &form, params).await?;
                        selected.invocations.push(Invocation { policy: &**policy, binding, form: form.clone(), input });
                    }
                }
                Err(why) => {
                    selected.misconfigured.push(Misconfigured { policy: own, binding: Some(binding), why });
                }
            }
        }
    }
    Ok(selected)
}

fn bound_to<'a>(policy: &Policy, bindings: &'a [Arc<Binding>]) -> Vec<&'a Binding> {
    bindings.iter().map(|binding| &**binding).filter(|binding| binding.policy == policy.name).collect()
}

async fn input(request: &Request<'_>, form: &Form, params: Value) -> Result<Input, Status> {
    let (object, old) = review::objects(request, form)?;
    let is_namespace = request.group.is_empty() && request.resource == "namespaces";
    let namespace = match request.namespace {
        "" => Value::Null,
        _ if is_namespace => Value::Null,
        name => shown_namespace(&*matching::namespace(request, name).await?),
    };
    let asker = Some(Asker::of(request));
    Ok(Input { object, old, request: review::request(request, form), namespace, params, asker })
}

/// A namespace without what expressions are not shown.
fn shown_namespace(namespace: &dyn Object) -> Value {
    let mut value = namespace.to_value();
    if let Some(metadata) = value["metadata"].as_object_mut() {
        for hidden in ["managedFields", "ownerReferences", "finalizers", "selfLink"] {
            metadata.shift_remove(hidden);
        }
    }
    value
}

impl Policy {
    /// The resource of its parameters, if it has any.
    fn param_resource(&self, request: &Request<'_>) -> Result<Option<Arc<Resource>>, String> {
        let Some((api_version, kind)) = &self.param_kind else { return Ok(None) };
        let is_it = |own: &'static Kind| own.api_version == api_version && own.kind == kind;
        let mut all = request.lookup().catalog().all().into_iter();
        let found = all.find(|resource| is_it(resource.kind()) && resource.cache.is_some());
        found
            .map(Some)
            .ok_or_else(|| format!("failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'"))
    }
}

/// The parameters of a binding; one that is null if it has none.
async fn params(request: &Request<'_>, resource: Option<&Resource>, binding: &Binding) -> Result<Vec<Value>, String> {
    let (Some(resource), Some(wanted)) = (resource, &binding.params) else { return Ok(vec![Value::Null]) };
    let cache = resource.cache("get").map_err(|status| status.message().to_owned())?;
    let namespace = match (resource.namespaced(), wanted.namespace.as_deref().filter(|name| !name.is_empty())) {
        (true, Some(namespace)) => namespace,
        (true, None) if request.namespace.is_empty() => {
            return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into());
        }
        (true, None) => request.namespace,
        (false, Some(_)) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into());
        }
        (false, None) => "",
    };
    let failed = |status: Status| status.message().to_owned();
    let mut found = Vec::new();
    match (wanted.name.as_deref().filter(|name| !name.is_empty()), &wanted.selector) {
        (Some(_), Some(_)) => return Err("paramRef.name and paramRef.selector are mutually exclusive".into()),
        (Some(name), None) => {
            let key = cache.key(namespace, name);
            let entry = match cache.get(&key) {
                Some(entry) => Some(entry),
                // Perhaps the cache is a moment behind.
                None => {
                    let live = request.lookup().caches.store.get(&key).await;
                    let live = live.map_err(|error| error.to_string())?.value;
                    match live {
                        Some(stored) => Some(cache.entry_of(&stored).await.map_err(failed)?),
                        None => None,
                    }
                }
            };
            if let Some(entry) = entry {
                found.push(resource.object(&entry).map_err(failed)?.to_value());
            }
        }
        (None, Some(selector)) => {
            let selector = LabelSelector::from_api(Some(selector))?;
            let state = cache.state();
            for entry in crate::cache::in_range(&state, &store::Range::prefix(&cache.key(namespace, ""))) {
                if selector.matches_with(|key| entry.label(key)) {
                    found.push(resource.object(entry).map_err(failed)?.to_value());
                }
            }
        }
        (None, None) => return Err("one of name or selector must be provided".into()),
    }
    if found.is_empty() && wanted.parameter_not_found_action.as_deref() == Some("Deny") {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found)
}
