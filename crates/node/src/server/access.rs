//! Who may use the node's API: what a request is called when permission is asked (upstream's kubelet authorizer
//! attributes), and the rule that lets the API server alone in.

use std::sync::Arc;

use http::Method;
use pki::PeerIdentity;

use super::Later;

/// Decides on a request. A place for a SubjectAccessReview; [`only`] asks nobody.
pub type Authorize = Arc<dyn Fn(Arc<PeerIdentity>, Attributes) -> Later<bool> + Send + Sync>;

/// What a request wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `create`, ...
    pub verb: &'static str,
    /// Of the resource `nodes`: `stats`, `metrics`, `log`, `pods`, `healthz`, or `proxy` for all else.
    pub subresource: &'static str,
    /// The node's name.
    pub name: String,
    /// The path as it is.
    pub path: String,
}

impl Attributes {
    /// Of a request.
    pub fn of(method: &Method, path: &str, node_name: &str) -> Self {
        let verb = match *method {
            Method::POST => "create",
            Method::GET => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        let below = |top: &str| path == top || path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
        let subresource = match path {
            _ if below("/stats") => "stats",
            _ if below("/metrics") => "metrics",
            _ if below("/logs") => "log",
            _ if below("/pods") || below("/runningpods") => "pods",
            _ if below("/healthz") => "healthz",
            _ => "proxy",
        };
        Self { verb, subresource, name: node_name.to_owned(), path: path.to_owned() }
    }

    /// What a user is told who may not.
    pub fn refusal(&self, user: &str) -> String {
        let Self { verb, subresource, .. } = self;
        format!("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{subresource}])")
    }
}

/// Lets these users in, and everybody in these groups, whatever they want; nobody else.
pub fn only(users: &[&str], groups: &[&str]) -> Authorize {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let (users, groups) = (owned(users), owned(groups));
    Arc::new(move |peer, _| {
        let allowed =
            users.contains(&peer.common_name) || peer.organizations.iter().any(|group| groups.contains(group));
        Box::pin(std::future::ready(allowed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes() {
        let table = [
            (Method::GET, "/stats/summary", "get", "stats"),
            (Method::GET, "/metrics/cadvisor", "get", "metrics"),
            (Method::GET, "/pods", "get", "pods"),
            (Method::POST, "/exec/ns/pod/c", "create", "proxy"),
            (Method::GET, "/containerLogs/ns/pod/c", "get", "proxy"),
            (Method::GET, "/podsx", "get", "proxy"),
        ];
        for (method, path, verb, subresource) in table {
            let attributes = Attributes::of(&method, path, "n");
            assert_eq!((attributes.verb, attributes.subresource), (verb, subresource), "{path}");
        }
        let refusal = Attributes::of(&Method::GET, "/pods", "n").refusal("eve");
        assert_eq!(refusal, "Forbidden (user=eve, verb=get, resource=nodes, subresource(s)=[pods])");
    }
}
