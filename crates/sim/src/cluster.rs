//! A cluster in one thread: started, used as any caller, moved through time, and ended with a look at what went wrong.

mod control_plane;
mod in_process;
mod panics;
mod signer;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::core::v1::Node;
use api::{Call, Status, Target, Typed, Verb, WatchEvent};
use apiserver::{Answer, Caller, Server};
use base::{Clock, Random, TaskGroup};
use client::Client;
use cri::{Fake, Runtime, fake};
use signer::Signer;

/// When every simulation begins.
const EPOCH: &str = "2026-01-01T00:00:00Z";
/// Long enough for what is ready to run at an instant, short enough to show in no age.
const INSTANT: Duration = Duration::from_micros(10);
/// How long the parts have to end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(60);
/// What can be pulled in a simulation; any other image is missing.
const IMAGES: &[&str] = &["busybox", "nginx", "web:1", "web:2", "web:3", "pause:3.10", "private.example/app:1"];

/// How a cluster is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Names, delays and jitter are drawn from it.
    pub seed: u64,
    /// How many nodes run an agent: `node-1`, `node-2` ...
    pub nodes: usize,
    /// Whether there are controllers and a scheduler.
    pub controllers: bool,
    pub scheduler: bool,
    /// Admission plugins that are on beside those that are on by default.
    pub admission: Vec<String>,
    /// Admission plugins that are off though they are on by default.
    pub admission_off: Vec<String>,
    /// An AdmissionConfiguration, as text.
    pub admission_configuration: Option<String>,
    /// Versions and resources that are turned on and off.
    pub runtime_config: Vec<String>,
    /// Who signs pods' certificates, if somebody does.
    pub signer: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 0,
            controllers: true,
            scheduler: true,
            admission: Vec::new(),
            admission_off: Vec::new(),
            admission_configuration: None,
            runtime_config: Vec::new(),
            signer: None,
        }
    }
}

/// A running cluster. It lives in the runtime of [`block_on`].
pub struct Cluster {
    server: Arc<Server>,
    clock: Clock,
    tasks: TaskGroup,
    runtimes: Vec<(String, Fake, TaskGroup)>,
    /// Pods' volumes.
    data: tempfile::TempDir,
}

/// Runs a simulation: one thread, the clock paused. Time moves on when everything waits for it.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    panics::listen();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime needs only file descriptors").block_on(future)
}

/// The one who may do everything.
pub fn admin() -> Arc<Caller> {
    Arc::new(Caller::new("kubernetes-admin", &["system:masters"]))
}

/// A caller with these groups; those that service accounts and nodes have by themselves are added.
pub fn caller(user: &str, groups: &[&str]) -> Arc<Caller> {
    let mut groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
    if let Some((namespace, _)) = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    if user.starts_with("system:node:") {
        groups.push("system:nodes".to_owned());
    }
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    Arc::new(if user == apiserver::authn::ANONYMOUS { Caller::anonymous() } else { Caller::new(user, &groups) })
}

impl Cluster {
    /// Starts all parts; the cluster's own objects are there when this returns.
    ///
    /// # Errors
    /// What kept a part from starting.
    pub async fn start(options: Options) -> Result<Self> {
        let clock = Clock::simulated(EPOCH.parse().context("the epoch")?);
        let random = Random::seeded(options.seed);
        let tasks = TaskGroup::new();
        let data = tempfile::Builder::new().prefix("pintle-sim-").tempdir()?;
        let plane = control_plane::Plane { clock, random: random.clone(), tasks: tasks.clone() };
        let server = plane.start(&options).await?;
        let mut cluster = Self { server, clock, tasks, runtimes: Vec::new(), data };
        if let Some(name) = &options.signer {
            Signer::start(name, cluster.client(&admin()), clock, &random, &cluster.tasks)?;
        }
        for number in 1..=options.nodes {
            cluster.add_node(&format!("node-{number}"), number, &random).await?;
        }
        Ok(cluster)
    }

    /// Compacts the store: it knows nothing any more but what is.
    ///
    /// # Errors
    /// If the store does not.
    pub async fn forget_history(&self) -> Result<()> {
        let store = self.server.store();
        store.compact(store.revision()).await.context("compacting the store")
    }

    /// Starts a node agent over a fake runtime of its own.
    async fn add_node(&mut self, name: &str, number: usize, random: &Random) -> Result<()> {
        let tasks = self.tasks.child();
        let runtime = Fake::with(self.clock, random.clone(), tasks.clone(), fake::Options::default());
        IMAGES.iter().for_each(|image| runtime.publish_image(image));
        let folder = self.data.path().join(name);
        let options = node::Options {
            node_name: name.to_owned(),
            node_ips: vec![format!("192.0.2.{number}")],
            runtime: Runtime::Fake(runtime.clone()),
            client: self.client(&caller(&format!("system:node:{name}"), &[])),
            clock: self.clock,
            random: random.clone(),
            tasks: tasks.clone(),
            pod_logs_dir: folder.join("logs"),
            data_dir: folder,
            cluster_dns: vec!["10.43.0.10".to_owned()],
            cluster_domain: "cluster.local".to_owned(),
            instance: "sim".to_owned(),
            cgroups: false,
            kubelet_port: 10250,
            pod_cidr: None,
            version: "v1.37.0+pintle.sim".to_owned(),
            labels: Default::default(),
            taints: Vec::new(),
            pods_max: 110,
            pod_pids_max: None,
            starts_max: 16,
            network: None,
            resolv_conf: "/nonexistent".into(),
        };
        let handle = node::run(options).await.with_context(|| format!("starting {name}"))?;
        let ready = tokio::time::timeout(Duration::from_secs(120), handle.wait_ready()).await;
        ready.with_context(|| format!("{name} is not ready after two minutes"))?;
        self.runtimes.push((name.to_owned(), runtime, tasks));
        let taken = tokio::time::timeout(Duration::from_secs(120), self.takes_pods(name)).await;
        taken.with_context(|| format!("{name} still has taints after two minutes"))?
    }

    /// Waits until a node has no taints: its controller has seen that it is ready.
    async fn takes_pods(&self, name: &str) -> Result<()> {
        let mut call = Call::new(Verb::Watch, Target::kind(Node::KIND));
        call.options.field_selector = Some(format!("metadata.name={name}"));
        let mut changes = self.watch(&admin(), call).await?;
        while let Some(change) = changes.next().await {
            let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = change else { continue };
            let node = api::downcast::<Node>(&*object).context("a node")?;
            if node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).is_none_or(Vec::is_empty) {
                return Ok(());
            }
        }
        bail!("the watch of {name} ended")
    }

    /// A client that acts as `caller`.
    pub fn client(&self, caller: &Arc<Caller>) -> Client {
        in_process::client(&self.server, caller.clone())
    }

    /// One call through the whole request pipeline, warnings and all.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn call(&self, caller: &Arc<Caller>, call: Call) -> Result<Answer, Status> {
        self.server.call(caller, call).await
    }

    /// A watch through the whole request pipeline.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn watch(&self, caller: &Arc<Caller>, call: Call) -> Result<apiserver::WatchStream, Status> {
        self.server.watch(caller, call).await
    }

    /// The cluster's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Lets time pass, with everything that happens in it.
    pub async fn advance(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }

    /// Lets everything happen that can happen without time passing.
    pub async fn settle(&self) {
        self.clock.sleep(INSTANT).await;
    }

    /// The container runtime of a node.
    pub fn runtime(&self, node: &str) -> Option<&Fake> {
        self.runtimes.iter().find(|(name, ..)| name == node).map(|(_, runtime, _)| runtime)
    }

    /// Ends a node's agent, as if the machine had lost power: nothing more is heard of it.
    pub fn stop_node(&self, node: &str) -> bool {
        let found = self.runtimes.iter().find(|(name, ..)| name == node);
        found.inspect(|(_, _, tasks)| tasks.cancel()).is_some()
    }

    /// Ends the cluster.
    ///
    /// # Errors
    /// If a task panicked while it ran, or would not end.
    pub async fn stop(self) -> Result<()> {
        let ended = self.tasks.shutdown(SHUTDOWN_MAX).await;
        let panics = panics::take();
        if !panics.is_empty() {
            bail!("tasks panicked:\n{}", panics.join("\n"));
        }
        if !ended {
            bail!("some tasks did not end");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use api::core::v1::{Container, Pod, PodSpec};
    use api::meta::v1::ObjectMeta;
    use client::ListOptions;

    use super::*;

    fn pod() -> Pod {
        let container = Container { name: "c".into(), image: Some("web:1".into()), ..Default::default() };
        Pod {
            metadata: ObjectMeta {
                generate_name: Some("web-".into()),
                namespace: Some("default".into()),
                ..Default::default()
            },
            spec: Some(PodSpec { containers: vec![container], ..Default::default() }),
            ..Default::default()
        }
    }

    /// What the API server alone calls ten pods.
    fn names(seed: u64) -> Vec<String> {
        block_on(async {
            let options = Options { seed, controllers: false, scheduler: false, ..Options::default() };
            let cluster = Cluster::start(options).await.unwrap();
            let client = cluster.client(&admin());
            let account = api::core::v1::ServiceAccount {
                metadata: ObjectMeta {
                    name: Some("default".into()),
                    namespace: Some("default".into()),
                    ..Default::default()
                },
                ..Default::default()
            };
            client.create(account).await.unwrap();
            for _ in 0..10 {
                cluster.settle().await;
                client.create(pod()).await.unwrap();
            }
            let listed = client.list::<Pod>(&ListOptions::default()).await.unwrap();
            cluster.stop().await.unwrap();
            listed.items.iter().filter_map(|pod| pod.metadata.name.clone()).collect()
        })
    }

    #[test]
    fn a_seed_repeats() {
        let first = names(7);
        assert_eq!(first.len(), 10);
        assert_eq!(first, names(7));
        assert_ne!(first, names(8));
    }
}
