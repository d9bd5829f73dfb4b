//! A container runtime in memory, with containerd's semantics: for simulation on a paused clock and for tests.
//!
//! It never starts a process, reads the system's clock or its randomness. What a container does is read from its
//! command (see [`Program`]); how long calls take, which images there are and which calls fail is told by the test.
//! `cri::conformance` holds it to what a real runtime does.

mod calls;
mod program;
mod state;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base::{Clock, Random, TaskGroup};
use futures_util::{StreamExt, stream};
use tokio::sync::{Notify, broadcast};

pub use program::Program;
use state::State;

use crate::{Error, EventKind, EventStream, Result, RuntimeEvent, reference, v1};

/// How many events a listener may be behind before its stream ends.
const EVENTS_LEN_MAX: usize = 4096;

/// How the fake runtime behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a sandbox takes to start.
    pub sandbox_start: Duration,
    /// How long a container takes to start.
    pub container_start: Duration,
    /// How long an image takes to pull.
    pub pull: Duration,
    /// The runtime handlers beside the default one.
    pub handlers: Vec<String>,
    /// Whether containers write log files (to their real paths).
    pub logs: bool,
}

impl Default for Options {
    /// What containerd takes on a small machine; no handlers, no logs.
    fn default() -> Self {
        Self {
            sandbox_start: Duration::from_millis(120),
            container_start: Duration::from_millis(60),
            pull: Duration::from_secs(1),
            handlers: Vec::new(),
            logs: false,
        }
    }
}

/// The fake runtime. Cheap to clone; clones are the same runtime.
#[derive(Clone)]
pub struct Fake(Arc<Inner>);

struct Inner {
    clock: Clock,
    random: Random,
    tasks: TaskGroup,
    options: Options,
    events: broadcast::Sender<RuntimeEvent>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}

impl Fake {
    /// An empty runtime with default options. Its timers run in `tasks`.
    pub fn new(clock: Clock, random: Random, tasks: TaskGroup) -> Self {
        Self::with(clock, random, tasks, Options::default())
    }

    /// An empty runtime.
    pub fn with(clock: Clock, random: Random, tasks: TaskGroup, options: Options) -> Self {
        let (events, _) = broadcast::channel(EVENTS_LEN_MAX);
        Self(Arc::new(Inner { clock, random, tasks, options, events, state: Mutex::new(State::default()) }))
    }

    /// Puts an image on the node, as if it had been pulled.
    pub fn add_image(&self, name: &str) {
        let name = reference::normalize(name);
        let mut state = self.state();
        state.registry.insert(name.clone());
        state.images.insert(name);
    }

    /// Puts an image into the registry, from where it can be pulled.
    pub fn publish_image(&self, name: &str) {
        self.state().registry.insert(reference::normalize(name));
    }

    /// Lets any image be pulled: the registry has everything.
    pub fn publish_all(&self) {
        self.state().registry_has_all = true;
    }

    /// What containers of `image` do that name no command.
    pub fn script_image(&self, image: &str, program: Program) {
        self.state().programs.insert(reference::normalize(image), program);
    }

    /// What `exec_sync` of `command` answers, in every container.
    pub fn script_exec(&self, command: &[&str], answer: v1::ExecSyncResponse) {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        self.state().execs.insert(command, answer);
    }

    /// Makes the next call of `method` (a name of [`crate::Runtime`]'s) fail. Several queue up.
    pub fn fail_next(&self, method: &'static str, error: Error) {
        self.state().failures.entry(method).or_default().push_back(error);
    }

    /// Makes every call fail as though the runtime were down, or end that. Containers run on; streams of events end.
    pub fn set_unavailable(&self, unavailable: bool) {
        let mut state = self.state();
        state.unavailable = unavailable;
        if unavailable {
            state.outage.notify_waiters();
        }
    }

    /// Ends a container's first process with `exit_code`, as a crash does.
    pub fn kill_container(&self, id: &str, exit_code: i32) {
        self.finish(id, None, exit_code, "Error");
    }

    /// Kills a container for want of memory.
    pub fn out_of_memory(&self, id: &str) {
        self.send(id, EventKind::Oom);
        self.finish(id, None, 137, "OOMKilled");
    }

    /// Kills a sandbox's first process, and with it all of its containers' namespaces.
    pub fn kill_sandbox(&self, id: &str) {
        self.end_sandbox(id);
    }

    /// What the figures say a container uses from now on.
    pub fn set_usage(&self, id: &str, cpu_nano_cores: u64, memory_bytes: u64) {
        if let Some(container) = self.state().containers.get_mut(id) {
            container.usage = (cpu_nano_cores, memory_bytes);
        }
    }

    /// Makes the network ready or not (`NetworkReady` in the runtime's status).
    pub fn set_network_ready(&self, ready: bool) {
        self.state().network_not_ready = !ready;
    }

    /// Whether sandboxes that start from now on get no address of the pod network.
    pub fn set_addressless(&self, addressless: bool) {
        self.state().addressless = addressless;
    }

    /// See [`crate::Runtime::events`].
    pub fn events(&self) -> EventStream {
        let listening = {
            let state = self.state();
            if state.unavailable {
                return EventStream::new(stream::once(async { Err(down()) }));
            }
            Some((self.0.events.subscribe(), Box::pin(state.outage.clone().notified_owned())))
        };
        let events = stream::unfold(listening, |listening| async move {
            let (mut receiver, mut outage) = listening?;
            tokio::select! {
                // What was sent before an outage still arrives.
                biased;
                event = receiver.recv() => match event {
                    Ok(event) => Some((Ok(event), Some((receiver, outage)))),
                    Err(_) => Some((Err(Error::Unavailable("events were lost".into())), None)),
                },
                () = &mut outage => Some((Err(down()), None)),
            }
        });
        EventStream::new(stream::once(async { Ok(RuntimeEvent::listening()) }).chain(events))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held fails its test; what it left is still whole enough to look at.
        self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn now_nanos(&self) -> i64 {
        i64::try_from(self.0.clock.now().as_nanosecond()).expect("a time between 1677 and 2262")
    }

    fn new_id(&self) -> String {
        let mut bytes = [0; 32];
        self.0.random.fill(&mut bytes);
        hex::encode(bytes)
    }

    fn send(&self, id: &str, kind: EventKind) {
        // No listener is no error.
        let _ = self.0.events.send(RuntimeEvent { id: id.to_owned(), kind });
    }

    /// Begins a call: fails when the test says so.
    fn enter(&self, method: &'static str) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.unavailable {
            return Err(down());
        }
        match state.failures.get_mut(method).and_then(VecDeque::pop_front) {
            Some(error) => Err(error),
            None => Ok(state),
        }
    }

    /// Ends a running container; `run` is the start it belongs to, so that an old timer does not end a later life.
    fn finish(&self, id: &str, run: Option<u64>, exit_code: i32, reason: &str) {
        let now = self.now_nanos();
        {
            let mut state = self.state();
            let Some(container) = state.containers.get_mut(id) else { return };
            if container.status.state() != v1::ContainerState::ContainerRunning
                || run.is_some_and(|r| r != container.run)
            {
                return;
            }
            container.status.set_state(v1::ContainerState::ContainerExited);
            container.status.finished_at = now;
            container.status.exit_code = exit_code;
            let reason = if exit_code == 0 { "Completed" } else { reason };
            container.status.reason = reason.to_owned();
            container.ended.notify_waiters();
        }
        self.send(id, EventKind::Stopped);
    }

    /// Kills all in a sandbox and then itself. Nothing happens to one that is not ready.
    fn end_sandbox(&self, id: &str) {
        let inside: Vec<String> = {
            let state = self.state();
            let of = state.containers.iter().filter(|(_, container)| container.sandbox_id == id);
            of.map(|(id, _)| id.clone()).collect()
        };
        for container in &inside {
            self.finish(container, None, 137, "Error");
        }
        {
            let mut state = self.state();
            match state.sandboxes.get_mut(id) {
                Some(sandbox) if sandbox.state() == v1::PodSandboxState::SandboxReady => {
                    sandbox.set_state(v1::PodSandboxState::SandboxNotready);
                    sandbox.network = None;
                }
                _ => return,
            }
        }
        self.send(id, EventKind::Stopped);
    }
}

fn down() -> Error {
    Error::Unavailable("connection error: the runtime is down".into())
}
