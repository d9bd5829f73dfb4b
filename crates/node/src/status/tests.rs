//! Tables for `status`.

use api::Typed;
use api::core::v1::PodCondition;

use super::*;
use crate::state::{Container, Phase, Sandbox};

const NOW: i64 = 1_700_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn pod_of(spec: &str) -> Pod {
    Pod::decode(
        format!(r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u","generation":3}},"spec":{spec}}}"#).as_bytes(),
    )
    .unwrap()
}

fn up() -> Sandbox {
    Sandbox {
        id: "s".into(),
        attempt: 0,
        ready: true,
        created_at_nanos: 1,
        ips: vec!["10.0.0.9".into(), "fd00::9".into()],
        host_network: false,
        runtime_handler: String::new(),
    }
}

fn container(name: &str, restart_count: u32, phase: Phase, exit_code: i32) -> Container {
    Container {
        id: format!("{name}{restart_count}"),
        name: name.into(),
        sandbox_id: "s".into(),
        restart_count,
        phase,
        image: "docker.io/library/i:1".into(),
        image_id: "sha256:1".into(),
        hash: String::new(),
        resources: String::new(),
        created_at_nanos: 10 + i64::from(restart_count),
        started_at: Some(at(NOW - 5)),
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

#[derive(Default)]
struct Case {
    pod: Pod,
    old: PodStatus,
    state: PodState,
    probed: BTreeMap<String, Probed>,
    waiting: BTreeMap<String, Waiting>,
    finished: bool,
    failed: Option<(&'static str, &'static str)>,
}

impl Case {
    fn new(spec: &str, containers: Vec<Container>) -> Self {
        let sandboxes = if containers.is_empty() { vec![] } else { vec![up()] };
        let mut state = PodState { sandboxes, containers };
        state.sort();
        Self { pod: pod_of(spec), state, ..Self::default() }
    }

    fn status(&self) -> PodStatus {
        status(&View {
            pod: &self.pod,
            old: &self.old,
            state: &self.state,
            probed: &self.probed,
            waiting: &self.waiting,
            finished: self.finished,
            failed: self.failed,
            host_ips: &["192.0.2.1".to_owned()],
            runtime_name: "containerd",
            resized: &BTreeMap::new(),
            resize_refused: None,
            now: at(NOW),
        })
    }
}

fn condition(status: &PodStatus, type_: &str) -> PodCondition {
    status.conditions.iter().flatten().find(|c| c.type_ == type_).cloned().unwrap()
}

/// `status reason message` of a condition.
fn words(status: &PodStatus, type_: &str) -> String {
    let c = condition(status, type_);
    format!("{} {} {}", c.status, c.reason.unwrap_or_default(), c.message.unwrap_or_default()).trim().to_owned()
}

const ONE: &str = r#"{"containers":[{"name":"a","image":"i"}]}"#;

#[test]
fn a_pod_that_has_nothing_yet() {
    let s = Case::new(ONE, vec![]).status();
    assert_eq!(s.phase.as_deref(), Some("Pending"));
    assert_eq!(words(&s, "Ready"), "False ContainersNotReady containers with unready status: [a]");
    assert_eq!(words(&s, "ContainersReady"), "False ContainersNotReady containers with unready status: [a]");
    assert_eq!(words(&s, "Initialized"), "True");
    assert_eq!(words(&s, "PodReadyToStartContainers"), "False");
    assert_eq!(words(&s, "PodScheduled"), "True");
    let c = &s.container_statuses.unwrap()[0];
    let waiting = c.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("ContainerCreating"));
    assert_eq!((c.started, c.ready), (Some(false), false));
    assert_eq!(s.qos_class.as_deref(), Some("BestEffort"));
    assert_eq!(s.host_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(s.observed_generation, Some(3));
}

#[test]
fn a_running_pod_is_ready_without_probes() {
    let s = Case::new(ONE, vec![container("a", 0, Phase::Running, 0)]).status();
    assert_eq!(s.phase.as_deref(), Some("Running"));
    assert_eq!(words(&s, "Ready"), "True");
    assert_eq!(s.pod_ip.as_deref(), Some("10.0.0.9"));
    assert_eq!(s.pod_ips.unwrap().len(), 2);
    let c = &s.container_statuses.unwrap()[0];
    assert_eq!(c.container_id.as_deref(), Some("containerd://a0"));
    assert_eq!((c.started, c.ready), (Some(true), true));
}

#[test]
fn probes_decide_readiness_and_start() {
    let spec = r#"{"containers":[{"name":"a","startupProbe":{},"readinessProbe":{}}]}"#;
    let mut case = Case::new(spec, vec![container("a", 0, Phase::Running, 0)]);
    let look = |case: &Case| {
        let c = case.status().container_statuses.unwrap()[0].clone();
        (c.started.unwrap(), c.ready)
    };
    assert_eq!(look(&case), (false, false));
    case.probed.insert("a0".into(), Probed { startup: Some(true), ..Probed::default() });
    assert_eq!(look(&case), (true, false));
    case.probed.insert("a0".into(), Probed { startup: Some(true), ready: Some(true), ..Probed::default() });
    assert_eq!(look(&case), (true, true));
}

#[test]
fn a_crash_loop_shows_the_last_end() {
    let mut case = Case::new(ONE, vec![container("a", 1, Phase::Exited, 3), container("a", 0, Phase::Exited, 2)]);
    let waiting = Waiting { reason: "CrashLoopBackOff".into(), message: "back-off 10s".into() };
    case.waiting.insert("a".into(), waiting);
    let s = case.status();
    assert_eq!(s.phase.as_deref(), Some("Running"));
    let c = &s.container_statuses.unwrap()[0];
    assert_eq!(c.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
    let last = c.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    assert_eq!(c.restart_count, 1);
}

#[test]
fn phases_of_pods_that_end() {
    for (policy, exit_code, finished, want) in [
        ("Never", 0, true, "Succeeded"),
        ("Never", 1, true, "Failed"),
        ("OnFailure", 0, true, "Succeeded"),
        ("OnFailure", 1, false, "Running"),
        ("Always", 0, false, "Running"),
        ("Always", 0, true, "Succeeded"),
    ] {
        let spec = format!(r#"{{"restartPolicy":"{policy}","containers":[{{"name":"a"}}]}}"#);
        let mut case = Case::new(&spec, vec![container("a", 0, Phase::Exited, exit_code)]);
        case.finished = finished;
        assert_eq!(case.status().phase.as_deref(), Some(want), "{policy} {exit_code}");
    }
}

#[test]
fn a_completed_pod_says_so() {
    let spec = r#"{"restartPolicy":"Never","initContainers":[{"name":"i"}],"containers":[{"name":"a"}]}"#;
    let mut case = Case::new(spec, vec![container("i", 0, Phase::Exited, 0), container("a", 0, Phase::Exited, 0)]);
    case.finished = true;
    let s = case.status();
    assert_eq!(words(&s, "Initialized"), "True PodCompleted");
    assert_eq!(words(&s, "Ready"), "False PodCompleted");
    let c = &s.container_statuses.unwrap()[0];
    let end = c.state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!(end.reason.as_deref(), Some("Completed"));
}

#[test]
fn initialisation_is_pending_until_its_containers_are_done() {
    let spec = r#"{"initContainers":[{"name":"i"},{"name":"j"}],"containers":[{"name":"a"}]}"#;
    let s = Case::new(spec, vec![container("i", 0, Phase::Exited, 0), container("j", 0, Phase::Running, 0)]).status();
    assert_eq!(s.phase.as_deref(), Some("Pending"));
    assert_eq!(words(&s, "Initialized"), "False ContainersNotInitialized containers with incomplete status: [j]");
    let waiting = s.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
}

#[test]
fn a_lost_container_of_an_ended_pod_failed() {
    let mut case = Case::new(ONE, vec![container("a", 0, Phase::Running, 0)]);
    case.old = case.status();
    case.state = PodState::default();
    case.finished = true;
    let s = case.status();
    assert_eq!(s.phase.as_deref(), Some("Failed"));
    let end = s.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((end.exit_code, end.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
}

#[test]
fn readiness_gates_and_transition_times() {
    let spec = r#"{"readinessGates":[{"conditionType":"x.io/ok"}],"containers":[{"name":"a"}]}"#;
    let mut case = Case::new(spec, vec![container("a", 0, Phase::Running, 0)]);
    let s = case.status();
    assert_eq!(
        words(&s, "Ready"),
        "False ReadinessGatesNotReady corresponding condition of pod readiness gate \"x.io/ok\" does not exist."
    );
    case.old = s;
    let earlier = api::meta::v1::Time(at(NOW - 100));
    for c in case.old.conditions.iter_mut().flatten() {
        c.last_transition_time = Some(earlier.clone());
    }
    let gate = PodCondition { type_: "x.io/ok".into(), status: "True".into(), ..PodCondition::default() };
    case.old.conditions.as_mut().unwrap().push(gate);
    let s = case.status();
    assert_eq!(words(&s, "Ready"), "True");
    assert_eq!(condition(&s, "Ready").last_transition_time.unwrap().0, at(NOW));
    assert_eq!(condition(&s, "ContainersReady").last_transition_time, Some(earlier));
    assert_eq!(words(&s, "x.io/ok"), "True");
}

#[test]
fn a_pod_past_its_deadline_failed() {
    let mut case = Case::new(ONE, vec![container("a", 0, Phase::Running, 0)]);
    case.failed = Some(("DeadlineExceeded", "Pod was active on the node longer than the specified deadline"));
    let s = case.status();
    assert_eq!((s.phase.as_deref(), s.reason.as_deref()), (Some("Failed"), Some("DeadlineExceeded")));
    case.old = s;
    case.failed = None;
    let s = case.status();
    assert_eq!((s.phase.as_deref(), s.reason.as_deref()), (Some("Failed"), Some("DeadlineExceeded")));
}
