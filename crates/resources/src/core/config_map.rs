//! ConfigMap: Configuration as keys and values.

use crate::prelude::*;
use api::core::v1::ConfigMap;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ConfigMap;

    const NAMES: Names = Names::new("configmaps", "configmap").short(&["cm"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "configmaps" };
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
