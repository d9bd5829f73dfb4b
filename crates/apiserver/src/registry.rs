//! The generic registry: what happens between an authorized request and the store, written once for all resources.
//! The order of hooks is fixed here: decode, default, mutating admission, prepare, metadata, validate, validating
//! admission, store.

mod certificates;
mod component_status;
mod create;
mod delete;
mod eviction;
mod finish;
mod metadata;
mod namespace;
mod owners;
mod patch;
mod pod;
mod pod_certificates;
mod read;
mod scale;
mod service;
mod token;
mod update;

use std::sync::Arc;

use api::call::PatchKind;
use api::{Body, Call, FieldErrors, Object, Path, Status, Target, Verb};
use resources::Subresource;

use crate::admission::{self, Operation};
use crate::answer::Answer;
use crate::audit::Trail;
use crate::cache::{Cache, Entry};
use crate::catalog::Resource;
use crate::{Caller, Server};

pub use certificates::read_request;
pub use read::{check_watch_options, plain, revision};

/// One write under way.
pub(crate) struct Context<'a> {
    pub server: &'a Server,
    pub caller: &'a Arc<Caller>,
    pub resource: &'a Arc<Resource>,
    pub cache: &'a Arc<Cache>,
    pub target: &'a Target,
    pub options: &'a api::Options,
    /// `""`: the resource itself.
    pub subresource: &'a str,
    pub warnings: Vec<String>,
    /// What the audit log is told of the request.
    pub trail: Option<&'a Arc<Trail>>,
    /// The object says already who owns its fields: it comes from an apply.
    pub recorded: bool,
    /// Of a connect: its options as an object.
    pub connect: Option<serde_json::Value>,
}

/// Answers an authorized request.
///
/// # Errors
/// What the client is answered instead.
pub async fn call(
    server: &Server,
    caller: &Arc<Caller>,
    resource: &Arc<Resource>,
    call: Call,
    trail: Option<&Arc<Trail>>,
) -> Result<Answer, Status> {
    let Call { verb, target, options, body } = &call;
    let verbs = resource.strategy.verbs();
    let subresource = target.subresource.as_deref().unwrap_or_default();
    check_scope(resource, *verb, target)?;
    if subresource.is_empty() && !verbs.contains(&verb.as_str()) {
        return Err(method_not_allowed(resource, verb.as_str()));
    }
    if resource.cache.is_none() {
        return match (resource.plural(), verb) {
            ("bindings", _) => Box::pin(pod::bind_named_in_body(server, caller, &call, trail)).await,
            ("componentstatuses", Verb::Get) => component_status::get(server, resource, target).await,
            ("componentstatuses", _) => component_status::list(server, resource, &call).await,
            _ => Box::pin(create::virtual_object(server, caller, resource, &call, trail)).await,
        };
    }
    match verb {
        Verb::Get if subresource.is_empty() => return read::get(server, resource, target, options).await,
        Verb::List => return read::list(server, resource, &call).await,
        Verb::Watch => return Err(Status::bad_request("a watch is not answered by one object")),
        _ => {}
    }
    let cache = resource.cache(verb.as_str())?;
    let mut context = Context::new(server, caller, (resource, cache), target, options, subresource);
    context.trail = trail;
    context.warnings.extend(resource.deprecation());
    let answer = if subresource.is_empty() {
        context.main(*verb, body, &call).await
    } else {
        context.subresource(*verb, body).await
    };
    // Who is refused is warned all the same.
    let answer = match answer {
        Ok(answer) => answer,
        Err(status) => return Err(status.warn(context.warnings)),
    };
    let mut warnings = answer.warnings.clone();
    warnings.extend(context.warnings);
    Ok(answer.warn(warnings))
}

/// A path with a namespace where there is none, or without one where it must be, leads nowhere; nor does a verb that
/// is not one of collections, or not one of single objects.
///
/// # Errors
/// 404, or 405.
pub fn check_scope(resource: &Resource, verb: Verb, target: &Target) -> Result<(), Status> {
    let wants_name = matches!(verb, Verb::Update | Verb::Patch | Verb::Delete);
    let refuses_name = verb == Verb::Create && target.subresource.is_none();
    if (wants_name && target.name.is_none()) || (refuses_name && target.name.is_some()) {
        return Err(method_not_allowed(resource, verb.as_str()));
    }
    match (resource.namespaced(), target.namespace.is_some()) {
        (true, false) if target.name.is_some() => Err(Status::unknown_resource()),
        (true, false) if !matches!(verb, Verb::List | Verb::Watch) => Err(method_not_allowed(resource, verb.as_str())),
        (false, true) => Err(Status::unknown_resource()),
        _ => Ok(()),
    }
}

fn method_not_allowed(resource: &Resource, verb: &str) -> Status {
    Status::method_not_allowed(resource.group(), resource.plural(), verb)
}

impl<'a> Context<'a> {
    /// At the start of a write: `subresource` is `""` for the resource itself.
    pub(crate) fn new(
        server: &'a Server,
        caller: &'a Arc<Caller>,
        (resource, cache): (&'a Arc<Resource>, &'a Arc<Cache>),
        target: &'a Target,
        options: &'a api::Options,
        subresource: &'a str,
    ) -> Self {
        Self {
            server,
            caller,
            resource,
            cache,
            target,
            options,
            subresource,
            warnings: Vec::new(),
            trail: None,
            recorded: false,
            connect: None,
        }
    }
}

impl Context<'_> {
    // Each in a box of its own, so that a request has room for the one that it is, not for the largest of them.
    async fn main(&mut self, verb: Verb, body: &Body, call: &Call) -> Result<Answer, Status> {
        self.record_body(body);
        match (verb, body) {
            (Verb::Create, _) => Box::pin(self.create(body)).await,
            (Verb::Update, _) => Box::pin(self.update(body)).await,
            (Verb::Patch, Body::Patch(kind, text)) => Box::pin(self.patch(*kind, text)).await,
            (Verb::Delete, _) => Box::pin(self.delete(body)).await,
            (Verb::DeleteCollection, _) => Box::pin(self.delete_collection(call)).await,
            _ => Err(method_not_allowed(self.resource, verb.as_str())),
        }
    }

    async fn subresource(&mut self, verb: Verb, body: &Body) -> Result<Answer, Status> {
        self.record_body(body);
        let found = self.resource.strategy.subresources().iter().find(|own| own.name() == self.subresource);
        let Some(subresource) = found else { return Err(Status::unknown_resource()) };
        match (subresource, verb, body) {
            (
                Subresource::Status | Subresource::Approval | Subresource::EphemeralContainers | Subresource::Resize,
                Verb::Get,
                _,
            ) => read::get(self.server, self.resource, self.target, self.options).await,
            (
                Subresource::Status
                | Subresource::Approval
                | Subresource::EphemeralContainers
                | Subresource::Resize
                | Subresource::Finalize,
                Verb::Update,
                _,
            ) => Box::pin(self.update(body)).await,
            (
                Subresource::Status | Subresource::Approval | Subresource::EphemeralContainers | Subresource::Resize,
                Verb::Patch,
                Body::Patch(kind, text),
            ) => Box::pin(self.patch(*kind, text)).await,
            (Subresource::Scale, Verb::Get, _) => Box::pin(self.get_scale()).await,
            (Subresource::Scale, Verb::Update, _) => Box::pin(self.update_scale(body)).await,
            (Subresource::Scale, Verb::Patch, Body::Patch(kind, text)) => Box::pin(self.patch_scale(*kind, text)).await,
            (Subresource::Binding, Verb::Create, _) => Box::pin(self.bind(body)).await,
            (Subresource::Eviction, Verb::Create, _) => Box::pin(self.evict(body)).await,
            (Subresource::Token, Verb::Create, _) => Box::pin(self.token(body)).await,
            _ => Err(method_not_allowed(self.resource, verb.as_str())),
        }
    }

    /// Tells the audit log of a body that is no object of the resource's.
    fn record_body(&self, body: &Body) {
        let Some(trail) = self.trail else { return };
        match body {
            Body::Patch(PatchKind::Apply, text) => trail.asked_with(|| api::codec::yaml_to_json(text).ok()),
            Body::Patch(_, text) => trail
                .asked_with(|| serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok().then(|| text.to_vec())),
            Body::Delete(options) => trail.asked_with(|| {
                let mut value = serde_json::to_value(options).ok()?;
                value["kind"] = "DeleteOptions".into();
                value["apiVersion"] = self.resource.kind().api_version.into();
                Some(value.to_string().into_bytes())
            }),
            _ => {}
        }
    }

    /// Tells the audit log what was asked for.
    fn record_asked(&self, object: &dyn Object) {
        let Some(trail) = self.trail else { return };
        if !trail.wants(crate::audit::Level::Request) {
            return trail.asked(object);
        }
        let mut whole = object.boxed_clone();
        if whole.kind() == self.resource.kind() {
            self.resource.strategy.default(&mut *whole);
        }
        trail.asked(&*whole);
    }

    pub(crate) fn namespace(&self) -> &str {
        if self.resource.namespaced() { self.target.namespace.as_deref().unwrap_or_default() } else { "" }
    }

    /// The name in the path.
    pub(crate) fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn key(&self) -> String {
        self.cache.key(self.namespace(), self.name())
    }

    /// The object in the path as it is now.
    pub(crate) async fn current(&self) -> Result<Option<Arc<Entry>>, Status> {
        read::current(self.server, self.cache, &self.key()).await
    }

    /// As [`Context::current`], 404 if there is none.
    pub(crate) async fn existing(&self) -> Result<Arc<Entry>, Status> {
        self.current().await?.ok_or_else(|| self.resource.not_found(self.name()))
    }

    /// The whole object of an entry, `managedFields` included.
    pub(crate) async fn whole(&self, entry: &Arc<Entry>) -> Result<Arc<dyn Object>, Status> {
        let entry = self.resource.served_one(self.server, entry.clone()).await?;
        self.resource.object_to_change(&entry).map(Arc::from)
    }

    pub(crate) fn conflict(&self, why: &str) -> Status {
        Status::conflict(self.resource.group(), self.resource.plural(), self.name(), why)
    }

    pub(crate) fn invalid(&self, name: &str, errors: &FieldErrors) -> Status {
        Status::invalid(self.resource.group(), self.resource.kind().kind, name, errors)
    }

    /// Runs one phase of admission over an object.
    pub(crate) async fn admit(
        &mut self,
        phase: Phase,
        operation: Operation,
        object: Option<&mut Box<dyn Object>>,
        old: Option<&Arc<dyn Object>>,
        delete_options: Option<&api::meta::v1::DeleteOptions>,
    ) -> Result<(), Status> {
        let (group, resource) = (self.resource.group(), self.resource.plural());
        let chain = &self.server.options.admission;
        if !chain.handles(operation, group, resource, self.subresource) {
            return Ok(());
        }
        let named = object.as_ref().map(|object| object.name().to_owned()).filter(|name| !name.is_empty());
        let name = named.as_deref().unwrap_or_else(|| self.name()).to_owned();
        let kind = object.as_ref().map_or_else(|| self.resource.kind(), |object| object.kind());
        let namespace = self.namespace().to_owned();
        let mut request = admission::Request {
            server: self.server,
            caller: self.caller,
            operation,
            kind,
            group,
            version: self.resource.kind().version,
            resource,
            subresource: self.subresource,
            namespace: &namespace,
            name: &name,
            object,
            old,
            dry_run: self.options.dry_run,
            options: Some(self.options),
            connect: self.connect.clone(),
            delete_options,
            warnings: Vec::new(),
            annotations: Vec::new(),
            reinvocation: admission::Reinvocation::default(),
        };
        let result = match phase {
            Phase::Mutate => chain.admit(&mut request).await,
            Phase::Validate => chain.validate(&mut request).await,
        };
        let warnings = std::mem::take(&mut request.warnings);
        let annotations = std::mem::take(&mut request.annotations);
        drop(request);
        self.warnings.extend(warnings);
        if let Some(trail) = self.trail {
            annotations.into_iter().for_each(|(key, value)| trail.annotate(key, value));
        }
        result
    }
}

/// Admission of a session with a pod, service or node (exec, attach, port-forward, proxy).
///
/// # Errors
/// The first refusal.
pub async fn admit_connect(
    server: &Server,
    caller: &Arc<Caller>,
    resource: &Arc<Resource>,
    target: &Target,
    query: Option<&str>,
    trail: Option<&Arc<Trail>>,
) -> Result<(), Status> {
    let cache = resource.cache("connect")?;
    let options = api::Options::default();
    let subresource = target.subresource.as_deref().unwrap_or_default();
    let mut context = Context::new(server, caller, (resource, cache), target, &options, subresource);
    context.trail = trail;
    context.connect = admission::connect_options(resource.plural(), subresource, query);
    context.admit(Phase::Mutate, Operation::Connect, None, None, None).await?;
    context.admit(Phase::Validate, Operation::Connect, None, None, None).await
}

/// The two phases of admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Mutate,
    Validate,
}

/// `metadata.resourceVersion` must be given for an update.
pub(crate) fn resource_version_required() -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("metadata").child("resourceVersion");
    errors.invalid(&path, 0, "must be specified for an update");
    errors
}
