//! The end of a server that is asked to end, in upstream's order: it says that it is not ready; serves on for a while,
//! so that load balancers hear of it; then takes no connection any more, tells those there are to go elsewhere, ends
//! watches, and lets the requests under way finish.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::TaskGroup;
use tokio_util::sync::CancellationToken;

use crate::Server;

/// Watches end in so many parts, spread over the time they are given.
const PARTS: u32 = 16;

/// How a server ends.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long it serves on as before when it is not ready any more (`--shutdown-delay-duration`).
    pub delay: Duration,
    /// Over how long watches are ended, so that not all clients come back at once
    /// (`--shutdown-watch-termination-grace-period`).
    pub watch_grace: Duration,
    /// How long requests under way have.
    pub requests_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { delay: Duration::ZERO, watch_grace: Duration::ZERO, requests_max: Duration::from_secs(60) }
    }
}

/// Whether the end has begun, and what tells watches that theirs has come.
pub struct Drain {
    begun: AtomicBool,
    watch_ends: Vec<CancellationToken>,
}

impl Drain {
    /// Watches end with `parent` at the latest.
    pub fn new(parent: &CancellationToken) -> Self {
        let watch_ends = (0..PARTS).map(|_| parent.child_token()).collect();
        Self { begun: AtomicBool::new(false), watch_ends }
    }

    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// What ends a watch that was given this number in `0.0..1.0`.
    pub fn watch_end(&self, fraction: f64) -> CancellationToken {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below PARTS")]
        let part = (fraction * f64::from(PARTS)) as usize;
        self.watch_ends[part.min(self.watch_ends.len() - 1)].clone()
    }

    /// What ends streams of which nobody knows how long they last.
    pub fn streams_end(&self) -> CancellationToken {
        self.watch_end(1.0)
    }
}

impl Server {
    /// Ends what `serving` carries (see [`crate::http::Listener::serve`]); false: some requests did not end in time.
    pub async fn drain(&self, serving: &TaskGroup, options: &Options) -> bool {
        let clock = self.options().clock;
        self.drain.begun.store(true, Ordering::Release);
        clock.sleep(options.delay).await;
        serving.cancel();
        let (parts, pause) = (&self.drain.watch_ends, options.watch_grace / PARTS);
        let end_watches = async {
            for part in parts {
                clock.sleep(pause).await;
                part.cancel();
            }
        };
        let (ended, ()) = tokio::join!(serving.shutdown(options.watch_grace + options.requests_max), end_watches);
        ended
    }
}
