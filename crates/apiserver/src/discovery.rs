//! Discovery: which groups, versions, resources and verbs are served, in the old form (one document a group and
//! version) and the aggregated one (`apidiscovery.k8s.io/v2`).
//!
//! [`answer`] takes a path and the request's headers and answers a finished [`Document`], also of
//! [`crate::openapi`]; `None` means that the path is neither's. A document is written when it is first asked for, and
//! kept until the set of resources changes.

use std::borrow::Cow;
use std::collections::HashMap;

use std::sync::{Arc, OnceLock};

use api::Status;
use bytes::Bytes;
use http::HeaderMap;
use resources::{AnyStrategy, Scope, Storage, Subresource};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::document::{Shape, Syntax};
use self::group::Group;
use crate::Server;
use crate::aggregation::priority::Priorities;
use crate::openapi::OpenApi;

pub(crate) mod document;
pub(crate) mod elsewhere;
mod group;
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
    pub digest: Digested,
}

/// A digest of everything else that is known of a resource, made when it is first asked for.
#[derive(Clone, Default)]
pub struct Digested(OnceLock<[u8; 32]>);

impl std::fmt::Debug for Digested {
    /// Nothing: it is no part of what it is made of.
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

impl Served {
    /// Changes when anything does that is known of it.
    pub fn digest(&self) -> &[u8; 32] {
        self.digest.0.get_or_init(|| Sha256::digest(format!("{self:?}")).into())
    }
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
            digest: Digested::default(),
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

/// Discovery's documents for one set of resources, each written when it is first asked for.
pub struct Discovery {
    groups: Vec<Group>,
    documents: HashMap<String, Plain>,
    /// `/api` and `/apis` in the aggregated form, each with its ETag.
    aggregated: [OnceLock<(Bytes, String)>; 2],
}

/// A document of the old form.
struct Plain {
    about: About,
    text: OnceLock<Bytes>,
}

/// What a document is about; groups and versions by their places.
#[derive(Debug, Clone, Copy)]
enum About {
    Core,
    Groups,
    Group(usize),
    Version(usize, usize),
}

impl Discovery {
    /// Writes nothing yet.
    pub fn new(served: &[Arc<Served>], elsewhere: &[Arc<Elsewhere>], priorities: &Priorities) -> Self {
        let groups = group::all(served, elsewhere, priorities);
        let mut documents = HashMap::new();
        let mut put = |path: String, about: About| documents.insert(path, Plain { about, text: OnceLock::new() });
        put("/api".into(), About::Core);
        put("/apis".into(), About::Groups);
        for (at, group) in groups.iter().enumerate() {
            let path = if group.name.is_empty() { "/api".to_owned() } else { format!("/apis/{}", group.name) };
            // What is served elsewhere is asked there.
            for (own, version) in group.versions.iter().enumerate().filter(|(_, own)| own.elsewhere.is_none()) {
                put(format!("{path}/{}", version.name), About::Version(at, own));
            }
            if !group.name.is_empty() {
                put(path, About::Group(at));
            }
        }
        Self { groups, documents, aggregated: Default::default() }
    }

    fn named(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| !group.name.is_empty())
    }

    fn write(&self, about: About) -> Bytes {
        let value = match about {
            About::Core => {
                let core = self.groups.iter().find(|group| group.name.is_empty());
                json!({"kind": "APIVersions", "versions": core.map(Group::versions).unwrap_or_default()})
            }
            About::Groups => {
                let list: Vec<Value> = self.named().map(Group::describe).collect();
                json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})
            }
            About::Group(at) => {
                let mut value = json!({"kind": "APIGroup", "apiVersion": "v1"});
                if let (Value::Object(value), Value::Object(own)) = (&mut value, self.groups[at].describe()) {
                    value.extend(own);
                }
                value
            }
            About::Version(at, own) => self.groups[at].resource_list(&self.groups[at].versions[own]),
        };
        Bytes::from(value.to_string())
    }

    /// `/api` or `/apis` in the aggregated form, and its ETag.
    fn aggregated(&self, path: &str) -> Option<&(Bytes, String)> {
        let core = match path {
            "/api" => true,
            "/apis" => false,
            _ => return None,
        };
        Some(self.aggregated[usize::from(core)].get_or_init(|| {
            let groups = self.groups.iter().filter(|group| group.name.is_empty() == core);
            let body = Bytes::from(group::aggregated(groups));
            let etag = document::etag(&body);
            (body, etag)
        }))
    }

    fn answer(&self, path: &str, headers: &Headers) -> Option<Result<Document, Status>> {
        let plain = self.documents.get(path)?;
        let found = headers.accepted().into_iter().find_map(|wanted| match wanted.discovery()? {
            (syntax, Shape::Aggregated) => {
                // There is no aggregated YAML.
                let content_type = match syntax {
                    Syntax::Json => AGGREGATED,
                    Syntax::Protobuf => AGGREGATED_PROTOBUF,
                    Syntax::Yaml => return None,
                };
                let (body, etag) = self.aggregated(path)?;
                let document = written(body.clone(), syntax);
                Some(document.map(|bytes| Document::new(content_type, bytes).tagged(etag, "public")))
            }
            (syntax, Shape::Plain) => {
                let content_type = match syntax {
                    Syntax::Json => JSON,
                    Syntax::Yaml => YAML,
                    Syntax::Protobuf => PROTOBUF,
                };
                let plain = plain.text.get_or_init(|| self.write(plain.about));
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
