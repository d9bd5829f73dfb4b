//! Environment variables that name services (upstream `kubelet/envvars`).

use std::collections::BTreeMap;

use api::Object;
use api::core::v1::{Service, ServicePort};

/// The variables of all services that a pod in `namespace` sees: with `links` those of its own namespace, and always
/// the API's own service.
pub fn variables<'a>(
    services: impl Iterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut seen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let spec = service.spec.as_ref();
        let ip = spec.and_then(|s| s.cluster_ip.as_deref()).unwrap_or_default();
        if matches!(ip, "" | "None") {
            continue;
        }
        let master = service.namespace() == "default" && service.name() == "kubernetes";
        // The pod's own namespace wins over the API's service of the same name.
        if service.namespace() == namespace && links {
            seen.insert(service.name(), service);
        } else if master {
            seen.entry(service.name()).or_insert(service);
        }
    }
    let mut out = BTreeMap::new();
    for service in seen.values() {
        of_service(service, &mut out);
    }
    out
}

fn variable_name(text: &str) -> String {
    text.to_uppercase().replace('-', "_")
}

fn of_service(service: &Service, out: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let (Some(ip), Some(ports)) = (&spec.cluster_ip, &spec.ports) else { return };
    let Some(first) = ports.first() else { return };
    let name = variable_name(service.name());
    out.insert(format!("{name}_SERVICE_HOST"), ip.clone());
    out.insert(format!("{name}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            out.insert(format!("{name}_SERVICE_PORT_{}", variable_name(port_name)), port.port.to_string());
        }
    }
    out.insert(format!("{name}_PORT"), url(ip, first));
    for port in ports {
        let protocol = protocol(port);
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
        out.insert(prefix.clone(), url(ip, port));
        out.insert(format!("{prefix}_PROTO"), protocol.to_lowercase());
        out.insert(format!("{prefix}_PORT"), port.port.to_string());
        out.insert(format!("{prefix}_ADDR"), ip.clone());
    }
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn url(ip: &str, port: &ServicePort) -> String {
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    format!("{}://{host}:{}", protocol(port).to_lowercase(), port.port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    #[test]
    fn own_services_and_the_api() {
        let service = |text: &str| Service::decode(text.as_bytes()).unwrap();
        let all = [
            service(
                r#"{"metadata":{"namespace":"default","name":"kubernetes"},
                    "spec":{"clusterIP":"10.43.0.1","ports":[{"name":"https","port":443}]}}"#,
            ),
            service(
                r#"{"metadata":{"namespace":"n","name":"my-db"},"spec":{"clusterIP":"10.43.0.7","ports":[{"port":53,"protocol":"UDP"}]}}"#,
            ),
            service(
                r#"{"metadata":{"namespace":"n","name":"headless"},"spec":{"clusterIP":"None","ports":[{"port":1}]}}"#,
            ),
        ];
        let of = |links| variables(all.iter(), "n", links);
        assert_eq!(of(true)["MY_DB_PORT_53_UDP"], "udp://10.43.0.7:53");
        assert_eq!(of(true)["KUBERNETES_SERVICE_HOST"], "10.43.0.1");
        assert_eq!(of(true)["KUBERNETES_SERVICE_PORT_HTTPS"], "443");
        assert!(of(true).keys().all(|k| !k.starts_with("HEADLESS")));
        assert!(of(false).keys().all(|k| k.starts_with("KUBERNETES")));
    }
}
