//! Endpoints: The addresses behind a Service, in the older form; EndpointSlice is the newer.

use api::core::v1::{EndpointAddress, EndpointPort, Endpoints};

use crate::checks;
use crate::prelude::*;

/// How many addresses the column shows.
const SHOWN_MAX: usize = 3;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Endpoints;

    const NAMES: Names = Names::new("endpoints", "endpoints").short(&["ep"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "services/endpoints" };
    const CREATE_ON_UPDATE: bool = true;
    const DEPRECATED: Option<&'static str> =
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice");
    const COLUMNS: &'static [Column<Endpoints>] = &[
        Column::name(),
        Column::new("Endpoints", "string", |endpoints, _| Value::from(addresses_text(endpoints)))
            .describe("Addresses and ports that are ready."),
        Column::age(),
    ];

    fn default(endpoints: &mut Endpoints) {
        let ports = endpoints.subsets.iter_mut().flatten().flat_map(|subset| subset.ports.iter_mut().flatten());
        for port in ports.filter(|port| port.protocol.as_deref().is_none_or(str::is_empty)) {
            port.protocol = Some("TCP".to_owned());
        }
    }

    fn validate(endpoints: &Endpoints) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for (index, subset) in endpoints.subsets.iter().flatten().enumerate() {
            let path = Path::new("subsets").index(index);
            let ready = subset.addresses.as_deref().unwrap_or_default();
            let unready = subset.not_ready_addresses.as_deref().unwrap_or_default();
            if ready.is_empty() && unready.is_empty() {
                errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
            }
            for (name, addresses) in [("addresses", ready), ("notReadyAddresses", unready)] {
                for (index, address) in addresses.iter().enumerate() {
                    validate_address(&mut errors, &path.child(name).index(index), address);
                }
            }
            let ports = subset.ports.as_deref().unwrap_or_default();
            for (index, port) in ports.iter().enumerate() {
                validate_port(&mut errors, &path.child("ports").index(index), port, ports.len() > 1);
            }
        }
        errors
    }
}

fn validate_address(errors: &mut FieldErrors, path: &Path, address: &EndpointAddress) {
    let ip_path = path.child("ip");
    checks::ip(errors, &ip_path, &address.ip);
    if let Some(name) = address.hostname.as_deref().filter(|name| !name.is_empty()) {
        checks::dns_label(errors, &path.child("hostname"), name);
    }
    if let Some(name) = &address.node_name {
        checks::dns_subdomain(errors, &path.child("nodeName"), name);
    }
    checks::non_special_ip(errors, &ip_path, &address.ip);
}

fn validate_port(errors: &mut FieldErrors, path: &Path, port: &EndpointPort, name_required: bool) {
    match port.name.as_deref().unwrap_or_default() {
        "" if name_required => errors.required(&path.child("name"), ""),
        "" => {}
        name => checks::dns_label(errors, &path.child("name"), name),
    }
    checks::port(errors, &path.child("port"), port.port);
    checks::protocol(errors, &path.child("protocol"), port.protocol.as_deref());
    if let Some(protocol) = &port.app_protocol {
        checks::qualified(errors, &path.child("appProtocol"), protocol);
    }
}

fn addresses_text(endpoints: &Endpoints) -> String {
    let mut all = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ips: Vec<&str> = subset.addresses.iter().flatten().map(|address| address.ip.as_str()).collect();
        match subset.ports.as_deref().unwrap_or_default() {
            [] => all.extend(ips.iter().map(|ip| (*ip).to_owned())),
            ports => {
                for port in ports {
                    let join = |ip: &&str| match ip.contains(':') {
                        true => format!("[{ip}]:{}", port.port),
                        false => format!("{ip}:{}", port.port),
                    };
                    all.extend(ips.iter().map(join));
                }
            }
        }
    }
    if all.is_empty() { "<none>".to_owned() } else { crate::column::some_of(&all, SHOWN_MAX) }
}

#[cfg(test)]
mod tests {
    use super::Strategy as EndpointsStrategy;
    use crate::Strategy as _;
    use api::Typed;
    use api::core::v1::Endpoints;
    use serde_json::json;

    #[test]
    fn the_column_shows_three() {
        let text = |value| super::addresses_text(&Endpoints::from_value(value).unwrap());
        assert_eq!(text(json!({})), "<none>");
        let addresses = json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]);
        assert_eq!(
            text(json!({"subsets": [{"addresses": addresses, "ports": [{"name": "a", "port": 1}, {"name": "b",
                    "port": 2}]}]})),
            "10.0.0.1:1,10.0.0.2:1,10.0.0.1:2 + 1 more..."
        );
        assert_eq!(text(json!({"subsets": [{"addresses": addresses}]})), "10.0.0.1,10.0.0.2");
    }

    #[test]
    fn addresses_must_be_reachable() {
        let mut endpoints = Endpoints::from_value(json!({"subsets": [
            {"ports": [{"port": 0}]}, {"addresses": [{"ip": "127.0.0.1"}]}]}))
        .unwrap();
        EndpointsStrategy::default(&mut endpoints);
        assert_eq!(
            EndpointsStrategy::validate(&endpoints).to_string(),
            "[subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`, subsets[0].ports[0].port: \
             Invalid value: 0: must be between 1 and 65535, inclusive, subsets[1].addresses[0].ip: Invalid value: \
             \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)]"
        );
    }
}
