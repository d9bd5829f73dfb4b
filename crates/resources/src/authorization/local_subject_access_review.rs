//! LocalSubjectAccessReview: Asks whether someone may do something in this namespace.

use crate::prelude::*;
use api::authorization::v1::LocalSubjectAccessReview;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = LocalSubjectAccessReview;

    const NAMES: Names = Names::new("localsubjectaccessreviews", "localsubjectaccessreview");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Virtual;
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
