//! The paths of the node's API (upstream's kubelet server). Pure.

use percent_encoding::percent_decode_str;

/// A container as a path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPath {
    pub namespace: String,
    pub pod: String,
    /// When the client insists on one pod of that name.
    pub uid: Option<String>,
    pub container: String,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    Healthz,
    Metrics,
    ResourceMetrics,
    Pods,
    StatsSummary,
    Logs(ContainerPath),
    Exec(ContainerPath),
    Attach(ContainerPath),
    PortForward { namespace: String, pod: String, uid: Option<String> },
}

/// What `path` asks; `None`: nothing that is known.
pub fn parse(path: &str) -> Option<Route> {
    let decode = |part: &str| percent_decode_str(part).decode_utf8().ok().map(|text| text.into_owned());
    let trimmed = path.strip_prefix('/')?;
    let parts: Vec<String> = trimmed.trim_end_matches('/').split('/').map(decode).collect::<Option<_>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    let container = |namespace: &str, pod: &str, uid: Option<&str>, container: &str| ContainerPath {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        uid: uid.map(str::to_owned),
        container: container.to_owned(),
    };
    Some(match *parts {
        ["healthz"] | ["healthz", "ping" | "log"] => Route::Healthz,
        ["metrics"] => Route::Metrics,
        ["metrics", "resource"] => Route::ResourceMetrics,
        ["pods"] => Route::Pods,
        ["stats", "summary"] => Route::StatsSummary,
        ["containerLogs", namespace, pod, name] => Route::Logs(container(namespace, pod, None, name)),
        ["exec", namespace, pod, name] => Route::Exec(container(namespace, pod, None, name)),
        ["exec", namespace, pod, uid, name] => Route::Exec(container(namespace, pod, Some(uid), name)),
        ["attach", namespace, pod, name] => Route::Attach(container(namespace, pod, None, name)),
        ["attach", namespace, pod, uid, name] => Route::Attach(container(namespace, pod, Some(uid), name)),
        ["portForward", namespace, pod] => {
            Route::PortForward { namespace: namespace.to_owned(), pod: pod.to_owned(), uid: None }
        }
        ["portForward", namespace, pod, uid] => {
            Route::PortForward { namespace: namespace.to_owned(), pod: pod.to_owned(), uid: Some(uid.to_owned()) }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let c = |uid: Option<&str>| ContainerPath {
            namespace: "ns".into(),
            pod: "p".into(),
            uid: uid.map(str::to_owned),
            container: "c".into(),
        };
        let table = [
            ("/healthz", Some(Route::Healthz)),
            ("/pods/", Some(Route::Pods)),
            ("/containerLogs/ns/p/c", Some(Route::Logs(c(None)))),
            ("/exec/ns/p/u/c", Some(Route::Exec(c(Some("u"))))),
            ("/attach/n%73/p/c", Some(Route::Attach(c(None)))),
            ("/portForward/ns/p", Some(Route::PortForward { namespace: "ns".into(), pod: "p".into(), uid: None })),
            ("/exec/ns//c", None),
            ("/exec/ns/p", None),
            ("/nothing", None),
            ("/", None),
            ("*", None),
        ];
        for (path, expected) in table {
            assert_eq!(parse(path), expected, "{path}");
        }
    }
}
