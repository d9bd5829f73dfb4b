//! Discovery: which groups, versions, resources and verbs are served, in the old form (one document a group and
//! version) and the aggregated one (`apidiscovery.k8s.io/v2`).
//!
//! [`answer`] takes a path and the request's headers and answers a finished [`Document`], also of
//! [`crate::openapi`]; `None` means that the path is neither's. Discovery is written once, when the set of resources
//! changes; OpenAPI when it is first asked for.

use std::borrow::Cow;
use std::collections::HashMap;

use std::sync::{Arc, OnceLock};

use api::Status;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use resources::{AnyStrategy, Scope, Storage, Subresource};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::document::{Shape, Syntax};
use crate::Server;
use crate::aggregation::priority::{Priorities, Priority};
use crate::openapi::OpenApi;

pub(crate) mod document;
pub(crate) mod elsewhere;
#[cfg(test)]
mod tests;

pub use document::{Document, Headers};
pub use elsewhere::Elsewhere;

/// Everything that describes a set of resources. The server holds one and makes a new one when the set changes.
#[derive(Default)]
pub struct Documents {
    served: Vec<Arc<Served>>,
    /// What other servers serve. No version is both here and there.
    elsewhere: Vec<Arc<Elsewhere>>,
    priorities: Priorities,
    discovery: OnceLock<Discovery>,
    openapi: OnceLock<OpenApi>,
}

impl Documents {
    /// Writes nothing yet.
    pub fn new(served: Vec<Arc<Served>>, elsewhere: Vec<Arc<Elsewhere>>, priorities: Priorities) -> Self {
        Self { served, elsewhere, priorities, ..Self::default() }
    }

    fn discovery(&self) -> &Discovery {
        self.discovery.get_or_init(|| Discovery::new(&self.served, &self.elsewhere, &self.priorities))
    }

    fn openapi(&self) -> &OpenApi {
        self.openapi.get_or_init(|| OpenApi::new(self.served.clone(), &self.elsewhere))
    }

    /// Answers a `GET`.
    ///
    /// # Errors
    /// 406 if the client takes no form that is served.
    pub fn answer(&self, path: &str, query: Option<&str>, headers: &Headers) -> Option<Result<Document, Status>> {
        let path = if path.len() > 1 { path.strip_suffix('/').unwrap_or(path) } else { path };
        if path == "/" {
            let mut paths = self.discovery().paths();
            let others =
                ["/.well-known/openid-configuration", "/flagz", "/healthz", "/livez", "/metrics", "/openapi/v2"];
            paths.extend(others.map(str::to_owned));
            paths.extend(["/openapi/v3", "/openid/v1/jwks", "/readyz", "/statusz", "/version"].map(str::to_owned));
            paths.extend(self.openapi().paths());
            paths.extend(self.elsewhere.iter().map(|own| format!("/apis/{}/{}", own.group, own.version)));
            paths.sort();
            return Some(Ok(Document::new(JSON, Bytes::from(json!({"paths": paths}).to_string()))));
        }
        if path.starts_with("/openapi") {
            return self.openapi().answer(path, query, headers);
        }
        self.discovery().answer(path, headers)
    }
}

/// Answers a `GET` of what describes the API: `/`, `/api`, `/apis` and what is directly below, `/openapi/v2`,
/// `/openapi/v3` and what is below. `None`: some other path.
///
/// # Errors
/// 406 if the client takes no form that is served.
pub fn answer(
    server: &Arc<Server>,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Option<Result<Document, Status>> {
    server.documents().answer(path, query, &Headers::from(headers))
}

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_PROTOBUF: &str =
    "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

type Text = Cow<'static, str>;

/// What discovery and OpenAPI know of one resource in one version, be it built in or defined at run time.
#[derive(Debug, Clone)]
pub struct Served {
    /// `""` is the core group.
    pub group: Text,
    pub version: Text,
    pub kind: Text,
    pub list_kind: Text,
    pub plural: Text,
    pub singular: Text,
    pub short: Vec<Text>,
    pub categories: Vec<Text>,
    pub namespaced: bool,
    /// Sorted.
    pub verbs: Vec<Text>,
    /// Sorted by name.
    pub subresources: Vec<ServedSubresource>,
    /// Whether objects are stored.
    pub stored: bool,
    /// The built-in kind, whose schema is known.
    pub built_in: Option<&'static api::Kind>,
    /// The schema of a kind defined at run time.
    pub schema: Option<Arc<structural::Schema>>,
}

/// One subresource, with the kind that it speaks.
#[derive(Debug, Clone)]
pub struct ServedSubresource {
    pub name: Text,
    pub group: Text,
    pub version: Text,
    pub kind: Text,
    pub verbs: Vec<Text>,
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// What built-in resources say of themselves.
pub fn built_in(strategies: &[&'static dyn AnyStrategy]) -> Vec<Served> {
    let served = |strategy: &&'static dyn AnyStrategy| {
        let (kind, names) = (strategy.kind(), strategy.names());
        let texts = |list: &[&'static str]| list.iter().copied().map(Cow::Borrowed).collect();
        let mut verbs: Vec<Text> = texts(strategy.verbs());
        verbs.sort();
        let mut subresources: Vec<_> =
            strategy.subresources().iter().map(|subresource| subresource_of(*subresource, kind)).collect();
        subresources.sort_by(|a, b| a.name.cmp(&b.name));
        Served {
            group: kind.group.into(),
            version: kind.version.into(),
            kind: kind.kind.into(),
            list_kind: format!("{}List", kind.kind).into(),
            plural: names.plural.into(),
            singular: names.singular.to_lowercase().into(),
            short: texts(names.short),
            categories: texts(names.categories),
            namespaced: strategy.scope() == Scope::Namespaced,
            verbs,
            subresources,
            stored: matches!(strategy.storage(), Storage::Stored { .. }),
            built_in: Some(kind),
            schema: None,
        }
    };
    strategies.iter().map(served).collect()
}

pub(crate) fn subresource_of(subresource: Subresource, kind: &'static api::Kind) -> ServedSubresource {
    let own = (kind.group, kind.version, kind.kind);
    let options = |name: &'static str| ("", "v1", name);
    let proxy = match kind.kind {
        "Service" => "ServiceProxyOptions",
        "Node" => "NodeProxyOptions",
        _ => "PodProxyOptions",
    };
    let ((group, version, kind), verbs): (_, &[&'static str]) = match subresource {
        Subresource::Status | Subresource::Approval | Subresource::EphemeralContainers | Subresource::Resize => {
            (own, &["get", "patch", "update"])
        }
        Subresource::Scale => (("autoscaling", "v1", "Scale"), &["get", "patch", "update"]),
        Subresource::Binding => (options("Binding"), &["create"]),
        Subresource::Eviction => (("policy", "v1", "Eviction"), &["create"]),
        Subresource::Log => (own, &["get"]),
        Subresource::Exec => (options("PodExecOptions"), &["create", "get"]),
        Subresource::Attach => (options("PodAttachOptions"), &["create", "get"]),
        Subresource::PortForward => (options("PodPortForwardOptions"), &["create", "get"]),
        Subresource::Proxy => (options(proxy), &["create", "delete", "get", "patch", "update"]),
        Subresource::Token => (("authentication.k8s.io", "v1", "TokenRequest"), &["create"]),
        Subresource::Finalize => (own, &["update"]),
    };
    ServedSubresource {
        name: subresource.name().into(),
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        verbs: verbs.iter().copied().map(Cow::Borrowed).collect(),
    }
}

/// Discovery's documents for one set of resources.
pub struct Discovery {
    documents: HashMap<String, Bytes>,
    /// `/api` and `/apis` in the aggregated form, each with its ETag.
    aggregated: HashMap<&'static str, (Bytes, String)>,
}

impl Discovery {
    /// Writes the documents.
    pub fn new(served: &[Arc<Served>], elsewhere: &[Arc<Elsewhere>], priorities: &Priorities) -> Self {
        let mut documents = HashMap::new();
        let mut put = |path: String, value: Value| {
            documents.insert(path, Bytes::from(value.to_string()));
        };
        let groups = groups(served, elsewhere, priorities);
        let core = groups.iter().find(|group| group.name.is_empty());
        let versions: Vec<&str> = core.map(Group::versions).unwrap_or_default();
        put("/api".into(), json!({"kind": "APIVersions", "versions": versions}));
        let named: Vec<&Group<'_>> = groups.iter().filter(|group| !group.name.is_empty()).collect();
        let list: Vec<Value> = named.iter().map(|group| group.describe()).collect();
        put("/apis".into(), json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list}));
        for group in &groups {
            let path = if group.name.is_empty() { "/api".to_owned() } else { format!("/apis/{}", group.name) };
            // What is served elsewhere is asked there.
            for version in group.versions.iter().filter(|version| version.elsewhere.is_none()) {
                let version = version.name;
                put(format!("{path}/{version}"), resource_list(served, group.name, version));
            }
            if !group.name.is_empty() {
                let mut text = json!({"kind": "APIGroup", "apiVersion": "v1"});
                if let (Value::Object(text), Value::Object(own)) = (&mut text, group.describe()) {
                    text.extend(own);
                }
                put(path, text);
            }
        }
        let aggregate = |groups: Vec<&Group<'_>>| {
            let items: Vec<Value> = groups.iter().map(|group| group.aggregate(served)).collect();
            let list = json!({
                "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
            });
            let body = Bytes::from(list.to_string());
            let etag = document::etag(&body);
            (body, etag)
        };
        let aggregated = HashMap::from([("/api", aggregate(core.into_iter().collect())), ("/apis", aggregate(named))]);
        Self { documents, aggregated }
    }

    fn answer(&self, path: &str, headers: &Headers) -> Option<Result<Document, Status>> {
        let plain = self.documents.get(path)?;
        let aggregated = self.aggregated.get(path);
        let found = headers.accepted().into_iter().find_map(|wanted| match (wanted.discovery()?, aggregated) {
            ((syntax, Shape::Aggregated), Some((body, etag))) => {
                // There is no aggregated YAML.
                let content_type = match syntax {
                    Syntax::Json => AGGREGATED,
                    Syntax::Protobuf => AGGREGATED_PROTOBUF,
                    Syntax::Yaml => return None,
                };
                let document = written(body.clone(), syntax);
                Some(document.map(|bytes| Document::new(content_type, bytes).tagged(etag, "public")))
            }
            ((_, Shape::Aggregated), None) => None,
            ((syntax, Shape::Plain), _) => {
                let content_type = match syntax {
                    Syntax::Json => JSON,
                    Syntax::Yaml => YAML,
                    Syntax::Protobuf => PROTOBUF,
                };
                let json = if path == "/api" { with_address(plain, &headers.host) } else { plain.clone() };
                Some(written(json, syntax).map(|bytes| Document::new(content_type, bytes)))
            }
        });
        Some(found.unwrap_or_else(|| Err(Status::not_acceptable(&[JSON, YAML, PROTOBUF]))))
    }

    /// The paths that are answered.
    fn paths(&self) -> Vec<String> {
        self.documents.keys().cloned().collect()
    }
}

/// A document's JSON in another syntax.
fn written(json: Bytes, syntax: Syntax) -> Result<Bytes, Status> {
    if syntax == Syntax::Json {
        return Ok(json);
    }
    let value: Value = serde_json::from_slice(&json).map_err(Status::internal)?;
    if syntax == Syntax::Yaml {
        return serde_saphyr::to_string(&value).map(Bytes::from).map_err(Status::internal);
    }
    let kind = value["kind"].as_str().unwrap_or_default();
    let api_version = value["apiVersion"].as_str().unwrap_or("v1");
    let definition = if api_version == "v1" {
        format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")
    } else {
        format!("io.k8s.api.apidiscovery.v2.{kind}")
    };
    let mut out = Vec::with_capacity(json.len());
    api::protobuf::Encoder::default()
        .document(api_version, kind, &mut out, |own, out| own.message(&definition, &json, out))
        .map_err(Status::internal)?;
    Ok(out.into())
}

/// `/api` also says where the server is: where the client found it.
fn with_address(document: &[u8], host: &str) -> Bytes {
    let mut value: Value = serde_json::from_slice(document).unwrap_or_default();
    value["serverAddressByClientCIDRs"] = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]);
    Bytes::from(value.to_string())
}

/// One group and its versions, the preferred one first.
struct Group<'a> {
    name: &'a str,
    priority: i32,
    versions: Vec<Version<'a>>,
}

struct Version<'a> {
    name: &'a str,
    priority: i32,
    elsewhere: Option<&'a Elsewhere>,
}

/// Versions by stability, then by number, downwards: `v2`, `v1`, `v2beta1`, `v1alpha1`.
fn version_rank(version: &str) -> (u8, u32, u32) {
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
fn groups<'a>(served: &'a [Arc<Served>], elsewhere: &'a [Arc<Elsewhere>], priorities: &Priorities) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut add = |name: &'a str, version: &'a str, priority: Option<Priority>, elsewhere: Option<&'a Elsewhere>| {
        let at = groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
            groups.push(Group { name, priority: 0, versions: Vec::new() });
            groups.len() - 1
        });
        let group = &mut groups[at];
        if !group.versions.iter().any(|own| own.name == version) {
            let priority = priority.unwrap_or_else(|| priorities.of(name, version));
            group.priority = group.priority.max(priority.group);
            group.versions.push(Version { name: version, priority: priority.version, elsewhere });
        }
    };
    for one in served {
        add(&one.group, &one.version, None, None);
    }
    for one in elsewhere {
        add(&one.group, &one.version, Some(one.priority), Some(one));
    }
    for group in &mut groups {
        group.versions.sort_by_key(|version| std::cmp::Reverse((version.priority, version_rank(version.name))));
    }
    groups.sort_by(|a, b| (b.priority, a.name).cmp(&(a.priority, b.name)));
    groups
}

impl<'a> Group<'a> {
    fn versions(&self) -> Vec<&'a str> {
        self.versions.iter().map(|version| version.name).collect()
    }

    fn describe(&self) -> Value {
        let version = |version: &Version<'_>| json!({"groupVersion": group_version(self.name, version.name), "version": version.name});
        let versions: Vec<Value> = self.versions.iter().map(version).collect();
        let preferred = versions.first().cloned().unwrap_or_default();
        json!({"name": self.name, "versions": versions, "preferredVersion": preferred})
    }

    fn aggregate(&self, served: &[Arc<Served>]) -> Value {
        let mut metadata = json!({"creationTimestamp": null});
        if !self.name.is_empty() {
            metadata["name"] = json!(self.name);
        }
        let version = |version: &Version<'_>| {
            if let Some(elsewhere) = version.elsewhere {
                return elsewhere.aggregate();
            }
            let mut own: Vec<&Served> = served
                .iter()
                .map(|one| &**one)
                .filter(|one| one.group == self.name && one.version == version.name)
                .collect();
            own.sort_by(|a, b| a.plural.cmp(&b.plural));
            let resources: Vec<Value> = own.into_iter().map(aggregated_resource).collect();
            json!({"version": version.name, "resources": resources, "freshness": "Current"})
        };
        json!({"metadata": metadata, "versions": self.versions.iter().map(version).collect::<Vec<_>>()})
    }
}

fn aggregated_resource(one: &Served) -> Value {
    let mut value = json!({
        "resource": one.plural,
        "responseKind": {"group": one.group, "version": one.version, "kind": one.kind},
        "scope": if one.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": one.singular,
        "verbs": one.verbs,
    });
    let subresource = |sub: &ServedSubresource| {
        json!({
            "subresource": sub.name,
            "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind},
            "verbs": sub.verbs,
        })
    };
    let subresources: Vec<Value> = one.subresources.iter().map(subresource).collect();
    for (name, list) in
        [("shortNames", json!(one.short)), ("categories", json!(one.categories)), ("subresources", json!(subresources))]
    {
        if list.as_array().is_some_and(|list| !list.is_empty()) {
            value[name] = list;
        }
    }
    value
}

/// Eight bytes that change when the stored kind does, as upstream makes them.
fn storage_version_hash(one: &Served) -> String {
    let kind = format!("{}/{}/{}", one.group, one.version, one.kind);
    let hash = Sha256::digest(kind.as_bytes());
    STANDARD.encode(&hash[..8])
}

fn resource_list(served: &[Arc<Served>], group: &str, version: &str) -> Value {
    let mut resources: Vec<(String, Value)> = Vec::new();
    for one in served.iter().filter(|one| one.group == group && one.version == version) {
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
        resources.push((one.plural.to_string(), value));
        for sub in &one.subresources {
            let name = format!("{}/{}", one.plural, sub.name);
            let mut value = json!({"name": name, "singularName": "", "namespaced": one.namespaced});
            if (&sub.group, &sub.version) != (&one.group, &one.version) {
                value["group"] = json!(sub.group);
                value["version"] = json!(sub.version);
            }
            value["kind"] = json!(sub.kind);
            value["verbs"] = json!(sub.verbs);
            resources.push((name, value));
        }
    }
    resources.sort_by(|a, b| a.0.cmp(&b.0));
    let resources: Vec<Value> = resources.into_iter().map(|(_, value)| value).collect();
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version(group, version),
        "resources": resources,
    })
}
