//! Paths: what is a resource request, what is not (upstream's `RequestInfo`). Total: any path has an answer.

use std::borrow::Cow;

use api::{Target, Verb};
use percent_encoding::percent_decode_str;

/// What a path and method ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    Resource {
        target: Target,
        /// `None`: the method has no verb.
        verb: Option<Verb>,
        /// What follows a `proxy` subresource, with its slash; `""` elsewhere.
        rest: String,
        /// More follows the subresource: only other API servers have such paths.
        deep: bool,
    },
    /// Any other path, without its trailing slash.
    Path(String),
    /// No path we serve anything at.
    Malformed,
}

/// Longest path taken.
const PATH_LEN_MAX: usize = 8 * 1024;

/// Reads a request's path. `watch` says that the query asks for a watch.
pub fn parse(method: &http::Method, path: &str, watch: bool) -> Asked {
    if path.len() > PATH_LEN_MAX || !path.starts_with('/') {
        return Asked::Malformed;
    }
    let Some((segments, rest)) = segments(path) else { return Asked::Malformed };
    let names: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    let (group, version, below) = match names.as_slice() {
        ["api", version, below @ ..] if !below.is_empty() => ("", *version, below),
        ["apis", group, version, below @ ..] if !below.is_empty() => (*group, *version, below),
        _ => return Asked::Path(format!("/{}", names.join("/"))),
    };
    let (legacy_watch, below) = match below {
        ["watch", below @ ..] if !below.is_empty() => (true, below),
        _ => (false, below),
    };
    let Some((mut target, deep)) = target(below) else { return Asked::Malformed };
    // The core group is always served here.
    if deep && group.is_empty() {
        return Asked::Malformed;
    }
    target.group = group.to_owned().into();
    target.version = version.to_owned().into();
    let verb = verb(method, target.name.is_some(), watch || legacy_watch);
    let rest = if target.subresource.as_deref() == Some("proxy") { rest } else { String::new() };
    Asked::Resource { target, verb, rest, deep }
}

/// Decoded segments; what lies below `.../proxy` is kept raw. `None` for paths that try to be clever.
fn segments(path: &str) -> Option<(Vec<Cow<'_, str>>, String)> {
    let mut segments = Vec::new();
    let mut at = 0;
    let raw = path.strip_suffix('/').filter(|_| !path.contains("/proxy/")).unwrap_or(path);
    for segment in raw.split('/').skip(1) {
        at += 1 + segment.len();
        let decoded = percent_decode_str(segment).decode_utf8().ok()?;
        if segment.is_empty() && raw == "/" || segment.is_empty() && raw.is_empty() {
            break;
        }
        if decoded.is_empty() || decoded == "." || decoded == ".." || decoded.contains(['/', '\0', '\\']) {
            return None;
        }
        let is_proxy = decoded == "proxy" && is_proxied(&segments);
        segments.push(decoded);
        if is_proxy {
            return Some((segments, path[at..].to_owned()));
        }
    }
    Some((segments, String::new()))
}

/// Whether a next segment `proxy` is a subresource rather than a name.
fn is_proxied(before: &[Cow<'_, str>]) -> bool {
    let names: Vec<&str> = before.iter().map(AsRef::as_ref).collect();
    matches!(names.as_slice(), ["api", _, "namespaces", _, "pods" | "services", _] | ["api", _, "nodes", _])
}

/// What is asked for, and whether more follows.
fn target(below: &[&str]) -> Option<(Target, bool)> {
    let named = |name: &str| Some(name.to_owned());
    let mut deep = false;
    let (namespace, resource, name, subresource) = match below {
        ["namespaces"] => (None, "namespaces", None, None),
        ["namespaces", name] => (None, "namespaces", named(name), None),
        ["namespaces", name, subresource @ ("status" | "finalize")] => {
            (None, "namespaces", named(name), Some(*subresource))
        }
        ["namespaces", namespace, resource] => (named(namespace), *resource, None, None),
        ["namespaces", namespace, resource, name] => (named(namespace), *resource, named(name), None),
        ["namespaces", namespace, resource, name, subresource] => {
            (named(namespace), *resource, named(name), Some(*subresource))
        }
        ["namespaces", namespace, resource, name, subresource, ..] => {
            deep = true;
            (named(namespace), *resource, named(name), Some(*subresource))
        }
        [resource] => (None, *resource, None, None),
        [resource, name] => (None, *resource, named(name), None),
        [resource, name, subresource, after @ ..] => {
            deep = !after.is_empty();
            (None, *resource, named(name), Some(*subresource))
        }
        [] => return None,
    };
    let target = Target {
        resource: resource.to_owned().into(),
        subresource: subresource.map(|subresource| subresource.to_owned().into()),
        namespace,
        name,
        ..Target::default()
    };
    Some((target, deep))
}

fn verb(method: &http::Method, named: bool, watch: bool) -> Option<Verb> {
    Some(match (method.as_str(), named) {
        ("GET", _) if watch => Verb::Watch,
        ("GET" | "HEAD", true) => Verb::Get,
        ("GET" | "HEAD", false) => Verb::List,
        ("POST", _) => Verb::Create,
        ("PUT", _) => Verb::Update,
        ("PATCH", _) => Verb::Patch,
        ("DELETE", true) => Verb::Delete,
        ("DELETE", false) => Verb::DeleteCollection,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn shown(path: &str) -> String {
        match parse(&Method::GET, path, false) {
            Asked::Resource { target: t, verb, rest, deep } => format!(
                "{}/{}/{} {}/{}/{} {} {rest}{}",
                t.group,
                t.version,
                t.resource,
                t.namespace.unwrap_or_default(),
                t.name.unwrap_or_default(),
                t.subresource.unwrap_or_default(),
                verb.map_or("", Verb::as_str),
                if deep { "..." } else { "" },
            )
            .trim()
            .to_owned(),
            Asked::Path(path) => path,
            Asked::Malformed => "malformed".to_owned(),
        }
    }

    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        let cases = [
            ("/", "/"),
            ("/api", "/api"),
            ("/api/v1", "/api/v1"),
            ("/api/v1/", "/api/v1"),
            ("/apis/apps/v1", "/apis/apps/v1"),
            ("/healthz/etcd", "/healthz/etcd"),
            ("/api/v1/pods", "/v1/pods // list"),
            ("/api/v1/pods/", "/v1/pods // list"),
            ("/api/v1/namespaces", "/v1/namespaces // list"),
            ("/api/v1/namespaces/a", "/v1/namespaces /a/ get"),
            ("/api/v1/namespaces/a/finalize", "/v1/namespaces /a/finalize get"),
            ("/api/v1/namespaces/a/pods", "/v1/pods a// list"),
            ("/api/v1/namespaces/a/pods/b", "/v1/pods a/b/ get"),
            ("/api/v1/namespaces/a/pods/b/log", "/v1/pods a/b/log get"),
            ("/api/v1/namespaces/a/pods/b/proxy", "/v1/pods a/b/proxy get"),
            ("/api/v1/namespaces/a/pods/b/proxy/", "/v1/pods a/b/proxy get /"),
            ("/api/v1/namespaces/a/pods/b/proxy/x//y/../z%2f", "/v1/pods a/b/proxy get /x//y/../z%2f"),
            ("/api/v1/namespaces/a/services/https:b:9/proxy/x", "/v1/services a/https:b:9/proxy get /x"),
            ("/api/v1/namespaces/a/configmaps/proxy", "/v1/configmaps a/proxy/ get"),
            ("/api/v1/nodes/n/proxy/logs/x", "/v1/nodes /n/proxy get /logs/x"),
            ("/apis/apps/v1/namespaces/a/deployments/b/scale", "apps/v1/deployments a/b/scale get"),
            ("/api/v1/watch/namespaces/a/pods", "/v1/pods a// watch"),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "rbac.authorization.k8s.io/v1/clusterroles /system:node/ get",
            ),
            ("/apis/x.io/v1/namespaces/a/vms/b/portforward/22/tcp", "x.io/v1/vms a/b/portforward get ..."),
            ("/apis/x.io/v1/vms/b/log/c", "x.io/v1/vms /b/log get ..."),
            ("//api/v1/pods", "malformed"),
            ("/api//v1/pods", "malformed"),
            ("/api/v1/namespaces/../secrets", "malformed"),
            ("/api/v1/namespaces/%2e%2e/secrets", "malformed"),
            ("/api/v1/namespaces/a%2Fsecrets", "malformed"),
            ("/api/v1/namespaces/a/pods/b/log/c", "malformed"),
            ("/api/v1/pods/%ff", "malformed"),
            ("/api/v1/pods/a%00", "malformed"),
            ("*", "malformed"),
            ("", "malformed"),
        ];
        for (path, expected) in cases {
            assert_eq!(shown(path), expected, "{path}");
        }
    }

    #[test]
    fn methods_become_verbs() {
        let verb = |method: Method, path, watch| match parse(&method, path, watch) {
            Asked::Resource { verb, .. } => verb,
            _ => None,
        };
        assert_eq!(verb(Method::POST, "/api/v1/namespaces/a/pods", false), Some(Verb::Create));
        assert_eq!(verb(Method::DELETE, "/api/v1/namespaces/a/pods", false), Some(Verb::DeleteCollection));
        assert_eq!(verb(Method::DELETE, "/api/v1/namespaces/a/pods/b", false), Some(Verb::Delete));
        assert_eq!(verb(Method::GET, "/api/v1/pods", true), Some(Verb::Watch));
        assert_eq!(verb(Method::HEAD, "/api/v1/pods", false), Some(Verb::List));
        assert_eq!(verb(Method::OPTIONS, "/api/v1/pods", false), None);
    }
}
