//! ServiceAccount: An identity for pods.

use crate::prelude::*;
use api::core::v1::ServiceAccount;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ServiceAccount;

    const NAMES: Names = Names::new("serviceaccounts", "serviceaccount").short(&["sa"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "serviceaccounts" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Token];
    const COLUMNS: &'static [Column<Self::Object>] = &[Column::name(), Column::age()];
}
