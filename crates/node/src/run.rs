//! The way in: options, what can go wrong at the start, and the actors put together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use api::core::v1::{Pod, Taint};
use base::{Clock, Random, TaskGroup};
use client::{Client, ListOptions, Recorder, Reflector};
use cri::{Runtime, v1};
use tokio::sync::{Notify, Semaphore, watch};

use crate::agent::{Agent, Facts};
use crate::cgroup::Cgroups;
use crate::config::{dns, security};
use crate::events::Events;
use crate::image::Images;
use crate::network::Network;
use crate::node::{Registration, Service, lease, machine};
use crate::objects::Objects;
use crate::pod_certificates::PodCertificates;
use crate::pods::Pods;
use crate::token::Tokens;
use crate::volume::{Sources, Volumes};
use crate::{log_rotation, pod_source, runtime_events};

/// Why the node agent could not be started. What goes wrong later is logged, told in events and tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory cannot be made or read. Not retryable without a change on the machine.
    #[error("cannot make or read {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The container runtime does not answer. Retryable.
    #[error("the container runtime does not answer")]
    Runtime(#[source] cri::Error),
}

/// What the node agent is told.
pub struct Options {
    /// The node's name in the API.
    pub node_name: String,
    /// The node's addresses, the first one first.
    pub node_ips: Vec<String>,
    pub runtime: Runtime,
    /// A client that acts as `system:node:<node_name>`.
    pub client: Client,
    pub clock: Clock,
    pub random: Random,
    pub tasks: TaskGroup,
    /// Pods' volumes and files go below it.
    pub data_dir: PathBuf,
    /// Containers' logs; upstream's place is `/var/log/pods`.
    pub pod_logs_dir: PathBuf,
    /// The cluster's DNS servers.
    pub cluster_dns: Vec<String>,
    /// For example `cluster.local`.
    pub cluster_domain: String,
    /// Names the node's cgroup tree, so that several nodes share a machine.
    pub instance: String,
    /// Whether pods get cgroups of their own; not with a runtime that has no kernel (simulation).
    pub cgroups: bool,
    /// The port of the node's own HTTPS API.
    pub kubelet_port: u16,
    /// The range of pod addresses of this node, if it is not given by a controller.
    pub pod_cidr: Option<String>,
    /// `status.nodeInfo.kubeletVersion`.
    pub version: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// Pods the node takes (upstream's default: 110).
    pub pods_max: u32,
    /// Processes and threads that one pod may have; `None`: no bound of its own.
    pub pod_pids_max: Option<u32>,
    /// Sandboxes and containers made at once; more only queue up in the runtime.
    pub starts_max: usize,
    /// The pods' network, if it has a say in when a pod may begin.
    pub network: Option<Arc<dyn Network>>,
    /// The node's resolver configuration; upstream's default is `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

/// The running node agent. Cheap to clone; it ends with its task group.
#[derive(Clone)]
pub struct Handle {
    agent: Arc<Agent>,
    ready: watch::Receiver<bool>,
}

impl Handle {
    /// The node's pods: for the streaming server, statistics and eviction.
    pub fn pods(&self) -> Arc<Pods> {
        self.agent.pods.clone()
    }

    /// The container runtime.
    pub fn runtime(&self) -> &Runtime {
        &self.agent.runtime
    }

    /// Whether the node is ready, as it tells the API.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Returns once the node is ready.
    pub async fn wait_ready(&self) {
        let mut ready = self.ready.clone();
        if ready.wait_for(|ready| *ready).await.is_err() {
            // The node's actor has ended: it will not be ready any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Starts the node agent. It runs until `options.tasks` ends; the pods go on without it.
///
/// # Errors
/// See [`Error`].
pub async fn run(options: Options) -> Result<Handle, Error> {
    let pods_dir = options.data_dir.join("pods");
    for dir in [&options.data_dir, &pods_dir, &options.pod_logs_dir] {
        std::fs::create_dir_all(dir).map_err(|source| Error::Io { path: dir.clone(), source })?;
    }
    let version = options.runtime.version().await.map_err(Error::Runtime)?;
    let (clock, random, tasks) = (options.clock, options.random.clone(), options.tasks.clone());
    let client = options.client.with_field_manager("kubelet");
    let recorder = Recorder::start(client.clone(), "kubelet", &options.node_name, clock, &tasks);
    let events = Events::new(recorder);
    let objects = Objects::new(&client, &random, &tasks);
    let tokens = Tokens::new(client.clone(), clock);
    let pod_certificates = PodCertificates::new(&client, &events, &options.node_name, clock, &random, &tasks);
    let sources = Sources {
        client: client.clone(),
        objects: objects.clone(),
        tokens: tokens.clone(),
        pod_certificates: pod_certificates.clone(),
    };
    let volumes = Volumes::new(pods_dir, sources, clock, random.clone());
    let volumes = if matches!(options.runtime, Runtime::Fake(_)) { volumes.without_mounts() } else { volumes };
    let facts = facts(&options, &version);
    let cgroups = find_cgroups(&options).await;
    let agent = Arc::new(Agent {
        facts,
        images: Images::new(options.runtime.clone(), events.clone(), clock),
        runtime: options.runtime.clone(),
        events,
        objects,
        tokens,
        pod_certificates,
        volumes,
        cgroups,
        network: options.network.clone(),
        services: Reflector::start(client.clone(), ListOptions::default(), random.clone(), &tasks),
        pods: Arc::default(),
        node_look: Notify::new(),
        starts: Semaphore::new(options.starts_max.max(1)),
        client: client.clone(),
        clock,
        random: random.clone(),
        tasks: tasks.clone(),
    });
    let registration = Registration {
        labels: agent.facts.labels.clone(),
        taints: options.taints.clone(),
        pod_cidr: options.pod_cidr.clone(),
        kubelet_port: options.kubelet_port,
        info: machine::system_info(
            &options.version,
            &format!("{}://{}", version.runtime_name, version.runtime_version),
        ),
        hostname: options.node_name.clone(),
    };
    let own =
        ListOptions { field_selector: Some(format!("spec.nodeName={}", options.node_name)), ..ListOptions::default() };
    let pods: Reflector<Pod> = Reflector::start(client, own, random, &tasks);
    let (ready_sender, ready) = watch::channel(false);
    tasks.spawn("node status", Service::new(agent.clone(), registration, ready_sender).run());
    let (a, b, c, d) = (agent.clone(), agent.clone(), agent.clone(), agent.clone());
    tasks.supervise("node lease", move || lease::run(a.clone()));
    tasks.supervise("runtime events", move || runtime_events::run(b.clone()));
    tasks.supervise("log rotation", move || log_rotation::run(d.clone()));
    tasks.supervise("pod source", move || pod_source::run(c.clone(), pods.clone()));
    Ok(Handle { agent, ready })
}

/// The labels the node registers with: those it is told, and those every node has.
fn node_labels(options: &Options) -> BTreeMap<String, String> {
    let (arch, os) = (machine::architecture(), "linux");
    let mut labels = options.labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", options.node_name.as_str()),
        ("kubernetes.io/arch", arch),
        ("kubernetes.io/os", os),
        ("beta.kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", os),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}

fn facts(options: &Options, version: &v1::VersionResponse) -> Facts {
    let resources = machine::resources(&options.data_dir, options.pods_max);
    let resolv_conf = std::fs::read_to_string(&options.resolv_conf).unwrap_or_default();
    Facts {
        node_name: options.node_name.clone(),
        host_ips: options.node_ips.clone(),
        capacity: resources.capacity,
        allocatable: resources.allocatable,
        labels: node_labels(options),
        memory_bytes: resources.memory_bytes,
        runtime_name: version.runtime_name.clone(),
        cluster: dns::Cluster { servers: options.cluster_dns.clone(), domain: options.cluster_domain.clone() },
        host_dns: dns::parse_resolv_conf(&resolv_conf),
        pod_logs_dir: options.pod_logs_dir.to_string_lossy().into_owned(),
        security: security::Host {
            apparmor: machine::has_apparmor(),
            seccomp_dir: options.data_dir.join("seccomp").to_string_lossy().into_owned(),
        },
        data_dir: options.data_dir.clone(),
    }
}

/// The node's cgroup tree, made if it is not there.
async fn find_cgroups(options: &Options) -> Option<Cgroups> {
    if !options.cgroups {
        return None;
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let Some(cgroups) = Cgroups::find(&mounts, &options.instance) else {
        tracing::warn!("the kernel's cgroups are not mounted: pods run without limits of their own");
        return None;
    };
    let cgroups = cgroups.with_pod_pids_max(options.pod_pids_max);
    let prepared = cgroups.clone();
    let _ = tokio::task::spawn_blocking(move || prepared.prepare()).await;
    Some(cgroups)
}
