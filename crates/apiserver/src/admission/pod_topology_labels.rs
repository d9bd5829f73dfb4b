//! PodTopologyLabels: a pod that is put on a node is told the zone and the region it is in.
//!
//! Upstream: plugin/pkg/admission/podtopologylabels.

use std::collections::BTreeMap;

use api::core::v1::{Binding, Node, Pod};
use api::{Object, Status};
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Plugin;

const KEYS: &[&str] = &["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        operation == Operation::Create
            && group.is_empty()
            && matches!((resource, subresource), ("pods", "" | "binding") | ("bindings", ""))
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let lookup = request.lookup();
        let topology = |node: &str| lookup.get::<Node>("", node).map(|node| topology_of(&node));
        if let Some(binding) = request.object::<Binding>() {
            let to_node = matches!(binding.target.kind.as_deref().unwrap_or_default(), "" | "Node");
            let node = binding.target.name.clone().unwrap_or_default();
            if let Some(labels) = topology(&node).filter(|labels| to_node && !labels.is_empty()) {
                binding.metadata.labels.get_or_insert_default().extend(labels);
            }
        } else if let Some(pod) = request.object::<Pod>() {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
            if let Some(labels) = topology(&node).filter(|labels| !labels.is_empty()) {
                pod.metadata.labels.get_or_insert_default().extend(labels);
            }
        }
        done(Ok(()))
    }
}

fn topology_of(node: &Node) -> BTreeMap<String, String> {
    let label = |key: &&str| Some(((*key).to_owned(), node.label(key)?.to_owned()));
    KEYS.iter().filter_map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_and_region_and_nothing_else() {
        let mut node = Node::default();
        assert!(topology_of(&node).is_empty());
        let labels = [("topology.kubernetes.io/zone", "z"), ("topology.kubernetes.io/rack", "r"), ("a", "b")];
        node.metadata.labels = Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        let found: Vec<_> = topology_of(&node).into_iter().collect();
        assert_eq!(found, [("topology.kubernetes.io/zone".to_owned(), "z".to_owned())]);
    }
}
