//! What is particular to pods: binding to a node, ephemeral containers, resizing.

use std::sync::Arc;

use api::core::v1::{Binding, Pod, PodCondition};
use api::meta::v1::Time;
use api::status::MODIFIED;
use api::{Body, Call, FieldErrors, Object, Path, Status, Timestamp, Typed};

use super::finish::Written;
use super::{Context, Phase, metadata};
use crate::admission::Operation;
use crate::answer::Answer;
use crate::audit::Trail;
use crate::{Caller, Server, body};

const TRIES_MAX: usize = 100;

pub(super) fn decoded<T: Typed>(context: &mut Context<'_>, body: &Body) -> Result<T, Status> {
    let decoded = body::decode(T::KIND, body, context.options.field_validation)?
        .ok_or_else(|| Status::bad_request("the request body is empty"))?;
    context.warnings.extend(decoded.warnings);
    let mut object = decoded.object;
    context.record_asked(&*object);
    metadata::match_namespace(context.namespace(), &mut *object)?;
    object.into_any_box().downcast().map(|object| *object).map_err(|_| Status::internal("the body changed its kind"))
}

/// What a new pod's annotations say becomes fields; returns what its author is warned of.
pub(super) fn prepare_create(object: &mut dyn Object) -> Vec<String> {
    let pod = object.as_any_mut().downcast_mut::<Pod>();
    pod.map(resources::core::pod_template::security::heed_app_armor_annotations).unwrap_or_default()
}

/// 201 and nothing more: what binding and eviction answer.
pub(super) fn done() -> Answer {
    let mut status = Status::success();
    status.0.code = Some(201);
    Answer::status(status)
}

/// `POST namespaces/NAMESPACE/bindings`, the older form of `pods/NAME/binding`: the body alone says which pod.
pub(super) async fn bind_named_in_body(
    server: &Server,
    caller: &Arc<Caller>,
    call: &Call,
    trail: Option<&Arc<Trail>>,
) -> Result<Answer, Status> {
    let decoded = body::decode(Binding::KIND, &call.body, call.options.field_validation)?
        .ok_or_else(|| Status::bad_request("the request body is empty"))?;
    let pods = server.lookup().catalog().of_kind(Pod::KIND).ok_or_else(Status::unknown_resource)?;
    let mut target = call.target.clone();
    target.resource = Pod::KIND.plural.into();
    target.subresource = Some("binding".into());
    target.name = Some(decoded.object.name().to_owned());
    let mut context = Context::new(server, caller, (pods, pods.cache("create")?), &target, &call.options, "binding");
    context.trail = trail;
    context.record_body(&call.body);
    let answer = context.bind(&call.body).await?;
    Ok(answer.warn(context.warnings))
}

impl Context<'_> {
    /// Puts a pod on a node.
    pub(super) async fn bind(&mut self, body: &Body) -> Result<Answer, Status> {
        let mut binding: Binding = decoded(self, body)?;
        if !binding.name().is_empty() && binding.name() != self.name() {
            return Err(Status::bad_request("name in URL does not match name in Binding object"));
        }
        binding = self.admit_body(Phase::Mutate, binding, None).await?;
        check_binding(&binding).map_err(|errors| Status::invalid("", "Binding", self.name(), &errors))?;
        binding = self.admit_body(Phase::Validate, binding, None).await?;
        let asked = (binding.uid().to_owned(), binding.resource_version().to_owned());
        for _ in 0..TRIES_MAX {
            let entry = self.existing().await?;
            let mut object = entry.object_to_change()?;
            self.check_asked(&asked, &*object)?;
            let pod: &mut Pod = object.as_any_mut().downcast_mut().ok_or_else(Status::unknown_resource)?;
            assign(pod, &binding, self.server.now()).map_err(|why| self.binding_conflict(&why))?;
            match self.store_changed(&entry, object).await? {
                Written::Done(_) => return Ok(done()),
                Written::Stale => {}
            }
        }
        Err(self.binding_conflict(MODIFIED))
    }

    /// Admission of a body that is no stored object.
    pub(super) async fn admit_body<T: Typed>(
        &mut self,
        phase: Phase,
        body: T,
        pod: Option<&Arc<dyn Object>>,
    ) -> Result<T, Status> {
        let mut object: Box<dyn Object> = Box::new(body);
        self.admit(phase, Operation::Create, Some(&mut object), pod, None).await?;
        object.into_any_box().downcast().map(|body| *body).map_err(|_| Status::internal("the body changed its kind"))
    }

    fn binding_conflict(&self, why: &str) -> Status {
        Status::conflict("", "pods/binding", self.name(), why)
    }

    fn check_asked(&self, (uid, version): &(String, String), object: &dyn Object) -> Result<(), Status> {
        if !uid.is_empty() && uid != object.uid() {
            return Err(self.binding_conflict(&format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                object.uid()
            )));
        }
        if !version.is_empty() && version != object.resource_version() {
            return Err(self.binding_conflict(&format!(
                "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
                object.resource_version()
            )));
        }
        Ok(())
    }
}

fn check_binding(binding: &Binding) -> Result<(), FieldErrors> {
    let mut errors = FieldErrors::new();
    let target = Path::new("target");
    let kind = binding.target.kind.as_deref().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&target.child("kind"), kind, &["Node", "<empty>"]);
    }
    if binding.target.name.as_deref().unwrap_or_default().is_empty() {
        errors.required(&target.child("name"), "");
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Writes the binding into the pod; the error says why not, in upstream's words.
fn assign(pod: &mut Pod, binding: &Binding, now: Timestamp) -> Result<(), String> {
    let name = pod.name().to_owned();
    if pod.is_terminating() {
        return Err(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let spec = pod.spec.get_or_insert_default();
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Err(format!("pod {name} is already assigned to node {node:?}"));
    }
    if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    spec.node_name.clone_from(&binding.target.name);
    if let Some(annotations) = &binding.metadata.annotations {
        pod.metadata.annotations.get_or_insert_default().extend(annotations.clone());
    }
    for (key, value) in binding.metadata.labels.iter().flatten() {
        pod.metadata.labels.get_or_insert_default().entry(key.clone()).or_insert_with(|| value.clone());
    }
    let observed_generation = pod.metadata.generation;
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    let scheduled = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(Time(metadata::whole_second(now))),
        observed_generation,
        ..Default::default()
    };
    match conditions.iter_mut().find(|condition| condition.type_ == scheduled.type_) {
        Some(condition) if condition.status == scheduled.status => {
            condition.reason = None;
            condition.message = None;
        }
        Some(condition) => *condition = scheduled,
        None => conditions.push(scheduled),
    }
    Ok(())
}

fn pods<'a>(new: &'a mut dyn Object, old: &'a dyn Object) -> Option<(&'a mut Pod, &'a Pod)> {
    Some((new.as_any_mut().downcast_mut()?, old.as_any().downcast_ref()?))
}

/// `ephemeralcontainers` changes nothing but them.
pub fn prepare_ephemeral_containers(new: &mut dyn Object, old: &dyn Object) {
    let Some((new, old)) = pods(new, old) else { return };
    let added = new.spec.as_mut().and_then(|spec| spec.ephemeral_containers.take());
    let metadata = std::mem::take(&mut new.metadata);
    *new = old.clone();
    let spec = new.spec.get_or_insert_default();
    let changed = spec.ephemeral_containers != added;
    spec.ephemeral_containers = added;
    new.metadata.resource_version = metadata.resource_version;
    if changed {
        new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
    }
}

/// Ephemeral containers are only added.
pub fn validate_ephemeral_containers(new: &dyn Object, old: &dyn Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let containers = |object: &dyn Object| {
        let pod: Option<&Pod> = object.as_any().downcast_ref();
        pod.and_then(|pod| pod.spec.as_ref()?.ephemeral_containers.clone()).unwrap_or_default()
    };
    let (new, old) = (containers(new), containers(old));
    let path = Path::new("spec").child("ephemeralContainers");
    for (index, before) in old.iter().enumerate() {
        match new.iter().find(|after| after.name == before.name) {
            None => {
                errors.forbidden(&path, format!("existing ephemeral containers {:?} may not be removed\n", before.name))
            }
            Some(after) if after != before => {
                let why = format!("existing ephemeral containers {:?} may not be changed\n", before.name);
                errors.forbidden(&path.index(index), why);
            }
            Some(_) => {}
        }
    }
    for (index, container) in new.iter().enumerate() {
        let path = path.index(index);
        if container.name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        if container.image.as_deref().unwrap_or_default().is_empty() {
            errors.required(&path.child("image"), "");
        }
        if new[..index].iter().any(|other| other.name == container.name) {
            errors.duplicate(&path.child("name"), container.name.as_str());
        }
    }
    errors
}

/// `resize` changes nothing but containers' resources and resize policies.
pub fn prepare_resize(new: &mut dyn Object, old: &dyn Object) {
    let Some((new, old)) = pods(new, old) else { return };
    let wanted = new.spec.take().unwrap_or_default();
    let version = new.metadata.resource_version.take();
    *new = old.clone();
    new.metadata.resource_version = version;
    let Some(spec) = new.spec.as_mut() else { return };
    let wanted = || wanted.containers.iter().chain(wanted.init_containers.iter().flatten());
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        if let Some(other) = wanted().find(|other| other.name == container.name) {
            container.resources.clone_from(&other.resources);
            container.resize_policy.clone_from(&other.resize_policy);
        }
    }
    if new.spec != old.spec {
        new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
    }
}
