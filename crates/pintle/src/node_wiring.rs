//! The node's components, put together: container runtime, node agent, service proxy and DNS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use api::core::v1::Pod;
use apiserver::Server;
use base::Clock;
use cri::{Runtime, private};
use pki::authority::Authority;

use crate::cli::Place;
use crate::layout::Layout;
use crate::server::{Common, client_of};

mod policies;

/// Sandboxes and containers made at once: with more, the runtime only queues.
const STARTS_MAX: usize = 10;

/// The host's name in lower case: a node's name unless told otherwise.
pub fn default_name() -> Result<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    anyhow::ensure!(!name.is_empty(), "this host has no name: give one with --node-name");
    Ok(name)
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

/// Starts the node within the server's process.
pub async fn start(common: &Common, authority: &Arc<Authority>, server: &Arc<Server>) -> Result<()> {
    let arguments = &common.arguments.node;
    let node_name = match &arguments.node_name {
        Some(name) => name.clone(),
        None => default_name()?,
    };
    let network = start_network(common, server, &node_name)?;
    let enforcement = policies::Network::start(&network.policy, &common.tasks);
    let runtime = start_runtime(common).await?;
    let user = format!("system:node:{node_name}");
    let options = node::Options {
        node_name: node_name.clone(),
        node_ips: vec![common.advertise_address.to_string()],
        runtime: runtime.clone(),
        client: client_of(server, &user, &["system:nodes"]),
        clock: common.clock,
        random: common.random.clone(),
        tasks: common.tasks.clone(),
        data_dir: common.layout.node(),
        pod_logs_dir: common.layout.pod_logs(),
        cluster_dns: vec![arguments.cluster_dns.to_string()],
        cluster_domain: arguments.cluster_domain.clone(),
        instance: common.arguments.place.instance.clone(),
        cgroups: true,
        kubelet_port: arguments.kubelet_port,
        pod_cidr: None,
        version: format!("v1.37.0+pintle.{}", env!("CARGO_PKG_VERSION")),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        pods_max: 110,
        starts_max: STARTS_MAX,
        network: Some(Arc::new(enforcement)),
        resolv_conf: "/etc/resolv.conf".into(),
    };
    let handle = node::run(options).await.context("the node agent")?;
    start_kubelet_api(common, authority, &node_name, &handle, runtime).await?;
    common.tasks.spawn("node", async move {
        handle.wait_ready().await;
        tracing::info!(node = node_name, "the node is ready");
        // The network's handle lives as long as the node does.
        std::future::pending::<()>().await;
        drop(network);
    });
    Ok(())
}

fn start_network(common: &Common, server: &Arc<Server>, node_name: &str) -> Result<net::Handle> {
    let arguments = &common.arguments;
    let cidr = |flag: &str, text: &str| -> Result<net::Cidr> {
        text.parse().map_err(|_| anyhow::anyhow!("{flag}: {text} is no CIDR"))
    };
    let options = net::Options {
        instance: arguments.place.instance.clone(),
        node_name: node_name.to_owned(),
        node_ips: vec![common.advertise_address],
        cluster_cidrs: vec![cidr("--cluster-cidr", &arguments.cluster_cidr)?],
        service_cidrs: vec![cidr("--service-cidr", &arguments.service_cidr)?],
        cluster_dns: vec![arguments.node.cluster_dns],
        cluster_domain: arguments.node.cluster_domain.clone(),
        pod_network: Some(net::run::PodNetwork {
            conf_dir: common.layout.cni_conf(),
            bin_dirs: vec![arguments.node.cni_bin_dir.clone()],
            lease_dir: common.layout.cni_leases(),
            mtu_bytes: None,
        }),
        upstreams: net::dns::Upstreams::File("/etc/resolv.conf".into()),
    };
    let shared = crate::server::reflectors(common, server);
    let client = shared.client().clone();
    let sources = net::Sources::follow(&client, &shared, node_name, &common.random, &common.tasks);
    net::start(options, sources, common.clock, common.random.clone(), &common.tasks).context("the node's network")
}

/// The runtime as told: a private containerd, or one that is there already.
async fn start_runtime(common: &Common) -> Result<Runtime> {
    let arguments = &common.arguments.node;
    match arguments.runtime.as_str() {
        "containerd" => {
            let options = containerd_options(&common.layout, Some(&arguments.cni_bin_dir));
            let containerd = private::Containerd::start(options, common.clock, &common.tasks)
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

/// The node's own API: what the API server asks for logs, exec and the like.
async fn start_kubelet_api(
    common: &Common,
    authority: &Arc<Authority>,
    node_name: &str,
    handle: &node::Handle,
    runtime: Runtime,
) -> Result<()> {
    let request = pki::Request {
        common_name: format!("system:node:{node_name}"),
        organizations: vec!["system:nodes".into()],
        dns_names: vec![node_name.to_owned()],
        ip_addresses: vec![common.advertise_address],
        usage: pki::Usage::Server,
        valid: pki::authority::VALID,
    };
    let identity = authority.also("kubelet", request, common.clock.now())?;
    let tls = pki::tls::server_config_trusting(identity.clone(), Some(authority.cluster().trust()), common.clock);
    let bind = SocketAddr::new(common.arguments.bind.ip(), common.arguments.node.kubelet_port);
    let authorize = node::server::access::only(&["kube-apiserver-kubelet-client"], &[]);
    let mut options = node::server::Options::new(bind, tls, authorize, node_name);
    options.serving = Some(identity);
    node::server::Server::start(options, Arc::new(NodePods(handle.pods())), runtime, common.clock, &common.tasks)
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
    private::down(containerd_options(&layout, None), Clock::system()).await.context("stopping the pods")?;
    node::cleanup(&layout.node(), &place.instance).await.context("unmounting volumes")?;
    net::cleanup(&place.instance, &layout.cni_conf()).await.context("removing the network")?;
    Ok(())
}
