//! What waits for a backend: events, bounded in number and in bytes. Whoever puts one in never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::Truncate;
use super::event::Encoded;
use super::figures::Figures;

/// How many bytes of events wait for one backend.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// The end at which requests put events in.
pub struct Sender {
    backend: &'static str,
    events: mpsc::Sender<Arc<Encoded>>,
    waiting_bytes: Arc<AtomicUsize>,
    figures: Figures,
    truncate: Option<Truncate>,
    told: AtomicBool,
}

/// The backend's end.
pub struct Receiver {
    events: mpsc::Receiver<Arc<Encoded>>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// A queue of `len_max` events for a backend of that name.
pub fn queue(
    backend: &'static str,
    len_max: usize,
    truncate: Option<Truncate>,
    figures: &Figures,
) -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(len_max.max(1));
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let told = AtomicBool::new(false);
    let (waiting, figures) = (waiting_bytes.clone(), figures.clone());
    let sender = Sender { backend, events: sender, waiting_bytes: waiting, figures, truncate, told };
    (sender, Receiver { events: receiver, waiting_bytes })
}

/// A batch in parts of at most so many bytes, if there is a limit; an event is never parted.
pub fn batches(batch: &[Arc<Encoded>], truncate: Option<Truncate>) -> Vec<&[Arc<Encoded>]> {
    let bytes_max = truncate.map_or(usize::MAX, |truncate| truncate.batch_bytes_max);
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, event) in batch.iter().enumerate() {
        let len = event.json_len();
        if at > start && bytes + len > bytes_max {
            batches.push(&batch[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += len;
    }
    if start < batch.len() {
        batches.push(&batch[start..]);
    }
    batches
}

impl Sender {
    /// Whether an event is not too large for the backend.
    pub fn takes(&self, event: &Encoded) -> bool {
        self.truncate.is_none_or(|truncate| event.json_len() <= truncate.event_bytes_max)
    }

    /// An event is lost: it was too large without its objects too.
    pub fn too_large(&self) {
        self.figures.lost("truncate", self.backend, "too large", 1);
        tracing::error!(
            backend = self.backend,
            "Error in audit plugin 'truncate': event is too large even after truncating"
        );
    }

    /// Puts an event in; if there is no room it is lost, counted and, the first time, told.
    pub fn put(&self, event: &Arc<Encoded>) {
        let len = event.len();
        let before = self.waiting_bytes.fetch_add(len, Ordering::Relaxed);
        let room = before == 0 || before + len <= WAITING_BYTES_MAX;
        if room && self.events.try_send(event.clone()).is_ok() {
            return;
        }
        self.waiting_bytes.fetch_sub(len, Ordering::Relaxed);
        let reason = if self.events.is_closed() { "closed" } else { "queue full" };
        self.figures.lost("buffered", self.backend, reason, 1);
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::error!(backend = self.backend, reason, "audit buffer queue blocked: audit events are lost");
        }
    }
}

impl Receiver {
    /// Waits for events and takes at most `len_max`; 0: there will be no more.
    pub async fn take(&mut self, into: &mut Vec<Arc<Encoded>>, len_max: usize) -> usize {
        let count = self.events.recv_many(into, len_max).await;
        let bytes: usize = into[into.len() - count..].iter().map(|event| event.len()).sum();
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        count
    }

    /// Takes what is there until there are `len_max`, without waiting.
    pub fn take_more(&mut self, into: &mut Vec<Arc<Encoded>>, len_max: usize) {
        while into.len() < len_max
            && let Ok(event) = self.events.try_recv()
        {
            self.waiting_bytes.fetch_sub(event.len(), Ordering::Relaxed);
            into.push(event);
        }
    }

    /// No more events are taken in; those there can still be taken out.
    pub fn close(&mut self) {
        self.events.close();
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::some;
    use super::*;

    #[test]
    fn batches_are_parted_and_events_are_not() {
        let len = some().json_len();
        let batch: Vec<_> = (0..5).map(|_| Arc::new(some())).collect();
        let lens = |batch_bytes_max: usize| {
            let truncate = Truncate { event_bytes_max: len, batch_bytes_max };
            batches(&batch, Some(truncate)).into_iter().map(<[_]>::len).collect::<Vec<_>>()
        };
        assert_eq!((lens(2 * len), lens(2 * len - 1), lens(5 * len)), (vec![2, 2, 1], vec![1; 5], vec![5]));
        assert_eq!(lens(1), [1; 5], "one that is larger goes alone");
        assert_eq!(batches(&batch, None).len(), 1);
        assert!(batches(&[], None).is_empty());
    }
}
