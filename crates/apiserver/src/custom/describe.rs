//! What discovery and OpenAPI say of custom resources.

use std::borrow::Cow;
use std::sync::Arc;

use api::Kind;
use api::apiextensions::v1::CustomResourceDefinitionNames;
use resources::{Scope, Subresource};
use structural::Schema;

use crate::discovery::{Digested, Served, subresource_of};

/// What may be done with every custom resource.
pub(super) const VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

/// What discovery and OpenAPI say of a version.
pub(super) fn describe(
    kind: &'static Kind,
    names: &CustomResourceDefinitionNames,
    scope: Scope,
    subresources: &[Subresource],
    schema: &Arc<Schema>,
) -> Served {
    let owned = |all: &Option<Vec<String>>| all.iter().flatten().cloned().map(Cow::Owned).collect();
    let mut verbs: Vec<Cow<'static, str>> = VERBS.iter().copied().map(Cow::Borrowed).collect();
    verbs.sort();
    Served {
        group: kind.group.into(),
        version: kind.version.into(),
        kind: kind.kind.into(),
        list_kind: names.list_kind.clone().unwrap_or_else(|| format!("{}List", kind.kind)).into(),
        plural: kind.plural.into(),
        singular: names.singular.clone().unwrap_or_else(|| names.kind.to_lowercase()).into(),
        short: owned(&names.short_names),
        categories: owned(&names.categories),
        namespaced: scope == Scope::Namespaced,
        verbs,
        subresources: subresources.iter().map(|own| subresource_of(*own, kind)).collect(),
        stored: true,
        built_in: None,
        schema: Some(schema.clone()),
        digest: Digested::default(),
    }
}
