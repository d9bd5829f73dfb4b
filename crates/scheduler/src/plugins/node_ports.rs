//! NodePorts: host ports are had once per node.

use crate::framework::{ClusterEvent, Reason};
use crate::pod::PodInfo;
use crate::snapshot::NodeInfo;

pub struct Plugin;

impl crate::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<Reason>> {
        let taken = |port| node.host_ports.iter().any(|known| known.conflicts(port));
        if pod.host_ports.iter().any(taken) {
            return Err(vec![Reason::new("node(s) didn't have free ports for the requested pod ports")]);
        }
        Ok(())
    }

    fn requeue_on(&self) -> &'static [ClusterEvent] {
        &[ClusterEvent::NodeAdded, ClusterEvent::PodGone]
    }
}
