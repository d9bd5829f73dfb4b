//! A priority level at work: its queues behind a lock, and the requests that hold or wait for its seats.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use api::Timestamp;
use base::{Clock, TaskGroup};
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::classify::Matcher;
use super::figures::{LevelFigures, SchemaFigures};
use super::queue_set::{Arrival, Mode, Place, QueueSet, QueueView, Refusal, Running, Work};

/// What every level is handed.
#[derive(Clone)]
pub struct Shared {
    pub clock: Clock,
    pub started: Instant,
    pub tasks: TaskGroup,
}

impl Shared {
    /// Time as the queues count it.
    pub fn now(&self) -> Duration {
        self.clock.monotonic().saturating_duration_since(self.started)
    }
}

/// A flow schema that a request was found to be of, and the level it leads to.
pub struct Schema {
    pub name: String,
    pub matcher: Matcher,
    pub level: Arc<Level>,
    pub ids: Arc<Ids>,
    pub figures: SchemaFigures,
}

/// What a client is told of its request's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    pub flow_schema: HeaderValue,
    pub priority_level: HeaderValue,
}

/// A request that waits, for the debug pages.
#[derive(Debug, Clone, Default)]
pub struct About {
    pub schema: String,
    pub flow: String,
    pub arrived: Timestamp,
    pub user: String,
    pub verb: String,
    pub path: String,
    pub namespace: String,
    pub name: String,
    pub api_version: String,
    pub resource: String,
    pub subresource: String,
}

/// Whom to tell that it is let in.
pub struct Waiter {
    let_in: oneshot::Sender<Running>,
    about: Box<About>,
}

struct Inner {
    set: QueueSet<Waiter>,
    /// A task waits for seats that become free by themselves.
    armed: bool,
}

/// A priority level.
pub struct Level {
    pub name: String,
    shared: Shared,
    seats_max: AtomicU32,
    figures: LevelFigures,
    inner: Mutex<Inner>,
}

/// What the debug pages show of a level.
pub struct View {
    pub exempt: bool,
    pub idle: bool,
    pub waiting: usize,
    pub executing: u32,
    pub queues: Vec<QueueView>,
    /// Queue, place in it, what is known of the request, what it takes.
    pub requests: Vec<(usize, usize, About, Work)>,
}

impl Level {
    pub fn new(name: &str, mode: Mode, limit: u32, shared: Shared, figures: LevelFigures) -> Self {
        let set = QueueSet::new(mode, limit, shared.now());
        let inner = Mutex::new(Inner { set, armed: false });
        let level = Self { name: name.to_owned(), shared, seats_max: AtomicU32::new(1), figures, inner };
        level.note_room(mode);
        level
    }

    /// How many may wait, for the figures.
    fn note_room(&self, mode: Mode) {
        if let Mode::Queue(queuing) = mode {
            let room = f64::from(queuing.queues) * queuing.queue_len_max as f64;
            self.figures.waiting.set_limit(self.shared.now(), room);
        }
    }

    /// The seats it is due by shares, for the figures.
    pub fn set_nominal(&self, seats: u32) {
        self.figures.demand.set_limit(self.shared.now(), seats.into());
    }

    /// Brings the figures over time up to now.
    pub fn look(&self) {
        let now = self.shared.now();
        let LevelFigures { seats, executing, waiting, demand } = &self.figures;
        [seats, executing, waiting, demand].into_iter().for_each(|timing| timing.advance(now));
    }

    /// The most seats that one request may take.
    pub fn seats_max(&self) -> u32 {
        self.seats_max.load(Ordering::Relaxed)
    }

    pub fn set_seats_max(&self, seats: u32) {
        self.seats_max.store(seats, Ordering::Relaxed);
    }

    pub fn configure(self: &Arc<Self>, mode: Mode) {
        self.note_room(mode);
        self.with(|set, now| {
            if set.mode() != mode {
                let limit = set.limit();
                set.configure(now, mode, limit);
            }
        });
    }

    pub fn set_limit(self: &Arc<Self>, limit: u32) {
        let now = self.shared.now();
        self.figures.seats.set_limit(now, limit.into());
        self.figures.executing.set_limit(now, limit.into());
        self.with(|set, now| set.set_limit(now, limit));
    }

    /// Seats at present.
    #[cfg(test)]
    pub fn limit(self: &Arc<Self>) -> u32 {
        self.with(|set, _| set.limit())
    }

    pub fn demand(self: &Arc<Self>) -> super::demand::Seen {
        self.with(QueueSet::demand)
    }

    pub fn is_idle(self: &Arc<Self>) -> bool {
        self.with(|set, now| {
            set.tick(now);
            set.is_idle()
        })
    }

    /// What is to be seen at this instant.
    pub fn view(self: &Arc<Self>) -> View {
        self.with(|set, _| View {
            exempt: set.mode() == Mode::Exempt,
            idle: set.is_idle(),
            waiting: set.waiting(),
            executing: set.executing(),
            queues: set.views(),
            requests: set
                .who_waits()
                .map(|(queue, at, waiter, work)| (queue, at, (*waiter.about).clone(), work))
                .collect(),
        })
    }

    /// Works on the queues, then tells those who are let in.
    fn with<R>(self: &Arc<Self>, work: impl FnOnce(&mut QueueSet<Waiter>, Duration) -> R) -> R {
        let now = self.shared.now();
        let mut inner = self.inner.lock();
        let done = work(&mut inner.set, now);
        self.tell(&mut inner, now);
        let set = &inner.set;
        self.figures.seats.set(now, set.seats_in_use().into());
        self.figures.executing.set(now, set.executing().into());
        self.figures.waiting.set(now, set.waiting() as f64);
        self.figures.demand.set(now, set.seats_wanted().into());
        done
    }

    fn tell(self: &Arc<Self>, inner: &mut Inner, now: Duration) {
        while inner.set.has_let_in() {
            for (waiter, running) in inner.set.let_in() {
                // Who left has taken itself out of the queue before; a failure here is a seat nobody wants.
                if let Err(unwanted) = waiter.let_in.send(running) {
                    inner.set.finish(now, unwanted);
                }
            }
        }
        if !inner.armed && inner.set.wakes_at().is_some() {
            inner.armed = true;
            self.shared.tasks.spawn("flow control", self.clone().wake());
        }
    }

    /// Lets requests in when seats become free by themselves.
    async fn wake(self: Arc<Self>) {
        loop {
            let at = {
                let mut inner = self.inner.lock();
                let at = inner.set.wakes_at();
                inner.armed = at.is_some();
                at
            };
            let Some(at) = at else { return };
            self.shared.clock.sleep(at.saturating_sub(self.shared.now())).await;
            self.with(QueueSet::tick);
        }
    }
}

/// A request at the door.
pub enum Entry {
    Seated(Seat),
    Waiting(Waiting),
    Refused,
}

/// What a request is, for the figures.
#[derive(Debug, Clone, Copy)]
pub struct Asks {
    pub watches: bool,
    pub writes: bool,
}

/// Asks for seats.
pub fn knock(schema: &Arc<Schema>, hash: u64, work: Work, asks: Asks, about: impl FnOnce() -> About) -> Entry {
    let level = &schema.level;
    let figures = &schema.figures;
    figures.estimated_seats.observe(f64::from(work.seats_max()));
    let mut receiver = None;
    let (arrival, no_room, now) = level.with(|set, now| {
        let arrival = set.arrive(now, hash, work, || {
            let (let_in, waits) = oneshot::channel();
            receiver = Some(waits);
            Waiter { let_in, about: Box::new(about()) }
        });
        (arrival, set.take_no_room(), now)
    });
    figures.no_room.inc_by(no_room);
    match (arrival, receiver) {
        (Arrival::Runs(running), _) => {
            figures.waited.observe(0.0);
            Entry::Seated(Seat::new(schema.clone(), running, work, asks, now))
        }
        (Arrival::Waits(place), Some(receiver)) => {
            figures.inqueue.inc();
            figures.kinds.waiting(now, asks.writes, 1);
            figures.inqueue_seats.inc_by(work.seats_max().into());
            figures.queue_length.observe(place.queue_len as f64);
            let why = Refusal::Cancelled;
            Entry::Waiting(Waiting {
                schema: schema.clone(),
                place,
                receiver,
                work,
                asks,
                since: now,
                why,
                let_in: false,
            })
        }
        (Arrival::Refused(why), _) => {
            figures.rejected(why);
            Entry::Refused
        }
        (Arrival::Waits(_), None) => unreachable!("who waits was asked for"),
    }
}

/// A request in its queue. Dropping it takes it out.
pub struct Waiting {
    schema: Arc<Schema>,
    place: Place,
    receiver: oneshot::Receiver<Running>,
    work: Work,
    asks: Asks,
    since: Duration,
    /// Why it is not let in, if it is not.
    why: Refusal,
    let_in: bool,
}

impl Waiting {
    /// Waits for its turn; `None` if it did not come in time.
    pub async fn seat(mut self, limit: Duration) -> Option<Seat> {
        match tokio::time::timeout(limit, &mut self.receiver).await {
            Ok(Ok(running)) => {
                self.let_in = true;
                let now = self.schema.level.shared.now();
                Some(Seat::new(self.schema.clone(), running, self.work, self.asks, now))
            }
            Ok(Err(_)) => None,
            Err(_) => {
                self.why = Refusal::TimeOut;
                None
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let figures = &self.schema.figures;
        figures.inqueue.dec();
        figures.inqueue_seats.dec_by(self.work.seats_max().into());
        let now = self.schema.level.shared.now();
        figures.kinds.waiting(now, self.asks.writes, -1);
        let waited = now.saturating_sub(self.since).as_secs_f64();
        if self.let_in {
            figures.waited.observe(waited);
            return;
        }
        figures.waited_in_vain.observe(waited);
        figures.rejected(self.why);
        let receiver = &mut self.receiver;
        self.schema.level.with(|set, now| {
            if !set.leave(now, self.place)
                && let Ok(unused) = receiver.try_recv()
            {
                set.finish(now, unused);
            }
        });
    }
}

/// Seats taken, until it is dropped.
pub struct Seat {
    schema: Arc<Schema>,
    running: Option<Running>,
    seats: u32,
    asks: Asks,
    since: Duration,
}

impl Seat {
    fn new(schema: Arc<Schema>, running: Running, work: Work, asks: Asks, since: Duration) -> Self {
        let figures = &schema.figures;
        figures.dispatched.inc();
        figures.executing.inc();
        figures.executing_seats.inc_by(work.seats_max().into());
        figures.kinds.executing(since, asks.writes, 1);
        Self { running: Some(running), seats: work.seats_max(), asks, since, schema }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        let now = self.schema.level.with(|set, now| {
            set.finish(now, running);
            now
        });
        let figures = &self.schema.figures;
        figures.executing.dec();
        figures.executing_seats.dec_by(self.seats.into());
        let took = now.saturating_sub(self.since).as_secs_f64();
        figures.kinds.executing(now, self.asks.writes, -1);
        if self.asks.watches { figures.watch_ran.observe(took) } else { figures.ran.observe(took) }
    }
}
