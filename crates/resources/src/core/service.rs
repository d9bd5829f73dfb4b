//! Service: One stable address and name for a set of pods.

use crate::prelude::*;
use api::core::v1::Service;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Service;

    const NAMES: Names = Names::new("services", "service").short(&["svc"]).categories(&["all"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "services/specs" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Proxy, Subresource::Status];
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
    const CREATE_ON_UPDATE: bool = true;
}
