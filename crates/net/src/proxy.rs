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
use crate::nft::{self, Names, Table, kernel, watch::Watch};
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
    /// Transactions that changed a part of the table.
    pub changes: AtomicU64,
    /// Transactions that made the whole table anew: the first one, after a failure, after a change by others.
    pub replacements: AtomicU64,
    /// Transactions the kernel refused.
    pub failures: AtomicU64,
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
    /// What the kernel holds, as far as we know; `None`: not known.
    installed: Option<Table>,
    /// The UDP frontends conntrack was last cleaned for.
    cleaned: Option<BTreeMap<Frontend, BTreeSet<SocketAddr>>>,
    conntrack_missing: bool,
}

impl Service {
    /// A proxy that keeps the kernel as `feed` says. It waits until Services and EndpointSlices have been listed, so a
    /// restart does not tear down what works.
    pub fn new(options: Options, feed: Feed, clock: Clock) -> (Self, Handle) {
        let (applied, seen) = watch::channel(None);
        let counters = Arc::<Counters>::default();
        let handle = Handle { counters: counters.clone(), applied: seen };
        let service =
            Self { options, clock, feed, counters, applied, installed: None, cleaned: None, conntrack_missing: false };
        (service, handle)
    }

    /// Runs until dropped. The table stays: connections go on while Pintle restarts.
    pub async fn run(&mut self) {
        let mut changed = self.feed.subscribe();
        let mut kernel_watch = subscribe(&self.options.facts.table());
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        loop {
            changed.mark_unchanged();
            let pause = match self.sync().await {
                Ok(true) => {
                    backoff.reset();
                    self.options.interval_min
                }
                Ok(false) => Duration::ZERO,
                Err(error) => {
                    self.installed = None;
                    self.counters.failures.fetch_add(1, Ordering::Relaxed);
                    let pause = backoff.next();
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        ?pause,
                        "the service rules were not applied"
                    );
                    self.clock.sleep(pause).await;
                    continue;
                }
            };
            if let Some(watch) = &mut kernel_watch {
                watch.forget();
            }
            // The pause bounds the rate; whatever arrives in it is taken together.
            self.clock.sleep(pause).await;
            self.idle(&mut changed, &mut kernel_watch).await;
        }
    }

    /// Waits for something to do: new inputs, a change by others, or the slow check finding a difference.
    async fn idle(&mut self, changed: &mut watch::Receiver<u64>, kernel_watch: &mut Option<Watch>) {
        loop {
            tokio::select! {
                biased;
                // The feed is ours too, so its sender lives.
                _ = changed.changed() => return,
                touched = touched(kernel_watch) => {
                    if let Err(error) = touched {
                        tracing::warn!(error = &error as &dyn std::error::Error, "no longer told of nftables changes");
                        *kernel_watch = None;
                    }
                    tracing::warn!(table = self.options.facts.table(), "the service rules were changed by others");
                    self.installed = None;
                    return;
                }
                () = self.clock.sleep(self.options.check_interval) => {
                    if !self.is_intact().await {
                        self.installed = None;
                        return;
                    }
                }
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
        if let Some(installed) = &self.installed {
            let script = nft::diff(installed, &ruleset.table);
            if !script.is_empty() {
                // Until the kernel has answered, what it holds is not known.
                self.installed = None;
                if let Err(error) = kernel::apply(&script).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a change of the service rules was refused"
                    );
                    self.replace(&ruleset.table).await?;
                }
                self.counters.changes.fetch_add(1, Ordering::Relaxed);
            }
        } else {
            self.replace(&ruleset.table).await?;
        }
        self.installed = Some(ruleset.table);
        let took = self.clock.monotonic().duration_since(started).as_micros();
        self.counters.last_duration_us.store(u64::try_from(took).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.clean_flows(ruleset.udp).await;
        self.applied.send_replace(Some(version));
        Ok(true)
    }

    async fn replace(&self, table: &Table) -> Result<()> {
        kernel::apply(&nft::replace(table)).await?;
        self.counters.replacements.fetch_add(1, Ordering::Relaxed);
        Ok(())
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

    async fn is_intact(&self) -> bool {
        let Some(installed) = &self.installed else { return true };
        match kernel::names(&installed.name).await {
            Ok(names) => names.is_some_and(|names| names == Names::of(installed)),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the service rules could not be read back");
                true
            }
        }
    }
}

fn subscribe(table: &str) -> Option<Watch> {
    Watch::new(table)
        .inspect_err(|error| {
            let error = error as &dyn std::error::Error;
            tracing::warn!(error, "not told of nftables changes: the slow check alone finds them");
        })
        .ok()
}

async fn touched(watch: &mut Option<Watch>) -> Result<()> {
    match watch {
        Some(watch) => watch.touched().await,
        None => std::future::pending().await,
    }
}

/// Removes everything the proxy of `instance` has put into the kernel.
pub async fn cleanup(instance: &str) -> Result<()> {
    kernel::remove(&names::table(instance)).await
}
