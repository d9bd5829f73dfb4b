//! Stopping: the preStop hook and SIGTERM within the grace period, then force.

use std::time::Duration;

use futures_util::future::join_all;

use super::Job;
use crate::agent::rpc_text;
use crate::events::Severity;
use crate::hook;
use crate::pod;
use crate::probe::Subject;
use crate::state::Phase;

impl Job {
    /// Stops one container. `false`: it could not be stopped.
    pub(super) async fn kill(&self, id: &str, name: &str, message: &str, grace_seconds: i64) -> bool {
        let event =
            |severity, reason, text: String| self.agent.events.container(&self.pod, name, severity, reason, text);
        event(Severity::Normal, "Killing", message.to_owned());
        let clock = self.agent.clock;
        let begun = clock.monotonic();
        let container = pod::find_container(&self.pod, name);
        let hook = container.as_ref().and_then(|c| c.lifecycle.as_ref()).and_then(|l| l.pre_stop.as_ref());
        if let (Some(container), Some(handler)) = (&container, hook) {
            let subject = Subject { agent: &self.agent, container, container_id: id, ips: self.state.ips() };
            let limit = Duration::from_secs(u64::try_from(grace_seconds).unwrap_or(0));
            match tokio::time::timeout(limit, hook::run(&subject, handler)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(pod = %pod::full_name(&self.pod), container = name, error, "preStop hook failed");
                    event(Severity::Warning, "FailedPreStopHook", "PreStopHook failed".into());
                }
                Err(_) => tracing::debug!(container = name, "preStop hook outlasted the grace period"),
            }
        }
        let spent = i64::try_from(clock.monotonic().duration_since(begun).as_secs()).unwrap_or(i64::MAX);
        let rest = grace_seconds.saturating_sub(spent).max(pod::MINIMUM_GRACE_SECONDS);
        match self.agent.runtime.stop_container(id, rest).await {
            Ok(()) => true,
            Err(error) if error.is_not_found() => true,
            Err(error) => {
                event(Severity::Warning, "FailedKillPod", format!("error killing pod: {}", rpc_text(&error)));
                false
            }
        }
    }

    /// Stops all containers, sidecars last and in reverse order, then the sandboxes. `false`: some could not be.
    pub(super) async fn stop_pod(&self, grace_seconds: i64) -> bool {
        let clock = self.agent.clock;
        let begun = clock.monotonic();
        let running = self.state.containers.iter().filter(|c| c.phase != Phase::Exited);
        let sidecars: Vec<&str> =
            pod::init_containers(&self.pod).iter().filter(|c| pod::is_sidecar(c)).map(|c| c.name.as_str()).collect();
        let (last, first): (Vec<_>, Vec<_>) = running.partition(|c| sidecars.contains(&c.name.as_str()));
        let message = |name: &str| format!("Stopping container {name}");
        let kills =
            first.iter().map(|c| async move { self.kill(&c.id, &c.name, &message(&c.name), grace_seconds).await });
        let mut stopped = join_all(kills).await.into_iter().all(|ok| ok);
        for name in sidecars.iter().rev() {
            for sidecar in last.iter().filter(|c| c.name == *name) {
                let spent = i64::try_from(clock.monotonic().duration_since(begun).as_secs()).unwrap_or(i64::MAX);
                let rest = grace_seconds.saturating_sub(spent).max(pod::MINIMUM_GRACE_SECONDS);
                stopped &= self.kill(&sidecar.id, &sidecar.name, &message(&sidecar.name), rest).await;
            }
        }
        if !stopped {
            return false;
        }
        let newest = self.state.sandbox().map(|s| s.id.as_str());
        for sandbox in self.state.sandboxes.iter().filter(|s| s.ready || Some(s.id.as_str()) == newest) {
            match self.agent.runtime.stop_pod_sandbox(&sandbox.id).await {
                Ok(()) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    let text = format!(
                        "error killing pod: failed to \"KillPodSandbox\" for {:?} with KillPodSandboxError: {:?}",
                        self.entry.uid,
                        rpc_text(&error)
                    );
                    self.event(Severity::Warning, "FailedKillPod", text);
                    stopped = false;
                }
            }
        }
        if let Some(network) = self.agent.network.as_ref().filter(|_| stopped) {
            network.release(&self.pod);
        }
        stopped
    }
}
