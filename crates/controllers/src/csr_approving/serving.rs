//! Whether a node's request for a serving certificate says what is so: its own name, and addresses that its Node has
//! and nobody else. Pure.
//!
//! Upstream approves none of these and leaves them to a person or an add-on.

use std::net::IpAddr;
use std::sync::Arc;

use api::Object;
use api::core::v1::Node;
use pki::Csr;

const PREFIX: &str = "system:node:";

/// What keeps the request from being approved, if something does. `username` is who asks, `nodes` are all there are,
/// `api_server_names` what the API server's own certificate is for.
pub fn problem(csr: &Csr, username: &str, nodes: &[Arc<Node>], api_server_names: &[String]) -> Option<String> {
    if username != csr.common_name {
        return Some(format!("{username} asks for a certificate of {}", csr.common_name));
    }
    let name = csr.common_name.strip_prefix(PREFIX).unwrap_or_default();
    let Some(own) = nodes.iter().find(|node| node.name() == name) else {
        return Some(format!("there is no Node {name}"));
    };
    let is_api_server = |wanted: &str| api_server_names.iter().any(|own| own.eq_ignore_ascii_case(wanted));
    let is_api_servers = |wanted: IpAddr| api_server_names.iter().any(|own| own.parse() == Ok(wanted));
    for dns_name in &csr.dns_names {
        if dns_name != name {
            return Some(format!("{dns_name} is not the node's name"));
        }
        if is_api_server(dns_name) {
            return Some(format!("{dns_name} is a name of the API server"));
        }
        if dns_name.ends_with(".svc") || dns_name.contains(".svc.") {
            return Some(format!("{dns_name} is a name that a Service may have"));
        }
    }
    let addresses = addresses(own);
    for ip in &csr.ip_addresses {
        // Clients may take it for the IPv4 address it holds.
        if *ip != ip.to_canonical() {
            return Some(format!("{ip} is an IPv4 address in the form of IPv6"));
        }
        if !addresses.contains(ip) {
            return Some(format!("{ip} is not an address of Node {name}"));
        }
        if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() {
            return Some(format!("{ip} is an address of every machine"));
        }
        if is_api_servers(*ip) {
            return Some(format!("{ip} is an address of the API server"));
        }
        if let Some(other) = nodes.iter().find(|other| other.name() != name && self::addresses(other).contains(ip)) {
            return Some(format!("{ip} is an address of Node {} too", other.name()));
        }
    }
    None
}

fn addresses(node: &Node) -> Vec<IpAddr> {
    let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    all.filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"))
        .filter_map(|address| address.address.parse::<IpAddr>().ok())
        .map(|ip| ip.to_canonical())
        .collect()
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use serde_json::json;

    use super::*;

    fn node(name: &str, ips: &[&str]) -> Arc<Node> {
        let addresses: Vec<_> = ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
        Arc::new(Node::from_value(json!({"metadata": {"name": name}, "status": {"addresses": addresses}})).unwrap())
    }

    /// What is said of `system:node:<name>` that asks for these.
    fn said(name: &str, dns_names: &[&str], ips: &[&str]) -> String {
        let key = pki::PrivateKey::generate().unwrap();
        let dns_names: Vec<String> = dns_names.iter().map(|name| (*name).to_owned()).collect();
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let user = format!("system:node:{name}");
        let pem = pki::csr::create(&key, &user, &["system:nodes".to_owned()], &dns_names, &ips).unwrap();
        let nodes = [
            node("a", &["192.0.2.1", "192.0.2.9", "127.0.0.1", "10.43.0.1", "::ffff:192.0.2.4"]),
            node("hooks.shop.svc", &["192.0.2.5"]),
            node("b", &["192.0.2.2", "192.0.2.9"]),
            node("kubernetes", &["192.0.2.3"]),
        ];
        let api_server = ["kubernetes".to_owned(), "10.43.0.1".to_owned()];
        problem(&Csr::from_pem(&pem).unwrap(), &user, &nodes, &api_server).unwrap_or_default()
    }

    #[test]
    fn a_node_has_certificates_for_itself_alone() {
        assert_eq!(said("a", &["a"], &["192.0.2.1"]), "");
        assert_eq!(said("b", &[], &["192.0.2.2"]), "");
        assert_eq!(said("a", &[], &["192.0.2.4"]), "");
        assert_eq!(said("a", &[], &["::ffff:192.0.2.4"]), "::ffff:192.0.2.4 is an IPv4 address in the form of IPv6");
        assert_eq!(
            said("hooks.shop.svc", &["hooks.shop.svc"], &[]),
            "hooks.shop.svc is a name that a Service may have"
        );
        assert_eq!(said("c", &["c"], &[]), "there is no Node c");
        assert_eq!(said("a", &["b"], &[]), "b is not the node's name");
        assert_eq!(said("kubernetes", &["kubernetes"], &[]), "kubernetes is a name of the API server");
        assert_eq!(said("kubernetes", &[], &["192.0.2.3"]), "");
        assert_eq!(said("a", &["a"], &["192.0.2.1", "192.0.2.2"]), "192.0.2.2 is not an address of Node a");
        assert_eq!(said("a", &["a"], &["192.0.2.9"]), "192.0.2.9 is an address of Node b too");
        assert_eq!(said("a", &["a"], &["127.0.0.1"]), "127.0.0.1 is an address of every machine");
        assert_eq!(said("a", &["a"], &["10.43.0.1"]), "10.43.0.1 is an address of the API server");
    }

    #[test]
    fn nobody_asks_for_another_node() {
        let key = pki::PrivateKey::generate().unwrap();
        let pem = pki::csr::create(&key, "system:node:a", &["system:nodes".to_owned()], &["a".to_owned()], &[]);
        let csr = Csr::from_pem(&pem.unwrap()).unwrap();
        let nodes = [node("a", &[])];
        let said = problem(&csr, "system:node:b", &nodes, &[]);
        assert_eq!(said.as_deref(), Some("system:node:b asks for a certificate of system:node:a"));
    }
}
