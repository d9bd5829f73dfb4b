//! A containerd of our own, for a node that was given no runtime. It lives under the data directory, outlives Pintle
//! (pods run on across a restart), and is taken over by the next start instead of being started anew.
//!
//! This file never ends what it did not start: a process is ours when it was started with our configuration file.

mod config;
mod netns;
mod process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, Clock, TaskGroup};
use rustix::process::Signal;
use tokio::sync::{Mutex, oneshot};
use tokio_util::sync::CancellationToken;

pub use config::Handler;
use config::Layout;
use process::Process;

use crate::{Client, Error, Result, Runtime, pause};

/// How long containerd may take to start before it counts as failed.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long containerd may take to end before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long a living containerd may take to answer before it is replaced.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How often the removal of all sandboxes is tried: over some 7 s.
const REMOVE_TRIES: u32 = 8;
/// A containerd that ran this long before it died is restarted without a growing delay.
const STABLE: Duration = Duration::from_secs(60);

/// What a private containerd is made from.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its files are in `<data_dir>/containerd`.
    pub data_dir: PathBuf,
    /// The program; found in `$PATH` when it has no slash.
    pub binary: PathBuf,
    /// Where the CNI configuration is. May be empty at first: the network is not ready until a file is there.
    pub cni_conf_dir: PathBuf,
    /// Where the CNI plugins are.
    pub cni_bin_dir: PathBuf,
    /// Runtime handlers beside `runc`, for RuntimeClasses.
    pub handlers: BTreeMap<String, Handler>,
}

impl Options {
    /// Debian's places, no further handlers; the CNI configuration in `<data_dir>/cni/net.d`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self {
            cni_conf_dir: data_dir.join("cni/net.d"),
            data_dir,
            binary: "containerd".into(),
            cni_bin_dir: "/usr/lib/cni".into(),
            handlers: BTreeMap::new(),
        }
    }
}

/// A private containerd that is running and supervised. Cheap to clone.
///
/// When the task group it was started in ends, supervision ends and containerd runs on.
#[derive(Clone, Debug)]
pub struct Containerd(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    layout: Layout,
    client: Client,
    /// Ends supervision.
    stop: CancellationToken,
    /// Resolves when supervision has ended.
    ended: Mutex<oneshot::Receiver<()>>,
}

/// What containerd is started from.
#[derive(Debug, Clone)]
struct Launch {
    layout: Layout,
    /// Its configuration file's text.
    text: String,
}

impl Containerd {
    /// Takes over the living containerd of this data directory, or starts one; returns when it takes calls and has
    /// the pause image. It is started again, with a back-off, whenever it dies.
    ///
    /// # Errors
    /// [`Error::Failed`] when the program is missing or does not come up; its log says why.
    pub async fn start(options: Options, clock: Clock, tasks: &TaskGroup) -> Result<Self> {
        let layout = Layout::of(&options.data_dir)?;
        layout.create_directories()?;
        if let Err(error) = netns::share() {
            tracing::warn!(%error, "the folder of network namespaces is not a mount of its own");
        }
        let text = config::text(&options, &layout, config::Host::look(&options.data_dir)?);
        let from = Launch { layout: layout.clone(), text };
        let (process, client) = match adopt(&from).await? {
            Some(adopted) => adopted,
            None => launch(&options, &from).await?,
        };
        give_pause_image(&client).await?;

        let stop = CancellationToken::new();
        let (done, ended) = oneshot::channel();
        let told = stop.clone();
        tasks.spawn("private containerd", async move {
            supervise(options, from, clock, told, process).await;
            let _ = done.send(());
        });
        Ok(Self(Arc::new(Inner { layout, client, stop, ended: Mutex::new(ended) })))
    }

    /// The handle to it.
    pub fn runtime(&self) -> Runtime {
        Runtime::Cri(self.0.client.clone())
    }

    /// Where it listens: `unix:///PATH`.
    pub fn endpoint(&self) -> String {
        self.0.layout.endpoint()
    }

    /// Its log file.
    pub fn log_path(&self) -> &Path {
        &self.0.layout.log
    }

    /// Its process id, while it lives.
    pub fn pid(&self) -> Option<u32> {
        process::find(&self.0.layout.config)
    }

    /// Stops containerd. Containers run on without it; see [`Containerd::down`].
    ///
    /// # Errors
    /// [`Error::Failed`] when it cannot be ended.
    pub async fn stop(&self) -> Result<()> {
        self.0.stop.cancel();
        // An error: supervision has ended with its task group already.
        let _ = (&mut *self.0.ended.lock().await).await;
        end(&self.0.layout).await
    }

    /// Stops and removes every sandbox, then stops containerd: nothing is left running.
    ///
    /// # Errors
    /// The first thing that could not be removed; containerd is stopped nevertheless.
    pub async fn down(&self) -> Result<()> {
        let removed = remove_all(&self.runtime()).await;
        self.stop().await?;
        removed
    }
}

/// Stops what [`Containerd::start`] left running under `data_dir`, with all its sandboxes. Nothing there: done.
///
/// # Errors
/// As [`Containerd::down`].
pub async fn down(options: Options, clock: Clock) -> Result<()> {
    if !Layout::of(&options.data_dir)?.config.exists() {
        return Ok(());
    }
    let tasks = TaskGroup::new();
    let outcome = Containerd::start(options, clock, &tasks).await?.down().await;
    tasks.shutdown(STOP_LIMIT).await;
    outcome
}

/// Where the containerd that lives under `data_dir` listens.
///
/// # Errors
/// [`Error::Unavailable`] when none lives there.
pub fn endpoint(data_dir: &Path) -> Result<String> {
    let layout = Layout::of(data_dir)?;
    match process::find(&layout.config) {
        Some(_) => Ok(layout.endpoint()),
        None => Err(Error::Unavailable(format!("no containerd runs in {}", data_dir.display()))),
    }
}

/// Stops and removes every sandbox. The runtime removes no container that it is starting this very moment (its server
/// was ended in between), so what failed is tried again.
async fn remove_all(runtime: &Runtime) -> Result<()> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    for _ in 1..REMOVE_TRIES {
        match remove_each(runtime).await {
            Err(Error::Failed { message, .. }) => {
                tracing::debug!(message, "a pod could not be removed yet");
                tokio::time::sleep(backoff.next()).await;
            }
            outcome => return outcome,
        }
    }
    remove_each(runtime).await
}

async fn remove_each(runtime: &Runtime) -> Result<()> {
    let mut outcome = Ok(());
    for sandbox in runtime.list_pod_sandbox(None).await? {
        let removed = async {
            runtime.stop_pod_sandbox(&sandbox.id).await?;
            runtime.remove_pod_sandbox(&sandbox.id).await
        };
        outcome = outcome.and(removed.await);
    }
    outcome
}

/// The containerd that an earlier start left running, when it answers and has the configuration `text`. One that does
/// not is ended: containers run on without it.
async fn adopt(from: &Launch) -> Result<Option<(Process, Client)>> {
    let layout = &from.layout;
    let Some(process) = Process::living(layout)? else { return Ok(None) };
    let pid = process.pid();
    if std::fs::read_to_string(&layout.config).is_ok_and(|old| old == from.text) {
        match tokio::time::timeout(ANSWER_LIMIT, connect(layout)).await {
            Ok(Ok(client)) => {
                tracing::info!(pid, "took over the running containerd");
                return Ok(Some((process, client)));
            }
            outcome => tracing::warn!(pid, ?outcome, "the running containerd does not answer"),
        }
    } else {
        tracing::info!(pid, "containerd is started again for its new configuration");
    }
    end(layout).await?;
    Ok(None)
}

/// Starts containerd and waits until it takes calls.
async fn launch(options: &Options, from: &Launch) -> Result<(Process, Client)> {
    let layout = &from.layout;
    layout.prepare(&from.text)?;
    let started = async {
        let process = Process::start(&options.binary, layout).await?;
        let client = tokio::select! {
            biased;
            client = connect(layout) => client?,
            () = process.exited() => {
                return Err(Error::failed(format!("containerd ended at its start; see {}", layout.log.display())));
            }
        };
        tracing::info!(pid = process.pid(), socket = %layout.socket.display(), "containerd is running");
        Ok((process, client))
    };
    match tokio::time::timeout(START_LIMIT, started).await {
        Ok(outcome) => outcome,
        Err(_) => {
            end(layout).await?;
            Err(Error::failed(format!("containerd did not come up; see {}", layout.log.display())))
        }
    }
}

/// Ends the containerd of this data directory, if it lives: kindly, then not.
async fn end(layout: &Layout) -> Result<()> {
    let Some(process) = Process::living(layout)? else { return Ok(()) };
    process.signal(Signal::TERM)?;
    if tokio::time::timeout(STOP_LIMIT, process.exited()).await.is_err() {
        tracing::warn!(pid = process.pid(), "containerd does not end and is killed");
        process.signal(Signal::KILL)?;
        process.exited().await;
    }
    Ok(())
}

/// Connects as soon as the CRI plugin takes calls. It starts to a moment after containerd says that it is ready, and
/// there is nothing to wait on.
async fn connect(layout: &Layout) -> Result<Client> {
    let endpoint = layout.endpoint();
    let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(200));
    loop {
        let connected = async {
            let client = Client::connect(&endpoint).await?;
            client.status(false).await?;
            Ok(client)
        };
        match connected.await {
            Err(Error::Unavailable(_) | Error::Failed { .. }) => tokio::time::sleep(backoff.next()).await,
            outcome => return outcome,
        }
    }
}

async fn give_pause_image(client: &Client) -> Result<()> {
    if client.image_status(crate::v1::ImageSpec::named(pause::IMAGE)).await?.is_some() {
        return Ok(());
    }
    let architecture = std::env::consts::ARCH;
    let image = pause::image()
        .ok_or_else(|| Error::Unsupported(format!("no pause program is carried for the processor {architecture}")))?;
    client.import_image(image, "").await.map(drop)
}

/// Starts containerd again whenever it dies, until told to stop.
async fn supervise(options: Options, launch_from: Launch, clock: Clock, stop: CancellationToken, first: Process) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
    let mut process = Some(first);
    loop {
        if let Some(process) = process.take() {
            let since = clock.monotonic();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = process.exited() => {}
            }
            tracing::warn!(pid = process.pid(), log = %launch_from.layout.log.display(), "containerd has died");
            if clock.monotonic().duration_since(since) > STABLE {
                backoff.reset();
            }
        }
        let again = async {
            clock.sleep(backoff.next()).await;
            launch(&options, &launch_from).await
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            outcome = again => match outcome {
                Ok((started, _)) => process = Some(started),
                Err(error) => tracing::warn!(%error, "containerd could not be started again"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base::Random;

    use super::*;
    use crate::{Fake, v1};

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_removed_yet_is_tried_again() {
        let tasks = TaskGroup::new();
        let fake = Fake::new(Clock::system(), Random::seeded(1), tasks.clone());
        let runtime = Runtime::Fake(fake.clone());
        let config = v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata { name: "a".into(), uid: "u".into(), ..Default::default() }),
            ..Default::default()
        };
        runtime.run_pod_sandbox(config.clone(), "").await.unwrap();
        fake.fail_next("remove_pod_sandbox", Error::failed("container is in starting state, can't be removed"));
        remove_all(&runtime).await.unwrap();
        assert!(runtime.list_pod_sandbox(None).await.unwrap().is_empty());

        runtime.run_pod_sandbox(config, "").await.unwrap();
        for _ in 0..REMOVE_TRIES {
            fake.fail_next("remove_pod_sandbox", Error::failed("for ever"));
        }
        assert_eq!(remove_all(&runtime).await.unwrap_err().to_string(), "for ever");
        assert_eq!(runtime.list_pod_sandbox(None).await.unwrap().len(), 1);
        tasks.shutdown(Duration::from_secs(1)).await;
    }
}
