//! Event: A report of something that happened to an object. Expires after an hour.

use crate::prelude::*;
use api::core::v1::Event;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Event;

    const NAMES: Names = Names::new("events", "event").short(&["ev"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "events" };
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
    const CREATE_ON_UPDATE: bool = true;
    const TTL_SECONDS: Option<u64> = Some(3600);
}
