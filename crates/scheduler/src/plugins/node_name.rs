//! NodeName: a pod that names its node goes there or nowhere.

use crate::framework::{ClusterEvent, Reason};
use crate::pod::PodInfo;
use crate::snapshot::NodeInfo;

pub struct Plugin;

impl crate::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<Reason>> {
        match pod.spec().and_then(|spec| spec.node_name.as_deref()) {
            Some(name) if !name.is_empty() && name != node.name() => {
                Err(vec![Reason::new("node(s) didn't match the requested node name")])
            }
            _ => Ok(()),
        }
    }

    fn requeue_on(&self) -> &'static [ClusterEvent] {
        &[ClusterEvent::NodeAdded]
    }
}
