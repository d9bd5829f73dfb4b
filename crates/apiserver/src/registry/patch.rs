//! `PATCH`: the patch is applied to the latest version, and again if that changed meanwhile.

use api::call::{FieldValidation, PatchKind};
use api::codec::Parsed;
use api::status::MODIFIED;
use api::{FieldErrors, Kind, Object, Path, Status, patch, schema};
use bytes::Bytes;
use serde_json::Value;

use super::update::Tried;
use super::{Context, metadata};
use crate::answer::Answer;
use crate::custom::Version;

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
            let current = self.whole(&old).await?;
            let validation = self.options.field_validation;
            let (patched, warnings) = match &self.resource.custom {
                Some(version) => apply_custom(version, kind, &*current, text, validation)?,
                None => apply(self.resource.kind(), kind, &*current, text, validation)?,
            };
            self.warnings.extend(warnings);
            metadata::match_name(self.name(), self.namespace(), &*patched)?;
            if patched.resource_version() != current.resource_version() && !patched.resource_version().is_empty() {
                return Err(self.conflict(MODIFIED));
            }
            if let Tried::Done(entry) = self.try_update(&old, &current, patched).await? {
                return Ok(Answer::ok(self.payload(entry).await?));
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
    check_kind_kept(kind, &value)?;
    let object = kind.decode_value(value.clone()).map_err(|error| unfit(&value, &error.to_string()))?;
    Ok((object, warnings))
}

/// The patch types of resources that are defined at run time.
const CUSTOM_PATCH_TYPES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// The media types of patches that a resource takes.
pub(super) fn patch_types(resource: &crate::Resource) -> &'static [&'static str] {
    if resource.custom.is_some() { CUSTOM_PATCH_TYPES } else { PATCH_TYPES }
}

/// As [`apply`], for a resource that is defined at run time.
fn apply_custom(
    version: &Version,
    format: PatchKind,
    current: &dyn Object,
    text: &Bytes,
    validation: FieldValidation,
) -> Result<(Box<dyn Object>, Vec<String>), Status> {
    let value = current.to_value();
    let patched = match format {
        PatchKind::Json => patch::json(value, text)?,
        PatchKind::Merge => patch::merge(value, text)?,
        PatchKind::Strategic | PatchKind::Apply => return Err(Status::unsupported_media_type(CUSTOM_PATCH_TYPES)),
    };
    let kind = version.kind;
    check_kind_kept(kind, &patched.value)?;
    let shown = patched.value.clone();
    let parsed = Parsed { value: patched.value, duplicates: Vec::new() };
    let read = version.read(parsed, validation).map_err(|why| unfit(&shown, &why))?;
    let mut problems = read.problems;
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => problems.extend(patched.strict_problems),
        FieldValidation::Strict if patched.strict_problems.is_empty() => {}
        FieldValidation::Strict => {
            let why = format!("strict decoding error: {}", patched.strict_problems.join(", "));
            return Err(unfit(&shown, &why));
        }
    }
    Ok((Box::new(read.object), problems))
}

fn check_kind_kept(kind: &Kind, value: &Value) -> Result<(), Status> {
    let asked = (value["apiVersion"].as_str().unwrap_or_default(), value["kind"].as_str().unwrap_or_default());
    if asked == (kind.api_version, kind.kind) {
        return Ok(());
    }
    Err(unfit(value, &format!("unable to change the kind of the object to {}, Kind={}", asked.0, asked.1)))
}

fn unfit(value: &Value, why: &str) -> Status {
    let mut errors = FieldErrors::new();
    errors.invalid(&Path::new("patch"), value.to_string(), why);
    Status::invalid("", "", "", &errors)
}
