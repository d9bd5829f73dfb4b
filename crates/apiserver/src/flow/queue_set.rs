//! The queues of a priority level, and which request is let in next: fair queueing over flows, weighed by seats and
//! time.
//!
//! A progress meter `r` counts the seat-seconds that each busy queue was due since the beginning. A queue remembers at
//! which reading its next request may start; the queue whose request would be done first goes first. How long a request
//! takes is guessed when it starts, and set right when it ends.
//!
//! Pure: time is an argument (since some beginning), waiting is the caller's affair.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::demand::Integrator;
use super::shuffle::Dealer;

/// How long a request is taken to run when it starts.
const GUESS: f64 = 0.003;

/// How requests wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queuing {
    pub queues: u32,
    pub hand_size: u32,
    pub queue_len_max: usize,
}

/// What becomes of requests that find no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// There is always a seat.
    Exempt,
    Reject,
    Queue(Queuing),
}

/// What a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    pub initial_seats: u32,
    /// Seats held after the answer, for `additional`.
    pub final_seats: u32,
    pub additional: Duration,
}

impl Work {
    /// A request that is over when it is answered.
    pub const fn seats(seats: u32) -> Self {
        Self { initial_seats: seats, final_seats: 0, additional: Duration::ZERO }
    }

    /// The seats it must find.
    pub fn seats_max(&self) -> u32 {
        self.initial_seats.max(self.final_seats).max(1)
    }

    /// Seat-seconds.
    fn total(&self) -> f64 {
        f64::from(self.seats_max()) * GUESS + f64::from(self.final_seats) * self.additional.as_secs_f64()
    }
}

/// A request that was let in. To be given back with [`QueueSet::finish`].
#[derive(Debug)]
pub struct Running {
    queue: Option<usize>,
    work: Work,
    started: Duration,
}

/// Where a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    queue: usize,
    id: u64,
    /// How many wait in its queue, itself included.
    pub queue_len: usize,
}

/// What becomes of a request that arrives.
#[derive(Debug)]
pub enum Arrival {
    Runs(Running),
    Waits(Place),
    Refused(Refusal),
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    QueueFull,
    ConcurrencyLimit,
    TimeOut,
    Cancelled,
}

impl Refusal {
    /// Upstream's word for it, in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::TimeOut => "time-out",
            Self::Cancelled => "cancelled",
        }
    }
}

#[derive(Debug)]
struct Waiting<T> {
    id: u64,
    who: T,
    work: Work,
    arrival_r: f64,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    seats_waiting: u32,
    work_waiting: f64,
    executing: u32,
    seats_in_use: u32,
    next_dispatch_r: f64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            seats_waiting: 0,
            work_waiting: 0.0,
            executing: 0,
            seats_in_use: 0,
            next_dispatch_r: 0.0,
        }
    }
}

impl<T> Queue<T> {
    fn is_active(&self) -> bool {
        !self.waiting.is_empty() || self.executing > 0
    }

    /// A queue that was idle must not make up for the time before its oldest request came.
    fn bound(&mut self) {
        if let Some(oldest) = self.waiting.front() {
            self.next_dispatch_r = self.next_dispatch_r.max(oldest.arrival_r);
        }
    }

    fn took(&mut self, waiting: &Waiting<T>) {
        self.seats_waiting -= waiting.work.seats_max();
        self.work_waiting = if self.waiting.is_empty() { 0.0 } else { self.work_waiting - waiting.work.total() };
    }
}

/// Seats that are held after a request was answered.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hold {
    until: Duration,
    queue: Option<usize>,
    seats: u32,
}

/// What a queue looks like at an instant, for the debug pages.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct QueueView {
    pub waiting: usize,
    pub executing: u32,
    pub seats_in_use: u32,
    pub next_dispatch_r: f64,
    pub initial_seats_sum: u32,
    pub max_seats_sum: u32,
    pub work_sum: f64,
}

/// The requests of a priority level. `T` is whom to tell that a request that waited is let in.
#[derive(Debug)]
pub struct QueueSet<T> {
    mode: Mode,
    dealer: Dealer,
    limit: u32,
    queues: Vec<Queue<T>>,
    r: f64,
    last: Duration,
    robin: usize,
    dealt: usize,
    next_id: u64,
    waiting: usize,
    seats_waiting: u32,
    executing: u32,
    seats_in_use: u32,
    /// Sums over the queues: those that are active, their seats in use and wanted.
    active: u32,
    queued_seats: u32,
    holds: BinaryHeap<Reverse<Hold>>,
    demand: Integrator,
    let_in: Vec<(T, Running)>,
    no_room: u64,
}

impl<T> QueueSet<T> {
    /// An idle level with `limit` seats.
    pub fn new(mode: Mode, limit: u32, now: Duration) -> Self {
        let mut set = Self {
            mode,
            dealer: Dealer::new(1, 1),
            limit,
            queues: Vec::new(),
            r: 0.0,
            last: now,
            robin: 0,
            dealt: 0,
            next_id: 0,
            waiting: 0,
            seats_waiting: 0,
            executing: 0,
            seats_in_use: 0,
            active: 0,
            queued_seats: 0,
            holds: BinaryHeap::new(),
            demand: Integrator::default(),
            let_in: Vec::new(),
            no_room: 0,
        };
        set.configure(now, mode, limit);
        set
    }

    /// Takes over a configuration. Who waits keeps its place; queues too many go when they are empty.
    pub fn configure(&mut self, now: Duration, mode: Mode, limit: u32) {
        self.sync(now);
        (self.mode, self.limit) = (mode, limit);
        if let Mode::Queue(queuing) = mode {
            self.dealer = Dealer::new(queuing.queues, queuing.hand_size);
            let wanted = queuing.queues.max(1) as usize;
            while self.queues.len() < wanted {
                self.queues.push(Queue::default());
            }
        }
        self.trim();
        self.dispatch(now);
    }

    /// Seats at once.
    pub fn set_limit(&mut self, now: Duration, limit: u32) {
        self.sync(now);
        self.limit = limit;
        self.dispatch(now);
    }

    /// A request comes. `who` is asked for only if it must wait.
    pub fn arrive(&mut self, now: Duration, hash: u64, work: Work, who: impl FnOnce() -> T) -> Arrival {
        self.sync(now);
        let queuing = match self.mode {
            Mode::Exempt => return Arrival::Runs(self.run(now, None, work)),
            Mode::Reject if self.fits(&work) => return Arrival::Runs(self.run(now, None, work)),
            Mode::Reject => return Arrival::Refused(Refusal::ConcurrencyLimit),
            Mode::Queue(queuing) => queuing,
        };
        let index = self.choose(hash);
        let queue = &mut self.queues[index];
        if !queue.is_active() {
            queue.next_dispatch_r = self.r;
        }
        if self.waiting == 0 && self.fits(&work) {
            self.queues[index].next_dispatch_r = self.queues[index].next_dispatch_r.max(self.r);
            return Arrival::Runs(self.run(now, Some(index), work));
        }
        let queue = &mut self.queues[index];
        if queue.waiting.len() >= queuing.queue_len_max {
            return Arrival::Refused(Refusal::QueueFull);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.active += u32::from(!queue.is_active());
        queue.waiting.push_back(Waiting { id, who: who(), work, arrival_r: self.r });
        queue.seats_waiting += work.seats_max();
        queue.work_waiting += work.total();
        queue.bound();
        let place = Place { queue: index, id, queue_len: queue.waiting.len() };
        self.waiting += 1;
        self.seats_waiting += work.seats_max();
        self.queued_seats += work.seats_max();
        self.note_demand(now);
        self.dispatch(now);
        Arrival::Waits(place)
    }

    /// A request waits no longer; false: it was let in already.
    pub fn leave(&mut self, now: Duration, place: Place) -> bool {
        self.sync(now);
        let Some(queue) = self.queues.get_mut(place.queue) else { return false };
        let Ok(at) = queue.waiting.binary_search_by_key(&place.id, |waiting| waiting.id) else { return false };
        let Some(gone) = queue.waiting.remove(at) else { return false };
        queue.took(&gone);
        queue.bound();
        self.active -= u32::from(!queue.is_active());
        self.waiting -= 1;
        self.seats_waiting -= gone.work.seats_max();
        self.queued_seats -= gone.work.seats_max();
        self.note_demand(now);
        // It may have stood before one that is less wide.
        self.dispatch(now);
        self.trim();
        true
    }

    /// A request was answered.
    pub fn finish(&mut self, now: Duration, running: Running) {
        self.sync(now);
        let Running { queue: index, work, started } = running;
        let took = now.saturating_sub(started).as_secs_f64();
        let held = if work.additional.is_zero() { 0 } else { work.final_seats };
        let freed = work.seats_max() - held;
        self.executing -= 1;
        self.seats_in_use -= freed;
        if let Some(index) = index {
            let queue = &mut self.queues[index];
            queue.executing -= 1;
            queue.seats_in_use -= freed;
            queue.next_dispatch_r -= f64::from(work.initial_seats) * (GUESS - took);
            queue.bound();
            self.active -= u32::from(!queue.is_active());
            self.queued_seats -= freed;
        }
        if held > 0 {
            self.holds.push(Reverse(Hold { until: now + work.additional, queue: index, seats: held }));
        }
        self.note_demand(now);
        self.dispatch(now);
        self.trim();
    }

    /// Lets time pass: seats that were held are free again.
    pub fn tick(&mut self, now: Duration) {
        self.sync(now);
        self.dispatch(now);
        self.trim();
    }

    /// Whom to tell that they are let in, in order.
    pub fn let_in(&mut self) -> Vec<(T, Running)> {
        std::mem::take(&mut self.let_in)
    }

    pub fn has_let_in(&self) -> bool {
        !self.let_in.is_empty()
    }

    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// When seats become free by themselves while somebody waits.
    pub fn wakes_at(&self) -> Option<Duration> {
        if self.waiting == 0 { None } else { self.holds.peek().map(|hold| hold.0.until) }
    }

    pub fn is_idle(&self) -> bool {
        self.waiting == 0 && self.executing == 0 && self.holds.is_empty()
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    pub fn executing(&self) -> u32 {
        self.executing
    }

    pub fn seats_in_use(&self) -> u32 {
        self.seats_in_use
    }

    /// Seats taken and waited for.
    pub fn seats_wanted(&self) -> u32 {
        self.seats_in_use + self.seats_waiting
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How often nobody was let in because the next in turn is too wide.
    pub fn take_no_room(&mut self) -> u64 {
        std::mem::take(&mut self.no_room)
    }

    /// The demand since the last look.
    pub fn demand(&mut self, now: Duration) -> super::demand::Seen {
        self.sync(now);
        self.demand.look(now)
    }

    /// The queues as they are.
    pub fn views(&self) -> Vec<QueueView> {
        let view = |queue: &Queue<T>| QueueView {
            waiting: queue.waiting.len(),
            executing: queue.executing,
            seats_in_use: queue.seats_in_use,
            next_dispatch_r: queue.next_dispatch_r,
            initial_seats_sum: queue.waiting.iter().map(|waiting| waiting.work.initial_seats).sum(),
            max_seats_sum: queue.seats_waiting,
            work_sum: queue.work_waiting,
        };
        self.queues.iter().map(view).collect()
    }

    /// Who waits: queue, place in it, whom, what.
    pub fn who_waits(&self) -> impl Iterator<Item = (usize, usize, &T, Work)> {
        self.queues.iter().enumerate().flat_map(|(index, queue)| {
            queue.waiting.iter().enumerate().map(move |(at, waiting)| (index, at, &waiting.who, waiting.work))
        })
    }

    fn fits(&self, work: &Work) -> bool {
        let seats = work.seats_max();
        if seats > self.limit {
            // Wider than the level: alone, or never.
            return self.executing == 0 && self.seats_in_use == 0;
        }
        self.seats_in_use + seats <= self.limit
    }

    /// The shortest queue of the flow's hand.
    fn choose(&mut self, hash: u64) -> usize {
        let hand = self.dealer.deal(hash);
        let cards = hand.cards();
        let offset = self.dealt % cards.len();
        self.dealt = self.dealt.wrapping_add(1);
        let mut best = (f64::INFINITY, 0);
        for at in 0..cards.len() {
            let index = cards[(offset + at) % cards.len()] as usize;
            let work = self.queues[index].work_waiting;
            if work < best.0 {
                best = (work, index);
            }
        }
        best.1
    }

    fn run(&mut self, now: Duration, index: Option<usize>, work: Work) -> Running {
        self.executing += 1;
        self.seats_in_use += work.seats_max();
        if let Some(index) = index {
            let queue = &mut self.queues[index];
            self.active += u32::from(!queue.is_active());
            queue.executing += 1;
            queue.seats_in_use += work.seats_max();
            queue.next_dispatch_r += work.total();
            self.queued_seats += work.seats_max();
        }
        self.note_demand(now);
        Running { queue: index, work, started: now }
    }

    fn dispatch(&mut self, now: Duration) {
        while self.waiting > 0 && self.seats_in_use < self.limit.max(1) {
            let Some(index) = self.next_queue() else { return };
            let queue = &mut self.queues[index];
            let Some(next) = queue.waiting.pop_front() else { return };
            queue.took(&next);
            self.active -= u32::from(!queue.is_active());
            self.waiting -= 1;
            self.seats_waiting -= next.work.seats_max();
            self.queued_seats -= next.work.seats_max();
            self.robin = index;
            let running = self.run(now, Some(index), next.work);
            self.queues[index].bound();
            self.let_in.push((next.who, running));
        }
    }

    /// The queue whose oldest request would be done first, if there is room for that one.
    fn next_queue(&mut self) -> Option<usize> {
        let len = self.queues.len();
        let mut best: Option<(f64, usize)> = None;
        for step in 1..=len {
            let index = (self.robin + step) % len;
            let queue = &self.queues[index];
            let Some(oldest) = queue.waiting.front() else { continue };
            let done = queue.next_dispatch_r + oldest.work.total();
            if best.is_none_or(|(least, _)| done < least) {
                best = Some((done, index));
            }
        }
        let (_, index) = best?;
        let fits = self.fits(&self.queues[index].waiting.front()?.work);
        if !fits {
            self.no_room += 1;
        }
        fits.then_some(index)
    }

    /// Brings the progress meter to `now`, and frees the seats whose time is over on the way.
    fn sync(&mut self, now: Duration) {
        while let Some(Reverse(hold)) = self.holds.peek()
            && hold.until <= now
        {
            let Some(Reverse(hold)) = self.holds.pop() else { break };
            self.advance(hold.until);
            self.seats_in_use -= hold.seats;
            if let Some(index) = hold.queue {
                self.queues[index].seats_in_use -= hold.seats;
                self.queued_seats -= hold.seats;
            }
            self.note_demand(hold.until);
        }
        self.advance(now);
    }

    fn advance(&mut self, now: Duration) {
        let took = now.saturating_sub(self.last);
        if !took.is_zero() {
            if self.active > 0 {
                let seats = self.queued_seats.min(self.limit);
                self.r += took.as_secs_f64() * f64::from(seats) / f64::from(self.active);
            }
            self.last = now;
        }
    }

    fn note_demand(&mut self, now: Duration) {
        self.demand.set(now, f64::from(self.seats_in_use) + f64::from(self.seats_waiting));
    }

    /// Drops queues too many that nobody uses any more.
    fn trim(&mut self) {
        let wanted = match self.mode {
            Mode::Queue(queuing) => queuing.queues.max(1) as usize,
            Mode::Exempt | Mode::Reject => 0,
        };
        let used = |queue: &Queue<T>| queue.is_active() || queue.seats_in_use > 0;
        while self.queues.len() > wanted && self.queues.last().is_some_and(|last| !used(last)) {
            self.queues.pop();
        }
    }
}

#[cfg(test)]
mod tests;
