//! Pod: Containers that run together on one node.

use crate::prelude::*;
use api::core::v1::Pod;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Pod;

    const NAMES: Names = Names::new("pods", "pod").short(&["po"]).categories(&["all"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "pods" };
    const SUBRESOURCES: &'static [Subresource] = &[
        Subresource::Attach,
        Subresource::Binding,
        Subresource::EphemeralContainers,
        Subresource::Eviction,
        Subresource::Exec,
        Subresource::Log,
        Subresource::PortForward,
        Subresource::Proxy,
        Subresource::Resize,
        Subresource::Status,
    ];
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
