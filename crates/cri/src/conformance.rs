//! What every runtime must do for the node agent, as tests: run on the fake and on a real containerd, so that the one
//! cannot drift from the other.
//!
//! Each check makes its own sandboxes, on the host's network, and removes them. A check panics when the runtime fails.

#![allow(clippy::unwrap_used)] // these are tests

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};

use crate::archive::{self, Archive};
use crate::v1::{self, ContainerState, NamespaceMode, PodSandboxState};
use crate::{Error, EventKind, EventStream, Result, Runtime, RuntimeEvent};

/// The image the checks use: what [`busybox`] makes.
pub const IMAGE: &str = "docker.io/library/busybox:latest";

/// How long to wait for what must happen.
const SOON: Duration = Duration::from_secs(30);

/// What the checks run on.
#[derive(Clone, Debug)]
pub struct Kit {
    /// The runtime; [`IMAGE`] is present.
    pub runtime: Runtime,
    /// Where containers may write logs.
    pub logs: PathBuf,
    /// The cgroup above all sandboxes, empty for the runtime's own choice.
    pub cgroup_parent: String,
}

/// One check.
pub type Check = fn(Kit) -> BoxFuture<'static, ()>;

/// Every check, by name.
pub const ALL: &[(&str, Check)] = &[
    ("the runtime is ready", |kit| ready(kit).boxed()),
    ("a sandbox lives and is removed", |kit| sandbox(kit).boxed()),
    ("sandboxes are found by label and state", |kit| sandbox_filters(kit).boxed()),
    ("a container lives and ends", |kit| container(kit).boxed()),
    ("containers are found by sandbox, label and state", |kit| container_filters(kit).boxed()),
    ("a container is stopped with grace", |kit| stop_with_grace(kit).boxed()),
    ("a container that does not listen is killed", |kit| stop_by_force(kit).boxed()),
    ("a stopped sandbox stops its containers", |kit| stop_sandbox(kit).boxed()),
    ("a missing program is a start error", |kit| missing_program(kit).boxed()),
    ("names are taken once", |kit| names_are_reserved(kit).boxed()),
    ("what is not there is not found", |kit| not_found(kit).boxed()),
    ("commands run in containers", |kit| exec(kit).boxed()),
    ("events tell of starts, stops and removals", |kit| events(kit).boxed()),
    ("containers write logs", |kit| logs(kit).boxed()),
    ("images are found and missed", |kit| images(kit).boxed()),
    ("figures are told", |kit| figures(kit).boxed()),
];

/// An image of busybox alone, as an archive to import. `binary` is a statically linked busybox.
pub fn busybox(binary: &[u8]) -> Bytes {
    let mut layer = tar::Builder::new(Vec::new());
    archive::append(&mut layer, "bin/busybox", binary, 0o755);
    let applets = [
        "sh", "sleep", "true", "false", "echo", "cat", "touch", "ls", "ps", "id", "env", "grep", "wget", "nc", "httpd",
        "nslookup", "hostname", "date", "head", "tail", "kill", "test", "mkdir", "rm", "dd", "ip", "ping", "vi", "wc",
    ];
    for applet in applets {
        archive::append_link(&mut layer, &format!("bin/{applet}"), "busybox");
    }
    archive::append(&mut layer, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", 0o644);
    archive::append(&mut layer, "etc/group", b"root:x:0:\nnobody:x:65534:\n", 0o644);
    let config = serde_json::json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"] });
    Archive::single(IMAGE, archive::finish(layer), &config).write().into()
}

/// The host's network, and a PID namespace for each container.
fn namespaces() -> v1::NamespaceOption {
    v1::NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Container.into(),
        ..Default::default()
    }
}

impl Kit {
    fn sandbox_config(&self, name: &str) -> v1::PodSandboxConfig {
        let security = v1::LinuxSandboxSecurityContext { namespace_options: Some(namespaces()), ..Default::default() };
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                namespace: "conformance".into(),
                attempt: 0,
            }),
            log_directory: self.logs.join(name).to_string_lossy().into_owned(),
            labels: [("name".to_owned(), name.to_owned())].into(),
            annotations: [("note".to_owned(), "kept as it is".to_owned())].into(),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup_parent.clone(),
                security_context: Some(security),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    async fn sandbox(&self, name: &str) -> Pod {
        let config = self.sandbox_config(name);
        let id = self.runtime.run_pod_sandbox(config.clone(), "").await.unwrap();
        Pod { runtime: self.runtime.clone(), config, id }
    }
}

/// A sandbox of a check.
struct Pod {
    runtime: Runtime,
    config: v1::PodSandboxConfig,
    id: String,
}

impl Pod {
    async fn create(&self, name: &str, command: &[&str]) -> Result<String> {
        let security =
            v1::LinuxContainerSecurityContext { namespace_options: Some(namespaces()), ..Default::default() };
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(v1::ImageSpec::named(IMAGE)),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            labels: [("name".to_owned(), name.to_owned())].into(),
            annotations: [("note".to_owned(), "kept as it is".to_owned())].into(),
            log_path: format!("{name}.log"),
            linux: Some(v1::LinuxContainerConfig { security_context: Some(security), ..Default::default() }),
            ..Default::default()
        };
        self.runtime.create_container(&self.id, config, self.config.clone()).await
    }

    async fn start(&self, name: &str, command: &[&str]) -> String {
        let id = self.create(name, command).await.unwrap();
        self.runtime.start_container(&id).await.unwrap();
        id
    }

    async fn status(&self, id: &str) -> v1::ContainerStatus {
        self.runtime.container_status(id, false).await.unwrap().status.unwrap()
    }

    async fn remove(self) {
        self.runtime.stop_pod_sandbox(&self.id).await.unwrap();
        self.runtime.remove_pod_sandbox(&self.id).await.unwrap();
    }
}

/// The next event of `kind` about `id`.
async fn next(events: &mut EventStream, id: &str, kind: EventKind) {
    let wanted = RuntimeEvent { id: id.to_owned(), kind };
    let found = async {
        while let Some(event) = events.next().await {
            if event.unwrap() == wanted {
                return;
            }
        }
        panic!("the stream of events ended before {wanted:?}");
    };
    assert!(tokio::time::timeout(SOON, found).await.is_ok(), "no {wanted:?}");
}

/// The events from now on.
async fn listen(pod: &Pod) -> EventStream {
    let mut events = pod.runtime.events();
    next(&mut events, "", EventKind::Listening).await;
    events
}

async fn ready(kit: Kit) {
    assert!(!kit.runtime.version().await.unwrap().runtime_name.is_empty());
    let status = kit.runtime.status(false).await.unwrap().status.unwrap();
    assert!(status.conditions.iter().any(|condition| condition.r#type == "RuntimeReady" && condition.status));
    assert!(status.conditions.iter().any(|condition| condition.r#type == "NetworkReady"));
    kit.runtime.update_runtime_config("10.99.0.0/24").await.unwrap();
}

async fn sandbox(kit: Kit) {
    let pod = kit.sandbox("sandbox-life").await;
    let status = kit.runtime.pod_sandbox_status(&pod.id, false).await.unwrap().status.unwrap();
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    assert_eq!((&status.metadata, &status.labels), (&pod.config.metadata, &pod.config.labels));
    assert_eq!(status.annotations, pod.config.annotations);
    assert!(status.created_at > 0);
    assert_eq!(status.network.unwrap_or_default().ip, "", "on the host's network");

    for _ in 0..2 {
        kit.runtime.stop_pod_sandbox(&pod.id).await.unwrap();
        let status = kit.runtime.pod_sandbox_status(&pod.id, false).await.unwrap().status.unwrap();
        assert_eq!(status.state(), PodSandboxState::SandboxNotready);
    }
    assert!(pod.create("late", &["true"]).await.is_err(), "nothing is created in a stopped sandbox");
    for _ in 0..2 {
        kit.runtime.remove_pod_sandbox(&pod.id).await.unwrap();
        assert!(kit.runtime.pod_sandbox_status(&pod.id, false).await.unwrap_err().is_not_found());
    }
}

async fn sandbox_filters(kit: Kit) {
    let (a, b) = (kit.sandbox("filter-a").await, kit.sandbox("filter-b").await);
    kit.runtime.stop_pod_sandbox(&b.id).await.unwrap();
    let list = async |filter: v1::PodSandboxFilter| {
        let mut ids: Vec<String> =
            kit.runtime.list_pod_sandbox(Some(filter)).await.unwrap().into_iter().map(|found| found.id).collect();
        ids.retain(|id| *id == a.id || *id == b.id);
        ids
    };
    let state = |state: PodSandboxState| v1::PodSandboxFilter {
        state: Some(v1::PodSandboxStateValue { state: state.into() }),
        ..Default::default()
    };
    assert_eq!(list(Default::default()).await.len(), 2);
    assert_eq!(list(state(PodSandboxState::SandboxReady)).await, std::slice::from_ref(&a.id));
    assert_eq!(list(state(PodSandboxState::SandboxNotready)).await, std::slice::from_ref(&b.id));
    assert_eq!(
        list(v1::PodSandboxFilter { id: a.id.clone(), ..Default::default() }).await,
        std::slice::from_ref(&a.id)
    );
    let labelled = |value: &str| v1::PodSandboxFilter {
        label_selector: [("name".to_owned(), value.to_owned())].into(),
        ..Default::default()
    };
    assert_eq!(list(labelled("filter-b")).await, std::slice::from_ref(&b.id));
    assert!(list(labelled("filter")).await.is_empty());
    a.remove().await;
    b.remove().await;
}

async fn container(kit: Kit) {
    let pod = kit.sandbox("container-life").await;
    let mut events = listen(&pod).await;
    for (name, command, code, reason) in
        [("fails", "sleep 0.2; exit 3", 3, "Error"), ("succeeds", "exit 0", 0, "Completed")]
    {
        let id = pod.create(name, &["sh", "-c", command]).await.unwrap();
        let status = pod.status(&id).await;
        assert_eq!(status.state(), ContainerState::ContainerCreated);
        assert!(status.created_at > 0 && status.started_at == 0 && status.finished_at == 0);

        pod.runtime.start_container(&id).await.unwrap();
        assert!(pod.runtime.start_container(&id).await.is_err(), "a container starts once");
        next(&mut events, &id, EventKind::Stopped).await;
        let status = pod.status(&id).await;
        assert_eq!(status.state(), ContainerState::ContainerExited, "after the event the status says so too");
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason));
        // What ends at once may have ended, by the runtime's clock, before it was seen to start.
        assert!(status.started_at >= status.created_at && status.finished_at >= status.created_at);
        assert_eq!(status.metadata.unwrap().name, name);
        assert_eq!(status.annotations["note"], "kept as it is");

        pod.runtime.remove_container(&id).await.unwrap();
        assert!(pod.runtime.container_status(&id, false).await.unwrap_err().is_not_found());
    }
    pod.remove().await;
}

async fn container_filters(kit: Kit) {
    let (a, b) = (kit.sandbox("containers-a").await, kit.sandbox("containers-b").await);
    let runs = a.start("runs", &["sleep", "600"]).await;
    let waits = a.create("waits", &["sleep", "600"]).await.unwrap();
    let other = b.create("waits", &["sleep", "600"]).await.unwrap();
    let list = async |filter: v1::ContainerFilter| {
        let found = kit.runtime.list_containers(Some(filter)).await.unwrap();
        let mut ids: Vec<String> = found.into_iter().map(|found| found.id).collect();
        ids.retain(|id| [&runs, &waits, &other].contains(&id));
        ids.sort();
        ids
    };
    let sorted = |ids: &[&String]| {
        let mut ids: Vec<String> = ids.iter().map(|&id| id.clone()).collect();
        ids.sort();
        ids
    };
    assert_eq!(list(Default::default()).await, sorted(&[&runs, &waits, &other]));
    let of_a = v1::ContainerFilter { pod_sandbox_id: a.id.clone(), ..Default::default() };
    assert_eq!(list(of_a.clone()).await, sorted(&[&runs, &waits]));
    let running = v1::ContainerStateValue { state: ContainerState::ContainerRunning.into() };
    assert_eq!(
        list(v1::ContainerFilter { state: Some(running), ..Default::default() }).await,
        std::slice::from_ref(&runs)
    );
    let labelled = [("name".to_owned(), "waits".to_owned())].into();
    assert_eq!(list(v1::ContainerFilter { label_selector: labelled, ..of_a }).await, std::slice::from_ref(&waits));
    a.remove().await;
    b.remove().await;
    assert!(list(Default::default()).await.is_empty(), "a removed sandbox takes its containers along");
}

async fn stop_with_grace(kit: Kit) {
    let pod = kit.sandbox("grace").await;
    let id = pod.start("listens", &["sh", "-c", "trap 'exit 7' TERM; touch /up; sleep 600 & wait"]).await;
    let up = ["sh", "-c", "until [ -e /up ]; do sleep 0.01; done"].map(String::from);
    assert_eq!(pod.runtime.exec_sync(&id, up.to_vec(), 10).await.unwrap().exit_code, 0);
    for _ in 0..2 {
        pod.runtime.stop_container(&id, 20).await.unwrap();
        let status = pod.status(&id).await;
        assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 7));
    }
    pod.remove().await;
}

async fn stop_by_force(kit: Kit) {
    let pod = kit.sandbox("force").await;
    // A first process that has no handler for SIGTERM does not get it.
    for (name, grace_seconds) in [("deaf", 1), ("at-once", 0)] {
        let id = pod.start(name, &["sleep", "600"]).await;
        let before = tokio::time::Instant::now();
        pod.runtime.stop_container(&id, grace_seconds).await.unwrap();
        let took = before.elapsed();
        assert!(took >= Duration::from_secs(grace_seconds.unsigned_abs()), "killed after {took:?}");
        let status = pod.status(&id).await;
        assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 137));
    }
    pod.remove().await;
}

async fn stop_sandbox(kit: Kit) {
    let pod = kit.sandbox("stop-sandbox").await;
    let id = pod.start("inside", &["sleep", "600"]).await;
    kit.runtime.stop_pod_sandbox(&pod.id).await.unwrap();
    let status = pod.status(&id).await;
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 137));
    pod.remove().await;
}

async fn missing_program(kit: Kit) {
    let pod = kit.sandbox("missing-program").await;
    let id = pod.create("missing", &["no-such-program"]).await.unwrap();
    let error = pod.runtime.start_container(&id).await.unwrap_err();
    assert!(error.to_string().contains("executable file not found in $PATH"), "{error}");
    let status = pod.status(&id).await;
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 128));
    assert_eq!(status.reason, "StartError");
    assert!(status.message.contains("executable file not found"), "{}", status.message);
    pod.remove().await;
}

async fn names_are_reserved(kit: Kit) {
    let pod = kit.sandbox("reserved").await;
    let again = kit.runtime.run_pod_sandbox(pod.config.clone(), "").await.unwrap_err();
    assert!(again.to_string().contains("is reserved for"), "{again}");
    let id = pod.create("once", &["true"]).await.unwrap();
    assert!(pod.create("once", &["true"]).await.is_err());
    kit.runtime.remove_container(&id).await.unwrap();
    pod.create("once", &["true"]).await.unwrap();
    let config = kit.sandbox_config("no-handler");
    assert!(kit.runtime.run_pod_sandbox(config, "no-such-handler").await.is_err());
    pod.remove().await;
}

async fn not_found(kit: Kit) {
    let (runtime, id) = (&kit.runtime, "0123456789abcdef");
    assert!(runtime.container_status(id, false).await.unwrap_err().is_not_found());
    assert!(runtime.pod_sandbox_status(id, false).await.unwrap_err().is_not_found());
    assert!(runtime.start_container(id).await.unwrap_err().is_not_found());
    assert!(runtime.container_stats(id).await.unwrap_err().is_not_found());
    assert!(runtime.exec_sync(id, vec!["true".into()], 1).await.unwrap_err().is_not_found());
    // To end what is not there is done.
    runtime.stop_container(id, 1).await.unwrap();
    runtime.remove_container(id).await.unwrap();
    runtime.stop_pod_sandbox(id).await.unwrap();
    runtime.remove_pod_sandbox(id).await.unwrap();
}

async fn exec(kit: Kit) {
    let pod = kit.sandbox("exec").await;
    let id = pod.start("server", &["sleep", "600"]).await;
    let run = async |command: &[&str], timeout_seconds| {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        pod.runtime.exec_sync(&id, command, timeout_seconds).await
    };
    let answer = run(&["echo", "hello"], 10).await.unwrap();
    assert_eq!((answer.exit_code, &*answer.stdout, &*answer.stderr), (0, &b"hello\n"[..], &b""[..]));
    assert_eq!(run(&["sh", "-c", "exit 4"], 0).await.unwrap().exit_code, 4);
    assert_eq!(run(&["sleep", "600"], 1).await.unwrap_err(), Error::Deadline);
    assert!(run(&["no-such-program"], 10).await.is_err());
    pod.runtime.stop_container(&id, 0).await.unwrap();
    assert!(run(&["true"], 10).await.is_err(), "nothing runs in what has ended");
    pod.remove().await;
}

async fn events(kit: Kit) {
    let pod = kit.sandbox("events").await;
    let mut events = listen(&pod).await;
    let id = pod.start("watched", &["sleep", "600"]).await;
    next(&mut events, &id, EventKind::Started).await;
    pod.runtime.exec_sync(&id, vec!["true".into()], 10).await.unwrap();
    pod.runtime.stop_container(&id, 0).await.unwrap();
    next(&mut events, &id, EventKind::Stopped).await;
    pod.runtime.remove_container(&id).await.unwrap();
    next(&mut events, &id, EventKind::Deleted).await;
    let sandbox = pod.id.clone();
    pod.runtime.stop_pod_sandbox(&sandbox).await.unwrap();
    next(&mut events, &sandbox, EventKind::Stopped).await;
    pod.remove().await;
    next(&mut events, &sandbox, EventKind::Deleted).await;
}

async fn logs(kit: Kit) {
    let pod = kit.sandbox("logs").await;
    let mut events = listen(&pod).await;
    let id = pod.start("talks", &["sh", "-c", "echo one; echo two"]).await;
    next(&mut events, &id, EventKind::Stopped).await;
    let status = pod.status(&id).await;
    assert_eq!(Path::new(&status.log_path), kit.logs.join("logs/talks.log"));
    pod.remove().await; // all is written when the container's streams are closed
    let text = std::fs::read_to_string(status.log_path).unwrap();
    let said: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(said, ["stdout F one", "stdout F two"]);
}

async fn images(kit: Kit) {
    let runtime = &kit.runtime;
    let image = runtime.image_status(v1::ImageSpec::named("busybox")).await.unwrap().expect("short names are found");
    assert_eq!(image.repo_tags, [IMAGE]);
    assert!(image.id.starts_with("sha256:") && image.size > 0);
    assert_eq!(runtime.image_status(v1::ImageSpec::named(&image.id)).await.unwrap().unwrap().id, image.id);
    assert!(runtime.list_images(None).await.unwrap().iter().any(|found| found.id == image.id));
    assert!(runtime.image_names().await.unwrap().contains(&IMAGE.to_owned()));
    assert!(!runtime.image_fs_info().await.unwrap().image_filesystems.is_empty());

    let missing = v1::ImageSpec::named("localhost:1/missing:1");
    assert!(runtime.image_status(missing.clone()).await.unwrap().is_none());
    let error = runtime.pull_image(missing.clone(), None, None).await.unwrap_err();
    assert!(error.to_string().contains("failed to pull and unpack image"), "{error}");
    runtime.remove_image(missing.clone()).await.unwrap();

    let pod = kit.sandbox("images").await;
    let config = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "no-image".into(), attempt: 0 }),
        image: Some(missing),
        ..Default::default()
    };
    let refused = runtime.create_container(&pod.id, config, pod.config.clone()).await.unwrap_err();
    assert!(refused.is_not_found(), "{refused:?}");
    pod.remove().await;

    let mut layer = tar::Builder::new(Vec::new());
    archive::append(&mut layer, "file", b"only for this check", 0o644);
    let other = Archive::single("conformance/other:1", archive::finish(layer), &serde_json::json!({}));
    let names = runtime.import_image(other.write().into(), "").await.unwrap();
    assert_eq!(names, ["docker.io/conformance/other:1"]);
    let spec = v1::ImageSpec::named(&names[0]);
    assert!(runtime.image_status(spec.clone()).await.unwrap().is_some(), "at once after the import");
    runtime.remove_image(spec.clone()).await.unwrap();
    assert!(runtime.image_status(spec).await.unwrap().is_none());
}

async fn figures(kit: Kit) {
    let pod = kit.sandbox("figures").await;
    let id = pod.start("server", &["sleep", "600"]).await;
    let stats = kit.runtime.container_stats(&id).await.unwrap();
    assert_eq!(stats.attributes.unwrap().id, id);
    assert!(stats.cpu.unwrap().timestamp > 0);
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    let filter = v1::ContainerStatsFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() };
    let listed = kit.runtime.list_container_stats(Some(filter)).await.unwrap();
    assert_eq!(listed.len(), 1);
    let stats = kit.runtime.pod_sandbox_stats(&pod.id).await.unwrap();
    assert_eq!(stats.attributes.unwrap().id, pod.id);
    assert_eq!(stats.linux.unwrap().containers.len(), 1);
    let resources = v1::LinuxContainerResources { cpu_shares: 512, ..Default::default() };
    kit.runtime.update_container_resources(&id, resources, Default::default()).await.unwrap();
    pod.remove().await;
}
