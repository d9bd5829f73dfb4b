//! Flow control as a whole, with the suggested objects, on a paused clock; and what it costs.

use api::{Typed, downcast};
use serde_json::json;

use super::*;
use crate::Caller;

fn flow(seats: usize) -> Flow {
    let flow = Flow::new(seats, Clock::system(), TaskGroup::new());
    let all = defaults::all();
    let schemas: Vec<_> = all.iter().filter_map(|one| downcast::<FlowSchema>(&**one).cloned().map(Arc::new)).collect();
    let levels: Vec<_> =
        all.iter().filter_map(|one| downcast::<PriorityLevelConfiguration>(&**one).cloned().map(Arc::new)).collect();
    flow.rebuild(&schemas, &levels);
    flow
}

const PODS: What<'_> = What::Resource {
    group: "",
    version: "v1",
    resource: "pods",
    subresource: "",
    namespace: "default",
    name: "p",
    field_selector: None,
    label_selector: None,
};

fn one(_: u32, _: &mut Option<usize>) -> Work {
    Work::seats(1)
}

fn limit_of(flow: &Flow, level: &str) -> u32 {
    flow.known.lock()[level].level.clone().limit()
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_seat_waits_and_is_let_in_when_one_is_free() {
    let flow = flow(8);
    let caller = Caller::new("ann", &[]);
    let request = Attributes { caller: &caller, verb: "get", what: PODS };
    let mut seats = Vec::new();
    for _ in 0..limit_of(&flow, "global-default") {
        seats.push(flow.arrive(&request, one).seat(WAIT_MAX).await.ok().unwrap());
    }
    let waiting = flow.arrive(&request, one);
    assert!(matches!(waiting.entry, Entry::Waiting(_)));
    let text = dump::page(&flow, "dump_requests", true).unwrap();
    assert!(text.contains("\nglobal-default,    global-default, "), "{text}");
    assert!(text.lines().nth(1).unwrap().contains("ann,"), "{text}");
    let (seat, ()) = tokio::join!(waiting.seat(WAIT_MAX), async { drop(seats.pop()) });
    assert!(seat.is_ok());
    // Nobody gives a seat back: it is refused in the end.
    let refused = flow.arrive(&request, one).seat(WAIT_MAX).await.err().unwrap();
    assert_eq!((refused.code(), refused.message()), (429, "too many requests, please try again later."));
    let node = Caller::new("system:node:n", &["system:nodes"]);
    let other = Attributes { caller: &node, ..request };
    assert!(flow.arrive(&other, one).seat(WAIT_MAX).await.is_ok(), "other levels have seats of their own");
    let master = Caller::new("root", &["system:masters"]);
    let mut many = Vec::new();
    for _ in 0..100 {
        let exempt = Attributes { caller: &master, ..request };
        many.push(flow.arrive(&exempt, one).seat(Duration::ZERO).await.ok().unwrap());
    }
    drop((many, seat));
    let levels = dump::page(&flow, "dump_priority_levels", false).unwrap();
    assert!(levels.starts_with("PriorityLevelName, ActiveQueues, IsIdle, "), "{levels}");
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_leaves_its_place() {
    let flow = flow(1);
    let caller = Caller::new("ann", &[]);
    let request = Attributes { caller: &caller, verb: "get", what: PODS };
    let mut seats = Vec::new();
    for _ in 0..limit_of(&flow, "global-default").max(1) {
        seats.push(flow.arrive(&request, one).seat(WAIT_MAX).await.ok().unwrap());
    }
    let gone = flow.arrive(&request, one);
    drop(gone);
    let let_in_but_gone = flow.arrive(&request, one);
    drop(seats);
    drop(let_in_but_gone);
    let level = flow.known.lock()["global-default"].level.clone();
    assert!(level.is_idle());
    let seat = flow.arrive(&request, one).seat(Duration::ZERO).await;
    assert!(seat.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_busy_level_borrows_from_the_idle() {
    let flow = flow(600);
    assert_eq!(limit_of(&flow, "global-default"), 49);
    let caller = Caller::new("ann", &[]);
    let request = Attributes { caller: &caller, verb: "get", what: PODS };
    let all: Vec<Arriving> = (0..100).map(|_| flow.arrive(&request, one)).collect();
    assert_eq!(all.iter().filter(|one| matches!(one.entry, Entry::Seated(_))).count(), 49);
    tokio::time::sleep(Duration::from_secs(10)).await;
    flow.adjust();
    assert!(limit_of(&flow, "global-default") > 100, "{}", limit_of(&flow, "global-default"));
    for one in all {
        assert!(one.seat(Duration::from_millis(1)).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn seats_held_after_an_answer_free_themselves() {
    let flow = flow(8);
    let caller = Caller::new("ann", &[]);
    let request = Attributes { caller: &caller, verb: "create", what: PODS };
    let seats = limit_of(&flow, "global-default");
    let additional = Duration::from_millis(5);
    let write = |_, _: &mut Option<usize>| Work { initial_seats: 1, final_seats: seats, additional };
    drop(flow.arrive(&request, write).seat(WAIT_MAX).await.ok().unwrap());
    let next = flow.arrive(&request, one);
    assert!(matches!(next.entry, Entry::Waiting(_)));
    assert!(next.seat(Duration::from_millis(6)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_level_that_is_gone_serves_who_is_in_it() {
    let flow = flow(600);
    let level = PriorityLevelConfiguration::from_value(json!({"metadata": {"name": "own"}, "spec": {
        "type": "Limited", "limited": {"nominalConcurrencyShares": 10, "limitResponse": {"type": "Reject"}}}}));
    let schema = FlowSchema::from_value(json!({"metadata": {"name": "own", "uid": "1-2"}, "spec": {
        "matchingPrecedence": 10, "priorityLevelConfiguration": {"name": "own"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "ann"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]}]}}));
    let (schema, level) = (Arc::new(schema.unwrap()), Arc::new(level.unwrap()));
    flow.rebuild(std::slice::from_ref(&schema), std::slice::from_ref(&level));
    let caller = Caller::new("ann", &[]);
    let request = Attributes { caller: &caller, verb: "get", what: PODS };
    let arriving = flow.arrive(&request, one);
    assert_eq!(arriving.ids().flow_schema, "1-2");
    let seat = arriving.seat(WAIT_MAX).await.ok().unwrap();
    flow.rebuild(std::slice::from_ref(&schema), &[]);
    assert_eq!(flow.arrive(&request, one).ids().flow_schema, "", "the schema dangles: the catch-all takes it");
    assert!(flow.known.lock()["own"].quiescing);
    drop(seat);
    flow.adjust();
    assert!(!flow.known.lock().contains_key("own"));
}

/// `cargo test --release -p pintle-apiserver flow::tests::cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn cost() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let flow = flow(600);
        for (user, group) in [("ann", "dev"), ("system:node:n", "system:nodes"), ("root", "system:masters")] {
            let caller = Caller::new(user, &[group]);
            let request = Attributes { caller: &caller, verb: "get", what: PODS };
            let clock = Clock::system();
            let began = clock.monotonic();
            const TIMES: u32 = 1_000_000;
            for _ in 0..TIMES {
                drop(flow.arrive(&request, one).seat(WAIT_MAX).await);
            }
            println!("{user}: {:?} a request", began.elapsed() / TIMES);
        }
    });
}
