//! The figures of flow control, under upstream's names.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::demand::Seen;
use super::kinds::Kinds;
use super::limits::{Allotted, Bounds};
use super::queue_set::Refusal;
use super::timing::Timing;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLevel {
    priority_level: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSchema {
    priority_level: String,
    flow_schema: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejection {
    priority_level: String,
    flow_schema: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Wait {
    priority_level: String,
    flow_schema: String,
    execute: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Execution {
    priority_level: String,
    flow_schema: String,
    r#type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPhase {
    phase: &'static str,
    priority_level: String,
}

type Timings<L> = Family<L, Timing, fn() -> Timing>;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;
type Number = Gauge<f64, AtomicU64>;

fn seconds() -> Histogram {
    Histogram::new([0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0])
}

fn seats_over_time() -> Timing {
    Timing::new(&[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
}

fn requests_over_time() -> Timing {
    Timing::new(&[0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0])
}

fn demand_over_time() -> Timing {
    Timing::new(&[0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.8, 4.0, 6.0])
}

fn lengths() -> Histogram {
    Histogram::new([0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0])
}

fn seats() -> Histogram {
    Histogram::new([1.0, 2.0, 4.0, 10.0])
}

fn watches() -> Histogram {
    Histogram::new([0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0])
}

/// All figures.
#[derive(Clone)]
pub struct Figures {
    rejected: Family<Rejection, Counter>,
    dispatched: Family<OfSchema, Counter>,
    no_room: Family<OfSchema, Counter>,
    inqueue: Family<OfSchema, Gauge>,
    inqueue_seats: Family<OfSchema, Gauge>,
    executing: Family<OfSchema, Gauge>,
    executing_seats: Family<OfSchema, Gauge>,
    waits: Histograms<Wait>,
    executions: Histograms<Execution>,
    queue_lengths: Histograms<OfSchema>,
    estimated_seats: Histograms<OfSchema>,
    watch_counts: Histograms<OfSchema>,
    nominal: Family<OfLevel, Gauge>,
    lower: Family<OfLevel, Gauge>,
    upper: Family<OfLevel, Gauge>,
    current: Family<OfLevel, Gauge>,
    target: Family<OfLevel, Number>,
    demand_peak: Family<OfLevel, Number>,
    demand_average: Family<OfLevel, Number>,
    demand_deviation: Family<OfLevel, Number>,
    demand_smoothed: Family<OfLevel, Number>,
    fair_fraction: Number,
    seat_utilization: Timings<OfPhase>,
    request_utilization: Timings<OfPhase>,
    demand_over_time: Timings<OfLevel>,
    /// Reads and writes apart.
    pub kinds: Kinds,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            rejected: Family::default(),
            dispatched: Family::default(),
            no_room: Family::default(),
            inqueue: Family::default(),
            inqueue_seats: Family::default(),
            executing: Family::default(),
            executing_seats: Family::default(),
            waits: Family::new_with_constructor(seconds),
            executions: Family::new_with_constructor(seconds),
            queue_lengths: Family::new_with_constructor(lengths),
            estimated_seats: Family::new_with_constructor(seats),
            watch_counts: Family::new_with_constructor(watches),
            nominal: Family::default(),
            lower: Family::default(),
            upper: Family::default(),
            current: Family::default(),
            target: Family::default(),
            demand_peak: Family::default(),
            demand_average: Family::default(),
            demand_deviation: Family::default(),
            demand_smoothed: Family::default(),
            fair_fraction: Number::default(),
            seat_utilization: Family::new_with_constructor(seats_over_time as fn() -> Timing),
            request_utilization: Family::new_with_constructor(requests_over_time as fn() -> Timing),
            demand_over_time: Family::new_with_constructor(demand_over_time as fn() -> Timing),
            kinds: Kinds::default(),
        }
    }
}

/// How a level was used over time, found once.
#[derive(Clone)]
pub struct LevelFigures {
    pub seats: Timing,
    pub executing: Timing,
    pub waiting: Timing,
    pub demand: Timing,
}

/// The figures of one flow schema at its level, found once.
#[derive(Clone)]
pub struct SchemaFigures {
    labels: OfSchema,
    rejected: Family<Rejection, Counter>,
    pub dispatched: Counter,
    pub no_room: Counter,
    pub inqueue: Gauge,
    pub inqueue_seats: Gauge,
    pub executing: Gauge,
    pub executing_seats: Gauge,
    pub waited: Histogram,
    pub waited_in_vain: Histogram,
    pub ran: Histogram,
    pub watch_ran: Histogram,
    pub queue_length: Histogram,
    pub estimated_seats: Histogram,
    pub watch_count: Histogram,
    pub kinds: Kinds,
}

impl SchemaFigures {
    pub fn rejected(&self, why: Refusal) {
        let OfSchema { priority_level, flow_schema } = self.labels.clone();
        self.rejected.get_or_create(&Rejection { priority_level, flow_schema, reason: why.as_str() }).inc();
    }
}

impl Figures {
    /// Makes the figures part of `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.kinds.register(registry);
        let registry = registry.sub_registry_with_prefix("apiserver_flowcontrol");
        registry.register("rejected_requests", "Requests that were not let in", self.rejected.clone());
        registry.register("dispatched_requests", "Requests that were let in", self.dispatched.clone());
        let help = "Times that nobody was let in because the next in turn is too wide";
        registry.register("request_dispatch_no_accommodation", help, self.no_room.clone());
        registry.register("current_inqueue_requests", "Requests that wait", self.inqueue.clone());
        registry.register("current_inqueue_seats", "Seats that waiting requests want", self.inqueue_seats.clone());
        registry.register("current_executing_requests", "Requests under way", self.executing.clone());
        let help = "Seats taken by requests under way";
        registry.register("current_executing_seats", help, self.executing_seats.clone());
        registry.register("request_wait_duration_seconds", "How long requests waited", self.waits.clone());
        registry.register("request_execution_seconds", "How long requests took", self.executions.clone());
        let help = "The length of a queue, as each request saw it that joined it";
        registry.register("request_queue_length_after_enqueue", help, self.queue_lengths.clone());
        registry.register("work_estimated_seats", "Seats that requests take", self.estimated_seats.clone());
        registry.register("watch_count_samples", "Watchers that hear of a write", self.watch_counts.clone());
        registry.register("nominal_limit_seats", "Seats by shares", self.nominal.clone());
        registry.register("lower_limit_seats", "Seats that are not lent", self.lower.clone());
        registry.register("upper_limit_seats", "Seats with all that may be borrowed", self.upper.clone());
        registry.register("current_limit_seats", "Seats at present", self.current.clone());
        registry.register("target_seats", "Seats that are aimed at", self.target.clone());
        let help = "The most seats asked for at once since the last adjustment";
        registry.register("demand_seats_high_watermark", help, self.demand_peak.clone());
        registry.register("demand_seats_average", "Seats asked for, on average", self.demand_average.clone());
        registry.register("demand_seats_stdev", "The deviation of seats asked for", self.demand_deviation.clone());
        registry.register("demand_seats_smoothed", "Seats asked for, smoothed", self.demand_smoothed.clone());
        let help = "What levels get of the seats they aim at";
        registry.register("seat_fair_frac", help, self.fair_fraction.clone());
        let help = "Seats taken, as a part of the level's limit, over time";
        registry.register("priority_level_seat_utilization", help, self.seat_utilization.clone());
        let help = "Requests under way or waiting, as a part of the level's limit, over time";
        registry.register("priority_level_request_utilization", help, self.request_utilization.clone());
        let help = "Seats asked for, as a part of the level's nominal seats, over time";
        registry.register("demand_seats", help, self.demand_over_time.clone());
    }

    pub fn of_schema(&self, level: &str, schema: &str) -> SchemaFigures {
        let labels = OfSchema { priority_level: level.to_owned(), flow_schema: schema.to_owned() };
        let wait = |execute| {
            let OfSchema { priority_level, flow_schema } = labels.clone();
            self.waits.get_or_create_owned(&Wait { priority_level, flow_schema, execute })
        };
        let execution = |r#type| {
            let OfSchema { priority_level, flow_schema } = labels.clone();
            self.executions.get_or_create_owned(&Execution { priority_level, flow_schema, r#type })
        };
        SchemaFigures {
            rejected: self.rejected.clone(),
            dispatched: self.dispatched.get_or_create_owned(&labels),
            no_room: self.no_room.get_or_create_owned(&labels),
            inqueue: self.inqueue.get_or_create_owned(&labels),
            inqueue_seats: self.inqueue_seats.get_or_create_owned(&labels),
            executing: self.executing.get_or_create_owned(&labels),
            executing_seats: self.executing_seats.get_or_create_owned(&labels),
            waited: wait("true"),
            waited_in_vain: wait("false"),
            ran: execution("regular"),
            watch_ran: execution("watch"),
            queue_length: self.queue_lengths.get_or_create_owned(&labels),
            estimated_seats: self.estimated_seats.get_or_create_owned(&labels),
            watch_count: self.watch_counts.get_or_create_owned(&labels),
            kinds: self.kinds.clone(),
            labels,
        }
    }

    /// How a level is used.
    pub fn of_level(&self, level: &str) -> LevelFigures {
        let phase = |phase| OfPhase { phase, priority_level: level.to_owned() };
        LevelFigures {
            seats: self.seat_utilization.get_or_create_owned(&phase("executing")),
            executing: self.request_utilization.get_or_create_owned(&phase("executing")),
            waiting: self.request_utilization.get_or_create_owned(&phase("waiting")),
            demand: self.demand_over_time.get_or_create_owned(&OfLevel { priority_level: level.to_owned() }),
        }
    }

    /// The limits of a level have changed.
    pub fn limits(&self, level: &str, bounds: Bounds, allotted: Allotted) {
        let labels = OfLevel { priority_level: level.to_owned() };
        self.nominal.get_or_create(&labels).set(bounds.nominal.into());
        self.lower.get_or_create(&labels).set(bounds.min.into());
        self.upper.get_or_create(&labels).set(bounds.max.into());
        self.current.get_or_create(&labels).set(allotted.limit.into());
        self.target.get_or_create(&labels).set(allotted.target);
    }

    /// The demand for a level was looked at.
    pub fn demand(&self, level: &str, seen: Seen, smoothed: f64) {
        let labels = OfLevel { priority_level: level.to_owned() };
        self.demand_peak.get_or_create(&labels).set(seen.peak);
        self.demand_average.get_or_create(&labels).set(seen.average);
        self.demand_deviation.get_or_create(&labels).set(seen.deviation);
        self.demand_smoothed.get_or_create(&labels).set(smoothed);
    }

    pub fn fair_fraction(&self, fraction: f64) {
        self.fair_fraction.set(fraction);
    }

    /// A level is no more.
    pub fn forget_level(&self, level: &str) {
        let labels = OfLevel { priority_level: level.to_owned() };
        for family in [&self.nominal, &self.lower, &self.upper, &self.current] {
            family.remove(&labels);
        }
        self.demand_over_time.remove(&labels);
        for phase in ["executing", "waiting"] {
            let labels = OfPhase { phase, priority_level: level.to_owned() };
            self.seat_utilization.remove(&labels);
            self.request_utilization.remove(&labels);
        }
        for family in
            [&self.target, &self.demand_peak, &self.demand_average, &self.demand_deviation, &self.demand_smoothed]
        {
            family.remove(&labels);
        }
    }
}
