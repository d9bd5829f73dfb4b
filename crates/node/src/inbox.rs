//! What a pod worker is woken by: a set of flags, so that any number of signals takes no more room than one.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// Why a worker looks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Signal {
    /// The pod's spec or metadata changed, or it is gone.
    Pod = 1,
    /// The runtime told of one of its containers or sandboxes.
    Runtime = 2,
    /// A ConfigMap or Secret it refers to changed.
    Objects = 4,
    /// A probe's verdict changed.
    Probe = 8,
}

/// The signals not yet taken. One taker.
#[derive(Debug, Default)]
pub struct Inbox {
    flags: AtomicU8,
    notify: Notify,
}

/// Signals taken from an inbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signals(u8);

impl Signals {
    /// Whether this one is among them.
    pub fn has(self, signal: Signal) -> bool {
        self.0 & signal as u8 != 0
    }
}

impl Inbox {
    /// Adds a signal.
    pub fn wake(&self, signal: Signal) {
        self.flags.fetch_or(signal as u8, Ordering::AcqRel);
        self.notify.notify_one();
    }

    /// Waits until there is a signal and takes all. Cancel-safe.
    pub async fn next(&self) -> Signals {
        loop {
            let notified = self.notify.notified();
            let flags = self.flags.swap(0, Ordering::AcqRel);
            if flags != 0 {
                return Signals(flags);
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn signals_merge() {
        let inbox = Inbox::default();
        inbox.wake(Signal::Pod);
        inbox.wake(Signal::Pod);
        inbox.wake(Signal::Probe);
        let signals = inbox.next().await;
        assert!(signals.has(Signal::Pod) && signals.has(Signal::Probe) && !signals.has(Signal::Runtime));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), inbox.next()).await.is_err());
    }
}
