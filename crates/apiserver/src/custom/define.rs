//! A CustomResourceDefinition, compiled: its versions with their schemas, columns and subresources.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Kind;
use api::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use api::managed::{Shape, Types};
use api::table::ColumnDefinition;
use resources::{Names, Scope, Subresource};
use structural::Schema;
use structural::json_path::Path;

use super::convert::Conversion;
use crate::cache::Entry;
use crate::discovery::Served;

/// A column that the definition asks for.
pub(crate) struct PrinterColumn {
    pub definition: ColumnDefinition,
    pub path: Path,
}

/// Where the scale subresource finds its numbers, as field names from the root.
pub(crate) struct ScalePaths {
    pub spec_replicas: Vec<String>,
    pub status_replicas: Vec<String>,
    pub selector: Option<Vec<String>>,
}

/// What a version's objects are.
pub(crate) struct Sibling {
    pub kind: &'static Kind,
    pub schema: Arc<Schema>,
    /// Who may own what.
    pub shape: Shape,
}

/// All versions: what lies in the store, and what has owners, may be of any of them.
pub(crate) type Siblings = BTreeMap<&'static str, Sibling>;

/// One version of a resource that is defined at run time: its strategy.
pub(crate) struct Version {
    pub kind: &'static Kind,
    pub names: Names,
    pub scope: Scope,
    pub schema: Arc<Schema>,
    pub subresources: &'static [Subresource],
    pub scale: Option<ScalePaths>,
    pub columns: Vec<PrinterColumn>,
    pub selectable: Vec<(String, Path)>,
    /// The kind that is written into the store.
    pub storage: &'static Kind,
    pub conversion: Arc<Conversion>,
    pub siblings: Arc<Siblings>,
    /// The definition is being deleted: nothing new is taken.
    pub terminating: bool,
    pub deprecation: Option<String>,
    /// What discovery and OpenAPI say of it.
    pub described: Arc<Served>,
}

impl Version {
    /// What of its objects has owners of its own.
    pub fn types(&self) -> Types<'_> {
        Types::Custom(&self.siblings[self.kind.version].shape)
    }

    /// Whether `/status` is apart from the object.
    pub fn has_status(&self) -> bool {
        self.subresources.contains(&Subresource::Status)
    }
}

/// Everything that one definition defines.
pub(crate) struct Defined {
    pub group: String,
    pub plural: String,
    /// The strategy of what is stored: it selects by the fields of every version.
    pub stored: Arc<Version>,
    pub served: Vec<Arc<Version>>,
}

fn subresources(status: bool, scale: bool) -> &'static [Subresource] {
    match (status, scale) {
        (false, false) => &[],
        (true, false) => &[Subresource::Status],
        (false, true) => &[Subresource::Scale],
        (true, true) => &[Subresource::Scale, Subresource::Status],
    }
}

/// The field names of `.spec.replicas`.
fn field_path(text: &str) -> Vec<String> {
    text.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn column(name: &str, type_: &str, format: &str, description: &str, priority: i32) -> ColumnDefinition {
    ColumnDefinition {
        name: name.to_owned(),
        type_: type_.to_owned(),
        format: format.to_owned(),
        description: description.to_owned(),
        priority,
    }
}

fn printer_column(of: &CustomResourceColumnDefinition) -> Option<PrinterColumn> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let description = match text(&of.description) {
        // As upstream describes a column of which nothing is said.
        empty if empty.is_empty() => {
            format!("Custom resource definition column (in JSONPath format): {}", of.json_path)
        }
        description => description,
    };
    let definition = column(&of.name, &of.type_, &text(&of.format), &description, of.priority.unwrap_or_default());
    Some(PrinterColumn { definition, path: Path::parse(&of.json_path).ok()? })
}

fn age() -> Option<PrinterColumn> {
    let path = Path::parse(".metadata.creationTimestamp").ok()?;
    Some(PrinterColumn { definition: column("Age", "date", "", "When the object was created.", 0), path })
}

fn columns(version: &CustomResourceDefinitionVersion) -> Vec<PrinterColumn> {
    match version.additional_printer_columns.as_deref() {
        None | Some([]) => age().into_iter().collect(),
        Some(own) => own.iter().filter_map(printer_column).collect(),
    }
}

fn selectable(version: &CustomResourceDefinitionVersion) -> Vec<(String, Path)> {
    let one = |path: &String| Some((path.trim_start_matches('.').to_owned(), Path::parse(path).ok()?));
    version.selectable_fields.iter().flatten().filter_map(|field| one(&field.json_path)).collect()
}

impl Defined {
    /// Compiles a definition whose names have been accepted.
    ///
    /// # Errors
    /// What is wrong with it; it was validated when it was written, so this is for older ones.
    pub fn compile(crd: &CustomResourceDefinition) -> Result<Self, String> {
        let spec = &crd.spec;
        let accepted = crd.status.as_ref().and_then(|status| status.accepted_names.as_ref());
        let names = accepted.filter(|names| !names.plural.is_empty()).unwrap_or(&spec.names);
        let scope = if spec.scope == "Namespaced" { Scope::Namespaced } else { Scope::Cluster };
        let kind_of = |version: &str| Kind::custom(&spec.group, version, &names.kind, &names.plural);
        let storage = spec.versions.iter().find(|version| version.storage).ok_or("no version is the stored one")?;
        let mut siblings = Siblings::new();
        for version in &spec.versions {
            let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            let schema = schema.ok_or_else(|| format!("version {} has no schema", version.name))?;
            let schema = Schema::compile(schema).map_err(|errors| {
                let all: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
                all.join(", ")
            })?;
            let kind = kind_of(&version.name);
            let shape = schema.shape();
            siblings.insert(kind.version, Sibling { kind, schema: Arc::new(schema), shape });
        }
        let siblings = Arc::new(siblings);
        let conversion = Arc::new(Conversion::of(crd));
        let make = |version: &CustomResourceDefinitionVersion, selectable: Vec<(String, Path)>| {
            let Sibling { kind, schema, .. } = &siblings[version.name.as_str()];
            let below = version.subresources.as_ref();
            let scale = below.and_then(|below| below.scale.as_ref());
            let below_it = subresources(below.is_some_and(|below| below.status.is_some()), scale.is_some());
            let deprecated = version.deprecated == Some(true);
            let deprecation = deprecated.then(|| {
                let usual = || format!("{}/{} {} is deprecated", spec.group, version.name, names.kind);
                version.deprecation_warning.clone().unwrap_or_else(usual)
            });
            Arc::new(Version {
                kind,
                names: Names::new(kind.plural, kind.kind),
                scope,
                schema: schema.clone(),
                subresources: below_it,
                scale: scale.map(|scale| ScalePaths {
                    spec_replicas: field_path(&scale.spec_replicas_path),
                    status_replicas: field_path(&scale.status_replicas_path),
                    selector: scale.label_selector_path.as_deref().filter(|p| !p.is_empty()).map(field_path),
                }),
                columns: columns(version),
                selectable,
                storage: kind_of(&storage.name),
                conversion: conversion.clone(),
                siblings: siblings.clone(),
                terminating: crd.metadata.deletion_timestamp.is_some(),
                deprecation,
                described: Arc::new(super::describe::describe(kind, names, scope, below_it, schema)),
            })
        };
        let mut union: Vec<(String, Path)> = Vec::new();
        for field in spec.versions.iter().flat_map(selectable) {
            if union.iter().all(|known| known.0 != field.0) {
                union.push(field);
            }
        }
        Ok(Self {
            group: spec.group.clone(),
            plural: names.plural.clone(),
            stored: make(storage, union),
            served: spec.versions.iter().filter(|v| v.served).map(|v| make(v, selectable(v))).collect(),
        })
    }

    /// Where the instances are kept, below `/registry/`.
    pub fn segment(&self) -> String {
        format!("{}/{}", self.group, self.plural)
    }
}

/// The definition in a cache's entry.
pub(crate) fn definition_of(entry: &Entry) -> Option<Arc<CustomResourceDefinition>> {
    api::downcast_arc(entry.object_to_look_at().ok()?)
}
