//! IngressClass: A kind of ingress, and the controller that serves it.

use api::networking::v1::{IngressClass, IngressClassParametersReference, IngressClassSpec};

use crate::checks;
use crate::prelude::*;

const CONTROLLER_BYTES_MAX: usize = 250;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = IngressClass;

    const NAMES: Names = Names::new("ingressclasses", "ingressclass");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "ingressclasses" };
    const COLUMNS: &'static [Column<IngressClass>] = &[
        Column::name(),
        Column::new("Controller", "string", |class: &IngressClass, _| Value::from(controller(class)))
            .describe("The controller that serves its ingresses."),
        Column::new("Parameters", "string", |class: &IngressClass, _| {
            let parameters = class.spec.as_ref().and_then(|spec| spec.parameters.as_ref());
            Value::from(parameters.map_or_else(
                || "<none>".to_owned(),
                |parameters| {
                    let group = parameters.api_group.as_ref().map_or_else(String::new, |group| format!(".{group}"));
                    format!("{}{group}/{}", parameters.kind, parameters.name)
                },
            ))
        })
        .describe("An object with more for the controller to know."),
        Column::age(),
    ];

    fn default(class: &mut IngressClass) {
        if let Some(parameters) = class.spec.as_mut().and_then(|spec| spec.parameters.as_mut()) {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    }

    fn prepare_create(class: &mut IngressClass) {
        class.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut IngressClass, old: &IngressClass) {
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn validate(class: &IngressClass) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec").child("controller");
        let controller = controller(class);
        if controller.is_empty() {
            errors.required(&path, "");
        } else {
            if controller.len() > CONTROLLER_BYTES_MAX {
                errors.too_long(&path, CONTROLLER_BYTES_MAX);
            }
            checks::domain_prefixed_path(&mut errors, &path, controller);
        }
        if let Some(parameters) = class.spec.as_ref().and_then(|spec| spec.parameters.as_ref()) {
            validate_parameters(&mut errors, &Path::new("spec").child("parameters"), parameters);
        }
        errors
    }

    fn validate_update(new: &IngressClass, old: &IngressClass) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec").child("controller");
        checks::immutable(&mut errors, &path, &controller(new), &controller(old));
        errors.extend(Self::validate(new));
        errors
    }
}

fn controller(class: &IngressClass) -> &str {
    class.spec.as_ref().and_then(|spec: &IngressClassSpec| spec.controller.as_deref()).unwrap_or_default()
}

fn validate_parameters(errors: &mut FieldErrors, path: &Path, parameters: &IngressClassParametersReference) {
    if let Some(group) = &parameters.api_group {
        checks::dns_subdomain(errors, &path.child("apiGroup"), group);
    }
    for (field, value) in [("kind", &parameters.kind), ("name", &parameters.name)] {
        checks::required_segment(errors, &path.child(field), value);
    }
    let namespace_path = path.child("namespace");
    match (parameters.scope.as_deref(), &parameters.namespace) {
        (None, _) => errors.required(&path.child("scope"), ""),
        (Some("Namespace"), None) => errors.required(&namespace_path, "`parameters.scope` is set to 'Namespace'"),
        (Some("Namespace"), Some(namespace)) => checks::dns_label(errors, &namespace_path, namespace),
        (Some("Cluster"), Some(_)) => errors.forbidden(&namespace_path, "`parameters.scope` is set to 'Cluster'"),
        (Some("Cluster"), None) => {}
        (Some(other), _) => errors.not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]),
    }
}
