//! PriorityClass: A named priority of pods.

use crate::prelude::*;
use api::scheduling::v1::PriorityClass;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = PriorityClass;

    const NAMES: Names = Names::new("priorityclasses", "priorityclass").short(&["pc"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "priorityclasses" };
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
