//! Creating objects.

use std::sync::Arc;

use api::meta::v1::Time;
use api::{Body, Call, Object, Reason, Status};

use super::{Context, Phase, certificates, metadata};
use crate::admission::Operation;
use crate::answer::{Answer, Payload};
use crate::audit::Trail;
use crate::body;
use crate::catalog::Resource;
use crate::{Caller, Server};

/// How often a generated name is drawn anew when it is taken.
const GENERATE_TRIES: usize = 8;
/// Generated names are cut so that the suffix fits a DNS label.
const GENERATED_BASE_LEN_MAX: usize = 58;
const GENERATED_SUFFIX_LEN: usize = 5;

impl Context<'_> {
    pub(super) async fn create(&mut self, body: &Body) -> Result<Answer, Status> {
        let decoded = body::decode_for(self.resource, body, self.options.field_validation)?
            .ok_or_else(|| Status::bad_request("the request body is empty"))?;
        self.warnings.extend(decoded.warnings);
        self.record_asked(&*decoded.object);
        self.create_object(decoded.object).await.map(Answer::created)
    }

    /// Everything after decoding. An update of a missing object ends here too.
    pub(super) async fn create_object(&mut self, mut object: Box<dyn Object>) -> Result<Payload, Status> {
        if self.resource.custom.as_ref().is_some_and(|version| version.terminating) {
            let mut status = Status::method_not_allowed(self.resource.group(), self.resource.plural(), "create");
            let why = "create not allowed while custom resource definition is terminating";
            status.0.message = Some(why.to_owned());
            return Err(status);
        }
        metadata::match_namespace(self.namespace(), &mut *object)?;
        if !object.resource_version().is_empty() && object.resource_version() != "0" {
            return Err(Status::unexplained("resourceVersion should not be set on objects to be created"));
        }
        self.init_metadata(&mut *object);
        self.resource.strategy.default(&mut *object);
        if !self.recorded {
            self.record(None, &mut *object).await?;
        }
        self.admit(Phase::Mutate, Operation::Create, Some(&mut object), None, None).await?;
        // Admission may have moved it or given it fields that have defaults.
        metadata::match_namespace(self.namespace(), &mut *object)?;
        self.resource.strategy.default(&mut *object);

        let generated = object.name().is_empty().then(|| object.metadata().generate_name.clone()).flatten();
        let generated = generated.filter(|base| !base.is_empty());
        let Some(base) = generated else { return self.create_named(object).await };
        for _ in 1..GENERATE_TRIES {
            let mut named = object.boxed_clone();
            named.metadata_mut().name = Some(self.generate(&base));
            match self.create_named(named).await {
                Err(status) if status.is(Reason::AlreadyExists) => {}
                other => return other,
            }
        }
        object.metadata_mut().name = Some(self.generate(&base));
        self.create_named(object).await.map_err(|status| self.not_unique(status))
    }

    fn generate(&self, base: &str) -> String {
        let mut end = base.len().min(GENERATED_BASE_LEN_MAX);
        while !base.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}{}", &base[..end], self.server.options.random.suffix(GENERATED_SUFFIX_LEN))
    }

    fn not_unique(&self, mut status: Status) -> Status {
        if status.is(Reason::AlreadyExists) {
            let why = ", the server was not able to generate a unique name for the object";
            status.0.message = Some(format!("{}{why}", status.message()));
            status.0.details.get_or_insert_with(Default::default).retry_after_seconds = Some(1);
        }
        status
    }

    pub(super) fn init_metadata(&self, object: &mut dyn Object) {
        let now = metadata::whole_second(self.server.now());
        let metadata = object.metadata_mut();
        metadata.uid = Some(self.server.options.random.uid());
        metadata.creation_timestamp = Some(Time(now));
        metadata.deletion_timestamp = None;
        metadata.deletion_grace_period_seconds = None;
        metadata.self_link = None;
        metadata.resource_version = None;
    }

    async fn create_named(&mut self, mut object: Box<dyn Object>) -> Result<Payload, Status> {
        let strategy = &*self.resource.strategy;
        strategy.prepare_create(&mut *object);
        super::namespace::prepare_create(&mut *object);
        self.warnings.extend(super::pod::prepare_create(&mut *object));
        certificates::prepare_create(&mut *object, self.caller);
        let allocated = self.allocate(&mut *object, None).await?;
        let mut errors = metadata::validate(strategy, &*object);
        errors.extend(certificates::validate_request(&*object));
        errors.extend(strategy.validate(&*object));
        errors.extend(certificates::validate_certificates(&*object, None));
        errors.extend(super::pod_certificates::validate_request(&*object));
        if !errors.is_empty() {
            let name = if object.name().is_empty() { "" } else { object.name() };
            return Err(self.invalid(name, &errors));
        }
        self.warnings.extend(strategy.warnings(&*object));
        self.warnings.extend(certificates::warnings(&*object));
        if self.resource.custom.is_some() {
            self.warnings.extend(metadata::finalizer_warnings(&*object, None));
        }
        self.admit(Phase::Validate, Operation::Create, Some(&mut object), None, None).await?;
        let name = object.name().to_owned();
        let namespace = object.namespace().to_owned();
        self.claim(&allocated, &namespace, &name).await?;
        let stored = self.store_new(&name, object).await;
        self.conclude(allocated, (&namespace, &name), stored.is_ok()).await;
        stored
    }
}

/// Creates an object that is answered and forgotten (a review). Its answer is an admission plugin's or hook's work;
/// here
/// it is decoded, checked and handed to [`crate::review`].
pub(super) async fn virtual_object(
    server: &Server,
    caller: &Arc<Caller>,
    resource: &Arc<Resource>,
    call: &Call,
    trail: Option<&Arc<Trail>>,
) -> Result<Answer, Status> {
    let Call { target, options, body, .. } = call;
    let decoded = body::decode(resource.kind(), body, options.field_validation)?
        .ok_or_else(|| Status::bad_request("the request body is empty"))?;
    let mut object = decoded.object;
    metadata::match_namespace(target.namespace.as_deref().unwrap_or_default(), &mut *object)?;
    resource.strategy.default(&mut *object);
    if let Some(trail) = trail {
        trail.asked(&*object);
    }
    resource.strategy.prepare_create(&mut *object);
    let errors = resource.strategy.validate(&*object);
    if !errors.is_empty() {
        return Err(Status::invalid(resource.group(), resource.kind().kind, "", &errors));
    }
    let object = crate::review::answer(server, caller, target, object).await?;
    Ok(Answer::created(Payload::Object(Arc::from(object))).warn(decoded.warnings))
}
