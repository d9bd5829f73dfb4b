//! EndpointSlice: Some of the addresses behind a Service.

use std::collections::BTreeSet;

use api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use crate::checks;
use crate::column::some_of;
use crate::prelude::*;

const ADDRESS_TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const HINTS_MAX: usize = 8;
const SHOWN_MAX: usize = 3;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = EndpointSlice;

    const NAMES: Names = Names::new("endpointslices", "endpointslice");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "endpointslices" };
    const COLUMNS: &'static [Column<EndpointSlice>] = &[
        Column::name(),
        Column::new("AddressType", "string", |slice: &EndpointSlice, _| Value::from(slice.address_type.as_str()))
            .describe("IPv4, IPv6 or FQDN."),
        Column::new("Ports", "string", |slice: &EndpointSlice, _| {
            let text = |port: &EndpointPort| match (port.port, &port.name) {
                (Some(number), _) => number.to_string(),
                (None, Some(name)) if !name.is_empty() => name.clone(),
                _ => "*".to_owned(),
            };
            unset_or(&slice.ports.iter().flatten().map(text).collect::<Vec<_>>())
        })
        .describe("The ports of the addresses."),
        Column::new("Endpoints", "string", |slice: &EndpointSlice, _| {
            let addresses = slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.iter().cloned());
            unset_or(&addresses.collect::<Vec<_>>())
        })
        .describe("The addresses."),
        Column::age(),
    ];

    fn default(slice: &mut EndpointSlice) {
        for port in slice.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn prepare_create(slice: &mut EndpointSlice) {
        slice.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut EndpointSlice, old: &EndpointSlice) {
        let changed = new.address_type != old.address_type
            || !checks::same(&new.endpoints, &old.endpoints)
            || !checks::same(&new.ports, &old.ports)
            || new.metadata.labels != old.metadata.labels;
        let generation = old.metadata.generation.unwrap_or_default();
        new.metadata.generation = Some(if changed { generation + 1 } else { generation });
    }

    fn validate(slice: &EndpointSlice) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let type_ = slice.address_type.as_str();
        checks::one_of(&mut errors, &Path::new("addressType"), Some(type_), &ADDRESS_TYPES);
        let endpoints = slice.endpoints.as_deref().unwrap_or_default();
        let path = Path::new("endpoints");
        if endpoints.len() > ENDPOINTS_MAX {
            errors.too_many(&path, endpoints.len(), ENDPOINTS_MAX);
        } else {
            for (index, endpoint) in endpoints.iter().enumerate() {
                validate_endpoint(&mut errors, &path.index(index), endpoint, type_);
            }
        }
        validate_ports(&mut errors, &Path::new("ports"), slice.ports.as_deref().unwrap_or_default());
        errors
    }

    fn validate_update(new: &EndpointSlice, old: &EndpointSlice) -> FieldErrors {
        let mut errors = Self::validate(new);
        checks::immutable(&mut errors, &Path::new("addressType"), &new.address_type, &old.address_type);
        errors
    }
}

fn unset_or(all: &[String]) -> Value {
    Value::from(if all.is_empty() { "<unset>".to_owned() } else { some_of(all, SHOWN_MAX) })
}

fn validate_endpoint(errors: &mut FieldErrors, path: &Path, endpoint: &Endpoint, type_: &str) {
    let addresses_path = path.child("addresses");
    match endpoint.addresses.len() {
        0 => errors.required(&addresses_path, "must contain at least 1 address"),
        count if count > ADDRESSES_MAX => errors.too_many(&addresses_path, count, ADDRESSES_MAX),
        _ => {}
    }
    for (index, address) in endpoint.addresses.iter().enumerate() {
        validate_address(errors, &addresses_path.index(index), address, type_);
    }
    if let Some(name) = &endpoint.hostname {
        checks::dns_label(errors, &path.child("hostname"), name);
    }
    if let Some(name) = &endpoint.node_name {
        checks::dns_subdomain(errors, &path.child("nodeName"), name);
    }
    if let Some(zone) = &endpoint.zone {
        checks::problems(errors, &path.child("zone"), zone.as_str(), api::name::label_value(zone));
    }
    let Some(hints) = &endpoint.hints else { return };
    let path = path.child("hints");
    let zones: Vec<&str> = hints.for_zones.iter().flatten().map(|zone| zone.name.as_str()).collect();
    validate_hints(errors, &path.child("forZones"), &zones, api::name::label_value);
    let nodes: Vec<&str> = hints.for_nodes.iter().flatten().map(|node| node.name.as_str()).collect();
    validate_hints(errors, &path.child("forNodes"), &nodes, |name| api::name::dns1123_subdomain(name, false));
}

fn validate_hints(errors: &mut FieldErrors, path: &Path, names: &[&str], rule: impl Fn(&str) -> Vec<String>) {
    if names.len() > HINTS_MAX {
        errors.too_many(path, names.len(), HINTS_MAX);
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let path = path.index(index).child("name");
        if seen.insert(name) {
            checks::problems(errors, &path, *name, rule(name));
        } else {
            errors.duplicate(&path, *name);
        }
    }
}

fn validate_address(errors: &mut FieldErrors, path: &Path, address: &str, type_: &str) {
    let parsed = checks::parse_ip(address);
    match type_ {
        "IPv4" | "IPv6" => {
            if parsed.is_none_or(|ip| ip.is_ipv4() != (type_ == "IPv4")) {
                errors.invalid(path, address, format!("must be a valid {type_} address"));
            }
            checks::non_special_ip(errors, path, address);
        }
        "FQDN" if address.is_empty() => errors.required(path, ""),
        "FQDN" => {
            let name = address.strip_suffix('.').unwrap_or(address);
            let problems = api::name::dns1123_subdomain(name, false);
            if problems.is_empty() && !name.contains('.') {
                let why = "should be a domain with at least two segments separated by dots";
                errors.invalid(path, address, why);
            }
            checks::problems(errors, path, address, problems);
        }
        _ => {}
    }
}

fn validate_ports(errors: &mut FieldErrors, path: &Path, ports: &[EndpointPort]) {
    if ports.len() > PORTS_MAX {
        errors.too_many(path, ports.len(), PORTS_MAX);
        return;
    }
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            checks::dns_label(errors, &path.child("name"), name);
        }
        checks::unique(errors, &path.child("name"), &mut names, name);
        checks::protocol(errors, &path.child("protocol"), port.protocol.as_deref());
        if let Some(protocol) = &port.app_protocol {
            checks::qualified(errors, &path.child("appProtocol"), protocol);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Strategy as Slices;
    use crate::Strategy as _;
    use api::Typed;
    use api::discovery::v1::EndpointSlice;
    use serde_json::{Value, json};

    fn slice(value: Value) -> EndpointSlice {
        let mut slice = EndpointSlice::from_value(value).unwrap();
        Slices::default(&mut slice);
        slice
    }

    #[test]
    fn addresses_fit_their_type() {
        let check = |type_: &str, address: &str| {
            let slice = slice(json!({"addressType": type_, "endpoints": [{"addresses": [address]}]}));
            Slices::validate(&slice).to_string()
        };
        assert_eq!(check("IPv4", "10.0.0.1"), "[]");
        assert_eq!(check("FQDN", "a.example"), "[]");
        assert_eq!(
            check("IPv4", "fd00::1"),
            "endpoints[0].addresses[0]: Invalid value: \"fd00::1\": must be a valid IPv4 address"
        );
        assert_eq!(
            check("Other", "x"),
            "addressType: Unsupported value: \"Other\": supported values: \"FQDN\", \"IPv4\", \"IPv6\""
        );
    }

    #[test]
    fn the_generation_and_the_columns() {
        let mut old = slice(json!({"addressType": "IPv4", "ports": [{"port": 80}],
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.3"]},
                {"addresses": ["10.0.0.4"]}]}));
        Slices::prepare_create(&mut old);
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let cells: Vec<Value> = Slices::COLUMNS.iter().map(|column| (column.cell)(&old, now)).collect();
        assert_eq!(cells[1..4], ["IPv4", "80", "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more..."]);
        let mut new = old.clone();
        Slices::prepare_update(&mut new, &old);
        assert_eq!(new.metadata.generation, Some(1));
        new.endpoints = None;
        Slices::prepare_update(&mut new, &old);
        assert_eq!(new.metadata.generation, Some(2));
    }
}
