//! Validation of environment variables and the downward API's field references.

use api::core::v1::{EnvFromSource, EnvVar, EnvVarSource, FileKeySelector, ObjectFieldSelector, ResourceFieldSelector};
use api::field::{FieldErrors, Path};
use api::quantity::amount;

use crate::checks;

/// Fields of the pod that a variable may take its value from.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of the pod that a file of a volume may hold.
pub const VOLUME_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
/// Every field the downward API knows.
const KNOWN_FIELDS: [&str; 11] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Further labels that convert, though no expression may name them.
const CONVERTIBLE_FIELDS: [&str; 4] = ["spec.restartPolicy", "spec.schedulerName", "status.phase", "spec.host"];

/// The variables of a container.
pub fn validate_env(errors: &mut FieldErrors, path: &Path, variables: &[EnvVar]) {
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        if variable.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            let name = variable.name.as_str();
            checks::problems(errors, &path.child("name"), name, api::name::env_var(name));
        }
        if let Some(source) = &variable.value_from {
            validate_source(errors, &path.child("valueFrom"), variable, source);
        }
    }
}

fn validate_source(errors: &mut FieldErrors, path: &Path, variable: &EnvVar, source: &EnvVarSource) {
    let mut sources = 0;
    if let Some(field) = &source.field_ref {
        sources += 1;
        validate_field(errors, &path.child("fieldRef"), field, &ENV_FIELDS);
    }
    if let Some(field) = &source.resource_field_ref {
        sources += 1;
        validate_resource_field(errors, &path.child("resourceFieldRef"), field, false);
    }
    if let Some(reference) = &source.config_map_key_ref {
        sources += 1;
        validate_key(errors, &path.child("configMapKeyRef"), &reference.name, &reference.key);
    }
    if let Some(reference) = &source.secret_key_ref {
        sources += 1;
        validate_key(errors, &path.child("secretKeyRef"), &reference.name, &reference.key);
    }
    if let Some(reference) = &source.file_key_ref {
        sources += 1;
        validate_file_key(errors, &path.child("fileKeyRef"), reference);
    }
    let why = match sources {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        _ if variable.value.as_ref().is_some_and(|value| !value.is_empty()) => {
            "may not be specified when `value` is not empty"
        }
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.invalid(path, "", why);
}

/// A reference to a field of the pod; with a subscript for one label or annotation.
pub fn validate_field(errors: &mut FieldErrors, path: &Path, field: &ObjectFieldSelector, allowed: &[&str]) {
    let version = field.api_version.as_deref().unwrap_or_default();
    if version.is_empty() {
        errors.required(&path.child("apiVersion"), "");
        return;
    }
    let text = field.field_path.as_str();
    if text.is_empty() {
        errors.required(&path.child("fieldPath"), "");
        return;
    }
    let subscript = text.strip_suffix("']").and_then(|text| text.split_once("['"));
    let conversion_problem = if version != "v1" {
        Some(format!("unsupported pod version: {version}"))
    } else {
        match subscript {
            Some(("metadata.annotations" | "metadata.labels", _)) => None,
            Some((name, _)) => Some(format!("field label does not support subscript: {name}")),
            None if KNOWN_FIELDS.contains(&text) || CONVERTIBLE_FIELDS.contains(&text) => None,
            None => Some(format!("field label not supported: {text}")),
        }
    };
    if let Some(problem) = conversion_problem {
        errors.invalid(&path.child("fieldPath"), text, format!("error converting fieldPath: {problem}"));
        return;
    }
    match subscript {
        Some(("metadata.annotations", key)) => checks::qualified(errors, path, &key.to_ascii_lowercase()),
        Some((_, key)) => checks::qualified(errors, path, key),
        None if allowed.contains(&text) => {}
        None => errors.not_supported(&path.child("fieldPath"), text, allowed),
    }
}

/// A reference to a container's resource; in a volume it must name the container.
pub fn validate_resource_field(errors: &mut FieldErrors, path: &Path, field: &ResourceFieldSelector, volume: bool) {
    let name = field.resource.as_str();
    let huge = name.starts_with("requests.hugepages-") || name.starts_with("limits.hugepages-");
    if volume && field.container_name.as_deref().unwrap_or_default().is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if name.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCE_FIELDS.contains(&name) && !huge {
        errors.not_supported(&path.child("resource"), name, &RESOURCE_FIELDS);
    }
    let Some(divisor) = field.divisor.as_ref().map(amount).filter(|divisor| !divisor.is_zero()) else { return };
    let divisor = divisor.to_string();
    let bytes = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (allowed, list, what): (&[&str], String, &str) = match name {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "1m and 1".to_owned(), "cpu"),
        "limits.memory" | "requests.memory" => (&bytes, bytes.join(", "), "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (&bytes, bytes.join(", "), "local ephemeral storage")
        }
        _ if huge => (&bytes, bytes.join(", "), "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor.as_str()) {
        let why = format!("only divisor's values {list} are supported with the {what} resource");
        errors.invalid(&path.child("divisor"), name, why);
    }
}

fn validate_key(errors: &mut FieldErrors, path: &Path, name: &str, key: &str) {
    checks::dns_subdomain(errors, &path.child("name"), name);
    if key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        checks::problems(errors, &path.child("key"), key, api::name::config_map_key(key));
    }
}

fn validate_file_key(errors: &mut FieldErrors, path: &Path, reference: &FileKeySelector) {
    if reference.volume_name.is_empty() {
        errors.required(&path.child("volumeName"), "");
    } else {
        checks::dns_label(errors, &path.child("volumeName"), &reference.volume_name);
    }
    if reference.path.is_empty() {
        errors.required(&path.child("path"), "");
    } else {
        checks::relative_unreserved_path(errors, &path.child("path"), &reference.path);
    }
    if reference.key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        let key = reference.key.as_str();
        checks::problems(errors, &path.child("key"), key, api::name::env_var(key));
    }
}

/// The sources of whole sets of variables.
pub fn validate_env_from(errors: &mut FieldErrors, path: &Path, sources: &[EnvFromSource]) {
    for (index, source) in sources.iter().enumerate() {
        let list = path;
        let path = path.index(index);
        if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            checks::problems(errors, &path.child("prefix"), prefix, api::name::env_var(prefix));
        }
        let references = [
            ("configMapRef", source.config_map_ref.as_ref().map(|reference| reference.name.as_str())),
            ("secretRef", source.secret_ref.as_ref().map(|reference| reference.name.as_str())),
        ];
        for (field, name) in references {
            let path = path.child(field).child("name");
            match name {
                Some("") => errors.required(&path, ""),
                Some(name) => checks::problems(errors, &path, name, api::name::dns1123_subdomain(name, true)),
                None => {}
            }
        }
        match references.iter().filter(|(_, name)| name.is_some()).count() {
            0 => errors.invalid(list, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(list, "", "may not have more than one field specified at a time"),
        }
    }
}
