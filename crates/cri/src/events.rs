//! What happens to containers, as a stream: from containerd's own event bus, or CRI's `GetContainerEvents`.
//!
//! containerd is asked first for its own events, even where it implements CRI's: 1.7 hands each CRI event to one
//! listener only, and CRI's say nothing of out-of-memory kills. An event is a hint to look again, never the state
//! itself: a listener that was away must list once.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, Stream, StreamExt};
use prost::Message;
use tonic::transport::Channel;

use crate::containerd::events::events_client::EventsClient;
use crate::containerd::events::{Envelope, PublishRequest, SubscribeRequest};
use crate::containerd::{self, event_types};
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::{Client, Error, Result, v1};

/// Something happened to a sandbox or a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeEvent {
    /// The container's id, or the sandbox's; empty for [`EventKind::Listening`].
    pub id: String,
    /// What happened.
    pub kind: EventKind,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The first of every stream: from here on nothing is missed. Whoever lists now knows all.
    Listening,
    /// Its first process runs.
    Started,
    /// Its first process ended; asked now, the runtime says so too.
    Stopped,
    /// It was removed.
    Deleted,
    /// The kernel killed a process in it for want of memory.
    Oom,
}

/// Events in the order in which the runtime told them, except that a stop may come after what followed it. The first
/// is [`EventKind::Listening`].
///
/// The stream ends with its first error: after [`Error::Unimplemented`] the runtime has no events and must be listed
/// from time to time; after any other, list once and ask for a new stream.
pub struct EventStream(BoxStream<'static, Result<RuntimeEvent>>);

impl RuntimeEvent {
    /// The first of a stream.
    pub(crate) fn listening() -> Self {
        Self { id: String::new(), kind: EventKind::Listening }
    }
}

impl EventStream {
    /// A stream of what `events` yields.
    pub(crate) fn new(events: impl Stream<Item = Result<RuntimeEvent>> + Send + 'static) -> Self {
        Self(events.boxed())
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl Stream for EventStream {
    type Item = Result<RuntimeEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

/// How many stops may wait at once for the runtime's view to catch up.
const SETTLING_LEN_MAX: usize = 32;

/// The events of the runtime behind `client`.
pub fn of(client: &Client) -> EventStream {
    let cri = of_cri(client.runtime_service());
    if client.runtime_name() != "containerd" {
        return EventStream::new(cri);
    }
    let ours = client.clone();
    let bus = of_containerd(client.channel())
        .map(move |event| {
            let client = ours.clone();
            async move {
                if let Ok(RuntimeEvent { id, kind: EventKind::Stopped }) = &event {
                    settle(&client, id).await;
                }
                event
            }
        })
        .buffer_unordered(SETTLING_LEN_MAX);
    EventStream::new(or_else_unimplemented(bus, cri))
}

/// `first`, or `second` when the runtime does not implement `first`. Ends after an error.
fn or_else_unimplemented(
    first: impl Stream<Item = Result<RuntimeEvent>> + Send + 'static,
    second: impl Stream<Item = Result<RuntimeEvent>> + Send + 'static,
) -> impl Stream<Item = Result<RuntimeEvent>> + Send + 'static {
    let state = (first.boxed(), Some(second.boxed()), false);
    stream::unfold(state, |(mut current, mut next, ended)| async move {
        if ended {
            return None;
        }
        loop {
            match current.next().await? {
                Err(Error::Unimplemented) if next.is_some() => current = next.take()?,
                Err(error) => return Some((Err(error), (current, next, true))),
                Ok(event) => return Some((Ok(event), (current, next, false))),
            }
        }
    })
}

/// A server that stops sending is a broken connection to us.
fn end_of_stream() -> Error {
    Error::Unavailable("the runtime ended its stream of events".into())
}

/// CRI's own events. When the runtime begins to listen cannot be told, only that it was asked to.
fn of_cri(mut service: RuntimeServiceClient<Channel>) -> impl Stream<Item = Result<RuntimeEvent>> + Send + 'static {
    let events = async move { service.get_container_events(v1::GetEventsRequest {}).await }
        .map(|answer| match answer {
            Ok(answer) => answer
                .into_inner()
                .filter_map(|event| async move { event.map_err(Error::from).map(from_cri).transpose() })
                .chain(stream::once(async { Err(end_of_stream()) }))
                .boxed(),
            Err(status) => stream::once(async move { Err(status.into()) }).boxed(),
        })
        .flatten_stream();
    stream::once(async { Ok(RuntimeEvent::listening()) }).chain(events)
}

fn from_cri(event: v1::ContainerEventResponse) -> Option<RuntimeEvent> {
    let kind = match event.container_event_type() {
        v1::ContainerEventType::ContainerCreatedEvent => return None,
        v1::ContainerEventType::ContainerStartedEvent => EventKind::Started,
        v1::ContainerEventType::ContainerStoppedEvent => EventKind::Stopped,
        v1::ContainerEventType::ContainerDeletedEvent => EventKind::Deleted,
    };
    Some(RuntimeEvent { id: event.container_id, kind })
}

/// The topics that say something about a container's life; those of other namespaces are not for us.
const TOPICS: [&str; 4] = ["/tasks/start", "/tasks/exit", "/tasks/oom", "/containers/delete"];

/// An event of ours that says nothing; see [`subscribe`].
const TOPIC_OF_OURS: &str = "/pintle/listening";

/// containerd's events.
fn of_containerd(channel: Channel) -> impl Stream<Item = Result<RuntimeEvent>> + Send + 'static {
    subscribe(EventsClient::new(channel))
        .map(|answer| match answer {
            Ok(envelopes) => stream::once(async { Ok(RuntimeEvent::listening()) })
                .chain(envelopes.filter_map(|envelope| async move {
                    envelope.map_err(Error::from).map(from_containerd).transpose()
                }))
                .chain(stream::once(async { Err(end_of_stream()) }))
                .boxed(),
            Err(error) => stream::once(async move { Err(error) }).boxed(),
        })
        .flatten_stream()
}

/// Subscribes, and returns when containerd listens for us. It answers with the first event only, so one is published
/// until the answer is there; whatever comes first proves that no later one is missed.
async fn subscribe(mut service: EventsClient<Channel>) -> Result<tonic::Streaming<Envelope>> {
    let namespace = containerd::NAMESPACE;
    let topics = TOPICS.iter().chain([&TOPIC_OF_OURS]);
    let filters = topics.map(|topic| format!("namespace=={namespace},topic==\"{topic}\"")).collect();
    let mut publisher = service.clone();
    let answer = service.subscribe(containerd::request(SubscribeRequest { filters }));
    let mut answer = std::pin::pin!(answer);
    let mut pause = Duration::from_millis(1);
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return Ok(answer?.into_inner()),
            () = tokio::time::sleep(pause) => {}
        }
        let nothing = prost_types::Any { type_url: "containerd.events.TaskOOM".into(), value: Vec::new() };
        let event = PublishRequest { topic: TOPIC_OF_OURS.into(), event: Some(nothing) };
        publisher.publish(containerd::request(event)).await?;
        pause = (2 * pause).min(Duration::from_secs(1));
    }
}

/// What an envelope says of a container; `None` for commands run in one, and for what cannot be read.
fn from_containerd(envelope: Envelope) -> Option<RuntimeEvent> {
    let value = envelope.event?.value;
    let event = |id, kind| Some(RuntimeEvent { id, kind });
    match envelope.topic.as_str() {
        "/tasks/start" => event(event_types::TaskStart::decode(&*value).ok()?.container_id, EventKind::Started),
        "/tasks/oom" => event(event_types::TaskOom::decode(&*value).ok()?.container_id, EventKind::Oom),
        "/containers/delete" => event(event_types::ContainerDelete::decode(&*value).ok()?.id, EventKind::Deleted),
        "/tasks/exit" => {
            let exit = event_types::TaskExit::decode(&*value).ok()?;
            if exit.id == exit.container_id { event(exit.container_id, EventKind::Stopped) } else { None }
        }
        _ => None,
    }
}

/// How long CRI's view may take to catch up, and how often it is looked at once it takes long.
const SETTLING_MAX: Duration = Duration::from_secs(10);
const SETTLING_PAUSE_MAX: Duration = Duration::from_millis(256);

/// Waits until CRI too says that `id` has stopped: its plugin hears of an exit when we do, and writes it down some
/// milliseconds later without telling anyone.
async fn settle(client: &Client, id: &str) {
    let settled = async {
        let mut pause = Duration::from_millis(2);
        while !has_stopped(client, id).await {
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(SETTLING_PAUSE_MAX);
        }
    };
    // Not in time: whoever hears of the end looks, and sees what there is.
    let _ = tokio::time::timeout(SETTLING_MAX, settled).await;
}

/// Whether the container or sandbox `id` is over in CRI's view. One whose program ended at once may be `Created` still,
/// as its start is not written down yet either, and would be `Running` after that.
async fn has_stopped(client: &Client, id: &str) -> bool {
    match client.container_status(id, false).await {
        Ok(answer) => answer.status.is_none_or(|status| status.state() == v1::ContainerState::ContainerExited),
        Err(Error::NotFound(_)) => match client.pod_sandbox_status(id, false).await {
            Ok(answer) => answer.status.is_none_or(|status| status.state() != v1::PodSandboxState::SandboxReady),
            Err(_) => true,
        },
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(container_id: &str, id: &str) -> Envelope {
        let exit = event_types::TaskExit { container_id: container_id.into(), id: id.into(), ..Default::default() };
        Envelope {
            topic: "/tasks/exit".into(),
            namespace: "k8s.io".into(),
            event: Some(prost_types::Any {
                type_url: "containerd.events.TaskExit".into(),
                value: exit.encode_to_vec(),
            }),
            ..Default::default()
        }
    }

    #[test]
    fn the_end_of_a_command_is_not_the_end_of_its_container() {
        assert_eq!(from_containerd(exit("c", "exec-1")), None);
        let stopped = RuntimeEvent { id: "c".into(), kind: EventKind::Stopped };
        assert_eq!(from_containerd(exit("c", "c")), Some(stopped));
    }

    #[tokio::test]
    async fn the_second_source_is_taken_when_the_first_is_not_implemented() {
        let event = RuntimeEvent { id: "c".into(), kind: EventKind::Oom };
        let first = stream::iter([Err(Error::Unimplemented)]);
        let second = stream::iter([Ok(event.clone()), Err(Error::Unimplemented), Ok(event.clone())]);
        let got: Vec<_> = or_else_unimplemented(first, second).collect().await;
        assert_eq!(got, [Ok(event), Err(Error::Unimplemented)]);
    }
}
