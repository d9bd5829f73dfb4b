//! Binding: puts a pod on a node. Kept nowhere: what it says is written into the pod, as `pods/binding` does.

use crate::prelude::*;
use api::core::v1::Binding;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Binding;

    const NAMES: Names = Names::new("bindings", "binding");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Virtual;
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
