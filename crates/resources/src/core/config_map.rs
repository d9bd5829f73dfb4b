//! ConfigMap: Configuration as keys and values.

use api::core::v1::ConfigMap;

use crate::checks;
use crate::prelude::*;

/// Most bytes that all values of a ConfigMap or Secret may have together.
pub(crate) const SIZE_BYTES_MAX: usize = 1024 * 1024;
pub(crate) const IMMUTABLE: &str = "field is immutable when `immutable` is set";

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ConfigMap;

    const NAMES: Names = Names::new("configmaps", "configmap").short(&["cm"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "configmaps" };
    const COLUMNS: &'static [Column<ConfigMap>] = &[
        Column::name(),
        Column::new("Data", "string", |map: &ConfigMap, _| {
            let binary = map.binary_data.as_ref().map_or(0, std::collections::BTreeMap::len);
            Value::from(map.data.as_ref().map_or(0, std::collections::BTreeMap::len) + binary)
        })
        .describe("Number of keys."),
        Column::age(),
    ];

    fn validate(map: &ConfigMap) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let mut size_bytes = 0;
        let (data_path, binary_path) = (Path::new("data"), Path::new("binaryData"));
        for (key, value) in map.data.iter().flatten() {
            let path = data_path.key(key);
            checks::problems(&mut errors, &path, key.as_str(), api::name::config_map_key(key));
            if map.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
                errors.invalid(&path, key.as_str(), "duplicate of key present in binaryData");
            }
            size_bytes += value.len();
        }
        for (key, value) in map.binary_data.iter().flatten() {
            checks::problems(&mut errors, &binary_path.key(key), key.as_str(), api::name::config_map_key(key));
            size_bytes += value.0.len();
        }
        if size_bytes > SIZE_BYTES_MAX {
            errors.too_long(&Path::new(""), SIZE_BYTES_MAX);
        }
        errors
    }

    fn validate_update(new: &ConfigMap, old: &ConfigMap) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if old.immutable == Some(true) {
            let changed = [
                ("immutable", new.immutable != Some(true)),
                ("data", new.data.clone().unwrap_or_default() != old.data.clone().unwrap_or_default()),
                (
                    "binaryData",
                    new.binary_data.clone().unwrap_or_default() != old.binary_data.clone().unwrap_or_default(),
                ),
            ];
            for (name, _) in changed.iter().filter(|(_, changed)| *changed) {
                errors.forbidden(&Path::new(name), IMMUTABLE);
            }
        }
        errors.extend(Self::validate(new));
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::Strategy as ConfigMaps;
    use crate::Strategy as _;
    use api::Typed;
    use api::core::v1::ConfigMap;
    use serde_json::json;

    #[test]
    fn keys_size_and_immutability_are_checked() {
        let map = |value| ConfigMap::from_value(value).unwrap();
        assert!(ConfigMaps::validate(&map(json!({"data": {"a.b_c-d": "x"}}))).is_empty());
        let both = map(json!({"data": {"a": "x"}, "binaryData": {"a": "eA=="}}));
        assert_eq!(
            ConfigMaps::validate(&both).to_string(),
            "data[a]: Invalid value: \"a\": duplicate of key present in binaryData"
        );
        let large = map(json!({"data": {"a": "x".repeat(1024 * 1024 + 1)}}));
        assert_eq!(ConfigMaps::validate(&large).to_string(), ": Too long: may not be more than 1048576 bytes");
        let old = map(json!({"immutable": true, "data": {"a": "x"}}));
        assert_eq!(
            ConfigMaps::validate_update(&map(json!({"data": {"a": "y"}})), &old).to_string(),
            "[immutable: Forbidden: field is immutable when `immutable` is set, data: Forbidden: field is immutable \
             when `immutable` is set]"
        );
    }
}
