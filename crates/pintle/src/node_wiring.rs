//! The node's components, put together: container runtime, node agent, service proxy and DNS. Who starts a node says
//! how it reaches the API: `server::node` within the server's process, `agent` over HTTPS.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use api::core::v1::Pod;
use base::{Clock, Random, TaskGroup};
use client::{Client, Reflectors};
use cri::{Runtime, private};
use pki::tls::{Reloadable, Trust};

use crate::cli::{NodeArgs, Place};
use crate::layout::Layout;
use crate::settings::Settings;

mod policies;

/// Sandboxes and containers made at once: with more, the runtime only queues.
const STARTS_MAX: usize = 10;

/// The host's name in lower case: a node's name unless told otherwise.
pub fn default_name() -> Result<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    anyhow::ensure!(!name.is_empty(), "this host has no name: give one with --node-name");
    Ok(name)
}

/// The node's name: as told, or the host's.
pub fn name(arguments: &NodeArgs) -> Result<String> {
    arguments.node_name.clone().map_or_else(default_name, Ok)
}

fn containerd_options(layout: &Layout, cni_bin_dir: Option<&Path>) -> private::Options {
    let mut options = private::Options::new(layout.root());
    options.cni_conf_dir = layout.cni_conf();
    if let Some(folder) = cni_bin_dir {
        options.cni_bin_dir = folder.to_owned();
    }
    options
}

/// Where the private containerd of a data dir listens.
pub fn private_endpoint(place: &Place) -> Result<String> {
    private::endpoint(&place.data_dir).with_context(|| {
        format!("no private containerd in {}: is `pintle server` running there?", place.data_dir.display())
    })
}

/// What a node is made from, wherever its API server is.
pub struct Parts {
    pub name: String,
    /// The node's addresses, the first one first.
    pub ips: Vec<IpAddr>,
    pub instance: String,
    pub layout: Layout,
    pub arguments: NodeArgs,
    pub settings: Settings,
    /// Acts as `system:node:<name>`.
    pub client: Client,
    /// What the network follows, as somebody who may read it.
    pub shared: Reflectors,
    pub clock: Clock,
    pub random: Random,
    pub tasks: TaskGroup,
}

/// A node that was started. Its own API is not served yet.
pub struct Running {
    handle: node::Handle,
    runtime: Runtime,
}

/// Starts container runtime, network and node agent; they end with the parts' tasks.
///
/// # Errors
/// When the runtime does not start, or a setting cannot work.
pub async fn start(parts: &Parts) -> Result<Running> {
    let network = start_network(parts)?;
    let enforcement = policies::Network::start(&network.policy, &parts.tasks);
    let runtime = start_runtime(parts).await?;
    let options = node::Options {
        node_name: parts.name.clone(),
        node_ips: parts.ips.iter().map(IpAddr::to_string).collect(),
        runtime: runtime.clone(),
        client: parts.client.clone(),
        clock: parts.clock,
        random: parts.random.clone(),
        tasks: parts.tasks.clone(),
        data_dir: parts.layout.node(),
        pod_logs_dir: parts.layout.pod_logs(),
        cluster_dns: vec![parts.settings.cluster_dns.to_string()],
        cluster_domain: parts.settings.cluster_domain.clone(),
        instance: parts.instance.clone(),
        cgroups: true,
        kubelet_port: parts.arguments.kubelet_port,
        pod_cidr: None,
        version: format!("v1.37.0+pintle.{}", env!("CARGO_PKG_VERSION")),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        pods_max: 110,
        pod_pids_max: u32::try_from(parts.arguments.pod_max_pids).ok().filter(|max| *max > 0),
        starts_max: STARTS_MAX,
        network: Some(Arc::new(enforcement)),
        resolv_conf: "/etc/resolv.conf".into(),
    };
    let handle = node::run(options).await.context("the node agent")?;
    let (name, waiting) = (parts.name.clone(), handle.clone());
    parts.tasks.spawn("node", async move {
        waiting.wait_ready().await;
        tracing::info!(node = name, "the node is ready");
        // The network's handle lives as long as the node does.
        std::future::pending::<()>().await;
        drop(network);
    });
    Ok(Running { handle, runtime })
}

fn start_network(parts: &Parts) -> Result<net::Handle> {
    let settings = &parts.settings;
    let options = net::Options {
        instance: parts.instance.clone(),
        node_name: parts.name.clone(),
        node_ips: parts.ips.clone(),
        cluster_cidrs: vec![settings.cluster_cidr],
        service_cidrs: vec![settings.service_cidr],
        cluster_dns: vec![settings.cluster_dns],
        cluster_domain: settings.cluster_domain.clone(),
        pod_network: Some(net::run::PodNetwork {
            conf_dir: parts.layout.cni_conf(),
            bin_dirs: vec![parts.arguments.cni_bin_dir.clone()],
            lease_dir: parts.layout.cni_leases(),
            mtu_bytes: None,
        }),
        upstreams: net::dns::Upstreams::File("/etc/resolv.conf".into()),
    };
    let client = parts.shared.client().clone();
    let sources = net::Sources::follow(&client, &parts.shared, &parts.name, &parts.random, &parts.tasks);
    net::start(options, sources, parts.clock, parts.random.clone(), &parts.tasks).context("the node's network")
}

/// The runtime as told: a private containerd, or one that is there already.
async fn start_runtime(parts: &Parts) -> Result<Runtime> {
    let arguments = &parts.arguments;
    match arguments.runtime.as_str() {
        "containerd" => {
            let options = containerd_options(&parts.layout, Some(&arguments.cni_bin_dir));
            let containerd = private::Containerd::start(options, parts.clock, &parts.tasks)
                .await
                .context("the private containerd")?;
            Ok(containerd.runtime())
        }
        "docker" => anyhow::bail!("--runtime docker: the Docker backend is not built yet; use containerd"),
        endpoint => {
            Runtime::connect(endpoint).await.with_context(|| format!("--runtime: the container runtime at {endpoint}"))
        }
    }
}

/// Serves the node's own API at `address`: what the API server asks for logs, exec and the like. Clients are those that
/// `clients` vouches for, and of them the API server alone.
///
/// # Errors
/// When the address cannot be had.
pub async fn serve(
    parts: &Parts,
    running: &Running,
    address: IpAddr,
    identity: Arc<Reloadable>,
    clients: &Trust,
) -> Result<()> {
    let tls = pki::tls::server_config_trusting(identity.clone(), Some(clients), parts.clock);
    let bind = SocketAddr::new(address, parts.arguments.kubelet_port);
    let authorize = node::server::access::only(&["kube-apiserver-kubelet-client"], &[]);
    let mut options = node::server::Options::new(bind, tls, authorize, &parts.name);
    options.serving = Some(identity);
    let pods = Arc::new(NodePods(running.handle.pods()));
    node::server::Server::start(options, pods, running.runtime.clone(), parts.clock, &parts.tasks)
        .await
        .with_context(|| format!("--kubelet-port: listening on {bind}"))?;
    Ok(())
}

/// The agent's pods as the node's API asks for them.
struct NodePods(Arc<node::Pods>);

impl node::server::Pods for NodePods {
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.0.find(namespace, name).map(|entry| entry.pod())
    }

    fn pods(&self) -> Vec<Arc<Pod>> {
        self.0.all().iter().map(|entry| entry.pod()).collect()
    }
}

/// Stops pods and runtime, and cleans the kernel.
pub async fn down(place: &Place) -> Result<()> {
    let layout = Layout::new(&place.data_dir);
    // Each of them though another fails: what can be cleaned away is.
    let stopped = private::down(containerd_options(&layout, None), Clock::system()).await.context("stopping the pods");
    let unmounted = node::cleanup(&layout.node(), &place.instance).await.context("unmounting volumes");
    let removed = net::cleanup(&place.instance, &layout.cni_conf()).await.context("removing the network");
    stopped.and(unmounted).and(removed)
}
