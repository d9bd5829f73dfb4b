//! SelfSubjectRulesReview: Asks what the caller may do in a namespace.

use crate::prelude::*;
use api::authorization::v1::SelfSubjectRulesReview;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = SelfSubjectRulesReview;

    const NAMES: Names = Names::new("selfsubjectrulesreviews", "selfsubjectrulesreview");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Virtual;
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
