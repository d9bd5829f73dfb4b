//! When the watchers of a cache are woken. Each of them is woken, sends and sleeps again: with many, that is most of
//! what an event costs. So the more there are the more time lies between two wakings; what happens meanwhile is told at
//! once at its end, several events to a message. Few are told of everything as it happens.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// About what it takes to wake a watcher, and for it to send an event.
const WATCHER_TIME: Duration = Duration::from_micros(10);
/// Less is not worth a timer, which is no finer.
const SPAN_MIN: Duration = Duration::from_millis(1);
/// No event is told later than this for the sake of others.
const SPAN_MAX: Duration = Duration::from_millis(10);

/// Counts events; wakes watchers. Rung by the feed alone.
#[derive(Debug)]
pub struct Bell {
    signal: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rung: Option<Instant>,
    /// Events that nobody was woken for yet.
    held: u64,
}

impl Bell {
    pub fn new() -> Self {
        Self { signal: watch::Sender::new(0), state: Mutex::default() }
    }

    /// Wakes its owner at every ringing.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.signal.subscribe()
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.signal.receiver_count()
    }

    /// Wakes everybody now.
    pub fn ring(&self, events: u64) {
        let held = std::mem::take(&mut self.state.lock().held);
        self.signal.send_modify(|count| *count += held + events);
    }

    /// `events` have happened by `now`: wakes everybody, now or later. Returns when [`Bell::due`] is to be called, if
    /// nobody was told so before.
    pub fn happened(&self, events: u64, now: Instant) -> Option<Instant> {
        let span = span(self.listeners());
        let mut state = self.state.lock();
        let free = state.rung.map(|rung| rung + span).filter(|free| span >= SPAN_MIN && *free > now);
        if let Some(free) = free {
            let first = state.held == 0;
            state.held += events;
            return first.then_some(free);
        }
        state.rung = Some(now);
        drop(state);
        self.ring(events);
        None
    }

    /// The time that [`Bell::happened`] named has come.
    pub fn due(&self, now: Instant) {
        let mut state = self.state.lock();
        state.rung = Some(now);
        let held = state.held > 0;
        drop(state);
        if held {
            self.ring(0);
        }
    }
}

fn span(listeners: usize) -> Duration {
    WATCHER_TIME.saturating_mul(u32::try_from(listeners).unwrap_or(u32::MAX)).min(SPAN_MAX)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // time that tokio has paused
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn few_are_told_of_everything_at_once() {
        let bell = Bell::new();
        let mut listeners: Vec<_> = (0..99).map(|_| bell.subscribe()).collect();
        for _ in 0..3 {
            assert_eq!(bell.happened(1, Instant::now()), None);
            assert!(listeners.iter_mut().all(|listener| listener.has_changed().unwrap()));
            listeners.iter_mut().for_each(|listener| listener.mark_unchanged());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_are_told_of_several_events_together() {
        let bell = Bell::new();
        let mut listeners: Vec<_> = (0..300).map(|_| bell.subscribe()).collect();
        let begun = Instant::now();
        assert_eq!(bell.happened(2, begun), None, "the first is told at once");
        assert_eq!(*listeners[0].borrow_and_update(), 2);
        assert_eq!(bell.happened(1, begun + MS), Some(begun + 3 * MS));
        assert_eq!(bell.happened(1, begun + 2 * MS), None, "it is on its way");
        assert!(!listeners[0].has_changed().unwrap());
        bell.due(begun + 3 * MS);
        assert_eq!(*listeners[0].borrow_and_update(), 4);
        assert_eq!(bell.happened(1, begun + 7 * MS), None, "it was quiet for long enough");
        assert_eq!(*listeners[0].borrow_and_update(), 5);
        assert_eq!(bell.happened(1, begun + 8 * MS), Some(begun + 10 * MS));
        bell.ring(1);
        assert_eq!(*listeners[0].borrow_and_update(), 7);
        bell.due(begun + 10 * MS);
        assert!(!listeners[0].has_changed().unwrap(), "all was told");
    }

    #[tokio::test(start_paused = true)]
    async fn when_most_have_gone_the_others_need_not_wait() {
        let bell = Bell::new();
        let mut listeners: Vec<_> = (0..300).map(|_| bell.subscribe()).collect();
        let begun = Instant::now();
        bell.happened(1, begun);
        assert_eq!(bell.happened(1, begun + MS), Some(begun + 3 * MS));
        listeners.truncate(50);
        listeners[0].mark_unchanged();
        assert_eq!(bell.happened(1, begun + MS), None);
        assert_eq!(*listeners[0].borrow_and_update(), 3, "with what was held");
        bell.due(begun + 3 * MS);
        assert!(!listeners[0].has_changed().unwrap(), "told once");
    }

    #[test]
    fn nobody_waits_for_long() {
        assert_eq!((span(0), span(200), span(5000)), (Duration::ZERO, 2 * MS, 10 * MS));
    }
}
