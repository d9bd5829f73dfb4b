//! The service proxy: makes Services reachable from pods, from the node and from outside, by rewriting packets in the
//! kernel. [`compile`] decides what the kernel should hold, [`Service`] keeps it so.
//!
//! The proxy never sees a packet and never opens a port.

pub mod compile;
pub mod conntrack;
pub mod endpoints;
pub mod facts;
pub mod frame;
pub mod host_port;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::{Backoff, Clock};
use tokio::sync::watch;

pub use self::compile::{Frontend, Ruleset, compile};
pub use self::facts::Facts;
use crate::nft::keeper::{self, Keeper};
use crate::nft::kernel;
use crate::{Error, Feed, Result, names};

/// Settings of the service proxy.
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
        Self { facts, interval_min: Duration::from_millis(30), check_interval: Duration::from_secs(300) }
    }
}

/// What the proxy has done so far, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// What was done to the table.
    pub table: Arc<keeper::Counters>,
    /// UDP flows forgotten because their endpoint went away.
    pub flows_deleted: AtomicU64,
    /// How long the last change took from its compilation to the kernel, in microseconds.
    pub last_duration_us: AtomicU64,
}

/// A view of the running proxy. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    counters: Arc<Counters>,
    applied: watch::Receiver<Option<u64>>,
}

impl Handle {
    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Waits until the kernel holds the first complete ruleset. Returns `false` if the proxy ended before.
    pub async fn ready(&mut self) -> bool {
        self.applied.wait_for(Option::is_some).await.is_ok()
    }

    /// Waits until the kernel has been brought up to date once more, for whatever reason. Returns `false` if the proxy
    /// ended before.
    pub async fn applied(&mut self) -> bool {
        self.applied.changed().await.is_ok()
    }

    /// Waits until the kernel holds everything that was in `feed` when this was called. Returns `false` if the proxy
    /// ended before.
    pub async fn caught_up(&mut self, feed: &Feed) -> bool {
        let version = feed.version();
        self.applied.wait_for(|applied| applied.is_some_and(|applied| applied >= version)).await.is_ok()
    }
}

/// The actor: run it as a supervised task.
pub struct Service {
    options: Options,
    clock: Clock,
    feed: Feed,
    counters: Arc<Counters>,
    applied: watch::Sender<Option<u64>>,
    keeper: Keeper,
    /// The UDP frontends conntrack was last cleaned for.
    cleaned: Option<BTreeMap<Frontend, BTreeSet<SocketAddr>>>,
    conntrack_missing: bool,
}

impl Service {
    /// A proxy that keeps the kernel as `feed` says. It waits until Services and EndpointSlices have been listed, so a
    /// restart does not tear down what works. Needs a tokio runtime, and works on the calling thread's network
    /// namespace.
    pub fn new(options: Options, feed: Feed, clock: Clock) -> (Self, Handle) {
        let (applied, seen) = watch::channel(None);
        let keeper = Keeper::new(options.facts.table(), options.check_interval, clock);
        let counters = Arc::new(Counters { table: keeper.counters(), ..Counters::default() });
        let handle = Handle { counters: counters.clone(), applied: seen };
        let service = Self { options, clock, feed, counters, applied, keeper, cleaned: None, conntrack_missing: false };
        (service, handle)
    }

    /// Runs until dropped. The table stays: connections go on while Pintle restarts.
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
                    tracing::error!(error = &error as &dyn std::error::Error, ?pause, "the rules were not applied");
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

    /// Brings the kernel up to date. `false`: nothing is known yet.
    async fn sync(&mut self) -> Result<bool> {
        let started = self.clock.monotonic();
        let version = self.feed.version();
        let inputs = self.feed.snapshot();
        let (Some(services), Some(slices)) = (&inputs.services, &inputs.slices) else { return Ok(false) };
        self.options.facts.zone = inputs.zone;
        if !inputs.pod_cidrs.is_empty() {
            self.options.facts.pod_cidrs = inputs.pod_cidrs;
        }
        let ruleset = compile(
            services.values(),
            slices.values(),
            inputs.pods.iter().flat_map(BTreeMap::values),
            &self.options.facts,
        );
        self.keeper.bring(ruleset.table).await?;
        let took = self.clock.monotonic().duration_since(started).as_micros();
        self.counters.last_duration_us.store(u64::try_from(took).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.clean_flows(ruleset.udp).await;
        self.applied.send_replace(Some(version));
        Ok(true)
    }

    async fn clean_flows(&mut self, frontends: BTreeMap<Frontend, BTreeSet<SocketAddr>>) {
        if self.cleaned.as_ref() == Some(&frontends) || self.conntrack_missing {
            return;
        }
        match conntrack::clean(&frontends, &self.options.facts).await {
            Ok(deleted) => {
                self.counters.flows_deleted.fetch_add(deleted as u64, Ordering::Relaxed);
                self.cleaned = Some(frontends);
            }
            Err(error) => {
                self.conntrack_missing = matches!(error, Error::Missing { .. });
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "UDP flows to endpoints that went away last until they time out"
                );
            }
        }
    }
}

/// Removes everything the proxy of `instance` has put into the kernel.
pub async fn cleanup(instance: &str) -> Result<()> {
    kernel::remove(&names::table(instance)).await
}
