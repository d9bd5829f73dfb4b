//! Secret: Configuration that is not for everyone's eyes.

use crate::prelude::*;
use api::core::v1::Secret;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Secret;

    const NAMES: Names = Names::new("secrets", "secret");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "secrets" };
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
