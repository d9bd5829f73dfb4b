//! Starting one container: configure, create, start, and its postStart hook.

use std::sync::Arc;

use api::Object;
use api::core::v1::Container;
use cri::v1;
use tokio::sync::SemaphorePermit;

use super::{Job, Outcome, Sandbox, Start, held, services};
use crate::config::ConfigError;
use crate::config::container::{Context, compile};
use crate::config::env::{self, Objects, Sources};
use crate::events::Severity;
use crate::hook;
use crate::image::Present;
use crate::labels;
use crate::pod;
use crate::pod_worker::plan::Kind;
use crate::probe::Subject;
use crate::volume::Mounted;

/// After a configuration error the next try, unless an object it refers to changes.
const CONFIG_RETRY_SECONDS: i64 = 10;
/// After the runtime refused to start a container; its crash back-off comes on top.
const RUN_RETRY_SECONDS: i64 = 1;

impl Job {
    /// Starts one container in `sandbox` and notes what came of it.
    pub(super) async fn start(
        &self,
        start: &Start,
        sandbox: &Sandbox,
        image: &Present,
        mounted: &Mounted,
        outcome: &mut Outcome,
        permit: &mut Option<SemaphorePermit<'_>>,
    ) {
        let Some(container) = pod::find_container(&self.pod, &start.name) else { return };
        if let Some(finished_at) = start.finished_at {
            outcome.restarted.push((start.name.clone(), labels::container_hash(&container), finished_at));
        }
        let now = self.agent.clock.now();
        let event = |severity, reason, message: String| {
            self.agent.events.container(&self.pod, &start.name, severity, reason, message);
        };
        let config = match self.configure(start, &container, sandbox, image, mounted).await {
            Ok(config) => config,
            Err(error) => {
                event(Severity::Warning, "Failed", format!("Error: {error}"));
                let hold = held(now, CONFIG_RETRY_SECONDS, "CreateContainerConfigError", error.0);
                outcome.holds.push((start.name.clone(), hold));
                return;
            }
        };
        let runtime = &self.agent.runtime;
        let id = match runtime.create_container(&sandbox.id, config, sandbox.config.clone()).await {
            Ok(id) => id,
            Err(error) => {
                event(Severity::Warning, "Failed", format!("Error: {error}"));
                let hold = held(now, CONFIG_RETRY_SECONDS, "CreateContainerError", error.to_string());
                outcome.holds.push((start.name.clone(), hold));
                return;
            }
        };
        self.agent.pods.own(&id, &self.entry.uid);
        event(Severity::Normal, "Created", "Container created".into());
        if let Err(error) = runtime.start_container(&id).await {
            event(Severity::Warning, "Failed", format!("Error: {error}"));
            let hold = held(now, RUN_RETRY_SECONDS, "RunContainerError", error.to_string());
            outcome.holds.push((start.name.clone(), hold));
            return;
        }
        event(Severity::Normal, "Started", "Container started".into());
        outcome.started.push(start.name.clone());
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        if let Some(handler) = hook {
            // The hook may take as long as it likes: others go on meanwhile.
            permit.take();
            let subject = Subject { agent: &self.agent, container: &container, container_id: &id, ips: &sandbox.ips };
            if let Err(error) = hook::run(&subject, handler).await {
                tracing::debug!(pod = %pod::full_name(&self.pod), container = start.name, error, "postStart hook failed");
                event(Severity::Warning, "FailedPostStartHook", "PostStartHook failed".into());
                let grace = pod::spec(&self.pod).termination_grace_period_seconds.unwrap_or(pod::DEFAULT_GRACE_SECONDS);
                self.kill(&id, &start.name, "FailedPostStartHook", grace.max(pod::MINIMUM_GRACE_SECONDS)).await;
                let hold = held(self.agent.clock.now(), RUN_RETRY_SECONDS, "PostStartHookError", error);
                outcome.holds.push((start.name.clone(), hold));
                outcome.started.retain(|name| *name != start.name);
            }
        }
    }

    async fn configure(
        &self,
        start: &Start,
        container: &Container,
        sandbox: &Sandbox,
        image: &Present,
        mounted: &Mounted,
    ) -> Result<v1::ContainerConfig, ConfigError> {
        let facts = &self.agent.facts;
        let objects = self.environment_objects().await?;
        let services = services(&self.agent, &self.pod).await.map_err(ConfigError)?;
        let sources = Sources { objects: &objects, services: &services, known: self.agent.known(&sandbox.ips) };
        let environment = env::compile(&self.pod, container, &sources)?;
        let mounts = self.mounts(container, &environment, mounted, sandbox, start.restart_count).await?;
        let target = self.target(start);
        let context = Context {
            node_name: &facts.node_name,
            image_id: &image.id,
            image_user: &image.user,
            environment: &environment,
            mounts,
            devices: Vec::new(),
            restart_count: start.restart_count,
            target_id: target.as_deref(),
            node_memory_bytes: facts.memory_bytes,
            host: &facts.security,
        };
        let config = compile(&self.pod, container, context)?;
        let log_dir = format!("{}/{}", sandbox.config.log_directory, container.name);
        let made = tokio::task::spawn_blocking(move || std::fs::create_dir_all(log_dir)).await;
        made.map_err(|e| ConfigError(e.to_string()))?.map_err(|e| {
            ConfigError(format!("create container log directory for container {} failed: {e}", container.name))
        })?;
        Ok(config)
    }

    /// The container whose processes an ephemeral container is to see.
    fn target(&self, start: &Start) -> Option<String> {
        if start.kind != Kind::Ephemeral {
            return None;
        }
        let ephemeral = pod::ephemeral_containers(&self.pod).iter().find(|c| c.name == start.name)?;
        let target = ephemeral.target_container_name.as_deref().filter(|t| !t.is_empty())?;
        self.state.active_container(target).map(|c| c.id.clone())
    }

    /// The ConfigMaps and Secrets the pod's environment comes from.
    async fn environment_objects(&self) -> Result<Objects, ConfigError> {
        let (config_maps, secrets) = env::references(&self.pod);
        let namespace = self.pod.namespace();
        let mut objects = Objects::default();
        for name in config_maps {
            let found =
                self.agent.objects.config_map(namespace, &name).await.map_err(|e| ConfigError(e.to_string()))?;
            objects.config_maps.extend(found.map(|found: Arc<_>| (name, found)));
        }
        for name in secrets {
            let found = self.agent.objects.secret(namespace, &name).await.map_err(|e| ConfigError(e.to_string()))?;
            objects.secrets.extend(found.map(|found: Arc<_>| (name, found)));
        }
        Ok(objects)
    }
}
