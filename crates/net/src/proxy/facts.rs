//! What the service proxy knows of the node it runs on. Pure data.

use std::net::IpAddr;

use crate::{Cidr, Family, names};

/// The bit of the packet mark that asks for masquerading; the same one as upstream's proxy uses.
pub const MASQUERADE_MARK: u32 = 0x4000;

/// The node, as the compiler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The instance's name: names the table.
    pub instance: String,
    /// The node's name, by which endpoints are known to be local.
    pub node_name: String,
    /// The node's zone, for topology hints.
    pub zone: Option<String>,
    /// The addresses of all pods of the cluster. Families without one are not served.
    pub cluster_cidrs: Vec<Cidr>,
    /// The addresses of Services. What is in them and not assigned is rejected.
    pub service_cidrs: Vec<Cidr>,
    /// The addresses of this node's pods, masqueraded when they talk to the outside. Empty: somebody else does that.
    pub pod_cidrs: Vec<Cidr>,
    /// The bridge the pods hang on. `None`: the pod network is somebody else's.
    pub bridge: Option<String>,
    /// Addresses of the node that answer node ports; empty: all of them, loopback included.
    pub node_port_addresses: Vec<Cidr>,
}

impl Facts {
    /// The name of the table.
    pub fn table(&self) -> String {
        names::table(&self.instance)
    }

    /// The families the cluster has Services in.
    pub fn families(&self) -> Vec<Family> {
        [Family::V4, Family::V6]
            .into_iter()
            .filter(|family| self.service_cidrs.iter().any(|cidr| cidr.family() == *family))
            .collect()
    }

    /// Whether `addr` is a Service's by its range.
    pub fn is_service_address(&self, addr: IpAddr) -> bool {
        self.service_cidrs.iter().any(|cidr| cidr.contains(addr))
    }
}
