//! What is known of a connection while it is served: whether anything is under way on it, since when not, and whether
//! it should close.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base::Clock;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::payload::Payload;

/// A connection on which nothing is asked for so long is closed (upstream's `IdleTimeout`).
pub const IDLE_MAX: Duration = Duration::from_secs(90);

#[derive(Debug)]
struct State {
    under_way: usize,
    since: Instant,
}

/// One connection. Clones are the same.
#[derive(Clone)]
pub struct Connection {
    clock: Clock,
    state: Arc<Mutex<State>>,
    close: Arc<Notify>,
}

impl Connection {
    pub fn new(clock: Clock) -> Self {
        let state = State { under_way: 0, since: clock.monotonic() };
        Self { clock, state: Arc::new(Mutex::new(state)), close: Arc::new(Notify::new()) }
    }

    /// A request is under way until this is dropped.
    pub fn busy(&self) -> Busy {
        self.state.lock().under_way += 1;
        Busy(self.clone())
    }

    /// The connection is to be closed once what is under way is done.
    pub fn close(&self) {
        self.close.notify_one();
    }

    /// Returns when the connection is to be closed: it was idle for too long, or [`Connection::close`] was called.
    pub async fn over(&self) {
        loop {
            let now = self.clock.monotonic();
            let until = {
                let state = self.state.lock();
                if state.under_way > 0 { now + IDLE_MAX } else { state.since + IDLE_MAX }
            };
            if until <= now {
                return;
            }
            tokio::select! {
                () = self.close.notified() => return,
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}

/// A request under way.
pub struct Busy(Connection);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.under_way -= 1;
        state.since = self.0.clock.monotonic();
    }
}

/// A response's body, which is under way until it is sent.
pub struct Sent {
    payload: Payload,
    /// Ends what another server sends without end.
    ending: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    _busy: Busy,
}

impl Sent {
    pub fn new(payload: Payload, busy: Busy, streams_end: impl FnOnce() -> CancellationToken) -> Self {
        let endless = matches!(payload, Payload::Incoming(..)) && payload.size_hint().exact().is_none();
        let ending = endless.then(|| Box::pin(streams_end().cancelled_owned()));
        Self { payload, ending, _busy: busy }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = <Payload as Body>::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let own = self.get_mut();
        if let Some(ending) = &mut own.ending
            && ending.as_mut().poll(cx).is_ready()
        {
            own.ending = None;
            own.payload = Payload::empty();
        }
        Pin::new(&mut own.payload).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.payload.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.payload.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_over_when_it_was_idle_for_too_long() {
        let clock = Clock::system();
        let connection = Connection::new(clock);
        let began = clock.monotonic();
        let busy = connection.busy();
        let works = async {
            clock.sleep(Duration::from_secs(200)).await;
            drop(busy);
        };
        tokio::join!(works, connection.over());
        assert_eq!(began.elapsed().as_secs(), 290);
        let closed = Connection::new(clock);
        closed.close();
        closed.over().await;
        assert_eq!(began.elapsed().as_secs(), 290);
    }
}
