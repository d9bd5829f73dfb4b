//! Keeps one table in the kernel as it was last asked for: by differences where the kernel's state is known, whole
//! where
//! it is not, and hears when others break it. The service proxy has one, network policies another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::Clock;

use super::watch::Watch;
use super::{Names, Table, diff, kernel, replace};
use crate::Result;

/// What a keeper has done so far, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Transactions that changed a part of the table.
    pub changes: AtomicU64,
    /// Transactions that made the whole table anew: the first one, after a failure, after a change by others.
    pub replacements: AtomicU64,
    /// Transactions the kernel refused.
    pub failures: AtomicU64,
}

/// One table and what is known of it.
pub struct Keeper {
    name: String,
    clock: Clock,
    check_interval: Duration,
    /// What the kernel holds, as far as we know; `None`: not known.
    installed: Option<Table>,
    watch: Option<Watch>,
    counters: Arc<Counters>,
}

impl Keeper {
    /// A keeper of the table `name`, which it does not touch yet. Every `check_interval` the kernel's table is looked
    /// at although nothing was heard. Needs a tokio runtime, and works on the calling thread's network namespace.
    pub fn new(name: impl Into<String>, check_interval: Duration, clock: Clock) -> Self {
        let name = name.into();
        let watch = Watch::new(&name)
            .inspect_err(|error| {
                let error = error as &dyn std::error::Error;
                tracing::warn!(error, "not told of nftables changes: the slow check alone finds them");
            })
            .ok();
        Self { name, clock, check_interval, installed: None, watch, counters: Arc::default() }
    }

    /// What was done so far.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Brings the kernel to `table`. After an error what the kernel holds is what it held before, and the next call
    /// makes the table anew.
    pub async fn bring(&mut self, table: Table) -> Result<()> {
        let result = match self.installed.take() {
            Some(installed) => self.change(&installed, &table).await,
            None => self.replace(&table).await,
        };
        // The kernel told of our own transaction before it was done.
        if let Some(watch) = &mut self.watch {
            watch.forget();
        }
        match result {
            Ok(()) => self.installed = Some(table),
            Err(_) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }

    async fn change(&self, installed: &Table, table: &Table) -> Result<()> {
        let script = diff(installed, table);
        if script.is_empty() {
            return Ok(());
        }
        let Err(error) = kernel::apply(&script).await else {
            self.counters.changes.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        tracing::warn!(
            table = self.name,
            error = &error as &dyn std::error::Error,
            "a change was refused: the table is made anew"
        );
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        self.replace(table).await
    }

    async fn replace(&self, table: &Table) -> Result<()> {
        kernel::apply(&replace(table)).await?;
        self.counters.replacements.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until the kernel no longer holds what was brought: bring it again then. Cancel safe.
    pub async fn broken(&mut self) {
        loop {
            tokio::select! {
                biased;
                touched = touched(&mut self.watch) => {
                    if let Err(error) = touched {
                        tracing::warn!(error = &error as &dyn std::error::Error, "no longer told of nftables changes");
                        self.watch = None;
                    }
                    tracing::warn!(table = self.name, "the table was changed by others");
                    break;
                }
                () = self.clock.sleep(self.check_interval) => {
                    if !self.is_intact().await {
                        tracing::warn!(table = self.name, "the table is not as it was left");
                        break;
                    }
                }
            }
        }
        self.installed = None;
    }

    async fn is_intact(&self) -> bool {
        let Some(installed) = &self.installed else { return true };
        match kernel::names(&installed.name).await {
            Ok(names) => names.is_some_and(|names| names == Names::of(installed)),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(table = self.name, error, "the table could not be read back");
                true
            }
        }
    }
}

async fn touched(watch: &mut Option<Watch>) -> Result<()> {
    match watch {
        Some(watch) => watch.touched().await,
        None => std::future::pending().await,
    }
}
