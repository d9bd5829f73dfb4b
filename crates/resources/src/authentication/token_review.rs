//! TokenReview: Asks whom a token belongs to.

use crate::prelude::*;
use api::authentication::v1::TokenReview;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = TokenReview;

    const NAMES: Names = Names::new("tokenreviews", "tokenreview");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Virtual;
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
