//! What reviews of access share: one question, about a resource or about a path, and empty metadata.

use api::authorization::v1::{NonResourceAttributes, ResourceAttributes, SubjectAccessReviewSpec};
use api::field::{FieldErrors, Path};
use api::meta::v1::ObjectMeta;

use crate::checks;

/// Exactly one kind of question.
pub fn validate_question(
    errors: &mut FieldErrors,
    resource: Option<&ResourceAttributes>,
    path: Option<&NonResourceAttributes>,
) {
    let spec = Path::new("spec");
    match (resource, path) {
        (Some(_), Some(path)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            errors.invalid(&spec.child("nonResourceAttributes"), checks::shown(path), why);
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.invalid(&spec.child("resourceAttributes"), serde_json::Value::Null, why);
        }
        _ => {}
    }
}

/// A question about someone.
pub fn validate_subject(errors: &mut FieldErrors, spec: &SubjectAccessReviewSpec) {
    validate_question(errors, spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref());
    let user = spec.user.as_deref().unwrap_or_default();
    if user.is_empty() && spec.groups.as_ref().is_none_or(Vec::is_empty) {
        let why = "at least one of user or group must be specified";
        errors.invalid(&Path::new("spec").child("user"), user, why);
    }
}

/// A review has no name. `but_namespace`: it may have a namespace.
pub fn validate_metadata(errors: &mut FieldErrors, metadata: &ObjectMeta, but_namespace: bool) {
    let mut rest = ObjectMeta { managed_fields: None, ..metadata.clone() };
    if but_namespace {
        rest.namespace = None;
    }
    if rest != ObjectMeta::default() {
        let why = if but_namespace { "must be empty except for namespace" } else { "must be empty" };
        errors.invalid(&Path::new("metadata"), checks::shown(metadata), why);
    }
}
