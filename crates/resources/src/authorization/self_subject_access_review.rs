//! SelfSubjectAccessReview: Asks whether the caller may do something.

use super::review;
use crate::prelude::*;
use api::authorization::v1::SelfSubjectAccessReview;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = SelfSubjectAccessReview;

    const NAMES: Names = Names::new("selfsubjectaccessreviews", "selfsubjectaccessreview");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Virtual;
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];

    /// All problems, those of its metadata included, which is empty.
    fn validate(asked: &SelfSubjectAccessReview) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let spec = &asked.spec;
        let (resource, path) = (spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref());
        review::validate_question(&mut errors, resource, path);
        review::validate_metadata(&mut errors, &asked.metadata, false);
        errors
    }
}
