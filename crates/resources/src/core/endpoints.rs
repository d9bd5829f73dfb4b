//! Endpoints: The addresses behind a Service, in the older form; EndpointSlice is the newer.

use crate::prelude::*;
use api::core::v1::Endpoints;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Endpoints;

    const NAMES: Names = Names::new("endpoints", "endpoints").short(&["ep"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "services/endpoints" };
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
    const CREATE_ON_UPDATE: bool = true;
}
