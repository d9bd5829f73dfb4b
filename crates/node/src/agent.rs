//! What all of the node's actors share: the runtime, the API, and the services around them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use api::Quantity;
use api::core::v1::{Pod, Service};
use base::{Clock, Random, TaskGroup};
use client::{Client, Reflector};
use cri::{Runtime, v1};
use tokio::sync::Semaphore;

use crate::cgroup::Cgroups;
use crate::config::dns::Cluster;
use crate::config::field::Known;
use crate::config::security::Host;
use crate::events::Events;
use crate::image::Images;
use crate::network::Network;
use crate::objects::Objects;
use crate::pod_certificates::PodCertificates;
use crate::pods::Pods;
use crate::token::Tokens;
use crate::volume::Volumes;

/// Fixed facts about the node.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub node_name: String,
    /// The node's addresses, the first one first.
    pub host_ips: Vec<String>,
    pub capacity: BTreeMap<String, Quantity>,
    pub allocatable: BTreeMap<String, Quantity>,
    /// The node's labels as it registers them.
    pub labels: BTreeMap<String, String>,
    pub memory_bytes: i64,
    pub runtime_name: String,
    pub cluster: Cluster,
    /// The node's own resolver configuration.
    pub host_dns: v1::DnsConfig,
    pub pod_logs_dir: String,
    pub data_dir: PathBuf,
    pub security: Host,
}

/// The node's actors' common ground. Shared as `Arc<Agent>`.
pub struct Agent {
    pub facts: Facts,
    pub runtime: Runtime,
    pub client: Client,
    pub events: Events,
    pub images: Images,
    pub objects: Objects,
    pub tokens: Tokens,
    pub pod_certificates: PodCertificates,
    pub volumes: Volumes,
    pub cgroups: Option<Cgroups>,
    /// The pods' network; `None`: it has no say in when a pod may begin.
    pub network: Option<Arc<dyn Network>>,
    pub services: Reflector<Service>,
    pub pods: Arc<Pods>,
    /// Wakes the node's status: something about the runtime changed.
    pub node_look: tokio::sync::Notify,
    /// Sandboxes and containers being made at once.
    pub starts: Semaphore,
    pub clock: Clock,
    pub random: Random,
    pub tasks: TaskGroup,
}

impl Agent {
    /// What a pod may know of itself, given its addresses.
    pub fn known<'a>(&'a self, pod_ips: &'a [String]) -> Known<'a> {
        Known { pod_ips, host_ips: &self.facts.host_ips, allocatable: Some(&self.facts.allocatable) }
    }

    /// Where a pod's logs are.
    pub fn log_dir(&self, p: &Pod) -> String {
        crate::config::sandbox::log_dir(&self.facts.pod_logs_dir, p)
    }
}

/// An error of the runtime as upstream shows it in events and statuses.
pub fn rpc_text(error: &cri::Error) -> String {
    let code = match error {
        cri::Error::NotFound(_) => "NotFound",
        cri::Error::Unavailable(_) => "Unavailable",
        cri::Error::Unimplemented => "Unimplemented",
        cri::Error::Invalid(_) => "InvalidArgument",
        cri::Error::Unsupported(_) => return error.to_string(),
        cri::Error::Deadline => "DeadlineExceeded",
        cri::Error::Failed { code, .. } => match code {
            6 => "AlreadyExists",
            7 => "PermissionDenied",
            8 => "ResourceExhausted",
            9 => "FailedPrecondition",
            10 => "Aborted",
            11 => "OutOfRange",
            13 => "Internal",
            15 => "DataLoss",
            16 => "Unauthenticated",
            _ => "Unknown",
        },
    };
    format!("rpc error: code = {code} desc = {error}")
}
