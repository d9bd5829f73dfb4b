//! What every resource file needs.

pub use api::field::{FieldErrors, Path};
pub use api::{Object, Timestamp};
pub use serde_json::Value;

pub use crate::column::Column;
pub use crate::strategy::{Names, Scale, Scope, Selectable, Storage, Subresource};
