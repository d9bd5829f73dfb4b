//! The options of a connect (exec, attach, port-forward, proxy) as the object that webhooks and policies are shown.

use serde_json::{Value, json};

/// `PodExecOptions` and the like from a request's query; `None` for what is no session.
pub fn options(plural: &str, subresource: &str, query: Option<&str>) -> Option<Value> {
    let pairs: Vec<(String, String)> =
        form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    let (kind, flags): (&str, &[&str]) = match (plural, subresource) {
        ("pods", "exec") => ("PodExecOptions", &["stdin", "stdout", "stderr", "tty"]),
        ("pods", "attach") => ("PodAttachOptions", &["stdin", "stdout", "stderr", "tty"]),
        ("pods", "portforward") => ("PodPortForwardOptions", &[]),
        ("pods", "proxy") => ("PodProxyOptions", &[]),
        ("services", "proxy") => ("ServiceProxyOptions", &[]),
        ("nodes", "proxy") => ("NodeProxyOptions", &[]),
        _ => return None,
    };
    let mut out = json!({"kind": kind, "apiVersion": "v1"});
    let last = |name: &str| pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    for flag in flags {
        // Given without a value it is meant, as upstream reads booleans.
        if last(flag).is_some_and(|value| !matches!(value, "false" | "0")) {
            out[*flag] = true.into();
        }
    }
    if let Some(container) = last("container").filter(|name| !name.is_empty())
        && matches!(subresource, "exec" | "attach")
    {
        out["container"] = container.into();
    }
    match subresource {
        "exec" => {
            let command: Vec<&str> = all(&pairs, "command").collect();
            if !command.is_empty() {
                out["command"] = json!(command);
            }
        }
        "portforward" => {
            let ports: Vec<i32> = all(&pairs, "ports").flat_map(|text| text.split(',')).flat_map(str::parse).collect();
            if !ports.is_empty() {
                out["ports"] = json!(ports);
            }
        }
        "proxy" => {
            if let Some(path) = last("path") {
                out["path"] = path.into();
            }
        }
        _ => {}
    }
    Some(out)
}

fn all<'a>(pairs: &'a [(String, String)], name: &'static str) -> impl Iterator<Item = &'a str> {
    pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec() {
        let options = options("pods", "exec", Some("stdin=true&tty=false&command=ls&command=-l&container=c"));
        let expected = json!({
            "kind": "PodExecOptions", "apiVersion": "v1", "stdin": true, "container": "c", "command": ["ls", "-l"]
        });
        assert_eq!(options, Some(expected));
    }
}
