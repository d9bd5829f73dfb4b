//! Where a request for logs, exec and the like is passed on to.

use std::sync::Arc;

use api::core::v1::{Container, Endpoints, Node, Pod, Service};
use api::{FieldErrors, Object, Path, Reason, Status, Target};
use http::request;

use super::super::query::Query;
use crate::{Server, registry};

/// The kubelet's port, if its node does not say.
const KUBELET_PORT: u16 = 10250;
/// Which of a node's addresses is taken.
const ADDRESS_TYPES: &[&str] = &["InternalIP", "ExternalIP", "Hostname"];

/// How a backend is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// TLS with the server's own client certificate.
    Kubelet,
    /// Plain HTTP, to a pod.
    Plain,
}

/// A backend and the path there, with its query.
#[derive(Debug, Clone)]
pub struct Location {
    pub scheme: Scheme,
    pub hostname: String,
    pub port: u16,
    pub path: String,
}

impl Location {
    /// `host:port`.
    pub fn host(&self) -> String {
        if self.hostname.contains(':') {
            format!("[{}]:{}", self.hostname, self.port)
        } else {
            format!("{}:{}", self.hostname, self.port)
        }
    }
}

/// The backend of a request; `None` for logs that cannot exist yet.
pub async fn find(
    server: &Arc<Server>,
    target: &Target,
    subresource: &str,
    rest: &str,
    parts: &request::Parts,
    query: &Query<'_>,
) -> Result<Option<Location>, Status> {
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let name = target.name.as_deref().unwrap_or_default();
    match (&*target.resource, subresource) {
        ("nodes", _) => {
            let path = with_query(if rest.is_empty() { "/" } else { rest }, parts.uri.query());
            kubelet(server, name, path).await.map(Some)
        }
        ("services", _) => service(server, namespace, name, rest, parts).await.map(Some),
        ("pods", "proxy") => pod_proxy(server, namespace, name, rest, parts).await.map(Some),
        _ => {
            let pod = server.lookup().get_live::<Pod>(namespace, name).await?;
            let pod = pod.ok_or_else(|| Status::not_found("", "pods", name))?;
            of_pod(server, &pod, subresource, query).await
        }
    }
}

async fn of_pod(
    server: &Arc<Server>,
    pod: &Pod,
    subresource: &str,
    query: &Query<'_>,
) -> Result<Option<Location>, Status> {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    let path = path_at_kubelet(pod, subresource, query)?;
    if node.is_empty() {
        if subresource == "log" {
            return Ok(None);
        }
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", pod.name())));
    }
    kubelet(server, node, path).await.map(Some)
}

fn path_at_kubelet(pod: &Pod, subresource: &str, query: &Query<'_>) -> Result<String, Status> {
    let (namespace, name) = (pod.namespace(), pod.name());
    let mut out = form_urlencoded::Serializer::new(String::new());
    let path = match subresource {
        "log" => {
            let container = container(pod, query.get("container").unwrap_or_default())?;
            log_query(query, &mut out)?;
            format!("/containerLogs/{namespace}/{name}/{container}")
        }
        "exec" | "attach" => {
            let container = container(pod, query.get("container").unwrap_or_default())?;
            stream_query(query, subresource, &mut out)?;
            format!("/{subresource}/{namespace}/{name}/{container}")
        }
        _ => {
            for port in query.all("ports").chain(query.all("port")).flat_map(|ports| ports.split(',')) {
                out.append_pair("port", port);
            }
            format!("/portForward/{namespace}/{name}")
        }
    };
    let query = out.finish();
    Ok(with_query(&path, Some(&query).filter(|query| !query.is_empty()).map(String::as_str)))
}

fn with_query(path: &str, query: Option<&str>) -> String {
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

/// The container meant: the one named, or the only one.
fn container(pod: &Pod, asked: &str) -> Result<String, Status> {
    let name = pod.name();
    let spec = pod.spec.clone().unwrap_or_default();
    let init = spec.init_containers.unwrap_or_default();
    if !asked.is_empty() {
        let ephemeral = spec.ephemeral_containers.unwrap_or_default();
        let known = spec.containers.iter().chain(&init).any(|own| own.name == asked)
            || ephemeral.iter().any(|own| own.name == asked);
        return if known {
            Ok(asked.to_owned())
        } else {
            Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")))
        };
    }
    let names = |all: &[Container]| all.iter().map(|own| own.name.as_str()).collect::<Vec<_>>().join(" ");
    match spec.containers.as_slice() {
        [only] => Ok(only.name.clone()),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
        many => {
            let mut why =
                format!("a container name must be specified for pod {name}, choose one of: [{}]", names(many));
            if !init.is_empty() {
                why.push_str(&format!(" or one of the init containers: [{}]", names(&init)));
            }
            Err(Status::bad_request(why))
        }
    }
}

type Out<'a> = form_urlencoded::Serializer<'a, String>;

/// The parameters of logs, checked (upstream's `ValidatePodLogOptions`).
fn log_query(query: &Query<'_>, out: &mut Out<'_>) -> Result<(), Status> {
    let mut errors = FieldErrors::new();
    for flag in ["follow", "previous", "timestamps"] {
        if query.flag(flag)?.unwrap_or(false) {
            out.append_pair(flag, "true");
        }
    }
    for (key, min, why) in [
        ("sinceSeconds", 1, "must be greater than 0"),
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
    ] {
        let Some(text) = query.get(key).filter(|text| !text.is_empty()) else { continue };
        let number: i64 = text
            .parse()
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
        if number < min {
            errors.invalid(&Path::new(key), number, why);
        }
        out.append_pair(key, text);
    }
    if let Some(time) = query.get("sinceTime").filter(|text| !text.is_empty()) {
        if query.get("sinceSeconds").is_some_and(|text| !text.is_empty()) {
            errors.forbidden(&Path::new(""), "at most one of `sinceTime` or `sinceSeconds` may be specified");
        }
        out.append_pair("sinceTime", time);
    }
    if let Some(stream) = query.get("stream").filter(|text| !text.is_empty()) {
        if !matches!(stream, "All" | "Stdout" | "Stderr") {
            errors.not_supported(&Path::new("stream"), stream, &["All", "Stdout", "Stderr"]);
        }
        out.append_pair("stream", stream);
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "PodLogOptions", "", &errors)) }
}

/// The parameters of exec and attach, under the names that kubelets know.
fn stream_query(query: &Query<'_>, subresource: &str, out: &mut Out<'_>) -> Result<(), Status> {
    for (key, kubelet) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.flag(key)?.unwrap_or(false) {
            out.append_pair(kubelet, "1");
        }
    }
    if subresource == "exec" {
        for word in query.all("command") {
            out.append_pair("command", word);
        }
    }
    Ok(())
}

async fn kubelet(server: &Arc<Server>, node: &str, path: String) -> Result<Location, Status> {
    let found = server.lookup().get_live::<Node>("", node).await?;
    let found = found.ok_or_else(|| Status::not_found("", "nodes", node))?;
    let status = found.status.clone().unwrap_or_default();
    let addresses = status.addresses.unwrap_or_default();
    let address = ADDRESS_TYPES.iter().find_map(|wanted| addresses.iter().find(|own| own.type_ == *wanted));
    let Some(address) = address else {
        let known: Vec<String> = addresses.iter().map(|own| format!("{{{} {}}}", own.type_, own.address)).collect();
        let why = format!("no preferred addresses found; known addresses: [{}]", known.join(" "));
        return Err(registry::plain(Reason::InternalError, &why));
    };
    let port = status.daemon_endpoints.and_then(|all| all.kubelet_endpoint).map(|endpoint| endpoint.port);
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(KUBELET_PORT);
    Ok(Location { scheme: Scheme::Kubelet, hostname: address.address.clone(), port, path })
}

/// `[scheme:]name[:port]`.
fn split_name(text: &str) -> Result<(&str, &str), Status> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [name] => Ok((name, "")),
        [name, port] => Ok((name, port)),
        ["" | "http", name, port] => Ok((name, port)),
        ["https", _, _] => Err(registry::plain(
            Reason::ServiceUnavailable,
            "proxying to an https backend is refused: its certificate cannot be verified",
        )),
        _ => Err(Status::bad_request(format!("invalid pod or service request {text:?}"))),
    }
}

fn below(rest: &str, parts: &request::Parts) -> String {
    with_query(if rest.is_empty() { "/" } else { rest }, parts.uri.query())
}

async fn pod_proxy(
    server: &Arc<Server>,
    namespace: &str,
    name: &str,
    rest: &str,
    parts: &request::Parts,
) -> Result<Location, Status> {
    let (name, port) = split_name(name)?;
    let pod = server.lookup().get_live::<Pod>(namespace, name).await?;
    let pod = pod.ok_or_else(|| Status::not_found("", "pods", name))?;
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
    let port = match port {
        "" => ports.next().map_or(Some(80), |port| u16::try_from(port.container_port).ok()),
        named => named.parse().ok().or_else(|| {
            let found = ports.find(|port| port.name.as_deref() == Some(named))?;
            u16::try_from(found.container_port).ok()
        }),
    };
    let port = port.ok_or_else(|| Status::bad_request(format!("invalid port of pod {name:?}")))?;
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).filter(|ip| !ip.is_empty());
    let ip = ip.ok_or_else(|| Status::bad_request("address not allowed"))?;
    Ok(Location { scheme: Scheme::Plain, hostname: ip, port, path: below(rest, parts) })
}

async fn service(
    server: &Arc<Server>,
    namespace: &str,
    name: &str,
    rest: &str,
    parts: &request::Parts,
) -> Result<Location, Status> {
    let (name, port) = split_name(name)?;
    let lookup = server.lookup();
    let found = lookup.get_live::<Service>(namespace, name).await?;
    let found = found.ok_or_else(|| Status::not_found("", "services", name))?;
    let ports = found.spec.as_ref().and_then(|spec| spec.ports.clone()).unwrap_or_default();
    let wanted = match port {
        "" => ports.first(),
        _ => ports.iter().find(|own| own.name.as_deref() == Some(port) || own.port.to_string() == port),
    };
    let wanted =
        wanted.ok_or_else(|| Status::unavailable(format!("no service port {port:?} found for service {name:?}")))?;
    let none = || Status::unavailable(format!("no endpoints available for service {name:?}"));
    let endpoints = lookup.get_live::<Endpoints>(namespace, name).await?;
    let endpoints = endpoints.ok_or_else(|| Status::not_found("", "endpoints", name))?;
    for subset in endpoints.subsets.iter().flatten() {
        let own = subset
            .ports
            .iter()
            .flatten()
            .find(|own| own.name.as_deref().unwrap_or_default() == wanted.name.as_deref().unwrap_or_default());
        let addresses = subset.addresses.as_deref().unwrap_or_default();
        let (Some(own), false) = (own, addresses.is_empty()) else { continue };
        let chosen = server.options().random.below(addresses.len() as u64);
        let address = &addresses[usize::try_from(chosen).unwrap_or_default()];
        let port = u16::try_from(own.port).map_err(|_| none())?;
        return Ok(Location { scheme: Scheme::Plain, hostname: address.ip.clone(), port, path: below(rest, parts) });
    }
    Err(none())
}
