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
use crate::rules;

const NOT_PRINTABLE: &str = "must only contain printable UTF-8 characters; non-printable character found";
const SELECTABLE_MAX: usize = 8;
const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// Checks all versions. What they share is named once, as a part of the spec, as upstream does.
pub(super) fn check_all(versions: &[CustomResourceDefinitionVersion], path: &Path, errors: &mut FieldErrors) {
    let Some(first) = versions.first() else { return };
    let spec = Path::new("spec");
    let is_shared = |same: fn(&CustomResourceDefinitionVersion, &CustomResourceDefinitionVersion) -> bool| {
        versions.iter().all(|version| same(version, first))
    };
    let schemas = is_shared(|a, b| a.schema == b.schema);
    let scales = is_shared(|a, b| a.subresources == b.subresources);
    let columns = is_shared(|a, b| a.additional_printer_columns == b.additional_printer_columns);
    let fields = is_shared(|a, b| a.selectable_fields == b.selectable_fields);
    for (index, version) in versions.iter().enumerate() {
        let own = path.index(index);
        self::deprecation(version, &own, errors);
        let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        let place = |shared: bool| if shared { spec.clone() } else { own.clone() };
        let is_new = |shared: bool| !shared || index == 0;
        match schema {
            None => errors.required(&own.child("schema").child("openAPIV3Schema"), "schemas are required"),
            Some(schema) if is_new(schemas) => {
                let path = place(schemas).child(if schemas { "validation" } else { "schema" });
                self::schema(schema, &path.child("openAPIV3Schema"), errors);
            }
            Some(_) => {}
        }
        let scale = version.subresources.as_ref().and_then(|subresources| subresources.scale.as_ref());
        if let Some(scale) = scale.filter(|_| is_new(scales)) {
            self::scale(scale, &place(scales).child("subresources").child("scale"), errors);
        }
        let printed = version.additional_printer_columns.iter().flatten().enumerate();
        for (index, column) in printed.filter(|_| is_new(columns)) {
            self::column(column, &place(columns).child("additionalPrinterColumns").index(index), errors);
        }
        if is_new(fields) {
            selectable(version, schema, &place(fields).child("selectableFields"), errors);
        }
    }
}

fn deprecation(version: &CustomResourceDefinitionVersion, path: &Path, errors: &mut FieldErrors) {
    if version.deprecated != Some(true) && version.deprecation_warning.is_some() {
        let why = "can only be set for deprecated versions";
        errors.invalid(&path.child("deprecationWarning"), version.deprecation_warning.as_deref(), why);
    }
    let Some(warning) = &version.deprecation_warning else { return };
    let path = path.child("deprecationWarning");
    if warning.len() > 256 {
        errors.invalid(&path, warning.as_str(), "must be <= 256 characters in length");
    }
    if warning.is_empty() {
        errors.invalid(&path, "", "must not be empty");
    }
    if warning.chars().any(char::is_control) {
        errors.invalid(&path, warning.as_str(), NOT_PRINTABLE);
    }
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
            let mut costs = rules::Costs::default();
            rules::check(&node, schema, path, &mut costs, &mut found);
            costs.check(path, &mut found);
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
