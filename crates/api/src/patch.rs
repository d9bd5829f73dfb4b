//! Patches: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch. All work on value trees; what comes
//! out is checked and normalized by [`crate::schema`] before it is decoded.
//!
//! Server-side apply is not a patch of the text but of the fields' owners: [`crate::managed`].

use serde_json::Value;

use crate::codec::{self, DecodeError};
use crate::schema::Definition;
use crate::status::{Reason, Status};

mod json;
mod merge;
mod strategic;

/// How many operations a JSON patch may have.
pub const OPERATIONS_MAX: usize = 10_000;
/// How many bytes the copy operations of a JSON patch may add.
pub const COPY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Why a patch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The text is no patch: 400.
    #[error("{0}")]
    Malformed(String),
    /// More than [`OPERATIONS_MAX`] operations: 413.
    #[error("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {0}")]
    TooManyOperations(usize),
    /// The patch does not fit the object (a failed test, a missing path): 422.
    #[error("{0}")]
    Unprocessable(String),
    /// Lists that cannot be merged: 500 without a reason, as upstream answers.
    #[error("{0}")]
    Unmergeable(String),
}

impl From<DecodeError> for PatchError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<PatchError> for Status {
    /// A patch that does not fit is answered as upstream does, without saying what did not fit.
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(why) => Self::bad_request(why),
            PatchError::TooManyOperations(_) => Self::failure(Reason::RequestEntityTooLarge, error.to_string()),
            PatchError::Unprocessable(_) => {
                Self::failure(Reason::Invalid, "the server rejected our request due to an error in our request")
            }
            // Upstream knows no reason for these.
            PatchError::Unmergeable(why) => Self::unexplained(why),
        }
    }
}

/// What came of a patch.
#[derive(Debug, Default)]
pub struct Patched {
    /// The object after the patch.
    pub value: Value,
    /// Problems of the patch's own text for strict field validation: `duplicate field "spec.replicas"`, or
    /// `json patch unknown field "[0].foo"`.
    pub strict_problems: Vec<String>,
}

/// Applies a JSON patch. `object` must be an object's value tree.
pub fn json(object: Value, patch: &[u8]) -> Result<Patched, PatchError> {
    let parsed = codec::parse_json(patch)?;
    let (operations, mut strict_problems) = json::operations(&parsed.value)?;
    strict_problems.extend(parsed.strict_problems().into_iter().map(|problem| format!("json patch {problem}")));
    Ok(Patched { value: json::apply(object, &operations)?, strict_problems })
}

/// Applies a merge patch.
pub fn merge(mut object: Value, patch: &[u8]) -> Result<Patched, PatchError> {
    let parsed = codec::parse_json(patch)?;
    let strict_problems = parsed.strict_problems();
    if !parsed.value.is_object() {
        return Err(PatchError::Malformed("Invalid JSON Patch".to_owned()));
    }
    merge::apply(&mut object, parsed.value);
    Ok(Patched { value: object, strict_problems })
}

/// Applies a strategic merge patch to an object of this definition.
pub fn strategic(object: Value, patch: &[u8], definition: &'static Definition) -> Result<Patched, PatchError> {
    let parsed = codec::parse_json(patch)?;
    let strict_problems = parsed.strict_problems();
    Ok(Patched { value: strategic::apply(object, parsed.value, definition)?, strict_problems })
}

#[cfg(test)]
mod tests;
