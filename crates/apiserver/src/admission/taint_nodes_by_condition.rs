//! TaintNodesByCondition: a new node takes no pods until its conditions are known to be good.
//!
//! Upstream: plugin/pkg/admission/nodetaint.

use api::Status;
use api::core::v1::{Node, Taint};
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Plugin;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const NO_SCHEDULE: &str = "NoSchedule";

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        operation == Operation::Create && group.is_empty() && resource == "nodes" && subresource.is_empty()
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if let Some(node) = request.object::<Node>() {
            taint(node);
        }
        done(Ok(()))
    }
}

fn taint(node: &mut Node) {
    let taints = node.spec.get_or_insert_default().taints.get_or_insert_default();
    if !taints.iter().any(|taint| taint.key == NOT_READY && taint.effect == NO_SCHEDULE) {
        taints.push(Taint { key: NOT_READY.to_owned(), effect: NO_SCHEDULE.to_owned(), ..Taint::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_node_is_tainted_once() {
        let mut node = Node::default();
        taint(&mut node);
        taint(&mut node);
        let taints = node.spec.unwrap().taints.unwrap();
        assert_eq!(taints.len(), 1);
        assert_eq!((taints[0].key.as_str(), taints[0].effect.as_str()), (NOT_READY, NO_SCHEDULE));
    }
}
