//! SelfSubjectAccessReview: Asks whether the caller may do something.

use crate::prelude::*;
use api::authorization::v1::SelfSubjectAccessReview;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = SelfSubjectAccessReview;

    const NAMES: Names = Names::new("selfsubjectaccessreviews", "selfsubjectaccessreview");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Virtual;
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
