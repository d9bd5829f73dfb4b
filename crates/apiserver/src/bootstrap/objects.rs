//! The objects every cluster has, as they are wanted.
//!
//! Pure.

use std::collections::BTreeMap;

use api::core::v1::{
    ConfigMap, EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Namespace, Service, ServicePort, ServiceSpec,
};
use api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort as SlicePort, EndpointSlice};
use api::meta::v1::ObjectMeta;
use api::scheduling::v1::PriorityClass;
use api::{IntOrString, Object};

use super::{Options, policy};

/// The namespaces that are always there.
pub const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
/// The priority classes that are always there: name, value, description.
pub const PRIORITY_CLASSES: &[(&str, i32, &str)] = &[
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];
/// The ConfigMap in `kube-system` with what all nodes are told alike.
pub const NODE_SETTINGS: &str = "pintle-nodes";
const KUBERNETES: &str = "kubernetes";
const PORT_NAME: &str = "https";
const SERVICE_PORT: i32 = 443;

fn metadata(namespace: &str, name: &str, labels: &[(&str, &str)]) -> ObjectMeta {
    let labels: BTreeMap<String, String> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        labels: (!labels.is_empty()).then_some(labels),
        ..ObjectMeta::default()
    }
}

/// The system namespaces.
pub fn namespaces() -> Vec<Box<dyn Object>> {
    let namespace = |name: &&str| Namespace { metadata: metadata("", name, &[]), ..Namespace::default() };
    NAMESPACES.iter().map(|name| Box::new(namespace(name)) as Box<dyn Object>).collect()
}

/// Everything but the namespaces.
pub fn all(options: &Options) -> Vec<Box<dyn Object>> {
    let mut all: Vec<Box<dyn Object>> = Vec::new();
    let boxed = |object: Box<dyn Object>| object;
    all.extend(policy::cluster_roles().into_iter().map(|role| boxed(Box::new(role))));
    all.extend(policy::cluster_role_bindings().into_iter().map(|binding| boxed(Box::new(binding))));
    all.extend(policy::roles().into_iter().map(|role| boxed(Box::new(role))));
    all.extend(policy::role_bindings().into_iter().map(|binding| boxed(Box::new(binding))));
    for (role, binding) in policy::controllers::roles(&options.extra) {
        all.push(Box::new(role));
        all.push(Box::new(binding));
    }
    all.extend(PRIORITY_CLASSES.iter().map(|class| boxed(Box::new(priority_class(*class)))));
    all.push(Box::new(extension_authentication(&options.client_ca_pem, &options.front_proxy_ca_pem)));
    if !options.node_settings.is_empty() {
        all.push(Box::new(node_settings(options)));
    }
    all.push(Box::new(service(options)));
    all.push(Box::new(endpoints(options)));
    all.push(Box::new(endpoint_slice(options)));
    all
}

fn priority_class((name, value, description): (&str, i32, &str)) -> PriorityClass {
    PriorityClass {
        metadata: metadata("", name, &[]),
        value: Some(value),
        description: Some(description.to_owned()),
        ..PriorityClass::default()
    }
}

fn node_settings(options: &Options) -> ConfigMap {
    ConfigMap {
        metadata: metadata("kube-system", NODE_SETTINGS, &[]),
        data: Some(options.node_settings.clone()),
        ..ConfigMap::default()
    }
}

/// What an extension API server must know to trust the clients this one vouches for.
pub fn extension_authentication(client_ca_pem: &str, front_proxy_ca_pem: &str) -> ConfigMap {
    let mut data = BTreeMap::from([("client-ca-file".to_owned(), client_ca_pem.to_owned())]);
    if !front_proxy_ca_pem.is_empty() {
        let lists = [
            ("allowed-names", crate::authn::FRONT_PROXY),
            ("extra-headers-prefix", "X-Remote-Extra-"),
            ("group-headers", "X-Remote-Group"),
            ("uid-headers", "X-Remote-Uid"),
            ("username-headers", "X-Remote-User"),
        ];
        data.extend(lists.map(|(key, value)| (format!("requestheader-{key}"), format!("[{value:?}]"))));
        data.insert("requestheader-client-ca-file".to_owned(), front_proxy_ca_pem.to_owned());
    }
    ConfigMap {
        metadata: metadata("kube-system", "extension-apiserver-authentication", &[]),
        data: Some(data),
        ..ConfigMap::default()
    }
}

fn service(options: &Options) -> Service {
    let family = if options.service_ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let ip = options.service_ip.to_string();
    let port = ServicePort {
        name: Some(PORT_NAME.to_owned()),
        port: SERVICE_PORT,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::Int(i32::from(options.port))),
        ..ServicePort::default()
    };
    Service {
        metadata: metadata("default", KUBERNETES, &[("component", "apiserver"), ("provider", KUBERNETES)]),
        spec: Some(ServiceSpec {
            cluster_ip: Some(ip.clone()),
            cluster_ips: Some(vec![ip]),
            ip_families: Some(vec![family.to_owned()]),
            ip_family_policy: Some("SingleStack".to_owned()),
            ports: Some(vec![port]),
            session_affinity: Some("None".to_owned()),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn endpoints(options: &Options) -> Endpoints {
    let port = EndpointPort {
        name: Some(PORT_NAME.to_owned()),
        port: i32::from(options.port),
        protocol: Some("TCP".to_owned()),
        ..EndpointPort::default()
    };
    let address = EndpointAddress { ip: options.advertise_address.to_string(), ..EndpointAddress::default() };
    Endpoints {
        metadata: metadata("default", KUBERNETES, &[("endpointslice.kubernetes.io/skip-mirror", "true")]),
        subsets: Some(vec![EndpointSubset {
            addresses: Some(vec![address]),
            not_ready_addresses: None,
            ports: Some(vec![port]),
        }]),
    }
}

fn endpoint_slice(options: &Options) -> EndpointSlice {
    let port = SlicePort {
        name: Some(PORT_NAME.to_owned()),
        port: Some(i32::from(options.port)),
        protocol: Some("TCP".to_owned()),
        ..SlicePort::default()
    };
    let endpoint = Endpoint {
        addresses: vec![options.advertise_address.to_string()],
        conditions: Some(EndpointConditions { ready: Some(true), ..EndpointConditions::default() }),
        ..Endpoint::default()
    };
    EndpointSlice {
        address_type: if options.advertise_address.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned(),
        endpoints: Some(vec![endpoint]),
        metadata: metadata("default", KUBERNETES, &[("kubernetes.io/service-name", KUBERNETES)]),
        ports: Some(vec![port]),
    }
}
