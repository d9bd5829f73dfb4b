//! Does what was planned. Nothing is decided here: a step works or fails, and the next plan sees what came of it.

mod kill;
mod mounts;
mod start;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::Object;
use api::core::v1::{Pod, Secret};
use api::node::v1::RuntimeClass;
use base::Timestamp;
use cri::v1;
use futures_util::future::join_all;
use tokio::sync::SemaphorePermit;

use super::plan::{Hold, Kind, Step, Waiting};
use crate::agent::{Agent, rpc_text};
use crate::config::{dns, linux, sandbox};
use crate::events::Severity;
use crate::image::{Missing, Present};
use crate::pods::Entry;
use crate::state::{self, PodState};
use crate::volume::Mounted;
use crate::{network, pod, resize};

/// What came of the steps, as far as the next plan cannot see it in the runtime.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Containers that could not be started.
    pub holds: Vec<(String, Hold)>,
    /// Containers that were.
    pub started: Vec<String>,
    /// Containers of which an earlier one ended: name, hash, when it ended.
    pub restarted: Vec<(String, String, Timestamp)>,
    /// Containers that got other resources: id and what they have now.
    pub resized: Vec<(String, String)>,
    /// The volumes, if they were set up.
    pub volumes: Option<Mounted>,
    /// Something failed that the next plan would try again at once.
    pub failed: bool,
}

/// Steps to do for one pod.
pub struct Job {
    pub agent: Arc<Agent>,
    pub entry: Arc<Entry>,
    pub pod: Arc<Pod>,
    pub state: Arc<PodState>,
    pub steps: Vec<Step>,
}

/// A sandbox to start containers in.
struct Sandbox {
    id: String,
    ips: Vec<String>,
    config: v1::PodSandboxConfig,
}

/// One container to start.
struct Start {
    name: String,
    kind: Kind,
    restart_count: u32,
    finished_at: Option<Timestamp>,
}

impl Job {
    /// Does all steps. May be dropped at any await: the runtime is asked again afterwards.
    pub async fn run(self) -> Outcome {
        let mut outcome = Outcome::default();
        let mut starts = Vec::new();
        let mut attempt = None;
        let mut stuck = false;
        for (index, step) in self.steps.iter().enumerate() {
            match step.clone() {
                Step::StopPod { grace_seconds } => stuck |= !self.stop_pod(grace_seconds).await,
                Step::Kill { id, name, message, grace_seconds } => {
                    stuck |= !self.kill(&id, &name, &message, grace_seconds).await;
                }
                Step::Resize { id, name } => self.resize(&id, &name, &mut outcome).await,
                Step::RemoveContainer { id } => {
                    let removed = self.remove_container(&id).await;
                    outcome.failed |= !removed;
                    // Its successor cannot be made beside it; perhaps it is starting after all.
                    let successor = self.steps[index..].iter().any(|later| matches!(later, Step::Start { .. }));
                    stuck |= !removed && successor;
                }
                Step::RemoveSandbox { id } => outcome.failed |= !self.remove_sandbox(&id).await,
                Step::CreateSandbox { attempt: number } => attempt = Some(number),
                Step::Start { name, kind, restart_count, finished_at } => {
                    starts.push(Start { name, kind, restart_count, finished_at });
                }
            }
        }
        outcome.failed |= stuck;
        // What could not be stopped must not get a twin.
        if stuck || (attempt.is_none() && starts.is_empty()) {
            return outcome;
        }
        self.start_all(attempt, starts, &mut outcome).await;
        outcome
    }

    fn event(&self, severity: Severity, reason: &str, message: impl Into<String>) {
        self.agent.events.pod(&self.pod, severity, reason, message);
    }

    /// Gives a running container the resources of its spec, and the pod's cgroup what all of them need.
    async fn resize(&self, id: &str, name: &str, outcome: &mut Outcome) {
        let Some(container) = pod::find_container(&self.pod, name) else { return };
        let resources = linux::resources(&self.pod, &container, self.agent.facts.memory_bytes);
        // The pod's room grows before its containers do, and shrinks after them.
        self.limit_pod(true).await;
        let result = self.agent.runtime.update_container_resources(id, resources, BTreeMap::new()).await;
        self.limit_pod(false).await;
        match result {
            Ok(()) => outcome.resized.push((id.to_owned(), resize::fingerprint(&container))),
            Err(error) => {
                let text = format!("Error resizing container {name}: {}", rpc_text(&error));
                self.event(Severity::Warning, "ResizeError", text);
                outcome.failed = true;
            }
        }
    }

    /// Sets the pod's own limits; `growing`: only if that gives it more room.
    async fn limit_pod(&self, growing: bool) {
        if let Some(cgroups) = self.agent.cgroups.clone() {
            let p = self.pod.clone();
            let done = tokio::task::spawn_blocking(move || {
                if !growing || cgroups.is_below(&p) {
                    cgroups.limit_pod(&p);
                }
            });
            let _ = done.await;
        }
    }

    async fn remove_container(&self, id: &str) -> bool {
        let result = self.agent.runtime.remove_container(id).await;
        if let Err(error) = &result {
            tracing::debug!(%error, id, "a dead container cannot be removed yet");
        }
        result.is_ok()
    }

    async fn remove_sandbox(&self, id: &str) -> bool {
        let runtime = &self.agent.runtime;
        // One that died by itself holds its network until it is stopped.
        let result = match runtime.stop_pod_sandbox(id).await {
            Ok(()) => runtime.remove_pod_sandbox(id).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            tracing::debug!(%error, id, "a dead sandbox cannot be removed yet");
        }
        result.is_ok()
    }

    async fn start_all(&self, attempt: Option<u32>, starts: Vec<Start>, outcome: &mut Outcome) {
        let ips = self.state.ips().to_vec();
        let mounted = match self.agent.volumes.prepare(&self.pod, &self.agent.known(&ips)).await {
            Ok(mounted) => mounted,
            Err(failed) => {
                for failure in failed {
                    self.event(Severity::Warning, "FailedMount", failure.message);
                }
                outcome.failed = true;
                return;
            }
        };
        outcome.volumes = Some(mounted.clone());
        let images_ready = AtomicBool::new(false);
        let images = async {
            let images = self.images(&starts).await;
            images_ready.store(true, Ordering::Release);
            images
        };
        let sandbox = async {
            let made = self.sandbox(attempt, &images_ready).await?;
            self.isolate(&made.0).await.then_some(made)
        };
        let (sandbox, images) = tokio::join!(sandbox, images);
        let Some((sandbox, mut permit)) = sandbox else {
            outcome.failed = true;
            return;
        };
        for (start, image) in starts.iter().zip(images) {
            let image = match image {
                Ok(image) => image,
                Err(missing) => {
                    let text = format!("Error: {}", missing.waiting.reason);
                    self.agent.events.container(&self.pod, &start.name, Severity::Warning, "Failed", text);
                    outcome.holds.push((start.name.clone(), hold(missing)));
                    continue;
                }
            };
            if permit.is_none() {
                permit = self.agent.starts.acquire().await.ok();
            }
            self.start(start, &sandbox, &image, &mounted, outcome, &mut permit).await;
        }
    }

    /// The images of all containers to start, fetched beside each other.
    async fn images(&self, starts: &[Start]) -> Vec<Result<Present, Missing>> {
        let secrets = self.pull_secrets().await;
        join_all(starts.iter().map(|start| async {
            let container = pod::find_container(&self.pod, &start.name).unwrap_or_default();
            self.agent.images.ensure(&self.pod, &container, &secrets).await
        }))
        .await
    }

    async fn pull_secrets(&self) -> Vec<Arc<Secret>> {
        let mut found = Vec::new();
        for reference in pod::spec(&self.pod).image_pull_secrets.iter().flatten() {
            match self.agent.objects.secret(self.pod.namespace(), &reference.name).await {
                Ok(Some(secret)) => found.push(secret),
                Ok(None) | Err(_) => {
                    let message = format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                        reference.name
                    );
                    self.event(Severity::Warning, "FailedToRetrieveImagePullSecret", message);
                }
            }
        }
        found
    }

    /// The configuration of the sandbox; the same for the same pod, whenever it is made.
    fn sandbox_config(&self, attempt: u32) -> v1::PodSandboxConfig {
        let facts = &self.agent.facts;
        let (dns, truncated) = dns::compile(&self.pod, &facts.cluster, &facts.host_dns);
        if let Some(message) = truncated {
            self.event(Severity::Warning, "DNSConfigForming", message);
        }
        let cgroup_parent = self.agent.cgroups.as_ref().map(|c| c.pod_path(&self.pod)).unwrap_or_default();
        let context = sandbox::Context {
            node_name: &facts.node_name,
            cluster_domain: &facts.cluster.domain,
            dns,
            cgroup_parent: &cgroup_parent,
            log_dir: self.agent.log_dir(&self.pod),
        };
        sandbox::compile(&self.pod, attempt, &context)
    }

    /// The sandbox to start in: a new one, or the one that is there. The permit to work on the runtime is kept when
    /// the images are ready too, so that a pod that can start does so in one go.
    async fn sandbox(
        &self,
        attempt: Option<u32>,
        images_ready: &AtomicBool,
    ) -> Option<(Sandbox, Option<SemaphorePermit<'_>>)> {
        let Some(attempt) = attempt else {
            let current = self.state.sandbox()?;
            let config = self.sandbox_config(current.attempt);
            return Some((Sandbox { id: current.id.clone(), ips: current.ips.clone(), config }, None));
        };
        let permit = self.agent.starts.acquire().await.ok();
        match self.create_sandbox(attempt).await {
            Ok(sandbox) => Some((sandbox, permit.filter(|_| images_ready.load(Ordering::Acquire)))),
            Err(error) => {
                let message = format!("Failed to create pod sandbox: {error}");
                self.event(Severity::Warning, "FailedCreatePodSandBox", message);
                None
            }
        }
    }

    /// Waits until the network policies of the pod hold for its addresses: no container begins before.
    async fn isolate(&self, sandbox: &Sandbox) -> bool {
        let Some(network) = self.agent.network.as_ref().filter(|_| !pod::is_host_network(&self.pod)) else {
            return true;
        };
        let admitted = match network::addresses(&sandbox.ips) {
            Ok(ips) => network.admit(self.pod.clone(), ips).await,
            Err(error) => Err(error),
        };
        match admitted {
            Ok(()) => true,
            Err(error) => {
                self.event(Severity::Warning, "NetworkNotReady", format!("network is not ready: {error}"));
                false
            }
        }
    }

    async fn create_sandbox(&self, attempt: u32) -> Result<Sandbox, String> {
        let handler = self.runtime_handler().await?;
        if pod::spec(&self.pod).host_users == Some(false) {
            return Err("user namespaces are not supported by the node yet".into());
        }
        let config = self.sandbox_config(attempt);
        let log_dir = config.log_directory.clone();
        let (cgroups, p) = (self.agent.cgroups.clone(), self.pod.clone());
        let prepared = tokio::task::spawn_blocking(move || {
            if let Some(cgroups) = cgroups {
                cgroups.create_pod(&p);
            }
            std::fs::create_dir_all(log_dir)
        });
        prepared.await.map_err(|e| e.to_string())?.map_err(|e| format!("the log directory cannot be made: {e}"))?;
        let runtime = &self.agent.runtime;
        let id = runtime.run_pod_sandbox(config.clone(), &handler).await.map_err(|e| rpc_text(&e))?;
        self.agent.pods.own(&id, &self.entry.uid);
        let status = runtime.pod_sandbox_status(&id, false).await.map_err(|e| rpc_text(&e))?;
        let ips = status.status.as_ref().map(|s| state::sandbox(s).ips).unwrap_or_default();
        let ips = if pod::is_host_network(&self.pod) { self.agent.facts.host_ips.clone() } else { ips };
        Ok(Sandbox { id, ips, config })
    }

    async fn runtime_handler(&self) -> Result<String, String> {
        match pod::spec(&self.pod).runtime_class_name.as_deref() {
            None | Some("") => Ok(String::new()),
            Some(name) => {
                let class = self.agent.client.get::<RuntimeClass>("", name).await.map_err(|e| e.to_string())?;
                Ok(class.handler.clone())
            }
        }
    }
}

fn hold(missing: Missing) -> Hold {
    Hold { until: missing.retry_at, waiting: missing.waiting }
}

/// A container that failed to start, held for a while.
fn held(now: Timestamp, seconds: i64, reason: &str, message: impl Into<String>) -> Hold {
    Hold {
        until: now + jiff::SignedDuration::from_secs(seconds),
        waiting: Waiting { reason: reason.to_owned(), message: message.into() },
    }
}

/// The environment services give, once they are known.
async fn services(agent: &Agent, p: &Pod) -> Result<BTreeMap<String, String>, String> {
    let limit = std::time::Duration::from_secs(10);
    if tokio::time::timeout(limit, agent.services.synced()).await.is_err() {
        return Err("services have not yet been read at least once, cannot construct envvars".into());
    }
    let links = pod::spec(p).enable_service_links != Some(false);
    let snapshot = agent.services.snapshot();
    Ok(crate::config::service_env::variables(snapshot.values().map(|s| &**s), p.namespace(), links))
}
