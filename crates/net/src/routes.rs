//! Routes to the pods of the cluster's other nodes, where the nodes see each other directly: one route per node and
//! range, through the node's own address. What no route leads to is unreachable, see `links::ensure_unreachable`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::Node;

use crate::{Cidr, Family, Result, links};

/// Where each range of pods is: the range of a node to that node's address. Only ranges within `cluster_cidrs` that
/// overlap neither the own node's nor another one's: no node draws other traffic to itself. Pure.
pub fn plan<'a>(
    nodes: impl IntoIterator<Item = &'a Arc<Node>>,
    own_name: &str,
    cluster_cidrs: &[Cidr],
) -> BTreeMap<Cidr, IpAddr> {
    let (own, others): (Vec<_>, Vec<_>) =
        nodes.into_iter().partition(|node| node.metadata.name.as_deref() == Some(own_name));
    let own: Vec<Cidr> = own.into_iter().flat_map(|node| pod_cidrs(node)).collect();
    let mut routes: BTreeMap<Cidr, IpAddr> = BTreeMap::new();
    for node in others {
        for cidr in pod_cidrs(node) {
            let Some(gateway) = internal_ip(node, cidr.family()) else { continue };
            let within = cluster_cidrs.iter().any(|all| all.covers(&cidr));
            // Two nodes with one range: the first by name has it, as anywhere else in the network.
            let taken = own.iter().chain(routes.keys()).any(|known| known.overlaps(&cidr));
            if within && !taken {
                routes.insert(cidr, gateway);
            }
        }
    }
    routes
}

/// The ranges of a node's pods.
pub fn pod_cidrs(node: &Node) -> Vec<Cidr> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all = spec.pod_cidrs.as_deref().unwrap_or_default();
    let all = if all.is_empty() { spec.pod_cidr.as_slice() } else { all };
    all.iter().filter_map(|cidr| cidr.parse().ok()).collect()
}

fn internal_ip(node: &Node, family: Family) -> Option<IpAddr> {
    let addresses = node.status.as_ref()?.addresses.as_deref()?;
    let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).find(|ip| Family::of(*ip) == family)
}

/// Brings the node's routes to `routes`; the ones to nodes that went away are removed. A node that is not on a network
/// of this one is left out with a warning.
pub async fn apply(routes: &BTreeMap<Cidr, IpAddr>, metric: u32) -> Result<()> {
    let present = links::gateway_routes(metric).await?;
    for (cidr, gateway) in present.iter().filter(|(cidr, gateway)| routes.get(*cidr) != Some(*gateway)) {
        links::remove_gateway_route(*cidr, *gateway, metric).await?;
    }
    for (cidr, gateway) in routes.iter().filter(|(cidr, gateway)| present.get(*cidr) != Some(*gateway)) {
        if let Err(error) = links::add_gateway_route(*cidr, *gateway, metric).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%cidr, %gateway, error, "the pods of a node are not reachable");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, cidrs: &[&str], ip: &str) -> Arc<Node> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs},
                "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": ip}]},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn every_other_node_with_an_address_has_its_routes() {
        let nodes = [
            node("a", &["10.42.0.0/24"], "192.0.2.1"),
            node("b", &["10.42.1.0/24", "fd42:0:0:1::/64"], "192.0.2.2"),
            node("c", &[], "192.0.2.3"),
            node("d", &["10.42.3.0/24"], "none"),
            node("greedy", &["10.42.1.128/25"], "192.0.2.6"),
            node("outside", &["192.0.2.1/32"], "192.0.2.6"),
            node("whole", &["0.0.0.0/1"], "192.0.2.6"),
            node("yours", &["10.42.0.64/26"], "192.0.2.6"),
        ];
        let cluster = ["10.42.0.0/16".parse().unwrap(), "fd42::/48".parse().unwrap()];
        let expected = [("10.42.1.0/24".parse().unwrap(), "192.0.2.2".parse().unwrap())];
        assert_eq!(plan(&nodes, "a", &cluster), expected.into());
    }
}
