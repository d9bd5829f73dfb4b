//! PodResizeValidator: a pod on a node does not grow beyond what the node has in all, and changes its size only where
//! that can be done.
//!
//! Upstream: plugin/pkg/admission/podresize.

use api::core::v1::{Node, Pod};
use api::quantity::amount;
use api::{Object, Status};
use futures_util::future::BoxFuture;

use super::{Operation, Request};

pub struct Plugin;

const OS: &str = "kubernetes.io/os";

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "PodResizeValidator"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        operation == Operation::Update && (group, resource, subresource) == ("", "pods", "resize")
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let before = request.old_object::<Pod>().and_then(|old| old.metadata.generation);
            let Some(pod) = request.object::<Pod>().cloned() else { return Ok(()) };
            let Some(name) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|name| !name.is_empty())
            else {
                return Ok(());
            };
            // The generation tells whether anything was asked for.
            if pod.metadata.generation == before {
                return Ok(());
            }
            let lookup = request.lookup();
            let node = match lookup.get::<Node>("", &name) {
                Some(node) => Some(node),
                None => lookup.get_live::<Node>("", &name).await?,
            };
            let Some(node) = node else { return Err(request.forbidden(&format!("node {name:?} not found"))) };
            check(&pod, &node).map_err(|why| request.forbidden(&why))
        })
    }
}

fn check(pod: &Pod, node: &Node) -> Result<(), String> {
    let asked = api::quota::requested(pod);
    let status = node.status.as_ref();
    let allocatable = |name: &str| status.and_then(|status| status.allocatable.as_ref()?.get(name)).map(amount);
    let (asked_cpu, cpu) = (asked.get("cpu").copied().unwrap_or_default(), allocatable("cpu").unwrap_or_default());
    let (asked_memory, memory) =
        (asked.get("memory").copied().unwrap_or_default(), allocatable("memory").unwrap_or_default());
    let mut wrong = Vec::new();
    for (name, asked, has) in
        [("cpu", asked_cpu.milli_value(), cpu.milli_value()), ("memory", asked_memory.value(), memory.value())]
    {
        if asked > has {
            wrong.push(format!("{name}, requested: {asked}, allocatable: {has}"));
        }
    }
    if !wrong.is_empty() {
        return Err(format!("Node didn't have enough allocatable resources: {}", wrong.join("; ")));
    }
    match node.label(OS) {
        Some("linux") => Ok(()),
        other => Err(format!(
            "pod resize is only supported on linux nodes, node {:?} is {:?}",
            node.name(),
            other.unwrap_or_default()
        )),
    }
}
