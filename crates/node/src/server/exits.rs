//! Tells when containers end: one stream of the runtime's events for all who wait.

use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, Clock, TaskGroup};
use cri::{Error, EventKind, Runtime, v1};
use futures_util::StreamExt;
use tokio::sync::broadcast;

use super::Later;

/// How many ends a slow waiter may be behind before it must look for itself.
const CHANNEL_LEN_MAX: usize = 256;
/// How often those who wait look for themselves when the runtime has no events (upstream's `logForceCheckPeriod`).
const BLIND: Duration = Duration::from_secs(1);

/// Who is told.
#[derive(Debug)]
pub struct Exits {
    runtime: Runtime,
    /// A container's or sandbox's id; `None`: something may have been missed.
    ended: broadcast::Sender<Option<Arc<str>>>,
}

impl Exits {
    /// Listens to the runtime until the task group ends.
    pub fn start(runtime: Runtime, clock: Clock, tasks: &TaskGroup) -> Arc<Self> {
        let exits = Arc::new(Self { runtime, ended: broadcast::channel(CHANNEL_LEN_MAX).0 });
        let listening = exits.clone();
        tasks.spawn("container ends", async move { listening.listen(clock).await });
        exits
    }

    async fn listen(&self, clock: Clock) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        loop {
            let mut events = self.runtime.events();
            self.tell(None);
            let mut wait = None;
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        backoff.reset();
                        if matches!(event.kind, EventKind::Stopped | EventKind::Deleted) {
                            self.tell(Some(event.id.into()));
                        }
                    }
                    Err(Error::Unimplemented) => wait = Some(BLIND),
                    Err(error) => tracing::debug!(%error, "the runtime's events broke off"),
                }
            }
            clock.sleep(wait.unwrap_or_else(|| backoff.next())).await;
        }
    }

    fn tell(&self, id: Option<Arc<str>>) {
        let _ = self.ended.send(id); // nobody waits: fine
    }

    /// Resolves when the container does not run.
    pub fn ended(self: &Arc<Self>, id: String) -> Later<()> {
        let exits = self.clone();
        let mut ended = self.ended.subscribe();
        Box::pin(async move {
            loop {
                if !exits.may_run(&id).await {
                    return;
                }
                loop {
                    match ended.recv().await {
                        Ok(Some(other)) if *other != *id => {}
                        Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                        Err(broadcast::error::RecvError::Closed) => return,
                    }
                }
            }
        })
    }

    /// Whether the container runs, or the runtime cannot say now.
    async fn may_run(&self, id: &str) -> bool {
        match self.runtime.container_status(id, false).await {
            Ok(answer) => answer.status.is_some_and(|s| s.state() == v1::ContainerState::ContainerRunning),
            Err(error) => !error.is_not_found(),
        }
    }
}
