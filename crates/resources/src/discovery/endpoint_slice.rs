//! EndpointSlice: Some of the addresses behind a Service.

use crate::prelude::*;
use api::discovery::v1::EndpointSlice;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = EndpointSlice;

    const NAMES: Names = Names::new("endpointslices", "endpointslice");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "endpointslices" };
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
