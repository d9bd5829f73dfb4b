//! `PATCH`: the patch is applied to the latest version, and again if that changed meanwhile.

use api::call::{FieldValidation, PatchKind};
use api::status::MODIFIED;
use api::{FieldErrors, Kind, Object, Path, Status, patch, schema};
use bytes::Bytes;
use serde_json::Value;

use super::update::Tried;
use super::{Context, metadata};
use crate::answer::Answer;

/// How often a patch is applied to ever newer versions (upstream's `MaxRetryWhenPatchConflicts`).
const TRIES_MAX: usize = 5;

/// The media types of patches, as upstream lists them.
pub const PATCH_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

impl Context<'_> {
    pub(super) async fn patch(&mut self, kind: PatchKind, text: &Bytes) -> Result<Answer, Status> {
        self.check_patch_options(kind)?;
        if kind == PatchKind::Apply {
            return self.apply(text).await;
        }
        let warned = self.warnings.len();
        for _ in 0..=TRIES_MAX {
            self.warnings.truncate(warned);
            let old = self.existing().await?;
            let current = self.whole(&old)?;
            let (patched, warnings) =
                apply(self.resource.kind(), kind, &*current, text, self.options.field_validation)?;
            self.warnings.extend(warnings);
            metadata::match_name(self.name(), self.namespace(), &*patched)?;
            if patched.resource_version() != current.resource_version() && !patched.resource_version().is_empty() {
                return Err(self.conflict(MODIFIED));
            }
            if let Tried::Done(entry) = self.try_update(&old, &current, patched).await? {
                return Ok(Answer::ok(self.payload(entry)));
            }
        }
        Err(self.conflict(MODIFIED))
    }
}

/// The patched object and what the client is to be warned of.
///
/// # Errors
/// As [`patch::PatchError`]; 422 if what comes out is no object of that kind; 415 for apply.
pub fn apply(
    kind: &'static Kind,
    format: PatchKind,
    current: &dyn Object,
    text: &Bytes,
    validation: FieldValidation,
) -> Result<(Box<dyn Object>, Vec<String>), Status> {
    let value = current.to_value();
    let definition = schema::definition(kind.definition);
    let patched = match (format, definition) {
        (PatchKind::Json, _) => patch::json(value, text)?,
        (PatchKind::Merge, _) => patch::merge(value, text)?,
        (PatchKind::Strategic, Some(definition)) => patch::strategic(value, text, definition)?,
        (PatchKind::Strategic | PatchKind::Apply, _) => return Err(Status::unsupported_media_type(PATCH_TYPES)),
    };
    let mut value = patched.value;
    let mut problems = Vec::new();
    if let Some(definition) = definition {
        let checked = schema::check(&value, definition);
        if let Some(error) = &checked.type_error {
            return Err(unfit(&value, error));
        }
        problems = checked.strict_problems();
        schema::normalize(&mut value, definition);
    }
    problems.extend(patched.strict_problems);
    let warnings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => problems,
        FieldValidation::Strict if problems.is_empty() => problems,
        FieldValidation::Strict => {
            return Err(unfit(&value, &format!("strict decoding error: {}", problems.join(", "))));
        }
    };
    let asked = (value["apiVersion"].as_str().unwrap_or_default(), value["kind"].as_str().unwrap_or_default());
    if asked != (kind.api_version, kind.kind) {
        let why = format!("unable to change the kind of the object to {}, Kind={}", asked.0, asked.1);
        return Err(unfit(&value, &why));
    }
    let object = kind.decode_value(value.clone()).map_err(|error| unfit(&value, &error.to_string()))?;
    Ok((object, warnings))
}

fn unfit(value: &Value, why: &str) -> Status {
    let mut errors = FieldErrors::new();
    errors.invalid(&Path::new("patch"), value.to_string(), why);
    Status::invalid("", "", "", &errors)
}
