//! Lease: A claim that expires unless renewed: leader election, node heartbeats.

use crate::prelude::*;
use api::coordination::v1::Lease;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Lease;

    const NAMES: Names = Names::new("leases", "lease");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "leases" };
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
    const CREATE_ON_UPDATE: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;
}
