//! Tables for `plan`.

use api::Typed;

use super::*;
use crate::state::Sandbox;

const NOW: i64 = 1_700_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn pod_of(spec: &str) -> Pod {
    Pod::decode(format!(r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u"}},"spec":{spec}}}"#).as_bytes()).unwrap()
}

fn sandbox(attempt: u32, ready: bool) -> Sandbox {
    Sandbox {
        id: format!("s{attempt}"),
        attempt,
        ready,
        created_at_nanos: i64::from(attempt) + 1,
        ips: if ready { vec!["10.0.0.1".into()] } else { vec![] },
        host_network: false,
        runtime_handler: String::new(),
    }
}

fn container(p: &Pod, name: &str, restart_count: u32, phase: Phase, exit_code: i32) -> state::Container {
    let spec = pod::find_container(p, name).unwrap();
    state::Container {
        id: format!("{name}{restart_count}"),
        name: name.into(),
        sandbox_id: "s0".into(),
        restart_count,
        phase,
        image: "i".into(),
        image_id: "i@1".into(),
        hash: labels::container_hash(&spec),
        resources: crate::resize::fingerprint(&spec),
        created_at_nanos: i64::from(restart_count) + 10,
        started_at: Some(at(NOW - 60)),
        finished_at: (phase == Phase::Exited).then(|| at(NOW - 1)),
        exit_code,
        reason: String::new(),
        message: String::new(),
        log_path: String::new(),
        termination_message_host_path: None,
        falls_back_to_logs: false,
        user: None,
    }
}

fn state_of(sandboxes: Vec<Sandbox>, containers: Vec<state::Container>) -> PodState {
    let mut state = PodState { sandboxes, containers };
    state.sort();
    state
}

struct Case {
    pod: Pod,
    state: PodState,
    probed: BTreeMap<String, Probed>,
    backoffs: Backoffs,
    holds: BTreeMap<String, Hold>,
    terminate: Option<i64>,
    resized: BTreeMap<String, String>,
    resize_allowed: bool,
}

impl Case {
    fn new(pod: Pod, state: PodState) -> Self {
        Self {
            pod,
            state,
            probed: BTreeMap::new(),
            backoffs: Backoffs::default(),
            holds: BTreeMap::new(),
            terminate: None,
            resized: BTreeMap::new(),
            resize_allowed: true,
        }
    }

    fn plan(&self) -> Plan {
        plan(&View {
            pod: &self.pod,
            state: &self.state,
            probed: &self.probed,
            backoffs: &self.backoffs,
            holds: &self.holds,
            terminate_grace_seconds: self.terminate,
            resized: &self.resized,
            resize_allowed: self.resize_allowed,
            now: at(NOW),
        })
    }
}

/// Steps in short: `sandbox0 start:a#0 kill:a stop rm:a0 rmsandbox:s0`.
fn short(plan: &Plan) -> String {
    let mut words: Vec<String> = plan
        .steps
        .iter()
        .map(|step| match step {
            Step::Kill { name, .. } => format!("kill:{name}"),
            Step::StopPod { .. } => "stop".into(),
            Step::CreateSandbox { attempt } => format!("sandbox{attempt}"),
            Step::Start { name, restart_count, .. } => format!("start:{name}#{restart_count}"),
            Step::Resize { name, .. } => format!("resize:{name}"),
            Step::RemoveContainer { id } => format!("rm:{id}"),
            Step::RemoveSandbox { id } => format!("rmsandbox:{id}"),
        })
        .collect();
    if plan.finished {
        words.push("finished".into());
    }
    words.join(" ")
}

const TWO: &str = r#"{"containers":[{"name":"a","image":"i"},{"name":"b","image":"i"}]}"#;

#[test]
fn a_new_pod_gets_a_sandbox_and_its_containers() {
    assert_eq!(short(&Case::new(pod_of(TWO), PodState::default()).plan()), "sandbox0 start:a#0 start:b#0");
}

#[test]
fn init_containers_run_one_after_another() {
    let p = pod_of(
        r#"{"initContainers":[{"name":"i1","image":"i"},{"name":"i2","image":"i"}],"containers":[{"name":"a","image":"i"}]}"#,
    );
    let steps = |containers| short(&Case::new(p.clone(), state_of(vec![sandbox(0, true)], containers)).plan());
    let done = |name: &str| container(&p, name, 0, Phase::Exited, 0);
    assert_eq!(short(&Case::new(p.clone(), PodState::default()).plan()), "sandbox0 start:i1#0");
    assert_eq!(steps(vec![]), "start:i1#0");
    assert_eq!(steps(vec![container(&p, "i1", 0, Phase::Running, 0)]), "");
    assert_eq!(steps(vec![done("i1")]), "start:i2#0");
    assert_eq!(steps(vec![done("i1"), done("i2")]), "start:a#0");
    assert_eq!(steps(vec![done("i1"), done("i2"), container(&p, "a", 0, Phase::Running, 0)]), "");
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    for (policy, want) in [("Never", "stop finished"), ("OnFailure", "start:i1#1"), ("Always", "start:i1#1")] {
        let p = pod_of(&format!(
            r#"{{"restartPolicy":"{policy}","initContainers":[{{"name":"i1"}}],"containers":[{{"name":"a"}}]}}"#
        ));
        let state = state_of(vec![sandbox(0, true)], vec![container(&p, "i1", 0, Phase::Exited, 1)]);
        assert_eq!(short(&Case::new(p, state).plan()), want, "{policy}");
    }
}

#[test]
fn sidecars_start_in_order_and_keep_running() {
    let p = pod_of(
        r#"{"restartPolicy":"Never","initContainers":[{"name":"s","restartPolicy":"Always","startupProbe":{}},{"name":"i"}],
            "containers":[{"name":"a"}]}"#,
    );
    let running = container(&p, "s", 0, Phase::Running, 0);
    let mut case = Case::new(p.clone(), state_of(vec![sandbox(0, true)], vec![running.clone()]));
    assert_eq!(short(&case.plan()), "", "its startup probe has no verdict");
    case.probed.insert("s0".into(), Probed { startup: Some(true), ..Probed::default() });
    assert_eq!(short(&case.plan()), "start:i#0");
    let done = container(&p, "i", 0, Phase::Exited, 0);
    let a = container(&p, "a", 0, Phase::Running, 0);
    let dead = container(&p, "s", 0, Phase::Exited, 1);
    case.state = state_of(vec![sandbox(0, true)], vec![dead, done.clone(), a]);
    assert_eq!(short(&case.plan()), "start:s#1");
    let a = container(&p, "a", 0, Phase::Exited, 0);
    case.state = state_of(vec![sandbox(0, true)], vec![running, done, a]);
    assert_eq!(short(&case.plan()), "stop finished", "the sidecar does not outlive the pod's work");
}

#[test]
fn restart_policies() {
    for (policy, exit_code, want) in [
        ("Always", 0, "start:a#1"),
        ("Always", 1, "start:a#1"),
        ("OnFailure", 0, "stop finished"),
        ("OnFailure", 1, "start:a#1"),
        ("Never", 0, "stop finished"),
        ("Never", 1, "stop finished"),
    ] {
        let p = pod_of(&format!(r#"{{"restartPolicy":"{policy}","containers":[{{"name":"a"}}]}}"#));
        let state = state_of(vec![sandbox(0, true)], vec![container(&p, "a", 0, Phase::Exited, exit_code)]);
        assert_eq!(short(&Case::new(p, state).plan()), want, "{policy} {exit_code}");
    }
}

#[test]
fn a_crash_loop_waits() {
    let p = pod_of(r#"{"containers":[{"name":"a"}]}"#);
    let state = state_of(vec![sandbox(0, true)], vec![container(&p, "a", 1, Phase::Exited, 1)]);
    let mut case = Case::new(p.clone(), state);
    case.backoffs.started("a", &labels::container_hash(&pod::containers(&p)[0]), at(NOW - 30), at(NOW - 30));
    let plan = case.plan();
    assert_eq!(short(&plan), "");
    assert_eq!(plan.wake_at, Some(at(NOW + 9)));
    assert_eq!(plan.crash_waiting["a"].message, "back-off 10s restarting failed container=a pod=p_n(u)");
}

#[test]
fn a_held_container_waits_and_the_others_go_on() {
    let mut case = Case::new(pod_of(TWO), PodState::default());
    let waiting = Waiting { reason: "ImagePullBackOff".into(), message: String::new() };
    case.holds.insert("a".into(), Hold { until: at(NOW + 7), waiting });
    let plan = case.plan();
    assert_eq!(short(&plan), "sandbox0 start:b#0");
    assert_eq!(plan.wake_at, Some(at(NOW + 7)));
}

#[test]
fn a_dead_sandbox_is_replaced() {
    let p = pod_of(TWO);
    let dead = |name| container(&p, name, 0, Phase::Exited, 137);
    let case = Case::new(p.clone(), state_of(vec![sandbox(0, false)], vec![dead("a"), dead("b")]));
    assert_eq!(short(&case.plan()), "stop sandbox1 start:a#1 start:b#1");
    let never = pod_of(r#"{"restartPolicy":"Never","containers":[{"name":"a"}]}"#);
    let case =
        Case::new(never.clone(), state_of(vec![sandbox(0, false)], vec![container(&never, "a", 0, Phase::Exited, 1)]));
    assert_eq!(short(&case.plan()), "finished");
}

#[test]
fn a_failed_probe_and_a_new_image_restart_the_container() {
    let p = pod_of(r#"{"terminationGracePeriodSeconds":7,"containers":[{"name":"a","image":"i"}]}"#);
    let mut case =
        Case::new(p.clone(), state_of(vec![sandbox(0, true)], vec![container(&p, "a", 0, Phase::Running, 0)]));
    case.probed.insert("a0".into(), Probed { liveness_failed: true, ..Probed::default() });
    let plan = case.plan();
    assert_eq!(short(&plan), "kill:a");
    let Step::Kill { message, grace_seconds, .. } = &plan.steps[0] else { panic!("{plan:?}") };
    assert_eq!(message, "Container a failed liveness probe, will be restarted");
    assert_eq!(*grace_seconds, 7);
    case.probed.clear();
    case.pod.spec.as_mut().unwrap().containers[0].image = Some("j".into());
    assert_eq!(short(&case.plan()), "kill:a");
    case.pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    let killed = state::Container { hash: "old".into(), ..container(&p, "a", 0, Phase::Exited, 137) };
    case.state = state_of(vec![sandbox(0, true)], vec![killed]);
    assert_eq!(short(&case.plan()), "start:a#1", "a new image starts whatever the policy");
}

#[test]
fn termination_stops_what_runs_and_then_is_finished() {
    let p = pod_of(TWO);
    let mut case =
        Case::new(p.clone(), state_of(vec![sandbox(0, true)], vec![container(&p, "a", 0, Phase::Running, 0)]));
    case.terminate = Some(5);
    assert_eq!(case.plan().steps, [Step::StopPod { grace_seconds: 5 }]);
    case.state = state_of(vec![sandbox(0, false)], vec![container(&p, "a", 0, Phase::Exited, 0)]);
    assert_eq!(short(&case.plan()), "finished");
}

#[test]
fn only_two_containers_of_a_name_are_kept() {
    let p = pod_of(r#"{"containers":[{"name":"a"}]}"#);
    let all = vec![
        container(&p, "a", 2, Phase::Running, 0),
        container(&p, "a", 1, Phase::Exited, 1),
        container(&p, "a", 0, Phase::Exited, 1),
    ];
    assert_eq!(short(&Case::new(p, state_of(vec![sandbox(0, true)], all)).plan()), "rm:a0");
}

#[test]
fn a_container_that_was_created_and_never_started_is_replaced() {
    let p = pod_of(r#"{"containers":[{"name":"a"}]}"#);
    let state = state_of(vec![sandbox(0, true)], vec![container(&p, "a", 1, Phase::Created, 0)]);
    assert_eq!(short(&Case::new(p, state).plan()), "rm:a1 start:a#1");
}

#[test]
fn resources_change_in_place_or_by_a_restart() {
    let p = pod_of(r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}]}"#);
    let mut case =
        Case::new(p.clone(), state_of(vec![sandbox(0, true)], vec![container(&p, "a", 0, Phase::Running, 0)]));
    assert_eq!(short(&case.plan()), "");
    case.pod = pod_of(r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"2"}}}]}"#);
    assert_eq!(short(&case.plan()), "resize:a");
    case.resize_allowed = false;
    assert_eq!(short(&case.plan()), "");
    case.resize_allowed = true;
    case.resized.insert("a0".into(), crate::resize::fingerprint(&pod::containers(&case.pod)[0]));
    assert_eq!(short(&case.plan()), "", "it was done");
    case.resized.clear();
    case.pod = pod_of(
        r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"2"}},
            "resizePolicy":[{"resourceName":"cpu","restartPolicy":"RestartContainer"}]}]}"#,
    );
    assert_eq!(short(&case.plan()), "kill:a");
}
