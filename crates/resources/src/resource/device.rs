//! What devices, claims and classes share: names, selectors, configuration, taints.

use api::field::{FieldErrors, Path};
use api::resource::v1::{DeviceSelector, DeviceTaint, DeviceToleration, OpaqueDeviceConfiguration};
use serde_json::Value;

use super::expression;
use crate::checks;

/// How many selectors, requests, constraints or configurations there may be.
pub const ITEMS_MAX: usize = 32;
const DRIVER_BYTES_MAX: usize = 63;
const POOL_BYTES_MAX: usize = 253;
const ID_BYTES_MAX: usize = 32;
/// How many bytes of parameters or data there may be.
pub const RAW_BYTES_MAX: usize = 10 * 1024;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// The name of a driver.
pub fn driver(errors: &mut FieldErrors, path: &Path, name: &str) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > DRIVER_BYTES_MAX {
        errors.too_long(path, DRIVER_BYTES_MAX);
    }
    checks::problems(errors, path, name, api::name::dns1123_subdomain(&name.to_lowercase(), false));
}

/// The name of a pool: domains, with slashes between.
pub fn pool(errors: &mut FieldErrors, path: &Path, name: &str) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > POOL_BYTES_MAX {
        errors.too_long(path, POOL_BYTES_MAX);
    }
    for part in name.split('/') {
        checks::dns_subdomain(errors, path, part);
    }
}

/// The name of an attribute or a capacity: an identifier, perhaps in a domain.
pub fn qualified(errors: &mut FieldErrors, path: &Path, name: &str) {
    if name.is_empty() {
        return errors.required(path, "name required");
    }
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [id] => identifier(errors, path, id),
        [domain, id] => {
            if domain.is_empty() {
                errors.required(path, "the domain must not be empty");
            } else {
                driver(errors, path, domain);
            }
            if id.is_empty() {
                errors.required(path, "the name must not be empty");
            } else {
                identifier(errors, path, id);
            }
        }
        _ => errors.invalid(path, name, "must have at most one '/'"),
    }
}

/// As [`qualified`], in a domain.
pub fn fully_qualified(errors: &mut FieldErrors, path: &Path, name: &str) {
    qualified(errors, path, name);
    if !name.is_empty() && !name.contains('/') {
        errors.invalid(path, name, "must include a domain");
    }
}

fn identifier(errors: &mut FieldErrors, path: &Path, id: &str) {
    if id.len() > ID_BYTES_MAX {
        errors.too_long(path, ID_BYTES_MAX);
    }
    let letter = |character: char| character.is_ascii_alphabetic() || character == '_';
    if !(id.starts_with(letter) && id.chars().all(|character| letter(character) || character.is_ascii_digit())) {
        let why = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
                   alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for \
                   validation is '[A-Za-z_][A-Za-z0-9_]*')";
        errors.invalid(path, id, why);
    }
}

/// At most so many.
pub fn at_most(errors: &mut FieldErrors, path: &Path, count: usize, max: usize) {
    if count > max {
        errors.too_many(path, count, max);
    }
}

/// Expressions that a device must fulfil.
pub fn selectors(errors: &mut FieldErrors, path: &Path, selectors: &[DeviceSelector]) {
    for (index, selector) in selectors.iter().enumerate() {
        let path = path.index(index).child("cel");
        match &selector.cel {
            None => errors.required(&path, ""),
            Some(selector) => expression::check(errors, &path.child("expression"), &selector.expression),
        }
    }
    at_most(errors, path, selectors.len(), ITEMS_MAX);
}

/// Configuration that only the driver understands.
pub fn opaque(errors: &mut FieldErrors, path: &Path, opaque: Option<&OpaqueDeviceConfiguration>) {
    let path = path.child("opaque");
    let Some(opaque) = opaque else { return errors.required(&path, "") };
    driver(errors, &path.child("driver"), &opaque.driver);
    raw(errors, &path.child("parameters"), &opaque.parameters.0);
}

/// An object of no particular kind.
pub fn raw(errors: &mut FieldErrors, path: &Path, value: &Value) {
    match value {
        Value::Null => errors.required(path, ""),
        value if value.to_string().len() > RAW_BYTES_MAX => errors.too_long(path, RAW_BYTES_MAX),
        Value::Object(_) => {}
        _ => errors.invalid(path, "<value omitted>", "parameters must be a valid JSON object"),
    }
}

/// A taint.
pub fn taint(errors: &mut FieldErrors, path: &Path, taint: &DeviceTaint) {
    checks::label_key(errors, &path.child("key"), &taint.key);
    if let Some(value) = taint.value.as_deref().filter(|value| !value.is_empty()) {
        checks::problems(errors, &path.child("value"), value, api::name::label_value(value));
    }
    checks::one_of(errors, &path.child("effect"), Some(&taint.effect), &EFFECTS);
}

/// A toleration of taints.
pub fn toleration(errors: &mut FieldErrors, path: &Path, toleration: &DeviceToleration) {
    if let Some(key) = toleration.key.as_deref().filter(|key| !key.is_empty()) {
        checks::label_key(errors, &path.child("key"), key);
    }
    let value = toleration.value.as_deref().unwrap_or_default();
    let (value_path, operator_path) = (path.child("value"), path.child("operator"));
    match toleration.operator.as_deref() {
        None | Some("") => errors.required(&operator_path, ""),
        Some("Exists") if value.is_empty() => {}
        Some("Exists") => errors.invalid(&value_path, value, "must be empty for operator `Exists`"),
        Some("Equal") => checks::problems(errors, &value_path, value, api::name::label_value(value)),
        Some(other) => errors.not_supported(&operator_path, other, &["Equal", "Exists"]),
    }
    if let Some(effect) = toleration.effect.as_deref().filter(|effect| !effect.is_empty()) {
        checks::optional_one_of(errors, &path.child("effect"), Some(effect), &["NoExecute", "NoSchedule"]);
    }
}
