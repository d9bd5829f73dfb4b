//! RuntimeClass: Which container runtime handler runs a pod, and what it costs.

use crate::prelude::*;
use api::node::v1::RuntimeClass;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = RuntimeClass;

    const NAMES: Names = Names::new("runtimeclasses", "runtimeclass");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "runtimeclasses" };
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
    const UNCONDITIONAL_UPDATE: bool = false;
}
