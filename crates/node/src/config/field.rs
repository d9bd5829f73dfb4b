//! The downward API: a pod's own fields and resources as text.

use std::collections::BTreeMap;

use api::core::v1::{Container, Pod, ResourceFieldSelector};
use api::{Object, Quantity};

use super::ConfigError;
use crate::{amount, pod};

/// What is known of the pod beside its spec.
#[derive(Debug, Clone, Default)]
pub struct Known<'a> {
    pub pod_ips: &'a [String],
    pub host_ips: &'a [String],
    /// The node's allocatable resources: what a container without a limit may use.
    pub allocatable: Option<&'a BTreeMap<String, Quantity>>,
}

/// The text of a `fieldRef`.
pub fn value(p: &Pod, path: &str, known: &Known<'_>) -> Result<String, ConfigError> {
    let empty = BTreeMap::new();
    let labels = p.metadata.labels.as_ref().unwrap_or(&empty);
    let annotations = p.metadata.annotations.as_ref().unwrap_or(&empty);
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        return match map {
            "metadata.labels" => Ok(labels.get(key).cloned().unwrap_or_default()),
            "metadata.annotations" => Ok(annotations.get(key).cloned().unwrap_or_default()),
            _ => Err(ConfigError::new(format!("fieldPath {path:?} does not support subscript"))),
        };
    }
    let text = match path {
        "metadata.name" => p.name().to_owned(),
        "metadata.namespace" => p.namespace().to_owned(),
        "metadata.uid" => p.uid().to_owned(),
        "metadata.labels" => lines(labels),
        "metadata.annotations" => lines(annotations),
        "spec.nodeName" => pod::spec(p).node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => pod::spec(p).service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => known.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => known.host_ips.join(","),
        "status.podIP" => known.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => known.pod_ips.join(","),
        _ => return Err(ConfigError::new(format!("unsupported fieldPath: {path}"))),
    };
    Ok(text)
}

/// `key="value"` a line, values quoted as Go quotes them.
fn lines(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={}", go_quote(value))).collect::<Vec<_>>().join("\n")
}

fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The text of a `resourceFieldRef`. `own` is the container it stands in, where it names no other.
pub fn resource(
    p: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    known: &Known<'_>,
) -> Result<String, ConfigError> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let found = named.and_then(|name| pod::find_container(p, name));
    let container = match (named, own) {
        (Some(name), _) => found.as_ref().ok_or_else(|| ConfigError::new(format!("container {name} not found")))?,
        (None, Some(own)) => own,
        (None, None) => return Err(ConfigError::new("a container name is needed")),
    };
    let resources = container.resources.as_ref();
    let limit = |name: &str| resources.and_then(|r| r.limits.as_ref()).and_then(|m| m.get(name)).map(amount::nano);
    let request = |name: &str| resources.and_then(|r| r.requests.as_ref()).and_then(|m| m.get(name)).map(amount::nano);
    let whole_node = |name: &str| known.allocatable.and_then(|m| m.get(name)).map_or(0, amount::nano);
    let (kind, name) = selector.resource.split_once('.').unwrap_or(("", &selector.resource));
    let nano = match kind {
        "limits" => limit(name).filter(|n| *n != 0).unwrap_or_else(|| whole_node(name)),
        "requests" => request(name).or_else(|| limit(name)).unwrap_or(0),
        _ => return Err(ConfigError::new(format!("unsupported container resource : {}", selector.resource))),
    };
    let divisor = selector.divisor.as_ref().map(amount::nano).filter(|n| *n != 0).unwrap_or(1_000_000_000);
    Ok(amount::ceil(nano, divisor).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    #[test]
    fn fields_and_resources() {
        let p = Pod::decode(
            br#"{"metadata":{"name":"p","labels":{"a":"1","b":"x\"y"}},"spec":{"containers":[
                {"name":"c","resources":{"limits":{"cpu":"250m","memory":"64Mi"}}}]}}"#,
        )
        .unwrap();
        let ips = ["10.0.0.1".to_owned(), "fd00::1".to_owned()];
        let allocatable = BTreeMap::from([("ephemeral-storage".to_owned(), Quantity("10Gi".into()))]);
        let known = Known { pod_ips: &ips, host_ips: &[], allocatable: Some(&allocatable) };
        assert_eq!(value(&p, "metadata.labels", &known).unwrap(), "a=\"1\"\nb=\"x\\\"y\"");
        assert_eq!(value(&p, "metadata.labels['a']", &known).unwrap(), "1");
        assert_eq!(value(&p, "status.podIPs", &known).unwrap(), "10.0.0.1,fd00::1");
        assert!(value(&p, "spec.nothing", &known).is_err());
        let ask = |resource: &str, divisor: &str| {
            let selector = ResourceFieldSelector {
                container_name: Some("c".into()),
                divisor: Some(Quantity(divisor.into())),
                resource: resource.into(),
            };
            super::resource(&p, None, &selector, &known).unwrap()
        };
        assert_eq!(ask("limits.cpu", "1"), "1");
        assert_eq!(ask("limits.cpu", "1m"), "250");
        assert_eq!(ask("requests.memory", "1Mi"), "64");
        assert_eq!(ask("limits.ephemeral-storage", "1Gi"), "10");
    }
}
