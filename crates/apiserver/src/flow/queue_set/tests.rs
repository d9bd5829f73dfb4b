//! Queues under load, on a clock of our own.

use super::*;

const QUEUING: Queuing = Queuing { queues: 8, hand_size: 2, queue_len_max: 4 };

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn set(mode: Mode, limit: u32) -> QueueSet<&'static str> {
    QueueSet::new(mode, limit, ms(0))
}

fn runs(arrival: Arrival) -> Running {
    match arrival {
        Arrival::Runs(running) => running,
        other => panic!("{other:?}"),
    }
}

fn waits(arrival: Arrival) -> Place {
    match arrival {
        Arrival::Waits(place) => place,
        other => panic!("{other:?}"),
    }
}

fn names(let_in: &[(&'static str, Running)]) -> Vec<&'static str> {
    let_in.iter().map(|(name, _)| *name).collect()
}

#[test]
fn seats_are_taken_and_given_back() {
    let mut set = set(Mode::Reject, 2);
    let first = runs(set.arrive(ms(0), 1, Work::seats(1), || "a"));
    let _second = runs(set.arrive(ms(0), 1, Work::seats(1), || "b"));
    assert!(matches!(set.arrive(ms(1), 1, Work::seats(1), || "c"), Arrival::Refused(Refusal::ConcurrencyLimit)));
    set.finish(ms(2), first);
    runs(set.arrive(ms(2), 1, Work::seats(1), || "d"));
    assert_eq!((set.executing(), set.seats_in_use()), (2, 2));
}

#[test]
fn the_exempt_never_wait() {
    let mut set = set(Mode::Exempt, 0);
    let all: Vec<Running> = (0..100).map(|_| runs(set.arrive(ms(0), 0, Work::seats(3), || "x"))).collect();
    assert_eq!(set.seats_in_use(), 300);
    all.into_iter().for_each(|running| set.finish(ms(1), running));
    assert!(set.is_idle());
}

#[test]
fn a_queue_is_first_in_first_out_and_bounded() {
    let mut set = set(Mode::Queue(Queuing { queues: 1, hand_size: 1, ..QUEUING }), 1);
    let running = runs(set.arrive(ms(0), 0, Work::seats(1), || "a"));
    for name in ["b", "c", "d", "e"] {
        waits(set.arrive(ms(1), 0, Work::seats(1), || name));
    }
    assert!(matches!(set.arrive(ms(1), 0, Work::seats(1), || "f"), Arrival::Refused(Refusal::QueueFull)));
    assert_eq!(set.waiting(), 4);
    set.finish(ms(5), running);
    let mut order = Vec::new();
    while let Some((name, running)) = set.let_in().pop() {
        order.push(name);
        set.finish(ms(6), running);
    }
    assert_eq!(order, ["b", "c", "d", "e"]);
    assert!(set.is_idle());
}

#[test]
fn a_mouse_is_not_kept_waiting_by_an_elephant() {
    // Hands that do not meet.
    let dealer = Dealer::new(QUEUING.queues, QUEUING.hand_size);
    let elephant = 0;
    let hand = dealer.deal(elephant);
    let apart = |hash: &u64| dealer.deal(*hash).cards().iter().all(|card| !hand.cards().contains(card));
    let mouse = (1..1000).find(apart).expect("some hand is apart");
    let mut set = set(Mode::Queue(QUEUING), 1);
    let running = runs(set.arrive(ms(0), elephant, Work::seats(1), || "elephant"));
    for _ in 0..8 {
        waits(set.arrive(ms(1), elephant, Work::seats(1), || "elephant"));
    }
    assert!(matches!(set.arrive(ms(1), elephant, Work::seats(1), || "e"), Arrival::Refused(Refusal::QueueFull)));
    waits(set.arrive(ms(2), mouse, Work::seats(1), || "mouse"));
    set.finish(ms(100), running);
    // The elephant's queues have had their turn; the mouse is among the next two.
    let mut order = Vec::new();
    let mut now = 100;
    while let Some((name, running)) = set.let_in().pop() {
        order.push(name);
        now += 10;
        set.finish(ms(now), running);
    }
    assert_eq!(order.len(), 9);
    assert!(order[..2].contains(&"mouse"), "{order:?}");
}

#[test]
fn wide_requests_wait_for_room_and_may_exceed_the_limit_alone() {
    let mut set = set(Mode::Queue(QUEUING), 4);
    let narrow = runs(set.arrive(ms(0), 0, Work::seats(1), || "narrow"));
    waits(set.arrive(ms(0), 1, Work::seats(9), || "wide"));
    assert!(set.let_in().is_empty());
    set.finish(ms(1), narrow);
    let mut let_in = set.let_in();
    assert_eq!(names(&let_in), ["wide"]);
    waits(set.arrive(ms(2), 0, Work::seats(1), || "next"));
    set.finish(ms(3), let_in.remove(0).1);
    assert_eq!(names(&set.let_in()), ["next"]);
}

#[test]
fn who_leaves_is_not_let_in() {
    let mut set = set(Mode::Queue(QUEUING), 1);
    let running = runs(set.arrive(ms(0), 0, Work::seats(1), || "a"));
    let b = waits(set.arrive(ms(0), 0, Work::seats(1), || "b"));
    let c = waits(set.arrive(ms(0), 0, Work::seats(1), || "c"));
    assert!(set.leave(ms(1), b));
    assert!(!set.leave(ms(1), b));
    set.finish(ms(2), running);
    assert_eq!(names(&set.let_in()), ["c"]);
    assert!(!set.leave(ms(2), c), "it is let in");
}

#[test]
fn seats_are_held_after_the_answer() {
    let mut set = set(Mode::Queue(QUEUING), 3);
    let work = Work { initial_seats: 1, final_seats: 2, additional: ms(5) };
    let running = runs(set.arrive(ms(0), 0, work, || "write"));
    set.finish(ms(10), running);
    assert_eq!((set.executing(), set.seats_in_use()), (0, 2));
    waits(set.arrive(ms(11), 0, Work::seats(2), || "list"));
    assert_eq!(set.wakes_at(), Some(ms(15)));
    set.tick(ms(14));
    assert!(set.let_in().is_empty());
    set.tick(ms(15));
    assert_eq!(names(&set.let_in()), ["list"]);
}

#[test]
fn a_new_limit_lets_in_who_waits() {
    let mut set = set(Mode::Queue(QUEUING), 1);
    runs(set.arrive(ms(0), 0, Work::seats(1), || "a"));
    waits(set.arrive(ms(0), 0, Work::seats(1), || "b"));
    waits(set.arrive(ms(0), 1, Work::seats(1), || "c"));
    set.set_limit(ms(1), 3);
    assert_eq!(set.let_in().len(), 2);
}

#[test]
fn queues_too_many_go_when_they_are_empty() {
    let mut set = set(Mode::Queue(QUEUING), 1);
    let running = runs(set.arrive(ms(0), 0, Work::seats(1), || "a"));
    for hash in 0..8u64 {
        waits(set.arrive(ms(0), hash * 7919, Work::seats(1), || "w"));
    }
    set.configure(ms(1), Mode::Queue(Queuing { queues: 1, hand_size: 1, queue_len_max: 4 }), 1);
    assert_eq!(set.waiting(), 8, "who waits keeps its place");
    set.finish(ms(2), running);
    while let Some((_, running)) = set.let_in().pop() {
        set.finish(ms(3), running);
    }
    assert!(set.is_idle());
    assert_eq!(set.views().len(), 1);
}

#[test]
fn demand_counts_who_runs_and_who_waits() {
    let mut set = set(Mode::Queue(QUEUING), 1);
    runs(set.arrive(ms(0), 0, Work::seats(1), || "a"));
    waits(set.arrive(ms(0), 0, Work::seats(1), || "b"));
    let seen = set.demand(ms(1000));
    assert_eq!((seen.average, seen.peak), (2.0, 2.0));
}

#[test]
fn flows_get_equal_parts_of_a_busy_level() {
    // Three flows, each with as many requests as its queues hold, of different lengths: time is shared, not turns.
    let mut set: QueueSet<usize> =
        QueueSet::new(Mode::Queue(Queuing { queues: 64, hand_size: 1, queue_len_max: 1000 }), 1, ms(0));
    let dealer = Dealer::new(64, 1);
    let lengths = [1u64, 4, 16];
    let mut spent = [0u64; 3];
    let queues: Vec<u32> = (0..3).map(|flow| dealer.deal(flow).cards()[0]).collect();
    assert_eq!(queues, [0, 1, 2]);
    let mut now = 0;
    let running = runs(set.arrive(ms(now), 3, Work::seats(1), || 9));
    for flow in 0..3usize {
        for _ in 0..600 {
            waits(set.arrive(ms(now), flow as u64, Work::seats(1), || flow));
        }
    }
    set.finish(ms(now), running);
    while now < 1500 {
        let Some((flow, running)) = set.let_in().pop() else { panic!("somebody waits") };
        now += lengths[flow];
        spent[flow] += lengths[flow];
        set.finish(ms(now), running);
    }
    let (least, most) = (spent.iter().min().unwrap(), spent.iter().max().unwrap());
    assert!(*most <= least + least / 5, "{spent:?}");
}
