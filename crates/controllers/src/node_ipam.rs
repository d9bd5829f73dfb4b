//! Gives every node its share of the pod network: a /24 of the cluster CIDR (a /64 for IPv6).
//!
//! Upstream: pkg/controller/nodeipam, range allocator.

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Node;
use api::{Object, call::PatchKind};
use client::{Client, Error, ListOptions};
use serde_json::json;

use crate::harness::{Actor, Context, Read, Write};
use crate::service_cidr::prefix::Prefix;

const NODE_PREFIX_V4: u8 = 24;
const NODE_PREFIX_V6: u8 = 64;

pub struct Controller;

impl Actor for Controller {
    const NAME: &'static str = "node-ipam-controller";
    type Primary = Node;
    /// One at a time: two nodes must never be given the same range.
    const WORKERS: usize = 1;

    fn reads() -> Vec<Read> {
        Vec::new()
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<Node>(&["patch", "update"])]
    }

    async fn act(&self, node: Arc<Node>, context: &Context, client: &Client) -> Result<Option<Duration>, Error> {
        if !ranges_of(&node).is_empty() || node.is_terminating() || context.facts.cluster_cidrs.is_empty() {
            return Ok(None);
        }
        // A consistent list, and not the view, which may not show the last allocation yet.
        let nodes = client.list::<Node>(&ListOptions::default()).await?;
        let taken: Vec<Prefix> =
            nodes.items.iter().flat_map(|node| ranges_of(node)).filter_map(|range| range.parse().ok()).collect();
        let mut ranges = Vec::new();
        for cidr in &context.facts.cluster_cidrs {
            match free(cidr, &taken) {
                Some(range) => ranges.push(range),
                None => {
                    tracing::warn!(node = node.name(), cidr, "the pod network has no range left for the node");
                    return Ok(Some(Duration::from_secs(30)));
                }
            }
        }
        let patch = json!({
            "metadata": {"uid": node.uid()},
            "spec": {"podCIDR": ranges[0], "podCIDRs": ranges},
        });
        client.patch::<Node>("", node.name(), None, PatchKind::Strategic, &patch).await?;
        Ok(None)
    }
}

fn ranges_of(node: &Node) -> Vec<String> {
    let Some(spec) = &node.spec else { return Vec::new() };
    match &spec.pod_cidrs {
        Some(ranges) if !ranges.is_empty() => ranges.clone(),
        _ => spec.pod_cidr.clone().into_iter().collect(),
    }
}

/// The first range of a node's size in `cidr` that overlaps none that is taken; `None` if there is none (or the CIDR is
/// no CIDR).
fn free(cidr: &str, taken: &[Prefix]) -> Option<String> {
    let cidr: Prefix = cidr.parse().ok()?;
    let len = if cidr.is_ipv4() { NODE_PREFIX_V4 } else { NODE_PREFIX_V6 };
    cidr.first_free(len, taken).map(|free| free.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_given_out_in_order_and_run_out() {
        let mut taken: Vec<Prefix> = Vec::new();
        for wanted in ["10.42.0.0/24", "10.42.1.0/24"] {
            assert_eq!(free("10.42.0.0/23", &taken).as_deref(), Some(wanted));
            taken.push(wanted.parse().unwrap());
        }
        assert_eq!(free("10.42.0.0/23", &taken), None);
        assert_eq!(free("fd00::/56", &taken).as_deref(), Some("fd00::/64"));
        let odd: Vec<Prefix> = ["10.42.0.128/25", "10.42.2.0/23"].map(|range| range.parse().unwrap()).into();
        assert_eq!(free("10.42.0.0/21", &odd).as_deref(), Some("10.42.1.0/24"), "a part of a range is taken too");
    }
}
