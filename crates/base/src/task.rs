//! Supervised tasks: every spawned future has a name, ends with its group, and cannot take the process down by
//! panicking. A panic is logged, counted, and (in tests) turned into a failure by [`panics`].

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Backoff;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// How many supervised tasks have panicked since the process started. Tests assert that it stays 0.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Runs `future`; a panic becomes `None`, is logged and counted. For one request, one reconcile, one message.
pub async fn catch<T>(name: &str, future: impl Future<Output = T>) -> Option<T> {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(value) => Some(value),
        Err(panic) => {
            PANICS.fetch_add(1, Ordering::Relaxed);
            tracing::error!(task = name, panic = panic_message(&*panic), "a task panicked");
            None
        }
    }
}

/// As [`catch`] for synchronous code.
pub fn catch_sync<T>(name: &str, f: impl FnOnce() -> T) -> Option<T> {
    match std::panic::catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Some(value),
        Err(panic) => {
            PANICS.fetch_add(1, Ordering::Relaxed);
            tracing::error!(task = name, panic = panic_message(&*panic), "a task panicked");
            None
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

/// A set of tasks that are cancelled and awaited together. Cheap to clone; clones are the same group.
#[derive(Clone, Debug, Default)]
pub struct TaskGroup {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl TaskGroup {
    /// An empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// A group that ends with its parent, or earlier by itself.
    pub fn child(&self) -> Self {
        Self { tracker: self.tracker.clone(), cancel: self.cancel.child_token() }
    }

    /// Fires when the group is asked to end. For tasks that tidy up before they return.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Runs `future` until it returns or the group ends, whichever is first (the future is then dropped at its
    /// current await).
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                _ = catch(name, future) => {}
            }
        });
    }

    /// Runs `future` to its end even when the group is cancelled; it must watch [`TaskGroup::cancelled`] itself.
    pub fn spawn_graceful(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(async move {
            catch(name, future).await;
        });
    }

    /// Keeps a long-lived service running: when `make`'s future returns or panics it is made and run again after a
    /// back-off of 100 ms to 30 s, until the group ends.
    pub fn supervise<F>(&self, name: &'static str, mut make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn(name, async move {
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
            loop {
                catch(name, make()).await;
                tracing::warn!(task = name, "a service ended and is started again");
                tokio::time::sleep(backoff.next()).await;
            }
        });
    }

    /// Asks every task of the group (and of its children) to end.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Cancels the group and waits for its tasks, at most `limit`. Returns `false` if some were still running.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_counted_and_the_service_restarted() {
        let group = TaskGroup::new();
        let runs = std::sync::Arc::new(AtomicU64::new(0));
        let seen = runs.clone();
        let before = panics();
        group.supervise("panics once", move || {
            let seen = seen.clone();
            async move {
                if seen.fetch_add(1, Ordering::Relaxed) == 0 {
                    panic!("on purpose");
                }
                std::future::pending::<()>().await;
            }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(runs.load(Ordering::Relaxed), 2);
        assert_eq!(panics(), before + 1);
        assert!(group.shutdown(Duration::from_secs(1)).await);
    }
}
