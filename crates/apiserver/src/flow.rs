//! Flow control: API Priority and Fairness. Every request but a stream is of the first flow schema that matches it,
//! takes seats at that schema's priority level while it is worked on, and waits in one of the level's queues, or is
//! refused, when there are none.
//!
//! What decides is compiled from the objects when they change and swapped in whole; a request costs a walk over the
//! schemas and one short lock of its level. A list's seats are free again when its answer is ready, not when the client
//! has read it: it is streamed in bounded memory.
//!
//! Upstream: pkg/util/flowcontrol, pkg/server/filters/priority-and-fairness.go.

pub mod classify;
pub mod defaults;
pub mod demand;
pub mod dump;
pub mod figures;
mod follow;
pub mod kinds;
pub mod level;
pub mod limits;
pub mod queue_set;
pub mod shuffle;
pub mod timing;
pub mod width;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use api::{Object, Status, Timestamp};
use arc_swap::ArcSwap;
use base::{Clock, TaskGroup};
use http::HeaderValue;
use parking_lot::Mutex;
use resources::flowcontrol::mandatory;

use crate::authz::{Attributes, What};
use classify::Matcher;
use demand::{Seen, Smoothed};
use figures::Figures;
use level::{About, Entry, Ids, Level, Schema, Shared};
use limits::{Allotted, Bounds, Demand, Share};
use queue_set::{Mode, Queuing, Work};

pub use follow::{ensure, follow};
pub use level::Seat;

/// The longest that a request waits for its turn; one with a deadline waits a quarter of the time it has.
pub const WAIT_MAX: Duration = Duration::from_secs(15);

/// What requests are judged by, until the objects change.
#[derive(Default)]
struct Plan {
    /// By precedence, then name.
    schemas: Vec<Arc<Schema>>,
}

/// A level as the one who shares out the seats sees it.
struct Known {
    level: Arc<Level>,
    share: Share,
    bounds: Bounds,
    seen: Seen,
    smoothed: Smoothed,
    /// Its object is gone; it ends when it is idle.
    quiescing: bool,
}

/// Flow control.
pub struct Flow {
    plan: ArcSwap<Plan>,
    known: Mutex<BTreeMap<String, Known>>,
    figures: Figures,
    shared: Shared,
    seats: u32,
    keeps_defaults: AtomicBool,
    kept: tokio::sync::Notify,
}

/// What is known of a request at the door.
pub struct Arriving {
    entry: Entry,
    ids: Arc<Ids>,
}

impl Arriving {
    /// What the client is told of its request's place.
    pub fn ids(&self) -> Arc<Ids> {
        self.ids.clone()
    }

    /// Waits for the request's turn, `limit` at most.
    ///
    /// # Errors
    /// 429 if it does not come in time, or there is no room to wait.
    pub async fn seat(self, limit: Duration) -> Result<Seat, Status> {
        let seat = match self.entry {
            Entry::Seated(seat) => Some(seat),
            Entry::Waiting(waiting) => waiting.seat(limit).await,
            Entry::Refused => None,
        };
        seat.ok_or_else(|| Status::too_many_requests("too many requests, please try again later.", 1))
    }
}

impl Flow {
    /// Flow control over `seats`, by the mandatory objects alone until [`Flow::rebuild`].
    pub fn new(seats: usize, clock: Clock, tasks: TaskGroup) -> Self {
        let flow = Self {
            plan: ArcSwap::default(),
            known: Mutex::default(),
            figures: Figures::default(),
            shared: Shared { clock, started: clock.monotonic(), tasks },
            seats: u32::try_from(seats).unwrap_or(u32::MAX).max(1),
            keeps_defaults: AtomicBool::new(false),
            kept: tokio::sync::Notify::new(),
        };
        flow.rebuild(&[], &[]);
        flow
    }

    /// For the server's own figures.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Brings what is counted over time up to now, before it is read.
    pub fn look(&self) {
        let now = self.shared.now();
        self.figures.kinds.look(now);
        self.known.lock().values().for_each(|known| known.level.look());
    }

    /// From now on the suggested objects are kept as they are suggested.
    pub fn keep_defaults(&self) {
        self.keeps_defaults.store(true, Ordering::Release);
        self.kept.notify_one();
    }

    /// Finds a request's schema and asks for seats at its level. `work` is told the most seats it may take, and how
    /// many watchers were counted may be noted.
    pub fn arrive(&self, request: &Attributes<'_>, work: impl FnOnce(u32, &mut Option<usize>) -> Work) -> Arriving {
        let plan = self.plan.load();
        let found = plan.schemas.iter().find(|schema| schema.matcher.matches(request));
        // Nobody at all (no groups): as the schema that takes what no other takes.
        let schema = found.or(plan.schemas.last()).expect("the mandatory schemas are always there");
        let flow = schema.matcher.distinguisher.of(request);
        let mut hasher = DefaultHasher::new();
        (&schema.name, flow).hash(&mut hasher);
        let mut watches = None;
        let work = work(schema.level.seats_max(), &mut watches);
        if let Some(watches) = watches {
            schema.figures.watch_count.observe(watches as f64);
        }
        let about = || about(request, &schema.name, flow, self.shared.clock.now());
        let asks = level::Asks { watches: request.verb == "watch", writes: !kinds::reads(request.verb) };
        let entry = level::knock(schema, hasher.finish(), work, asks, about);
        Arriving { entry, ids: schema.ids.clone() }
    }

    /// All levels, and whether they are about to end.
    pub fn levels(&self) -> Vec<(Arc<Level>, bool)> {
        self.known.lock().values().map(|known| (known.level.clone(), known.quiescing)).collect()
    }

    /// Compiles the objects. What is missing of the mandatory ones is taken as it must be; schemas whose level does not
    /// exist take no part.
    pub fn rebuild(&self, schemas: &[Arc<FlowSchema>], levels: &[Arc<PriorityLevelConfiguration>]) {
        let mut levels = levels.to_vec();
        for fixed in mandatory::priority_levels() {
            if !levels.iter().any(|level| level.name() == fixed.name()) {
                levels.push(Arc::new(fixed));
            }
        }
        let mut schemas = schemas.to_vec();
        for fixed in mandatory::flow_schemas() {
            if !schemas.iter().any(|schema| schema.name() == fixed.name()) {
                schemas.push(Arc::new(fixed));
            }
        }
        let mut known = self.known.lock();
        self.take_levels(&mut known, &levels);
        self.share_out(&mut known);
        let uid_of = |name: &str| levels.iter().find(|level| level.name() == name).map_or("", |level| level.uid());
        let header = |uid: &str| HeaderValue::from_str(uid).unwrap_or(HeaderValue::from_static(""));
        let mut compiled: Vec<Arc<Schema>> = schemas
            .iter()
            .filter_map(|schema| {
                let name = &schema.spec.priority_level_configuration.name;
                let level = known.get(name).filter(|known| !known.quiescing)?.level.clone();
                Some(Arc::new(Schema {
                    name: schema.name().to_owned(),
                    matcher: Matcher::new(schema),
                    ids: Arc::new(Ids { flow_schema: header(schema.uid()), priority_level: header(uid_of(name)) }),
                    figures: self.figures.of_schema(name, schema.name()),
                    level,
                }))
            })
            .collect();
        compiled.sort_by(|a, b| (a.matcher.precedence, &a.name).cmp(&(b.matcher.precedence, &b.name)));
        self.plan.store(Arc::new(Plan { schemas: compiled }));
    }

    fn take_levels(&self, known: &mut BTreeMap<String, Known>, levels: &[Arc<PriorityLevelConfiguration>]) {
        for known in known.values_mut() {
            known.quiescing = true;
        }
        for level in levels {
            let (mode, share) = read(level);
            let new = || Known {
                level: Arc::new(Level::new(
                    level.name(),
                    mode,
                    0,
                    self.shared.clone(),
                    self.figures.of_level(level.name()),
                )),
                share,
                bounds: Bounds::default(),
                seen: Seen::default(),
                smoothed: Smoothed::default(),
                quiescing: false,
            };
            let known = known.entry(level.name().to_owned()).or_insert_with(new);
            known.level.configure(mode);
            (known.share, known.quiescing) = (share, false);
        }
        known.retain(|name, known| {
            let stays = !known.quiescing || !known.level.is_idle();
            if !stays {
                self.figures.forget_level(name);
            }
            stays
        });
    }

    /// Sets every level's limit by shares and by what is known of demand.
    fn share_out(&self, known: &mut BTreeMap<String, Known>) {
        let shares: Vec<Share> = known.values().map(|known| known.share).collect();
        for (known, bounds) in known.values_mut().zip(limits::bounds(self.seats, &shares)) {
            // Of a new level nothing is known: until the first look it keeps what it is due.
            if known.bounds == Bounds::default() {
                known.seen.peak = bounds.nominal.into();
            }
            known.bounds = bounds;
            known.level.set_seats_max(width::seats_max(bounds.nominal));
            known.level.set_nominal(bounds.nominal);
        }
        let demands: Vec<(Share, Bounds, Demand)> = known
            .values()
            .map(|known| {
                let demand = Demand { peak: known.seen.peak, smoothed: known.smoothed.0 };
                (known.share, known.bounds, demand)
            })
            .collect();
        let (allotted, fraction) = limits::adjust(&demands);
        self.figures.fair_fraction(fraction);
        for (known, Allotted { limit, target }) in known.values().zip(allotted) {
            known.level.set_limit(limit);
            self.figures.limits(&known.level.name, known.bounds, Allotted { limit, target });
        }
    }

    /// Looks at the demand since the last time, and lets levels lend and borrow by it.
    pub fn adjust(&self) {
        let mut known = self.known.lock();
        known.retain(|name, known| {
            let stays = !known.quiescing || !known.level.is_idle();
            if !stays {
                self.figures.forget_level(name);
            }
            stays
        });
        for (name, known) in known.iter_mut() {
            known.seen = known.level.demand();
            known.smoothed.update(known.seen);
            self.figures.demand(name, known.seen, known.smoothed.0);
        }
        self.share_out(&mut known);
    }
}

/// What a priority level's object says.
fn read(level: &PriorityLevelConfiguration) -> (Mode, Share) {
    let number = |number: Option<i32>| u32::try_from(number.unwrap_or_default()).unwrap_or_default();
    let spec = &level.spec;
    let Some(limited) = &spec.limited else {
        let exempt = spec.exempt.as_ref();
        let share = Share {
            exempt: true,
            shares: number(exempt.and_then(|exempt| exempt.nominal_concurrency_shares)),
            lendable_percent: number(exempt.and_then(|exempt| exempt.lendable_percent)),
            borrowing_limit_percent: None,
        };
        return (Mode::Exempt, share);
    };
    let mode = match &limited.limit_response.queuing {
        Some(queuing) if limited.limit_response.type_ == "Queue" => Mode::Queue(Queuing {
            queues: number(queuing.queues).max(1),
            hand_size: number(queuing.hand_size).max(1),
            queue_len_max: number(queuing.queue_length_limit) as usize,
        }),
        _ => Mode::Reject,
    };
    let share = Share {
        exempt: false,
        shares: number(limited.nominal_concurrency_shares),
        lendable_percent: number(limited.lendable_percent),
        borrowing_limit_percent: limited.borrowing_limit_percent.map(|percent| number(Some(percent))),
    };
    (mode, share)
}

fn about(request: &Attributes<'_>, schema: &str, flow: &str, arrived: Timestamp) -> About {
    let about = About {
        schema: schema.to_owned(),
        flow: flow.to_owned(),
        arrived,
        user: request.caller.name.clone(),
        verb: request.verb.to_owned(),
        ..About::default()
    };
    match request.what {
        What::Path(path) => About { path: path.to_owned(), ..about },
        What::Resource { group, version, resource, subresource, namespace, name, .. } => About {
            path: String::new(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            ..about
        },
    }
}

#[cfg(test)]
mod tests;
