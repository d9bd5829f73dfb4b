//! LocalSubjectAccessReview: Asks whether someone may do something in this namespace.

use super::review;
use crate::checks;
use crate::prelude::*;
use api::authorization::v1::LocalSubjectAccessReview;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = LocalSubjectAccessReview;

    const NAMES: Names = Names::new("localsubjectaccessreviews", "localsubjectaccessreview");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Virtual;
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];

    /// All problems, those of its metadata included, which has a namespace and nothing else.
    fn validate(asked: &LocalSubjectAccessReview) -> FieldErrors {
        let mut errors = FieldErrors::new();
        review::validate_subject(&mut errors, &asked.spec);
        review::validate_metadata(&mut errors, &asked.metadata, true);
        if let Some(resource) = &asked.spec.resource_attributes {
            let namespace = resource.namespace.as_deref().unwrap_or_default();
            if namespace != asked.namespace() {
                let path = Path::new("spec.resourceAttributes.namespace");
                errors.invalid(&path, namespace, "must match metadata.namespace");
            }
        }
        if let Some(path) = &asked.spec.non_resource_attributes {
            let why = "disallowed on this kind of request";
            errors.invalid(&Path::new("spec.nonResourceAttributes"), checks::shown(path), why);
        }
        errors
    }
}
