//! SelfSubjectReview: Asks: who am I?

use crate::prelude::*;
use api::authentication::v1::SelfSubjectReview;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = SelfSubjectReview;

    const NAMES: Names = Names::new("selfsubjectreviews", "selfsubjectreview");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Virtual;
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
