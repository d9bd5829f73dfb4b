//! The wiring: the API's objects through reflectors into the feed, and the actors that live on it. The only file of
//! this
//! crate that knows the API client.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Namespace, Node, Service};
use api::discovery::v1::EndpointSlice;
use api::lean::Pod;
use api::networking::v1::NetworkPolicy;
use api::{Object, Typed};
use base::{Backoff, Clock, Random, TaskGroup};
use client::{Client, ListOptions, Reflector, Reflectors};
use tokio::sync::watch;

use crate::links::Bridged;
use crate::proxy::Facts;
use crate::{Cidr, Error, Family, Feed, Result, cni, dns, links, names, policy, proxy, routes};

/// The label of a node that says its zone.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// How often links and routes are looked at although the nodes did not change: an administrator may have removed one.
const CHECK_INTERVAL: Duration = Duration::from_secs(300);

/// What policies do not reach where the kernel does not show netfilter what a bridge passes on.
const UNSEEN: &str = "connections between pods of this node pass unseen: the kernel module br_netfilter is not there";

/// What passes where the kernel has no nftables for bridges.
const UNGUARDED: &str =
    "VLAN-tagged frames between pods of this node pass unseen: the kernel has no nftables for bridges";

/// Settings of a node's network.
#[derive(Debug, Clone)]
pub struct Options {
    /// The instance's name: names everything in the kernel.
    pub instance: String,
    /// The node's name.
    pub node_name: String,
    /// The node's addresses, the first of each family being its main one.
    pub node_ips: Vec<IpAddr>,
    /// The addresses of all pods.
    pub cluster_cidrs: Vec<Cidr>,
    /// The addresses of Services.
    pub service_cidrs: Vec<Cidr>,
    /// The addresses of cluster DNS, inside the Services' ranges.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// The pod network; `None`: somebody else's CNI plugin makes it.
    pub pod_network: Option<PodNetwork>,
    /// The resolvers for names outside of the cluster.
    pub upstreams: dns::Upstreams,
}

/// Where the pod network's files are.
#[derive(Debug, Clone)]
pub struct PodNetwork {
    /// The runtime's CNI configuration directory.
    pub conf_dir: PathBuf,
    /// Where the CNI plugins are looked for.
    pub bin_dirs: Vec<PathBuf>,
    /// Where address leases are kept.
    pub lease_dir: PathBuf,
    /// The largest packet, bytes; `None`: the kernel's default.
    pub mtu_bytes: Option<u32>,
}

/// The objects the network is made from.
#[derive(Clone)]
pub struct Sources {
    /// All Services.
    pub services: Reflector<Service>,
    /// All EndpointSlices.
    pub slices: Reflector<EndpointSlice>,
    /// All Namespaces.
    pub namespaces: Reflector<Namespace>,
    /// All Nodes.
    pub nodes: Reflector<Node>,
    /// This node's pods; others among them do no harm.
    pub pods: Reflector<Pod>,
    /// All pods of the cluster: anybody may be a peer of a policy.
    pub all_pods: Reflector<Pod>,
    /// All NetworkPolicies.
    pub policies: Reflector<NetworkPolicy>,
}

impl Sources {
    /// Follows what a node's network needs.
    pub fn follow(client: &Client, shared: &Reflectors, node_name: &str, random: &Random, tasks: &TaskGroup) -> Self {
        let own = ListOptions { field_selector: Some(format!("spec.nodeName={node_name}")), ..ListOptions::default() };
        Self {
            services: shared.of(),
            slices: shared.of(),
            namespaces: shared.of(),
            nodes: shared.of(),
            pods: Reflector::start(client.clone(), own, random.clone(), tasks),
            all_pods: shared.of(),
            policies: shared.of(),
        }
    }
}

/// A view of the running network. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    /// The service proxy.
    pub proxy: proxy::Handle,
    /// Cluster DNS.
    pub dns: dns::Handle,
    /// Network policies.
    pub policy: policy::Handle,
    pod_network: watch::Receiver<bool>,
}

impl Handle {
    /// Whether pods can be hung on the network: the node has its range, and bridge and configuration are there.
    pub fn has_pod_network(&self) -> bool {
        *self.pod_network.borrow()
    }

    /// Waits until pods can be hung on the network. Returns `false` if the network ended before.
    pub async fn pod_network_ready(&mut self) -> bool {
        self.pod_network.wait_for(|ready| *ready).await.is_ok()
    }
}

/// Starts the node's network in `tasks`. Fails only for settings that cannot work; what the kernel refuses is tried
/// again and told in the log.
pub fn start(options: Options, sources: Sources, clock: Clock, random: Random, tasks: &TaskGroup) -> Result<Handle> {
    if options.service_cidrs.is_empty() {
        return Err(Error::Invalid("the cluster has no service CIDR".into()));
    }
    if let Some(network) = &options.pod_network {
        cni::check_plugins(&network.bin_dirs)?;
    }
    let feed = Feed::new();
    follow(&sources, &feed, tasks);

    let facts = Facts {
        instance: options.instance.clone(),
        node_name: options.node_name.clone(),
        zone: None,
        cluster_cidrs: options.cluster_cidrs.clone(),
        service_cidrs: options.service_cidrs.clone(),
        pod_cidrs: Vec::new(),
        bridge: options.pod_network.as_ref().map(|_| names::bridge(&options.instance)),
        node_port_addresses: Vec::new(),
    };
    let (service_proxy, proxy_handle) = proxy::Service::new(proxy::Options::new(facts), feed.clone(), clock);
    tasks.spawn("service proxy", keep_proxy(service_proxy, clock));

    let policies = policy::Feed::new(&options.node_name);
    follow_policies(&sources, &policies, tasks);
    let facts = policy::Facts {
        instance: options.instance.clone(),
        families: families(&options.cluster_cidrs),
        bridge: options.pod_network.as_ref().map(|_| names::bridge(&options.instance)),
        cluster_dns: options.cluster_dns.clone(),
    };
    let (enforcer, policy_handle) = policy::Service::new(policy::Options::new(facts), policies.clone(), clock);
    tasks.spawn("network policies", keep_policies(enforcer, clock));

    let reverse = options.service_cidrs.iter().chain(&options.cluster_cidrs).copied().collect();
    let mut dns_options = dns::Options::new(options.cluster_dns.clone(), &options.cluster_domain, reverse);
    dns_options.upstreams = options.upstreams.clone();
    let (server, dns_handle) = dns::Service::new(dns_options, feed.clone(), clock, random, tasks)?;
    let (linked, has_link) = watch::channel(false);
    tasks.spawn("cluster dns", keep_dns(server, has_link, clock));

    let (ready, pod_network) = watch::channel(false);
    tasks.spawn("pod network", async move {
        // First, and without the API: pods that were adopted need their resolver.
        keep_trying("the service link", clock, || ensure_service_link(&options)).await;
        linked.send_replace(true);
        keep_links(options, sources.nodes, (feed, policies), ready, clock).await;
    });
    Ok(Handle { proxy: proxy_handle, dns: dns_handle, policy: policy_handle, pod_network })
}

/// The families of these ranges.
fn families(cidrs: &[Cidr]) -> Vec<Family> {
    let has = |family: &Family| cidrs.iter().any(|cidr| cidr.family() == *family);
    [Family::V4, Family::V6].into_iter().filter(has).collect()
}

/// Removes everything an instance has put into the kernel and the runtime's configuration directory. Pods that still
/// run lose their network.
pub async fn cleanup(instance: &str, conf_dir: &Path) -> Result<()> {
    let results = [
        proxy::cleanup(instance).await,
        cni::cleanup(instance, conf_dir).await,
        dns::cleanup(instance).await,
        // Last: as long as a pod has a network its policies hold.
        policy::cleanup(instance).await,
    ];
    results.into_iter().collect()
}

/// One task per kind carries changes into the feed.
fn follow(sources: &Sources, feed: &Feed, tasks: &TaskGroup) {
    let to = feed.clone();
    carry("services to the network", &sources.services, tasks, move |change| match change {
        Carried::All(all) => to.replace_services(all),
        Carried::One(object) => to.apply_service(object),
        Carried::Gone(object) => to.delete_service(object.namespace(), object.name()),
    });
    let to = feed.clone();
    carry("endpoint slices to the network", &sources.slices, tasks, move |change| match change {
        Carried::All(all) => to.replace_slices(all),
        Carried::One(object) => to.apply_slice(object),
        Carried::Gone(object) => to.delete_slice(object.namespace(), object.name()),
    });
    let to = feed.clone();
    carry("pods to the network", &sources.pods, tasks, move |change| match change {
        Carried::All(all) => to.replace_pods(all),
        Carried::One(object) => to.apply_pod(object),
        Carried::Gone(object) => to.delete_pod(object.namespace(), object.name()),
    });
    let to = feed.clone();
    carry("namespaces to the network", &sources.namespaces, tasks, move |change| match change {
        Carried::All(all) => to.replace_namespaces(all),
        Carried::One(object) => to.apply_namespace(object.name()),
        Carried::Gone(object) => to.delete_namespace(object.name()),
    });
}

/// What policies look at, into a feed of their own.
fn follow_policies(sources: &Sources, feed: &policy::Feed, tasks: &TaskGroup) {
    let to = feed.clone();
    carry("network policies to the network", &sources.policies, tasks, move |change| match change {
        Carried::All(all) => to.replace_policies(all),
        Carried::One(object) => to.apply_policy(&object),
        Carried::Gone(object) => to.delete_policy(object.namespace(), object.name()),
    });
    let to = feed.clone();
    carry("all pods to the network", &sources.all_pods, tasks, move |change| match change {
        Carried::All(all) => to.replace_pods(all),
        Carried::One(object) => to.apply_pod(&object),
        Carried::Gone(object) => to.delete_pod(&object),
    });
    let to = feed.clone();
    carry("namespaces' labels to the network", &sources.namespaces, tasks, move |change| match change {
        Carried::All(all) => to.replace_namespaces(all),
        Carried::One(object) => to.apply_namespace(&object),
        Carried::Gone(object) => to.delete_namespace(object.name()),
    });
}

/// What a reflector has to tell.
enum Carried<T> {
    All(Vec<Arc<T>>),
    One(Arc<T>),
    Gone(Arc<T>),
}

fn carry<T: Typed>(
    name: &'static str,
    reflector: &Reflector<T>,
    tasks: &TaskGroup,
    tell: impl Fn(Carried<T>) + Send + 'static,
) {
    let reflector = reflector.clone();
    tasks.spawn(name, async move {
        // Subscribed first: a change between the two comes again, which does no harm.
        let mut subscription = reflector.subscribe();
        reflector.synced().await;
        tell(Carried::All(reflector.snapshot().values().cloned().collect()));
        loop {
            for change in subscription.next().await {
                match (change.new, change.old) {
                    (Some(new), _) => tell(Carried::One(new)),
                    (None, Some(old)) => tell(Carried::Gone(old)),
                    (None, None) => {}
                }
            }
        }
    });
}

async fn keep_proxy(mut service: proxy::Service, clock: Clock) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
    loop {
        // It ends only by a panic, which is logged and counted where it is caught.
        base::task::catch("service proxy", service.run()).await;
        clock.sleep(backoff.next()).await;
    }
}

async fn keep_policies(mut service: policy::Service, clock: Clock) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
    loop {
        // It ends only by a panic, which is logged and counted where it is caught.
        base::task::catch("network policies", service.run()).await;
        clock.sleep(backoff.next()).await;
    }
}

async fn keep_dns(mut server: dns::Service, mut has_link: watch::Receiver<bool>, clock: Clock) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
    // The sender ends with the group, as this task does.
    while has_link.wait_for(|linked| *linked).await.is_ok() {
        let error = base::task::catch("cluster dns", server.run()).await;
        let pause = backoff.next();
        if let Some(error) = error {
            tracing::error!(error = &error as &dyn std::error::Error, ?pause, "cluster DNS is not served");
        }
        clock.sleep(pause).await;
    }
}

/// Repeats `act` with back-off until it succeeds.
async fn keep_trying<F: Future<Output = Result<()>>>(what: &str, clock: Clock, act: impl Fn() -> F) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    while let Err(error) = act().await {
        let pause = backoff.next();
        tracing::error!(error = &error as &dyn std::error::Error, ?pause, "{what} could not be made");
        clock.sleep(pause).await;
    }
}

async fn ensure_service_link(options: &Options) -> Result<()> {
    let Options { instance, cluster_dns, service_cidrs, node_ips, .. } = options;
    links::ensure_service_link(instance, cluster_dns, service_cidrs, node_ips).await
}

/// Keeps bridge, configuration and routes as the Node objects say.
async fn keep_links(
    options: Options,
    nodes: Reflector<Node>,
    (feed, policies): (Feed, policy::Feed),
    ready: watch::Sender<bool>,
    clock: Clock,
) {
    let mut subscription = nodes.subscribe();
    nodes.synced().await;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    loop {
        let all = nodes.snapshot();
        let wanted = Wanted::of(all.values(), &options.node_name, &options.cluster_cidrs);
        feed.set_node(wanted.zone.clone(), wanted.pod_cidrs.clone());
        let result = ensure_links(&options, &wanted).await;
        let wait = match result {
            Ok(unseen) => {
                backoff.reset();
                policies.set_unseen(unseen);
                ready.send_replace(options.pod_network.is_none() || !wanted.pod_cidrs.is_empty());
                CHECK_INTERVAL
            }
            Err(error) => {
                let wait = backoff.next();
                tracing::error!(error = &error as &dyn std::error::Error, ?wait, "the pod network is not ready");
                wait
            }
        };
        // Nodes tell of themselves every few seconds: only what matters here ends the wait.
        let due = clock.monotonic() + wait;
        loop {
            tokio::select! {
                biased;
                _ = subscription.next() => {
                    if Wanted::of(nodes.snapshot().values(), &options.node_name, &options.cluster_cidrs) != wanted {
                        break;
                    }
                }
                () = tokio::time::sleep_until(due) => break,
            }
        }
    }
}

/// What the Node objects ask of the node's links.
#[derive(Debug, PartialEq)]
struct Wanted {
    zone: Option<String>,
    pod_cidrs: Vec<Cidr>,
    routes: std::collections::BTreeMap<Cidr, IpAddr>,
}

impl Wanted {
    fn of<'a>(nodes: impl Iterator<Item = &'a Arc<Node>>, own_name: &str, cluster_cidrs: &[Cidr]) -> Self {
        let nodes: Vec<_> = nodes.collect();
        let own = nodes.iter().find(|node| node.metadata.name.as_deref() == Some(own_name));
        Self {
            zone: own.and_then(|node| node.metadata.labels.as_ref()?.get(ZONE_LABEL).cloned()),
            pod_cidrs: own.map(|node| routes::pod_cidrs(node)).unwrap_or_default(),
            routes: routes::plan(nodes, own_name, cluster_cidrs),
        }
    }
}

/// Why some connections of pods never meet policies; `None`: all do, as it is taken to be of a pod network that
/// somebody else makes.
async fn ensure_links(options: &Options, wanted: &Wanted) -> Result<Option<String>> {
    ensure_service_link(options).await?;
    let Some(network) = &options.pod_network else { return Ok(None) };
    // First: what fails below must not leave pods without it.
    let guarded = policy::guard::ensure(&options.instance, &names::bridge(&options.instance)).await;
    let unguarded = guarded.err().map(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "{UNGUARDED}");
        UNGUARDED.to_owned()
    });
    routes::apply(&wanted.routes, names::route_metric(&options.instance)).await?;
    if wanted.pod_cidrs.is_empty() {
        return Ok(None);
    }
    let bridged = cni::setup(&cni::Options {
        instance: options.instance.clone(),
        pod_cidrs: wanted.pod_cidrs.clone(),
        cluster_cidrs: options.cluster_cidrs.clone(),
        conf_dir: network.conf_dir.clone(),
        bin_dirs: network.bin_dirs.clone(),
        lease_dir: network.lease_dir.clone(),
        mtu_bytes: network.mtu_bytes,
    })
    .await?;
    Ok(if bridged == Bridged::Unfiltered { Some(UNSEEN.to_owned()) } else { unguarded })
}
