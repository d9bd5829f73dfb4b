//! Groups, their versions and resources, as both forms of discovery write them.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::elsewhere::Resources;
use super::{Elsewhere, Served, Text, group_version};
use crate::aggregation::priority::{Priorities, Priority};

/// One group and its versions, the preferred one first.
pub(super) struct Group {
    pub name: String,
    priority: i32,
    pub versions: Vec<Version>,
}

pub(super) struct Version {
    pub name: String,
    priority: i32,
    /// In the order of their plurals.
    served: Vec<Arc<Served>>,
    pub elsewhere: Option<Arc<Elsewhere>>,
}

/// Versions by stability, then by number, downwards: `v2`, `v1`, `v2beta1`, `v1alpha1`.
pub(super) fn version_rank(version: &str) -> (u8, u32, u32) {
    let number = |text: &str| text.parse().unwrap_or_default();
    let text = version.strip_prefix('v').unwrap_or(version);
    if let Some((major, minor)) = text.split_once("beta") {
        (1, number(major), number(minor))
    } else if let Some((major, minor)) = text.split_once("alpha") {
        (0, number(major), number(minor))
    } else {
        (2, number(text), 0)
    }
}

/// Groups and versions in the order of their priorities. A group has that of its dearest version.
pub(super) fn all(served: &[Arc<Served>], elsewhere: &[Arc<Elsewhere>], priorities: &Priorities) -> Vec<Group> {
    let mut gathered = Gathered { priorities, groups: Vec::new(), places: HashMap::new() };
    for one in served {
        gathered.version(&one.group, &one.version, None).served.push(one.clone());
    }
    for one in elsewhere {
        let version = gathered.version(&one.group, &one.version, Some(one.priority));
        if version.served.is_empty() && version.elsewhere.is_none() {
            version.elsewhere = Some(one.clone());
        }
    }
    let mut groups = gathered.groups;
    for group in &mut groups {
        group.versions.sort_by_key(|version| std::cmp::Reverse((version.priority, version_rank(&version.name))));
        for version in &mut group.versions {
            version.served.sort_by(|a, b| a.plural.cmp(&b.plural));
        }
    }
    groups.sort_by(|a, b| (b.priority, &a.name).cmp(&(a.priority, &b.name)));
    groups
}

struct Gathered<'a> {
    priorities: &'a Priorities,
    groups: Vec<Group>,
    places: HashMap<&'a str, usize>,
}

impl<'a> Gathered<'a> {
    fn version(&mut self, group: &'a str, version: &'a str, priority: Option<Priority>) -> &mut Version {
        let place = *self.places.entry(group).or_insert_with(|| {
            self.groups.push(Group { name: group.to_owned(), priority: 0, versions: Vec::new() });
            self.groups.len() - 1
        });
        let Group { priority: dearest, versions, .. } = &mut self.groups[place];
        let at = versions.iter().position(|own| own.name == version).unwrap_or_else(|| {
            let Priority { group, version: priority } = priority.unwrap_or_else(|| self.priorities.of(group, version));
            *dearest = (*dearest).max(group);
            versions.push(Version { name: version.to_owned(), priority, served: Vec::new(), elsewhere: None });
            versions.len() - 1
        });
        &mut versions[at]
    }
}

impl Group {
    pub fn versions(&self) -> Vec<&str> {
        self.versions.iter().map(|version| &*version.name).collect()
    }

    /// As the old form says what there is of it.
    pub fn describe(&self) -> Value {
        let version =
            |own: &Version| json!({"groupVersion": group_version(&self.name, &own.name), "version": own.name});
        let versions: Vec<Value> = self.versions.iter().map(version).collect();
        let preferred = versions.first().cloned().unwrap_or_default();
        json!({"name": self.name, "versions": versions, "preferredVersion": preferred})
    }

    /// One of its versions in the old form.
    pub fn resource_list(&self, version: &Version) -> Value {
        let mut resources: Vec<(String, Value)> = version.served.iter().flat_map(|one| listed(one)).collect();
        resources.sort_by(|a, b| a.0.cmp(&b.0));
        let resources: Vec<Value> = resources.into_iter().map(|(_, value)| value).collect();
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version(&self.name, &version.name),
            "resources": resources,
        })
    }
}

/// Eight bytes that change when the stored kind does, as upstream makes them.
fn storage_version_hash(one: &Served) -> String {
    let kind = format!("{}/{}/{}", one.group, one.version, one.kind);
    let hash = Sha256::digest(kind.as_bytes());
    STANDARD.encode(&hash[..8])
}

/// A resource and its subresources in the old form, each with its name.
fn listed(one: &Served) -> Vec<(String, Value)> {
    let mut value = json!({
        "name": one.plural,
        "singularName": one.singular,
        "namespaced": one.namespaced,
        "kind": one.kind,
        "verbs": one.verbs,
    });
    if !one.short.is_empty() {
        value["shortNames"] = json!(one.short);
    }
    if !one.categories.is_empty() {
        value["categories"] = json!(one.categories);
    }
    if one.stored {
        value["storageVersionHash"] = json!(storage_version_hash(one));
    }
    let mut all = vec![(one.plural.to_string(), value)];
    for sub in &one.subresources {
        let name = format!("{}/{}", one.plural, sub.name);
        let mut value = json!({"name": name, "singularName": "", "namespaced": one.namespaced});
        if (&sub.group, &sub.version) != (&one.group, &one.version) {
            value["group"] = json!(sub.group);
            value["version"] = json!(sub.version);
        }
        value["kind"] = json!(sub.kind);
        value["verbs"] = json!(sub.verbs);
        all.push((name, value));
    }
    all
}

/// The aggregated form of some groups, as JSON. There may be thousands of resources, and it is written anew whenever
/// one comes: straight from what is known of them.
pub(super) fn aggregated<'a>(groups: impl Iterator<Item = &'a Group>) -> Vec<u8> {
    let list = AggregatedList {
        kind: "APIGroupDiscoveryList",
        api_version: "apidiscovery.k8s.io/v2",
        metadata: Empty {},
        items: groups.map(AggregatedGroup::from).collect(),
    };
    serde_json::to_vec(&list).expect("string keys and text always encode")
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AggregatedList<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    items: Vec<AggregatedGroup<'a>>,
}

#[derive(Serialize)]
struct AggregatedGroup<'a> {
    metadata: Metadata<'a>,
    versions: Vec<AggregatedVersion<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    /// Never known: `null`.
    creation_timestamp: (),
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
}

#[derive(Serialize)]
struct AggregatedVersion<'a> {
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<AggregatedResources<'a>>,
    freshness: &'static str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AggregatedResources<'a> {
    Own(Vec<AggregatedResource<'a>>),
    Others(&'a Resources),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AggregatedResource<'a> {
    resource: &'a str,
    response_kind: ResponseKind<'a>,
    scope: &'static str,
    singular_resource: &'a str,
    verbs: &'a [Text],
    #[serde(skip_serializing_if = "<[Text]>::is_empty")]
    short_names: &'a [Text],
    #[serde(skip_serializing_if = "<[Text]>::is_empty")]
    categories: &'a [Text],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subresources: Vec<AggregatedSubresource<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AggregatedSubresource<'a> {
    subresource: &'a str,
    response_kind: ResponseKind<'a>,
    verbs: &'a [Text],
}

#[derive(Serialize)]
struct ResponseKind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

impl<'a> From<&'a Group> for AggregatedGroup<'a> {
    fn from(group: &'a Group) -> Self {
        let metadata = Metadata { creation_timestamp: (), name: &group.name };
        Self { metadata, versions: group.versions.iter().map(AggregatedVersion::from).collect() }
    }
}

impl<'a> From<&'a Version> for AggregatedVersion<'a> {
    fn from(version: &'a Version) -> Self {
        let resources = match &version.elsewhere {
            None => Some(AggregatedResources::Own(version.served.iter().map(|one| (&**one).into()).collect())),
            Some(elsewhere) => elsewhere.resources.as_deref().map(AggregatedResources::Others),
        };
        let freshness = if resources.is_some() { "Current" } else { "Stale" };
        Self { version: &version.name, resources, freshness }
    }
}

impl<'a> From<&'a Served> for AggregatedResource<'a> {
    fn from(one: &'a Served) -> Self {
        let subresources = one.subresources.iter().map(|sub| AggregatedSubresource {
            subresource: &sub.name,
            response_kind: ResponseKind { group: &sub.group, version: &sub.version, kind: &sub.kind },
            verbs: &sub.verbs,
        });
        Self {
            resource: &one.plural,
            response_kind: ResponseKind { group: &one.group, version: &one.version, kind: &one.kind },
            scope: if one.namespaced { "Namespaced" } else { "Cluster" },
            singular_resource: &one.singular,
            verbs: &one.verbs,
            short_names: &one.short,
            categories: &one.categories,
            subresources: subresources.collect(),
        }
    }
}
