//! A version of a group that another API server serves, as that server describes it. What it says is read into known
//! fields, so that nothing it makes up gets into our own documents.
//!
//! Pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::aggregation::priority::Priority;
use crate::openapi::foreign::Foreign;

/// How many resources are taken from another server.
const RESOURCES_LEN_MAX: usize = 2000;

/// One version, for discovery.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    pub group: String,
    pub version: String,
    pub priority: Priority,
    /// `None`: nobody knows at the moment.
    pub resources: Option<Arc<Resources>>,
    pub openapi: Foreign,
}

/// Resources in the aggregated form.
pub type Resources = Vec<Resource>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    #[serde(default)]
    group: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    resource: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_kind: Option<Kind>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    singular_resource: String,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    short_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    categories: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    subresources: Vec<Subresource>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subresource {
    subresource: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_kind: Option<Kind>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    accepted_types: Vec<Kind>,
    #[serde(default)]
    verbs: Vec<String>,
}

/// The resources of a version out of an `APIGroupDiscoveryList`; none if the version is not in there.
///
/// # Errors
/// If it is no such list.
pub fn of_aggregated(json: &[u8], group: &str, version: &str) -> Result<Resources, String> {
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        name: String,
    }
    #[derive(Deserialize)]
    struct Version {
        version: String,
        #[serde(default)]
        resources: Resources,
    }
    #[derive(Deserialize)]
    struct Group {
        metadata: Metadata,
        #[serde(default)]
        versions: Vec<Version>,
    }
    #[derive(Deserialize)]
    struct List {
        #[serde(default)]
        items: Vec<Group>,
    }
    let list: List = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let own = list.items.into_iter().filter(|item| item.metadata.name == group).flat_map(|item| item.versions);
    let found = own.into_iter().find(|one| one.version == version);
    bounded(found.map(|found| found.resources).unwrap_or_default())
}

/// The resources of an `APIResourceList`.
///
/// # Errors
/// If it is no such list, or names a subresource of nothing.
pub fn of_list(json: &[u8], group: &str, version: &str) -> Result<Resources, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Listed {
        name: String,
        #[serde(default)]
        singular_name: String,
        #[serde(default)]
        namespaced: bool,
        #[serde(default)]
        group: String,
        #[serde(default)]
        version: String,
        #[serde(default)]
        kind: String,
        #[serde(default)]
        verbs: Vec<String>,
        #[serde(default)]
        short_names: Vec<String>,
        #[serde(default)]
        categories: Vec<String>,
    }
    #[derive(Deserialize)]
    struct List {
        #[serde(default)]
        resources: Vec<Listed>,
    }
    let list: List = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let or = |own: &str, usual: &str| if own.is_empty() { usual.to_owned() } else { own.to_owned() };
    let mut all = Resources::new();
    for one in list.resources {
        let kind = Kind { group: or(&one.group, group), version: or(&one.version, version), kind: one.kind };
        let scope = if one.namespaced { "Namespaced" } else { "Cluster" }.to_owned();
        let (name, subresource) = match one.name.split_once('/') {
            Some((name, subresource)) => (name.to_owned(), Some(subresource.to_owned())),
            None => (one.name, None),
        };
        let at = all.iter().position(|own| own.resource == name).unwrap_or_else(|| {
            all.push(Resource {
                resource: name,
                response_kind: None,
                scope,
                singular_resource: String::new(),
                verbs: Vec::new(),
                short_names: Vec::new(),
                categories: Vec::new(),
                subresources: Vec::new(),
            });
            all.len() - 1
        });
        let own = &mut all[at];
        match subresource {
            Some(subresource) => own.subresources.push(Subresource {
                subresource,
                response_kind: Some(kind),
                accepted_types: Vec::new(),
                verbs: one.verbs,
            }),
            None => {
                own.response_kind = Some(kind);
                own.singular_resource = one.singular_name;
                (own.verbs, own.short_names, own.categories) = (one.verbs, one.short_names, one.categories);
            }
        }
    }
    bounded(all)
}

fn bounded(resources: Resources) -> Result<Resources, String> {
    if resources.len() > RESOURCES_LEN_MAX {
        return Err(format!("{} resources are more than {RESOURCES_LEN_MAX}", resources.len()));
    }
    Ok(resources)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_old_form_becomes_the_aggregated() {
        let list = json!({"kind": "APIResourceList", "resources": [
            {"name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics", "verbs": ["get", "list"]},
            {"name": "pods/scale", "namespaced": true, "kind": "Scale", "group": "autoscaling", "version": "v1",
             "verbs": ["get"]},
            {"name": "nodes", "singularName": "node", "namespaced": false, "kind": "NodeMetrics", "verbs": ["get"],
             "shortNames": ["nm"], "extra": 1},
        ]});
        let resources = of_list(list.to_string().as_bytes(), "metrics.k8s.io", "v1").unwrap();
        assert_eq!(
            serde_json::to_value(&resources).unwrap(),
            json!([
                {"resource": "pods", "responseKind": {"group": "metrics.k8s.io", "version": "v1", "kind": "PodMetrics"},
                 "scope": "Namespaced", "singularResource": "", "verbs": ["get", "list"], "subresources": [
                    {"subresource": "scale", "verbs": ["get"],
                     "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}}]},
                {"resource": "nodes", "responseKind": {"group": "metrics.k8s.io", "version": "v1", "kind": "NodeMetrics"},
                 "scope": "Cluster", "singularResource": "node", "verbs": ["get"], "shortNames": ["nm"]},
            ])
        );
    }

    #[test]
    fn only_the_version_asked_for_is_taken() {
        let list = json!({"kind": "APIGroupDiscoveryList", "items": [
            {"metadata": {"name": "a"}, "versions": [
                {"version": "v1", "resources": [{"resource": "x", "scope": "Cluster", "verbs": ["get"]}]},
                {"version": "v2", "resources": [{"resource": "y"}]}]},
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [{"resource": "forged"}]}]},
        ]});
        let text = list.to_string();
        let names = |group, version| -> Vec<String> {
            let resources = of_aggregated(text.as_bytes(), group, version).unwrap();
            resources.into_iter().map(|one| one.resource).collect()
        };
        assert_eq!(names("a", "v1"), ["x"]);
        assert!(names("b", "v1").is_empty());
        for wrong in ["", "1", r#"{"items": 1}"#, r#"{"items": [{"metadata": {"name": "a"}, "versions": [1]}]}"#] {
            assert!(of_aggregated(wrong.as_bytes(), "a", "v1").is_err(), "{wrong}");
        }
    }
}
