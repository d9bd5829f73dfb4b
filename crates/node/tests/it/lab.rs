//! A node under test: the agent, the fake runtime and the small API.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::api::core::v1::{Event, Node, Pod};
use ::api::meta::v1::DeleteOptions;
use ::api::{Object, Typed};
use base::{Clock, Random, TaskGroup};
use client::{Client, ListOptions};
use cri::{Fake, Runtime};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api::Api;

pub struct Lab {
    pub client: Client,
    pub fake: Fake,
    pub clock: Clock,
    pub handle: node::Handle,
    pub api: Arc<Api>,
    pub dir: Arc<tempfile::TempDir>,
    pub tasks: TaskGroup,
    /// The pods' network, which lets every pod begin.
    pub network: Arc<Network>,
    panics_before: u64,
}

/// A network that notes which pods it is told of.
#[derive(Default)]
pub struct Network {
    pub admitted: Mutex<Vec<(Arc<Pod>, Vec<IpAddr>)>>,
    pub released: Mutex<Vec<String>>,
}

impl node::Network for Network {
    fn admit(&self, pod: Arc<Pod>, ips: Vec<IpAddr>) -> BoxFuture<'static, Result<(), String>> {
        self.admitted.lock().unwrap().push((pod, ips));
        Box::pin(async { Ok(()) })
    }

    fn release(&self, pod: &Pod) {
        self.released.lock().unwrap().push(pod.uid().to_owned());
    }

    fn enforcement(&self) -> watch::Receiver<node::network::Enforcement> {
        let said = node::network::Enforcement { whole: Some(true), reason: "PoliciesApplied", message: String::new() };
        watch::channel(said).1
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.tasks.cancel();
        if !std::thread::panicking() {
            assert_eq!(base::task::panics(), self.panics_before, "a task of the node panicked");
        }
    }
}

impl Lab {
    pub async fn new() -> Self {
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().unwrap());
        let random = Random::seeded(7);
        let fake = Fake::new(clock, random.clone(), TaskGroup::new());
        fake.add_image("busybox:1");
        let api = Api::new(clock, random);
        Self::with(clock, fake, api, Arc::new(tempfile::tempdir().unwrap())).await
    }

    async fn with(clock: Clock, fake: Fake, api: Arc<Api>, dir: Arc<tempfile::TempDir>) -> Self {
        let panics_before = base::task::panics();
        let tasks = TaskGroup::new();
        let client = api.client();
        let network = Arc::new(Network::default());
        let handle = node::run(node::Options {
            node_name: "n1".into(),
            node_ips: vec!["192.0.2.1".into()],
            runtime: Runtime::Fake(fake.clone()),
            client: client.clone(),
            clock,
            random: Random::seeded(8),
            tasks: tasks.clone(),
            data_dir: dir.path().join("data"),
            pod_logs_dir: dir.path().join("logs"),
            cluster_dns: vec!["10.43.0.10".into()],
            cluster_domain: "cluster.local".into(),
            instance: "test".into(),
            cgroups: false,
            kubelet_port: 10250,
            pod_cidr: Some("10.42.0.0/24".into()),
            version: "v1.37.0".into(),
            labels: Default::default(),
            taints: Vec::new(),
            pods_max: 110,
            pod_pids_max: None,
            starts_max: 4,
            network: Some(network.clone()),
            resolv_conf: "/dev/null".into(),
        })
        .await
        .unwrap();
        tokio::time::timeout(Duration::from_secs(30), handle.wait_ready()).await.expect("the node gets ready");
        Self { client, fake, clock, handle, api, dir, tasks, network, panics_before }
    }

    /// The node agent ends and starts again; the runtime and the API go on.
    pub async fn restart(self) -> Self {
        assert!(self.tasks.shutdown(Duration::from_secs(10)).await);
        let (clock, fake, api, dir) = (self.clock, self.fake.clone(), self.api.clone(), self.dir.clone());
        drop(self);
        Self::with(clock, fake, api, dir).await
    }

    /// Creates a pod bound to the node. Fields of `spec` that are not given are filled in.
    pub async fn create(&self, name: &str, mut spec: Value) -> Arc<Pod> {
        spec["nodeName"] = json!("n1");
        for container in spec["containers"].as_array_mut().unwrap() {
            if container.get("image").is_none() {
                container["image"] = json!("busybox:1");
            }
        }
        let pod = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
        self.client.create(Pod::from_value(pod).unwrap()).await.unwrap()
    }

    pub async fn delete(&self, name: &str, grace_seconds: Option<i64>) {
        let options = DeleteOptions { grace_period_seconds: grace_seconds, ..Default::default() };
        self.client.delete::<Pod>("default", name, options).await.unwrap();
    }

    pub async fn find(&self, name: &str) -> Option<Value> {
        self.client.find::<Pod>("default", name).await.unwrap().map(|pod| pod.to_value())
    }

    pub async fn status(&self, name: &str) -> Value {
        self.find(name).await.expect("the pod is there")["status"].clone()
    }

    /// Waits until the pod's status is as `holds` wants it.
    pub async fn until(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..12_000 {
            let status = self.status(name).await;
            if holds(&status) {
                return status;
            }
            self.clock.sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} is never {what}: {:#}", self.status(name).await);
    }

    pub async fn until_ready(&self, name: &str) -> Value {
        self.until(name, "ready", |status| condition(status, "Ready") == "True").await
    }

    pub async fn until_gone(&self, name: &str) {
        for _ in 0..12_000 {
            if self.find(name).await.is_none() {
                return;
            }
            self.clock.sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} is never gone: {:#}", self.status(name).await);
    }

    /// `reason: message` of all events about an object, oldest first; repeated ones once.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let events = self.client.list::<Event>(&ListOptions::default()).await.unwrap().items;
        let mut events: Vec<_> =
            events.into_iter().filter(|e| e.involved_object.name.as_deref() == Some(name)).collect();
        events.sort_by_key(|e| e.first_timestamp.clone().map(|t| t.0));
        let text = |e: Arc<Event>| {
            format!("{}: {}", e.reason.clone().unwrap_or_default(), e.message.clone().unwrap_or_default())
        };
        events.into_iter().map(text).collect()
    }

    pub async fn node(&self) -> Value {
        self.client.get::<Node>("", "n1").await.unwrap().to_value()
    }

    pub async fn sleep(&self, seconds: u64) {
        self.clock.sleep(Duration::from_secs(seconds)).await;
    }

    /// The runtime's id of a pod's container.
    pub async fn container_id(&self, name: &str) -> String {
        let status = self.status(name).await;
        let id = status["containerStatuses"][0]["containerID"].as_str().expect("a container").to_owned();
        id.split_once("://").expect("a runtime's scheme").1.to_owned()
    }
}

/// The status of a condition.
pub fn condition(status: &Value, type_: &str) -> String {
    let list = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = list.iter().find(|c| c["type"] == type_);
    found.map(|c| c["status"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

/// Why the first container waits.
pub fn waiting(status: &Value) -> &str {
    status["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default()
}
