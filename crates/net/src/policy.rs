//! Network policies: which connections of this node's pods the kernel lets through. [`resolve`] finds out what the
//! policies mean here, [`compile`] makes a table of it, [`Service`] keeps the kernel so.
//!
//! What no policy speaks of passes: the node itself always reaches its own pods and is reached by them (but for cluster
//! DNS, which is judged as the pods that serve it elsewhere), a pod reaches itself, and pods that share their node's
//! network are their node. Where the answer to a question is the implementation's (open connections, broadcasts), it is
//! at the place that answers it.

pub mod compile;
pub mod feed;
pub mod guard;
pub mod model;
pub mod peer;
pub mod rule;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::core::v1::Pod;
use base::{Backoff, Clock};
use tokio::sync::watch;

pub use self::compile::{Facts, compile};
pub use self::feed::Feed;
pub use self::model::resolve;
pub use self::peer::Peer;
use crate::nft::keeper::{self, Keeper};
use crate::nft::kernel;
use crate::{Result, names};

/// How long a pod's start waits for its isolation.
const ADMIT_MAX: Duration = Duration::from_secs(10);

/// Settings of the policies' actor.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node.
    pub facts: Facts,
    /// The shortest time between two changes of the kernel; changes that arrive faster are applied together.
    pub interval_min: Duration,
    /// How often the kernel's table is looked at although nothing was heard: the net under the notifications.
    pub check_interval: Duration,
}

impl Options {
    /// The defaults for a node.
    pub fn new(facts: Facts) -> Self {
        Self { facts, interval_min: Duration::from_millis(20), check_interval: Duration::from_secs(300) }
    }
}

/// What has been done so far, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// What was done to the table.
    pub table: Arc<keeper::Counters>,
    /// Addresses of this node's pods that are isolated now.
    pub isolated: AtomicU64,
    /// Rules in the table now.
    pub rules: AtomicU64,
    /// Elements of the table's sets and maps now.
    pub elements: AtomicU64,
    /// How long the last change took from its compilation to the kernel, in microseconds.
    pub last_duration_us: AtomicU64,
    /// How much of that was the compilation, in microseconds.
    pub last_compile_us: AtomicU64,
}

/// Whether policies hold on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enforcement {
    /// Not known yet: policies, namespaces and pods have not all been listed.
    Starting,
    /// All of them hold.
    Whole,
    /// They hold but for what the text says.
    Partial(String),
    /// The kernel refuses the rules, for the reason in the text; what it held before, it still holds.
    Failing(String),
}

/// A view of the running actor, and the node agent's way to it. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    feed: Feed,
    clock: Clock,
    counters: Arc<Counters>,
    applied: watch::Receiver<Option<u64>>,
    enforcement: watch::Receiver<Enforcement>,
}

impl Handle {
    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether policies hold on this node, as of now and of every change.
    pub fn enforcement(&self) -> watch::Receiver<Enforcement> {
        self.enforcement.clone()
    }

    /// Waits until the kernel holds everything that was in the feed when this was called. Returns `false` if the actor
    /// ended before.
    pub async fn caught_up(&mut self) -> bool {
        let version = self.feed.version();
        self.reached(version).await
    }

    /// Returns once the policies of a pod of this node hold for these addresses of its; at once if it has none. Its
    /// containers may begin then.
    ///
    /// # Errors
    /// Why they do not hold after ten seconds. Retryable.
    pub async fn admit(&mut self, pod: &Pod, ips: &[IpAddr]) -> std::result::Result<(), String> {
        let pod = &api::lean::Pod::from(pod.clone());
        let Some(mut version) = self.feed.admit(pod, ips) else { return Ok(()) };
        let admitted = async {
            if !self.feed.read(feed::Inputs::is_complete) {
                // What is listed first is applied first; then it is known whether there is anything to wait for.
                if self.applied.wait_for(Option::is_some).await.is_err() {
                    return false;
                }
                match self.feed.isolation(pod) {
                    None => return true,
                    Some(later) => version = later,
                }
            }
            self.applied.wait_for(|applied| applied.is_some_and(|applied| applied >= version)).await.is_ok()
        };
        let why = tokio::select! {
            biased;
            done = admitted => if done { return Ok(()) } else { "the node's network has ended".to_owned() },
            () = self.clock.sleep(ADMIT_MAX) => match &*self.enforcement.borrow() {
                Enforcement::Failing(why) => why.clone(),
                Enforcement::Starting => "NetworkPolicies, namespaces and pods have not been listed yet".to_owned(),
                _ => format!("the kernel's rules were not there after {} s", ADMIT_MAX.as_secs()),
            },
        };
        Err(format!("the pod's network policies are not in effect: {why}"))
    }

    /// Takes back [`Handle::admit`]: the pod has no network any more.
    pub fn release(&self, pod: &Pod) {
        self.feed.release(pod);
    }

    async fn reached(&mut self, version: u64) -> bool {
        self.applied.wait_for(|applied| applied.is_some_and(|applied| applied >= version)).await.is_ok()
    }
}

/// The actor: run it as a supervised task.
pub struct Service {
    options: Options,
    clock: Clock,
    feed: Feed,
    built_in: Vec<Peer>,
    counters: Arc<Counters>,
    applied: watch::Sender<Option<u64>>,
    enforcement: watch::Sender<Enforcement>,
    keeper: Keeper,
}

impl Service {
    /// An actor that keeps the kernel as `feed` says. It waits until everything has been listed, so that what the
    /// kernel holds from before a restart stays until then. Needs a tokio runtime, and works on the calling thread's
    /// network namespace.
    pub fn new(options: Options, feed: Feed, clock: Clock) -> (Self, Handle) {
        let (applied, applied_seen) = watch::channel(None);
        let (enforcement, enforcement_seen) = watch::channel(Enforcement::Starting);
        let keeper = Keeper::new(names::policy_table(&options.facts.instance), options.check_interval, clock);
        let counters = Arc::new(Counters { table: keeper.counters(), ..Counters::default() });
        let handle = Handle {
            feed: feed.clone(),
            clock,
            counters: counters.clone(),
            applied: applied_seen,
            enforcement: enforcement_seen,
        };
        let dns = &options.facts.cluster_dns;
        let built_in = if dns.is_empty() { Vec::new() } else { vec![Peer::cluster_dns(dns)] };
        (Self { options, clock, feed, built_in, counters, applied, enforcement, keeper }, handle)
    }

    /// Runs until dropped. The table stays: policies hold while Pintle restarts.
    pub async fn run(&mut self) {
        let mut changed = self.feed.subscribe();
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        loop {
            changed.mark_unchanged();
            match self.sync().await {
                // The pause bounds the rate; whatever arrives in it is taken together.
                Ok(true) => {
                    backoff.reset();
                    self.clock.sleep(self.options.interval_min).await;
                }
                Ok(false) => {}
                Err(error) => {
                    let pause = backoff.next();
                    tracing::error!(error = &error as &dyn std::error::Error, ?pause, "network policies do not hold");
                    self.tell(Enforcement::Failing(error.to_string()));
                    self.clock.sleep(pause).await;
                    continue;
                }
            }
            tokio::select! {
                biased;
                // The feed is ours too, so its sender lives.
                _ = changed.changed() => {}
                () = self.keeper.broken() => {}
            }
        }
    }

    /// Brings the kernel up to date. `false`: not everything is known yet.
    async fn sync(&mut self) -> Result<bool> {
        let started = self.clock.monotonic();
        let since = |started: tokio::time::Instant, clock: Clock| {
            u64::try_from(clock.monotonic().duration_since(started).as_micros()).unwrap_or(u64::MAX)
        };
        let (facts, built_in) = (&self.options.facts, &self.built_in);
        let version = self.feed.version();
        let resolved =
            self.feed.read(|inputs| inputs.is_complete().then(|| (resolve(inputs, built_in), inputs.unseen.clone())));
        let Some((model, unseen)) = resolved else { return Ok(false) };
        let (isolated, facts) = (model.isolated_len(), facts.clone());
        // It may take long, and other tasks share this thread.
        let table = match tokio::task::spawn_blocking(move || compile(&model, &facts)).await {
            Ok(table) => table,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime shuts down: so will this task.
                Err(_) => return Ok(false),
            },
        };
        let rules: usize = table.chains.values().map(|chain| chain.rules.len()).sum();
        let elements: usize = table.sets.values().map(|set| set.elements.len()).sum();
        let compiled = since(started, self.clock);
        self.keeper.bring(table).await?;
        let counters = &self.counters;
        counters.last_compile_us.store(compiled, Ordering::Relaxed);
        counters.last_duration_us.store(since(started, self.clock), Ordering::Relaxed);
        counters.rules.store(rules as u64, Ordering::Relaxed);
        counters.elements.store(elements as u64, Ordering::Relaxed);
        counters.isolated.store(isolated as u64, Ordering::Relaxed);
        self.tell(unseen.map_or(Enforcement::Whole, Enforcement::Partial));
        self.applied.send_replace(Some(version));
        Ok(true)
    }

    fn tell(&self, enforcement: Enforcement) {
        self.enforcement.send_if_modified(|before| {
            let changed = *before != enforcement;
            *before = enforcement;
            changed
        });
    }
}

/// Removes everything the policies of `instance` have put into the kernel.
pub async fn cleanup(instance: &str) -> Result<()> {
    let removed = kernel::remove(&names::policy_table(instance)).await;
    guard::cleanup(instance).await.and(removed)
}
