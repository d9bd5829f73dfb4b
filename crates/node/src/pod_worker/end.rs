//! What happens once nothing of a pod runs any more: its volumes and cgroups go, the API object goes when it is being
//! deleted, and when it is gone there, everything goes here.

use api::Object;
use api::core::v1::Pod;
use api::meta::v1::{DeleteOptions, Preconditions};

use super::Worker;
use crate::pod;

/// How far the end has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    released: bool,
    deleted: bool,
}

impl Worker {
    /// Does what can be done now. `true`: nothing is left.
    pub(super) async fn finish(&mut self, p: &Pod) -> bool {
        if !self.end.released {
            self.end.released = self.release(p).await;
            if !self.end.released {
                self.back_off();
                return false;
            }
        }
        if self.entry.is_gone() {
            return self.leave(p).await;
        }
        if p.metadata.deletion_timestamp.is_some() && !self.end.deleted {
            self.writer.flushed().await;
            self.end.deleted = self.delete(p).await;
            if !self.end.deleted {
                self.back_off();
            }
        }
        false
    }

    /// Gives back volumes and cgroups.
    async fn release(&self, p: &Pod) -> bool {
        if let Err(error) = self.agent.volumes.unmount(&self.entry.uid).await {
            tracing::warn!(%error, pod = %pod::full_name(p), "the volumes cannot be removed yet");
            return false;
        }
        self.remove_cgroup().await;
        self.agent.tokens.forget(&self.entry.uid);
        self.agent.pod_certificates.forget(&self.entry.uid);
        self.agent.images.forget(&self.entry.uid);
        self.agent.objects.forget(&self.entry.uid);
        true
    }

    async fn remove_cgroup(&self) {
        if let Some(cgroups) = self.agent.cgroups.clone() {
            let uid = self.entry.uid.clone();
            let _ = tokio::task::spawn_blocking(move || cgroups.remove_pod(&uid)).await;
        }
    }

    /// Removes the pod from the API for good.
    async fn delete(&self, p: &Pod) -> bool {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(p.uid().to_owned()), resource_version: None }),
            ..Default::default()
        };
        match self.agent.client.delete::<Pod>(p.namespace(), p.name(), options).await {
            Ok(()) => true,
            // Gone, or another pod of that name: the watch says the rest.
            Err(error) if error.is_not_found() || error.is_conflict() => true,
            Err(error) => {
                tracing::warn!(%error, pod = %pod::full_name(p), "the pod cannot be removed from the API yet");
                false
            }
        }
    }

    /// Removes all that is left on the node. `false`: something could not be, try again.
    async fn leave(&mut self, p: &Pod) -> bool {
        let runtime = &self.agent.runtime;
        for container in &self.state.containers {
            if let Err(error) = runtime.remove_container(&container.id).await {
                return self.not_yet(p, &error);
            }
        }
        for sandbox in &self.state.sandboxes {
            // Its network is given back even if it had stopped by itself.
            let stopped = runtime.stop_pod_sandbox(&sandbox.id).await;
            if let Err(error) = stopped.and(runtime.remove_pod_sandbox(&sandbox.id).await) {
                return self.not_yet(p, &error);
            }
        }
        self.remove_cgroup().await;
        if let Err(error) = self.agent.volumes.remove(&self.entry.uid).await {
            tracing::warn!(%error, pod = %pod::full_name(p), "the pod's files cannot be removed yet");
            self.back_off();
            return false;
        }
        let logs = self.agent.log_dir(p);
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(logs)).await;
        if let Ok(Err(error)) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(%error, pod = %pod::full_name(p), "the logs cannot be removed");
        }
        self.agent.pods.leave(&self.entry.uid);
        true
    }

    fn not_yet(&mut self, p: &Pod, error: &cri::Error) -> bool {
        tracing::debug!(%error, pod = %pod::full_name(p), "the runtime has not let go of the pod yet");
        self.stale = true;
        self.back_off();
        false
    }
}
