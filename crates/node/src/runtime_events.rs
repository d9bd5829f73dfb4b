//! Passes what the runtime tells on to the workers of the pods it is about. A look at everything once a minute is the
//! safety net under events that were lost.

use std::sync::Arc;
use std::time::Duration;

use base::Backoff;
use cri::{EventKind, RuntimeEvent};
use futures_util::StreamExt;

use crate::agent::Agent;
use crate::inbox::Signal;
use crate::labels;

/// The safety net.
const RELIST: Duration = Duration::from_secs(60);
/// How often a runtime without events is looked at (upstream's generic PLEG: 1 s).
const RELIST_WITHOUT_EVENTS: Duration = Duration::from_secs(1);

/// Runs until its group ends.
pub async fn run(agent: Arc<Agent>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    loop {
        let mut events = agent.runtime.events();
        // What happened before the stream began, or between two, is seen by looking.
        wake_all(&agent);
        let mut relist = std::pin::pin!(agent.clock.sleep(RELIST));
        let error = loop {
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        backoff.reset();
                        pass_on(&agent, event).await;
                    }
                    Some(Err(error)) => break error,
                    None => break cri::Error::Unavailable("the stream of events ended".into()),
                },
                () = &mut relist => {
                    wake_all(&agent);
                    relist.set(agent.clock.sleep(RELIST));
                }
            }
        };
        if error == cri::Error::Unimplemented {
            tracing::info!("the runtime tells no events: it is looked at every second");
            loop {
                agent.clock.sleep(RELIST_WITHOUT_EVENTS).await;
                wake_all(&agent);
            }
        }
        tracing::warn!(%error, "the runtime's events broke off");
        agent.node_look.notify_one();
        agent.clock.sleep(backoff.next_jittered(&agent.random)).await;
    }
}

fn wake_all(agent: &Agent) {
    for entry in agent.pods.all() {
        entry.inbox.wake(Signal::Runtime);
    }
}

async fn pass_on(agent: &Agent, event: RuntimeEvent) {
    if let Some(owner) = agent.pods.owner(&event.id) {
        owner.inbox.wake(Signal::Runtime);
        return;
    }
    // What starts is looked at by whoever started it. An end of something unknown may be news.
    if event.kind == EventKind::Stopped
        && let Ok(answer) = agent.runtime.container_status(&event.id, false).await
        && let Some(uid) = answer.status.as_ref().and_then(|s| s.labels.get(labels::POD_UID))
        && let Some(owner) = agent.pods.get(uid)
    {
        owner.inbox.wake(Signal::Runtime);
    }
}
