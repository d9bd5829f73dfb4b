//! cri
/// CRI v1 types.
#[allow(clippy::all, missing_docs)]
pub mod v1 { include!("generated/v1.rs"); }
