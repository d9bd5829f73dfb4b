//! One version of a definition: its schema, columns, subresources and selectable fields.

use std::collections::BTreeSet;

use api::FieldErrors;
use api::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinitionVersion, CustomResourceSubresourceScale, JSONSchemaProps,
};
use api::field::Path;

use super::{props, structure};
use crate::json_path;
use crate::node::Node;

const NOT_PRINTABLE: &str = "must only contain printable UTF-8 characters; non-printable character found";
const SELECTABLE_MAX: usize = 8;
const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

pub(super) fn check(version: &CustomResourceDefinitionVersion, path: &Path, errors: &mut FieldErrors) {
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let schema_path = path.child("schema").child("openAPIV3Schema");
    if version.deprecated != Some(true) && version.deprecation_warning.is_some() {
        let why = "can only be set for deprecated versions";
        errors.invalid(&path.child("deprecationWarning"), version.deprecation_warning.as_deref(), why);
    }
    if let Some(warning) = &version.deprecation_warning {
        let warning_path = path.child("deprecationWarning");
        if warning.len() > 256 {
            errors.invalid(&warning_path, warning.as_str(), "must be <= 256 characters in length");
        }
        if warning.is_empty() {
            errors.invalid(&warning_path, "", "must not be empty");
        }
        if warning.chars().any(char::is_control) {
            errors.invalid(&warning_path, warning.as_str(), NOT_PRINTABLE);
        }
    }
    match schema {
        None => errors.required(&schema_path, "schemas are required"),
        Some(schema) => self::schema(schema, &schema_path, errors),
    }
    if let Some(scale) = version.subresources.as_ref().and_then(|subresources| subresources.scale.as_ref()) {
        self::scale(scale, &path.child("subresources").child("scale"), errors);
    }
    for (index, column) in version.additional_printer_columns.iter().flatten().enumerate() {
        self::column(column, &path.child("additionalPrinterColumns").index(index), errors);
    }
    selectable(version, schema, &path.child("selectableFields"), errors);
}

fn schema(schema: &JSONSchemaProps, path: &Path, errors: &mut FieldErrors) {
    let mut found = FieldErrors::new();
    if schema.nullable == Some(true) {
        found.forbidden(&path.child("nullable"), "nullable cannot be true at the root");
    }
    props::check(schema, path, true, &mut found);
    found.extend(structure::structural(schema, path));
    if found.is_empty() {
        let node = Node::compile(schema, path, &mut found);
        if found.is_empty() {
            props::check_defaults(&node, path, &mut found);
        }
    }
    errors.extend(found);
}

/// A path of fields, as upstream's simple check takes it.
fn simple_path(text: &str, path: &Path, errors: &mut FieldErrors) -> bool {
    let why = match text.chars().next() {
        None => "must not be empty".to_owned(),
        Some(c) if c != '.' => "must be a simple json path starting with .".to_owned(),
        _ => match json_path::Path::parse(text) {
            Ok(_) => return true,
            Err(why) => format!("must be a json path: {why}"),
        },
    };
    errors.invalid(path, text, why);
    false
}

fn scale(scale: &CustomResourceSubresourceScale, path: &Path, errors: &mut FieldErrors) {
    let mut below = |name: &str, text: &str, root: &str| {
        let path = path.child(name);
        if simple_path(text, &path, errors) && !text.starts_with(&format!("{root}.")) {
            errors.invalid(&path, text, format!("should be a json path under {root}"));
        }
    };
    for (name, text, root) in [
        ("specReplicasPath", scale.spec_replicas_path.as_str(), ".spec"),
        ("statusReplicasPath", scale.status_replicas_path.as_str(), ".status"),
    ] {
        if !text.is_empty() {
            below(name, text, root);
        }
    }
    if let Some(text) = scale.label_selector_path.as_deref().filter(|text| !text.is_empty()) {
        let path = path.child("labelSelectorPath");
        if simple_path(text, &path, errors) && !text.starts_with(".status.") && !text.starts_with(".spec.") {
            errors.invalid(&path, text, "should be a json path under either .spec or .status");
        }
    }
    for (name, text) in
        [("specReplicasPath", &scale.spec_replicas_path), ("statusReplicasPath", &scale.status_replicas_path)]
    {
        if text.is_empty() {
            errors.required(&path.child(name), "");
        }
    }
}

fn column(column: &CustomResourceColumnDefinition, path: &Path, errors: &mut FieldErrors) {
    if column.name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    if column.type_.is_empty() {
        errors.required(&path.child("type"), format!("must be one of {}", COLUMN_TYPES.join(",")));
    } else if !COLUMN_TYPES.contains(&column.type_.as_str()) {
        let why = format!("must be one of {}", COLUMN_TYPES.join(","));
        errors.invalid(&path.child("type"), column.type_.as_str(), why);
    }
    if let Some(format) = column.format.as_deref().filter(|format| !format.is_empty())
        && !COLUMN_FORMATS.contains(&format)
    {
        errors.invalid(&path.child("format"), format, format!("must be one of {}", COLUMN_FORMATS.join(",")));
    }
    if column.json_path.is_empty() {
        errors.required(&path.child("jsonPath"), "");
    } else {
        simple_path(&column.json_path, &path.child("jsonPath"), errors);
    }
}

/// The schema at a path of fields.
fn schema_at<'a>(schema: &'a JSONSchemaProps, fields: &[&str]) -> Option<&'a JSONSchemaProps> {
    fields.iter().try_fold(schema, |schema, name| schema.properties.as_ref()?.get(*name))
}

fn selectable(
    version: &CustomResourceDefinitionVersion,
    schema: Option<&JSONSchemaProps>,
    path: &Path,
    errors: &mut FieldErrors,
) {
    let fields = version.selectable_fields.as_deref().unwrap_or_default();
    if fields.len() > SELECTABLE_MAX {
        errors.too_many(path, fields.len(), SELECTABLE_MAX);
    }
    let mut seen = BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        let path = path.index(index).child("jsonPath");
        let text = field.json_path.as_str();
        if text.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let Some(names) = json_path::Path::parse(text).ok().filter(|_| text.starts_with('.')) else {
            errors.invalid(&path, text, "must be a simple json path starting with .");
            continue;
        };
        let Some(names) = names.fields() else {
            errors.invalid(&path, text, "must not contain array indices, wildcards or filters");
            continue;
        };
        if !seen.insert(text) {
            errors.duplicate(&path, text);
        }
        if matches!(names.first(), Some(&"metadata")) {
            errors.invalid(&path, text, "must not point to fields in metadata");
            continue;
        }
        match schema.and_then(|schema| schema_at(schema, &names)) {
            None => errors.invalid(&path, text, "does not refer to a valid field"),
            Some(found) if !matches!(found.type_.as_deref(), Some("string" | "integer" | "boolean")) => {
                let why = "must point to a field of type string, boolean or integer. Enum string fields and strings \
                           with formats are allowed.";
                errors.invalid(&path, text, why);
            }
            Some(_) => {}
        }
    }
}
