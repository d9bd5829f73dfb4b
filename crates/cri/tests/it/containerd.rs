//! A real containerd, private to each test, in a directory of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{Clock, TaskGroup};
use cri::conformance::{self, Kit};
use cri::private::{Containerd, Options};
use cri::{EventKind, Runtime, v1};
use futures_util::{FutureExt, StreamExt};

/// The cgroup above all sandboxes of these tests.
const CGROUP: &str = "/pintle-cri-test";

/// A directory and what runs from it. Everything is gone when [`Bench::run`] returns, also after a panic.
struct Bench {
    directory: PathBuf,
    tasks: TaskGroup,
}

impl Bench {
    async fn run<F: Future<Output = ()>>(test: impl FnOnce(Self) -> F) {
        assert!(rustix::process::geteuid().is_root(), "these tests need root: containers are made");
        let directory = tempfile::tempdir().unwrap();
        let tasks = TaskGroup::new();
        let bench = Self { directory: directory.path().to_owned(), tasks: tasks.clone() };
        let outcome = std::panic::AssertUnwindSafe(test(bench)).catch_unwind().await;
        tasks.shutdown(Duration::from_secs(10)).await;
        let down = cri::private::down(options(directory.path()), Clock::system()).await;
        let log = std::fs::read_to_string(directory.path().join("containerd/containerd.log")).unwrap_or_default();
        remove_cgroups();
        if let Err(panic) = outcome {
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("containerd's last words:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            std::panic::resume_unwind(panic);
        }
        down.unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let place = directory.path().to_str().unwrap();
        assert!(!mounts.contains(place), "mounts are left over:\n{mounts}");
        assert!(processes_with(place).is_empty(), "processes are left over");
        directory.close().unwrap();
        assert_eq!(base::task::panics(), 0);
    }

    async fn start(&self) -> Containerd {
        Containerd::start(options(&self.directory), Clock::system(), &self.tasks).await.unwrap()
    }

    async fn kit(&self, runtime: Runtime) -> Kit {
        let binary = std::fs::read("/bin/busybox").expect("busybox-static is installed");
        let names = runtime.import_image(conformance::busybox(&binary), "").await.unwrap();
        assert_eq!(names, [conformance::IMAGE]);
        Kit { runtime, logs: self.directory.join("logs"), cgroup_parent: format!("{CGROUP}/{}", std::process::id()) }
    }
}

fn options(directory: &Path) -> Options {
    Options::new(directory)
}

/// The processes whose command line mentions `place`.
fn processes_with(place: &str) -> Vec<String> {
    let lines = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(place)).collect()
}

/// Removes the cgroups that runc leaves above the containers it removes.
fn remove_cgroups() {
    let own = std::process::id().to_string();
    let roots = std::fs::read_dir("/sys/fs/cgroup").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    for root in roots.chain([PathBuf::from("/sys/fs/cgroup")]) {
        let top = root.join(&CGROUP[1..]);
        let _ = std::fs::remove_dir(top.join(&own));
        let _ = std::fs::remove_dir(top);
    }
}

async fn sandbox(kit: &Kit, name: &str, pid: v1::NamespaceMode) -> (String, v1::PodSandboxConfig) {
    let namespaces =
        v1::NamespaceOption { network: v1::NamespaceMode::Node.into(), pid: pid.into(), ..Default::default() };
    let security = v1::LinuxSandboxSecurityContext { namespace_options: Some(namespaces), ..Default::default() };
    let config = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata { name: name.into(), uid: name.into(), ..Default::default() }),
        log_directory: kit.logs.to_string_lossy().into_owned(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: kit.cgroup_parent.clone(),
            security_context: Some(security),
            ..Default::default()
        }),
        ..Default::default()
    };
    (kit.runtime.run_pod_sandbox(config.clone(), "").await.unwrap(), config)
}

async fn start(kit: &Kit, pod: &(String, v1::PodSandboxConfig), pid: v1::NamespaceMode, script: &str) -> String {
    let namespaces =
        v1::NamespaceOption { network: v1::NamespaceMode::Node.into(), pid: pid.into(), ..Default::default() };
    let security = v1::LinuxContainerSecurityContext { namespace_options: Some(namespaces), ..Default::default() };
    let config = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "c".into(), attempt: 0 }),
        image: Some(v1::ImageSpec::named(conformance::IMAGE)),
        command: ["sh", "-c", script].map(String::from).to_vec(),
        linux: Some(v1::LinuxContainerConfig { security_context: Some(security), ..Default::default() }),
        ..Default::default()
    };
    let id = kit.runtime.create_container(&pod.0, config, pod.1.clone()).await.unwrap();
    kit.runtime.start_container(&id).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    Bench::run(async |bench| {
        let before = Clock::system().monotonic();
        let containerd = bench.start().await;
        eprintln!("containerd with the pause image: {:?}", before.elapsed());
        let kit = bench.kit(containerd.runtime()).await;
        for (name, check) in conformance::ALL {
            let before = Clock::system().monotonic();
            check(kit.clone()).await;
            eprintln!("{name}: {:?}", before.elapsed());
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", containerd.pid().unwrap())).unwrap();
        eprintln!("containerd: {}", status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outlives_its_maker_and_is_started_again_when_it_dies() {
    Bench::run(async |bench| {
        let first = bench.start().await;
        let pid = first.pid().expect("it runs");
        let kit = bench.kit(first.runtime()).await;
        let pod = sandbox(&kit, "lasting", v1::NamespaceMode::Container).await;
        let id = start(&kit, &pod, v1::NamespaceMode::Container, "sleep 600").await;

        // Its maker's tasks end; it is taken over as it is.
        assert!(bench.tasks.shutdown(Duration::from_secs(10)).await);
        let tasks = TaskGroup::new();
        let second = Containerd::start(options(&bench.directory), Clock::system(), &tasks).await.unwrap();
        assert_eq!(second.pid(), Some(pid));
        assert_eq!(second.endpoint(), first.endpoint());
        assert_eq!(cri::private::endpoint(&bench.directory), Ok(first.endpoint()));

        // It is killed; another takes its place and finds the container running.
        let mut events = second.runtime().events();
        assert_eq!(events.next().await.unwrap().unwrap().kind, EventKind::Listening);
        let victim = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(victim, rustix::process::Signal::KILL).unwrap();
        assert!(events.next().await.unwrap().is_err(), "the stream of events ends");
        let running = async {
            loop {
                match second.runtime().container_status(&id, false).await {
                    Ok(answer) => return answer.status.unwrap(),
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let status = tokio::time::timeout(Duration::from_secs(30), running).await.expect("it is up again");
        assert_eq!(status.state(), v1::ContainerState::ContainerRunning);
        assert_ne!(second.pid(), Some(pid));

        second.stop().await.unwrap();
        assert_eq!(second.pid(), None);
        assert!(matches!(cri::private::endpoint(&bench.directory), Err(cri::Error::Unavailable(_))));
        assert!(!processes_with(&id).is_empty() || !processes_with(&pod.0).is_empty(), "its shim runs on");
        tasks.shutdown(Duration::from_secs(10)).await;
    })
    .await;
}

/// The directory in which [`a_process_to_be_killed`] starts a containerd; unset, it does nothing.
const MAKER: &str = "PINTLE_CRI_TEST_MAKER";

/// Not a test of its own: the other process of [`survives_the_kill_of_its_maker`].
#[tokio::test]
async fn a_process_to_be_killed() {
    let Some(directory) = std::env::var_os(MAKER) else { return };
    let _started = Containerd::start(options(directory.as_ref()), Clock::system(), &TaskGroup::new()).await.unwrap();
    eprintln!("started");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_the_kill_of_its_maker() {
    Bench::run(async |bench| {
        use tokio::io::AsyncBufReadExt;
        let mut maker = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "containerd::a_process_to_be_killed", "--nocapture"])
            .env(MAKER, &bench.directory)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = tokio::io::BufReader::new(maker.stderr.take().unwrap()).lines();
        while lines.next_line().await.unwrap().expect("it starts a containerd") != "started" {}
        let endpoint = cri::private::endpoint(&bench.directory).unwrap();
        maker.kill().await.unwrap();

        let runtime = Runtime::connect(&endpoint).await.expect("containerd lives on");
        runtime.version().await.unwrap();
        let starts = || {
            let log = std::fs::read_to_string(bench.directory.join("containerd/containerd.log")).unwrap();
            log.matches("containerd successfully booted").count()
        };
        assert_eq!(starts(), 1);
        let adopted = bench.start().await;
        assert_eq!(adopted.endpoint(), endpoint);
        assert_eq!(starts(), 1, "it is taken over, not started again");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pause_program_reaps_in_a_shared_pid_namespace() {
    Bench::run(async |bench| {
        let containerd = bench.start().await;
        let kit = bench.kit(containerd.runtime()).await;
        let shared = v1::NamespaceMode::Pod;
        let pod = sandbox(&kit, "shared", shared).await;
        let mut events = kit.runtime.events();
        assert_eq!(events.next().await.unwrap().unwrap().kind, EventKind::Listening);
        // Twenty orphans end; their new parent is the pause program. The container ends when none is a zombie.
        let orphans = "for i in $(test 1; echo 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20); do \
                       sh -c 'true & true & exit 0'; done; \
                       while grep -qs '^State:.Z' /proc/[0-9]*/status; do sleep 0.02; done; \
                       [ \"$(cat /proc/1/comm)\" = pause ] && exit 5";
        let id = start(&kit, &pod, shared, orphans).await;
        let ended = async {
            while let Some(event) = events.next().await {
                let event = event.unwrap();
                if event.id == id && event.kind == EventKind::Stopped {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = ended => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => {}
        }
        let status = kit.runtime.container_status(&id, false).await.unwrap().status.unwrap();
        assert_eq!((status.state(), status.exit_code), (v1::ContainerState::ContainerExited, 5));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archives_of_other_tools_are_imported() {
    Bench::run(async |bench| {
        let containerd = bench.start().await;
        let runtime = containerd.runtime();
        let binary = std::fs::read("/bin/busybox").unwrap();
        let ours = bench.directory.join("ours.tar");
        std::fs::write(&ours, conformance::busybox(&binary)).unwrap();
        let source = format!("oci-archive:{}", ours.display());
        let mut expected = BTreeSet::new();
        for (n, (kind, tag)) in [("docker-archive", "from/docker:1"), ("oci-archive", "from/oci:1")].iter().enumerate()
        {
            let file = bench.directory.join(format!("{n}.tar"));
            let target = format!("{kind}:{}:{tag}", file.display());
            let status = std::process::Command::new("skopeo")
                .args(["copy", "-q", "--insecure-policy", &source, &target])
                .status();
            assert!(status.expect("skopeo is installed").success());
            let archive = std::fs::read(&file).unwrap();
            let names = runtime.import_image(archive.into(), "").await.unwrap();
            assert_eq!(names, [format!("docker.io/{tag}")]);
            expected.extend(names);
        }
        let listed: BTreeSet<String> = runtime.image_names().await.unwrap().into_iter().collect();
        expected.insert(cri::pause::IMAGE.to_owned());
        assert_eq!(listed, expected);
    })
    .await;
}
