//! CustomResourceDefinitions themselves: defaults, what is wrong with one, what may change.

mod props;
mod structure;
mod version;

use std::collections::BTreeSet;

use api::FieldErrors;
use api::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionNames, CustomResourceDefinitionSpec,
};
use api::field::Path;
use serde_json::Value;

pub use structure::structural;

/// Groups that only Kubernetes' own review may fill.
const APPROVAL: &str = "api-approved.kubernetes.io";
const IMMUTABLE: &str = "field is immutable";

/// Fills in names, the conversion strategy and the webhook's port.
pub fn default(definition: &mut CustomResourceDefinition) {
    let names = &mut definition.spec.names;
    if names.singular.as_deref().unwrap_or_default().is_empty() {
        names.singular = Some(names.kind.to_lowercase());
    }
    if names.list_kind.as_deref().unwrap_or_default().is_empty() && !names.kind.is_empty() {
        names.list_kind = Some(format!("{}List", names.kind));
    }
    let conversion = definition
        .spec
        .conversion
        .get_or_insert_with(|| CustomResourceConversion { strategy: "None".to_owned(), webhook: None });
    let config = conversion.webhook.as_mut().and_then(|webhook| webhook.client_config.as_mut());
    if let Some(service) = config.and_then(|config| config.service.as_mut()) {
        service.port.get_or_insert(443);
    }
}

/// The version objects are stored in.
pub fn storage_version(spec: &CustomResourceDefinitionSpec) -> Option<&str> {
    spec.versions.iter().find(|version| version.storage).map(|version| version.name.as_str())
}

/// Whether a condition holds.
pub fn is_condition_true(definition: &CustomResourceDefinition, name: &str) -> bool {
    let conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == name && condition.status == "True")
}

/// All problems of a new definition.
pub fn validate(definition: &CustomResourceDefinition) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let required = format!("{}.{}", definition.spec.names.plural, definition.spec.group);
    if let Some(name) = definition.metadata.name.as_ref().filter(|name| **name != required) {
        let path = Path::new("metadata").child("name");
        errors.invalid(&path, name.as_str(), r#"must be spec.names.plural+"."+spec.group"#);
    }
    approval(definition, &mut errors);
    spec(&definition.spec, &mut errors);
    if definition.spec.preserve_unknown_fields == Some(true) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema \
                   instead";
        errors.invalid(&Path::new("spec").child("preserveUnknownFields"), true, why);
    }
    status(definition, &mut errors);
    errors
}

/// All problems of a change.
pub fn validate_update(new: &CustomResourceDefinition, old: &CustomResourceDefinition) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if annotation(new) != annotation(old) {
        approval(new, &mut errors);
    }
    spec(&new.spec, &mut errors);
    let path = Path::new("spec");
    if new.spec.preserve_unknown_fields == Some(true) && old.spec.preserve_unknown_fields != Some(true) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema \
                   instead";
        errors.invalid(&path.child("preserveUnknownFields"), true, why);
    }
    let names = path.child("names");
    let mut fixed = |path: &Path, new: &str, old: &str| {
        if new != old {
            errors.invalid(path, new, IMMUTABLE);
        }
    };
    if is_condition_true(old, "Established") {
        fixed(&path.child("scope"), &new.spec.scope, &old.spec.scope);
        fixed(&names.child("kind"), &new.spec.names.kind, &old.spec.names.kind);
    }
    fixed(&path.child("group"), &new.spec.group, &old.spec.group);
    fixed(&names.child("plural"), &new.spec.names.plural, &old.spec.names.plural);
    status(new, &mut errors);
    stored_versions(new, &mut errors);
    errors
}

/// All problems of a change of the status.
pub fn validate_status_update(new: &CustomResourceDefinition) -> FieldErrors {
    let mut errors = FieldErrors::new();
    status(new, &mut errors);
    stored_versions(new, &mut errors);
    errors
}

fn stored_versions(definition: &CustomResourceDefinition, errors: &mut FieldErrors) {
    let Some(status) = &definition.status else { return };
    let path = Path::new("status").child("storedVersions");
    let known = status.stored_versions.as_deref().unwrap_or_default();
    if known.is_empty() {
        errors.invalid(&path, Value::from(known), "must have at least one stored version");
    } else if let Some(version) = definition.spec.versions.iter().find(|version| version.storage)
        && !known.contains(&version.name)
    {
        let shown = serde_json::to_value(version).unwrap_or_default();
        errors.invalid(&path, shown, format!("must have the storage version {}", version.name));
    }
    for (index, stored) in status.stored_versions.iter().flatten().enumerate() {
        if !definition.spec.versions.iter().any(|version| version.name == *stored) {
            let why = format!(
                "missing from spec.versions; {stored} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {stored} and removes \
                 {stored} from status.storedVersions"
            );
            errors.invalid(&path.index(index), stored.as_str(), why);
        }
    }
}

fn status(definition: &CustomResourceDefinition, errors: &mut FieldErrors) {
    if let Some(accepted) = definition.status.as_ref().and_then(|status| status.accepted_names.as_ref()) {
        names(accepted, &Path::new("status").child("acceptedNames"), errors);
    }
}

fn annotation(definition: &CustomResourceDefinition) -> Option<&str> {
    definition.metadata.annotations.as_ref()?.get(APPROVAL).map(String::as_str)
}

/// Groups of the community need its approval.
fn approval(definition: &CustomResourceDefinition, errors: &mut FieldErrors) {
    let group = definition.spec.group.as_str();
    let is_protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|suffix| group.strip_suffix(*suffix).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.')));
    if !is_protected {
        return;
    }
    const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let path = Path::new("metadata").child("annotations").key(APPROVAL);
    match annotation(definition) {
        None | Some("") => {
            errors.required(&path, format!("protected groups must have approval annotation {APPROVAL:?}, {SEE}"));
        }
        Some(text) if text.starts_with("unapproved") => {}
        Some(text) if text.contains("://") && !text.contains(' ') => {}
        Some(text) => {
            let why = format!(
                "protected groups must have approval annotation {APPROVAL:?} with either a URL or a reason starting \
                 with \"unapproved\", {SEE}"
            );
            errors.invalid(&path, text, why);
        }
    }
}

fn spec(spec: &CustomResourceDefinitionSpec, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let group = path.child("group");
    let found = api::name::dns1123_subdomain(&spec.group, false);
    if spec.group.is_empty() {
        errors.required(&group, "");
    } else if !found.is_empty() {
        errors.invalid(&group, spec.group.as_str(), found.join(","));
    } else if !spec.group.contains('.') {
        errors.invalid(&group, spec.group.as_str(), "should be a domain with at least one dot");
    }
    match spec.scope.as_str() {
        "" => errors.required(&path.child("scope"), ""),
        "Cluster" | "Namespaced" => {}
        other => errors.not_supported(&path.child("scope"), other, &["Cluster", "Namespaced"]),
    }
    versions(spec, &path.child("versions"), errors);
    let named = path.child("names");
    let required = [
        ("plural", spec.names.plural.as_str()),
        ("singular", spec.names.singular.as_deref().unwrap_or_default()),
        ("kind", spec.names.kind.as_str()),
        ("listKind", spec.names.list_kind.as_deref().unwrap_or_default()),
    ];
    for (name, _) in required.iter().filter(|(_, value)| value.is_empty()) {
        errors.required(&named.child(name), "");
    }
    names(&spec.names, &named, errors);
    if let Some(conversion) = &spec.conversion {
        self::conversion(conversion, &path.child("conversion"), errors);
    }
}

fn versions(spec: &CustomResourceDefinitionSpec, path: &Path, errors: &mut FieldErrors) {
    let shown = || serde_json::to_value(&spec.versions).unwrap_or(Value::Null);
    let mut seen = BTreeSet::new();
    let mut is_unique = true;
    for (index, version) in spec.versions.iter().enumerate() {
        is_unique &= seen.insert(version.name.as_str());
        let path = path.index(index);
        let found = api::name::dns1035_label(&version.name, false);
        if !found.is_empty() {
            errors.invalid(&path.child("name"), version.name.as_str(), found.join(","));
        }
    }
    version::check_all(&spec.versions, path, errors);
    if !is_unique {
        errors.invalid(path, shown(), "must contain unique version names");
    }
    if spec.versions.iter().filter(|version| version.storage).count() != 1 {
        errors.invalid(path, shown(), "must have exactly one version marked as storage version");
    }
}

fn label(errors: &mut FieldErrors, path: &Path, value: &str) {
    let found = api::name::dns1035_label(value, false);
    if !value.is_empty() && !found.is_empty() {
        errors.invalid(path, value, found.join(","));
    }
}

fn kind_name(errors: &mut FieldErrors, path: &Path, value: &str) {
    let found = api::name::dns1035_label(&value.to_lowercase(), false);
    if !value.is_empty() && !found.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", found.join(","));
        errors.invalid(path, value, why);
    }
}

fn names(names: &CustomResourceDefinitionNames, path: &Path, errors: &mut FieldErrors) {
    let list_kind = names.list_kind.as_deref().unwrap_or_default();
    label(errors, &path.child("plural"), &names.plural);
    label(errors, &path.child("singular"), names.singular.as_deref().unwrap_or_default());
    kind_name(errors, &path.child("kind"), &names.kind);
    kind_name(errors, &path.child("listKind"), list_kind);
    let every = |errors: &mut FieldErrors, list: &Option<Vec<String>>, path: &Path| {
        for (index, name) in list.iter().flatten().enumerate() {
            let found = api::name::dns1035_label(name, false);
            if !found.is_empty() {
                errors.invalid(&path.index(index), name.as_str(), found.join(","));
            }
        }
    };
    every(errors, &names.short_names, &path.child("shortNames"));
    if !names.kind.is_empty() && names.kind == list_kind {
        errors.invalid(&path.child("listKind"), list_kind, "kind and listKind may not be the same");
    }
    every(errors, &names.categories, &path.child("categories"));
}

fn conversion(conversion: &CustomResourceConversion, path: &Path, errors: &mut FieldErrors) {
    let versions_path = path.child("conversionReviewVersions");
    let config_path = path.child("webhookClientConfig");
    let webhook = conversion.webhook.as_ref();
    let config = webhook.and_then(|webhook| webhook.client_config.as_ref());
    let versions = webhook.map(|webhook| webhook.conversion_review_versions.as_slice()).unwrap_or_default();
    match conversion.strategy.as_str() {
        "" => errors.required(&path.child("strategy"), ""),
        "None" => {
            let why = "should not be set when strategy is not set to Webhook";
            if config.is_some() {
                errors.forbidden(&config_path, why);
            }
            if !versions.is_empty() {
                errors.forbidden(&versions_path, why);
            }
        }
        "Webhook" => {
            match config {
                None => errors.required(&config_path, "required when strategy is set to Webhook"),
                Some(config) => match (&config.url, &config.service) {
                    (Some(url), None) => {
                        if !url.starts_with("https://") {
                            let why = r#"'https' is the only allowed URL scheme; desired format: https://host[/path]"#;
                            errors.invalid(&config_path.child("url"), url.as_str(), why);
                        }
                    }
                    (None, Some(service)) => {
                        let path = config_path.child("service");
                        if service.name.is_empty() {
                            errors.required(&path.child("name"), "service name is required");
                        }
                        if service.namespace.is_empty() {
                            errors.required(&path.child("namespace"), "service namespace is required");
                        }
                        for problem in api::name::port_number(i64::from(service.port.unwrap_or(443))) {
                            let why = format!("port is not valid: {problem}");
                            errors.invalid(&path.child("port"), service.port.unwrap_or(443), why);
                        }
                    }
                    _ => errors.required(&config_path, "exactly one of url or service is required"),
                },
            }
            review_versions(versions, &versions_path, errors);
        }
        other => errors.not_supported(&path.child("strategy"), other, &["None", "Webhook"]),
    }
}

fn review_versions(versions: &[String], path: &Path, errors: &mut FieldErrors) {
    if versions.is_empty() {
        errors.required(path, "");
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let found = api::name::dns1035_label(version, false);
        if !seen.insert(version) {
            errors.invalid(&path.index(index), version.as_str(), "duplicate version");
        } else if !found.is_empty() {
            errors.invalid(&path.index(index), version.as_str(), found.join(","));
        }
    }
    if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
        let shown = Value::from(versions.to_vec());
        errors.invalid(path, shown, "must include at least one of v1, v1beta1");
    }
}
