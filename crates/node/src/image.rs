//! Images: whether to pull, pulling a bounded number at once, and waiting longer after each failure.
//!
//! Upstream: kubelet `images/image_manager.go`, `images/types.go`.

mod credentials;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::core::v1::{Container, Pod, Secret};
use base::{Clock, Timestamp};
use cri::{Runtime, v1};
use jiff::SignedDuration;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::config::security::ImageUser;
use crate::events::{Events, Severity};
use crate::pod_worker::plan::Waiting;

/// Pulls at once; more only share the same link.
const PULLS_MAX: usize = 4;
/// Failed pulls wait 10 s, doubling to 5 min.
const BACKOFF_FIRST: SignedDuration = SignedDuration::from_secs(10);
const BACKOFF_MAX: SignedDuration = SignedDuration::from_secs(300);
/// How long the error itself is shown before `ImagePullBackOff`.
const ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(3);
/// Images whose failures are remembered.
const FAILURES_LEN_MAX: usize = 1024;

/// An image that is on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Its id in the runtime.
    pub id: String,
    pub user: ImageUser,
}

/// An image that is not, and when to try again.
#[derive(Debug, Clone, PartialEq)]
pub struct Missing {
    pub waiting: Waiting,
    pub retry_at: Timestamp,
}

#[derive(Debug, Clone)]
struct Failure {
    delay: SignedDuration,
    at: Timestamp,
    message: String,
}

/// Gets images onto the node. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    runtime: Runtime,
    events: Events,
    clock: Clock,
    pulls: Arc<Semaphore>,
    /// By pod and image, as upstream keys its back-off.
    failures: Arc<Mutex<HashMap<(String, String), Failure>>>,
}

/// When an image is asked for from its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Always,
    IfNotPresent,
    Never,
}

/// The policy of a container; without one `Always` for `latest`, else `IfNotPresent`.
pub fn policy(container: &Container) -> Policy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        Some(_) => Policy::IfNotPresent,
        None => {
            let image = container.image.as_deref().unwrap_or_default();
            let last = image.rsplit('/').next().unwrap_or_default();
            let tagged = last.split('@').next().unwrap_or_default().split_once(':');
            let pinned = image.contains('@') || tagged.is_some_and(|(_, tag)| tag != "latest");
            if pinned { Policy::IfNotPresent } else { Policy::Always }
        }
    }
}

impl Images {
    /// Images of `runtime`.
    pub fn new(runtime: Runtime, events: Events, clock: Clock) -> Self {
        Self { runtime, events, clock, pulls: Arc::new(Semaphore::new(PULLS_MAX)), failures: Arc::default() }
    }

    /// Makes sure the container's image is on the node, as its policy has it.
    pub async fn ensure(&self, p: &Pod, container: &Container, secrets: &[Arc<Secret>]) -> Result<Present, Missing> {
        let name = container.image.as_deref().unwrap_or_default();
        let event = |severity, reason, message: String| {
            self.events.container(p, &container.name, severity, reason, message);
        };
        if let Err(why) = cri::reference::check(name) {
            let message =
                format!("Failed to apply default image tag {name:?}: couldn't parse image name {name:?}: {why}");
            event(Severity::Warning, "InspectFailed", message.clone());
            return Err(self.missing("InvalidImageName", message, self.clock.now() + BACKOFF_FIRST));
        }
        let present = match self.find(name).await {
            Ok(present) => present,
            Err(error) => {
                let message = format!("Failed to inspect image {name:?}: {error}");
                event(Severity::Warning, "InspectFailed", message.clone());
                return Err(self.missing("ImageInspectError", message, self.clock.now() + BACKOFF_FIRST));
            }
        };
        match (policy(container), present) {
            (Policy::Never | Policy::IfNotPresent, Some(present)) => {
                let message =
                    format!("Container image {name:?} already present on machine and can be accessed by the pod");
                event(Severity::Normal, "Pulled", message);
                Ok(present)
            }
            (Policy::Never, None) => {
                let message = format!("Container image {name:?} is not present with pull policy of Never");
                event(Severity::Warning, "ErrImageNeverPull", message.clone());
                Err(self.missing("ErrImageNeverPull", message, self.clock.now() + BACKOFF_FIRST))
            }
            (Policy::Always, _) | (Policy::IfNotPresent, None) => self.pull(p, container, name, secrets).await,
        }
    }

    fn missing(&self, reason: &str, message: String, retry_at: Timestamp) -> Missing {
        Missing { waiting: Waiting { reason: reason.to_owned(), message }, retry_at }
    }

    async fn find(&self, name: &str) -> cri::Result<Option<Present>> {
        let image = self.runtime.image_status(v1::ImageSpec::named(name)).await?;
        Ok(image.map(|image| Present {
            id: image.id,
            user: ImageUser { uid: image.uid.map(|uid| uid.value), name: image.username },
        }))
    }

    async fn pull(
        &self,
        p: &Pod,
        container: &Container,
        name: &str,
        secrets: &[Arc<Secret>],
    ) -> Result<Present, Missing> {
        let event = |severity, reason, message: String| {
            self.events.container(p, &container.name, severity, reason, message);
        };
        let key = (p.uid().to_owned(), name.to_owned());
        let now = self.clock.now();
        let failure = self.failures.lock().get(&key).cloned();
        if let Some(failure) = failure.filter(|f| f.at + f.delay > now) {
            let message = format!("Back-off pulling image {name:?}");
            event(Severity::Normal, "BackOff", message.clone());
            return Err(self.backing_off(name, &failure));
        }
        event(Severity::Normal, "Pulling", format!("Pulling image {name:?}"));
        let queued_at = self.clock.monotonic();
        let permit = self.pulls.acquire().await.expect("the semaphore is never closed");
        let started_at = self.clock.monotonic();
        let spec = v1::ImageSpec::named(name);
        let mut result = Err(cri::Error::NotFound("no credentials were tried".into()));
        for auth in credentials::for_image(name, secrets) {
            result = self.runtime.pull_image(spec.clone(), auth, None).await;
            if result.is_ok() {
                break;
            }
        }
        drop(permit);
        let pulled = match result {
            Ok(reference) => match self.find(&reference).await {
                Ok(Some(present)) => Ok(present),
                Ok(None) => Err(cri::Error::NotFound(format!("the pulled image {reference:?} is not there"))),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match pulled {
            Ok(present) => {
                self.failures.lock().remove(&key);
                let size = match self.runtime.image_status(v1::ImageSpec::named(&present.id)).await {
                    Ok(Some(image)) => image.size,
                    _ => 0,
                };
                let message = format!(
                    "Successfully pulled image {name:?} in {} ({} including waiting). Image size: {size} bytes.",
                    go_millis(self.clock.monotonic().duration_since(started_at)),
                    go_millis(self.clock.monotonic().duration_since(queued_at)),
                );
                event(Severity::Normal, "Pulled", message);
                Ok(present)
            }
            Err(error) => {
                event(Severity::Warning, "Failed", format!("Failed to pull image {name:?}: {error}"));
                let failure = self.failed(key, error.to_string());
                let reason = match &error {
                    cri::Error::Unavailable(_) => "RegistryUnavailable",
                    _ => "ErrImagePull",
                };
                // The next look tells of the wait (`ImagePullBackOff`); the pull itself waits out its delay.
                Err(self.missing(reason, failure.message.clone(), failure.at + ERROR_SHOWN.min(failure.delay)))
            }
        }
    }

    fn failed(&self, key: (String, String), message: String) -> Failure {
        let now = self.clock.now();
        let mut failures = self.failures.lock();
        if failures.len() >= FAILURES_LEN_MAX {
            failures.retain(|_, f| now.duration_since(f.at) <= f.delay * 2);
        }
        let delay = match failures.get(&key) {
            Some(before) if now.duration_since(before.at) <= BACKOFF_MAX * 2 => (before.delay * 2).min(BACKOFF_MAX),
            _ => BACKOFF_FIRST,
        };
        let failure = Failure { delay, at: now, message };
        failures.insert(key, failure.clone());
        failure
    }

    fn backing_off(&self, name: &str, failure: &Failure) -> Missing {
        let message = format!("Back-off pulling image {name:?}: ErrImagePull: {}", failure.message);
        self.missing("ImagePullBackOff", message, failure.at + failure.delay)
    }

    /// Forgets a pod's failures.
    pub fn forget(&self, uid: &str) {
        self.failures.lock().retain(|(pod, _), _| pod != uid);
    }
}

/// As Go prints a duration rounded to milliseconds: `12ms`, `1.234s`, `1m2.5s`.
fn go_millis(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let mut seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    seconds = seconds.trim_end_matches('0').trim_end_matches('.').to_owned();
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_by_name() {
        for (image, want) in [
            ("nginx", Policy::Always),
            ("nginx:latest", Policy::Always),
            ("host:5000/nginx", Policy::Always),
            ("nginx:1.25", Policy::IfNotPresent),
            ("nginx@sha256:0", Policy::IfNotPresent),
        ] {
            let container = Container { image: Some(image.into()), ..Container::default() };
            assert_eq!(policy(&container), want, "{image}");
        }
    }

    #[test]
    fn durations_read_as_gos() {
        assert_eq!(go_millis(Duration::from_millis(12)), "12ms");
        assert_eq!(go_millis(Duration::from_millis(1230)), "1.23s");
        assert_eq!(go_millis(Duration::from_millis(62_500)), "1m2.5s");
    }
}
