//! SubjectAccessReview: Asks whether someone may do something.

use super::review;
use crate::prelude::*;
use api::authorization::v1::SubjectAccessReview;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = SubjectAccessReview;

    const NAMES: Names = Names::new("subjectaccessreviews", "subjectaccessreview");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Virtual;
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];

    /// All problems, those of its metadata included, which is empty.
    fn validate(asked: &SubjectAccessReview) -> FieldErrors {
        let mut errors = FieldErrors::new();
        review::validate_subject(&mut errors, &asked.spec);
        review::validate_metadata(&mut errors, &asked.metadata, false);
        errors
    }
}
