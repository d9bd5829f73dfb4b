//! Secret: Configuration that is not for everyone's eyes.

use api::ByteString;
use api::core::v1::Secret;

use super::config_map::{IMMUTABLE, SIZE_BYTES_MAX};
use crate::checks;
use crate::prelude::*;

const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Secret;

    const NAMES: Names = Names::new("secrets", "secret");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "secrets" };
    const SELECTABLE: &'static [Selectable<Secret>] =
        &[Selectable { path: "type", value: |secret| secret.type_.clone().unwrap_or_default() }];
    const COLUMNS: &'static [Column<Secret>] = &[
        Column::name(),
        Column::new("Type", "string", |secret: &Secret, _| Value::from(secret.type_.clone().unwrap_or_default()))
            .describe("What kind of secret the keys are."),
        Column::new("Data", "string", |secret: &Secret, _| {
            Value::from(secret.data.as_ref().map_or(0, std::collections::BTreeMap::len))
        })
        .describe("Number of keys."),
        Column::age(),
    ];

    /// Also turns `stringData`, which is for writing only, into `data`.
    fn default(secret: &mut Secret) {
        for (key, value) in secret.string_data.take().into_iter().flatten() {
            secret.data.get_or_insert_default().insert(key, ByteString(value.into_bytes()));
        }
        if secret.type_.as_deref().is_none_or(str::is_empty) {
            secret.type_ = Some("Opaque".to_owned());
        }
    }

    /// A type that was left out is the type there was.
    fn prepare_update(new: &mut Secret, old: &Secret) {
        if new.type_.as_deref().is_none_or(str::is_empty) {
            new.type_.clone_from(&old.type_);
        }
    }

    fn validate(secret: &Secret) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("data");
        let mut size_bytes = 0;
        for (key, value) in secret.data.iter().flatten() {
            checks::problems(&mut errors, &path.key(key), key.as_str(), api::name::config_map_key(key));
            size_bytes += value.0.len();
        }
        if size_bytes > SIZE_BYTES_MAX {
            errors.too_long(&path, SIZE_BYTES_MAX);
        }
        validate_type(&mut errors, &path, secret);
        errors
    }

    fn validate_update(new: &Secret, old: &Secret) -> FieldErrors {
        let mut errors = FieldErrors::new();
        checks::immutable(&mut errors, &Path::new("type"), &new.type_, &old.type_);
        if old.immutable == Some(true) {
            if new.immutable != Some(true) {
                errors.forbidden(&Path::new("immutable"), IMMUTABLE);
            }
            if new.data.clone().unwrap_or_default() != old.data.clone().unwrap_or_default() {
                errors.forbidden(&Path::new("data"), IMMUTABLE);
            }
        }
        errors.extend(Self::validate(new));
        errors
    }
}

/// What each well-known type needs.
fn validate_type(errors: &mut FieldErrors, path: &Path, secret: &Secret) {
    let value = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    let json = |errors: &mut FieldErrors, key: &str| match value(key) {
        None => errors.required(&path.key(key), ""),
        Some(bytes) => {
            if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes.0) {
                errors.invalid(&path.key(key), "<secret contents redacted>", error.to_string());
            }
        }
    };
    match secret.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/service-account-token" => {
            let annotation = secret.metadata.annotations.as_ref().and_then(|all| all.get(SERVICE_ACCOUNT_NAME));
            if annotation.is_none_or(String::is_empty) {
                let path = Path::new("metadata").child("annotations").key(SERVICE_ACCOUNT_NAME);
                errors.required(&path, "");
            }
        }
        "kubernetes.io/dockercfg" => json(errors, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => json(errors, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            errors.required(&path.key("username"), "");
            errors.required(&path.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(|key| key.0.is_empty()) => {
            errors.required(&path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if value(key).is_none() {
                    errors.required(&path.key(key), "");
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::Strategy as Secrets;
    use crate::Strategy as _;
    use api::Typed;
    use api::core::v1::Secret;
    use serde_json::{Value, json};

    fn secret(value: Value) -> Secret {
        let mut secret = Secret::from_value(value).unwrap();
        Secrets::default(&mut secret);
        secret
    }

    #[test]
    fn string_data_becomes_data() {
        let secret = secret(json!({"data": {"a": "b2xk"}, "stringData": {"a": "new", "b": "x"}}));
        let value = serde_json::to_value(secret).unwrap();
        assert_eq!((&value["data"], &value["stringData"]), (&json!({"a": "bmV3", "b": "eA=="}), &Value::Null));
        assert_eq!(value["type"], "Opaque");
    }

    #[test]
    fn types_need_their_keys() {
        let cases = [
            ("kubernetes.io/tls", json!({}), "[data[tls.crt]: Required value, data[tls.key]: Required value]"),
            (
                "kubernetes.io/service-account-token",
                json!({}),
                "metadata.annotations[kubernetes.io/service-account.name]: Required value",
            ),
            ("kubernetes.io/dockerconfigjson", json!({}), "data[.dockerconfigjson]: Required value"),
            ("kubernetes.io/basic-auth", json!({}), "[data[username]: Required value, data[password]: Required value]"),
            ("kubernetes.io/ssh-auth", json!({"ssh-privatekey": ""}), "data[ssh-privatekey]: Required value"),
        ];
        for (type_, data, expected) in cases {
            let secret = secret(json!({"type": type_, "data": data}));
            assert_eq!(Secrets::validate(&secret).to_string(), expected, "{type_}");
        }
    }

    #[test]
    fn type_and_immutable_data_stay() {
        let old = secret(json!({"immutable": true, "data": {"a": "eA=="}}));
        let new = secret(json!({"immutable": true, "type": "t", "data": {}}));
        assert_eq!(
            Secrets::validate_update(&new, &old).to_string(),
            "[type: Invalid value: \"t\": field is immutable, data: Forbidden: field is immutable when `immutable` \
             is set]"
        );
    }
}
