//! What waits for a backend: events, bounded in number and in bytes. Whoever puts one in never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::mpsc;

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
    told: AtomicBool,
}

/// The backend's end.
pub struct Receiver {
    events: mpsc::Receiver<Arc<Encoded>>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// A queue of `len_max` events for a backend of that name.
pub fn queue(backend: &'static str, len_max: usize, figures: &Figures) -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(len_max.max(1));
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let told = AtomicBool::new(false);
    let sender =
        Sender { backend, events: sender, waiting_bytes: waiting_bytes.clone(), figures: figures.clone(), told };
    (sender, Receiver { events: receiver, waiting_bytes })
}

impl Sender {
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

    /// No more events are taken in; those there can still be taken out.
    pub fn close(&mut self) {
        self.events.close();
    }
}
