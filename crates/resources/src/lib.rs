//! The catalogue of resources: one file per resource says its names, scope, defaults, validation, columns,
//! subresources and selectable fields, and nothing more. Discovery, routes, OpenAPI, tables and RBAC names derive
//! from [`ALL`].
//!
//! This crate is pure: it never does I/O, never reads a clock and knows no async runtime.

pub mod column;
pub mod strategy;

pub use column::Column;
pub use strategy::{AnyStrategy, Erased, Names, Operation, Scope, Selectable, Storage, Strategy, Subresource};

/// Every resource, in discovery order within its group.
pub static ALL: &[&dyn AnyStrategy] = &[];

/// The resource served at `group`/`version`/`plural`.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static dyn AnyStrategy> {
    ALL.iter().copied().find(|s| {
        let kind = s.kind();
        kind.group == group && kind.version == version && s.names().plural == plural
    })
}
