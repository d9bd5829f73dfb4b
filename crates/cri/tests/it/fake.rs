//! The fake: the suite on a paused clock, and what only a fake can be told.

use std::time::Duration;

use base::{Clock, Random, TaskGroup};
use cri::conformance::{self, Kit};
use cri::{Error, EventKind, Fake, Runtime, fake, v1};
use futures_util::StreamExt;

fn clock() -> Clock {
    Clock::simulated("2026-01-01T00:00:00Z".parse().unwrap())
}

fn new() -> (Fake, TaskGroup) {
    let tasks = TaskGroup::new();
    let fake = Fake::new(clock(), Random::seeded(1), tasks.clone());
    fake.add_image("app");
    (fake, tasks)
}

#[tokio::test(start_paused = true)]
async fn conforms() {
    let logs = tempfile::tempdir().unwrap();
    let tasks = TaskGroup::new();
    let options = fake::Options { logs: true, ..Default::default() };
    let fake = Fake::with(clock(), Random::seeded(1), tasks.clone(), options);
    fake.add_image(conformance::IMAGE);
    let kit = Kit { runtime: Runtime::Fake(fake), logs: logs.path().to_owned(), cgroup_parent: String::new() };
    for (name, check) in conformance::ALL {
        eprintln!("{name}");
        check(kit.clone()).await;
    }
    tasks.shutdown(Duration::from_secs(1)).await;
    assert_eq!(base::task::panics(), 0);
}

async fn pod(fake: &Fake, uid: &str) -> String {
    let metadata = v1::PodSandboxMetadata { uid: uid.into(), ..Default::default() };
    let config = v1::PodSandboxConfig { metadata: Some(metadata), ..Default::default() };
    fake.run_pod_sandbox(config, "").await.unwrap()
}

async fn container(fake: &Fake, sandbox: &str, command: &[&str]) -> String {
    let config = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata::default()),
        image: Some(v1::ImageSpec::named("app")),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        ..Default::default()
    };
    let id = fake.create_container(sandbox, config, v1::PodSandboxConfig::default()).await.unwrap();
    fake.start_container(&id).await.unwrap();
    id
}

#[tokio::test(start_paused = true)]
async fn time_passes_as_told() {
    let (fake, _tasks) = new();
    let clock = clock();
    let mut events = fake.events();
    let sandbox = pod(&fake, "a").await;
    let id = container(&fake, &sandbox, &["sh", "-c", "sleep 30; oom"]).await;
    assert_eq!(clock.now().to_string(), "2026-01-01T00:00:00.18Z", "120 ms for a sandbox, 60 for a container");
    let kinds: Vec<EventKind> = events.by_ref().take(5).map(|event| event.unwrap().kind).collect().await;
    let expected = [EventKind::Listening, EventKind::Started, EventKind::Started, EventKind::Oom, EventKind::Stopped];
    assert_eq!(kinds, expected);
    assert_eq!(clock.now().to_string(), "2026-01-01T00:00:30.18Z");
    let status = fake.container_status(&id, false).await.unwrap().status.unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
}

#[tokio::test(start_paused = true)]
async fn sandboxes_have_addresses_of_their_own() {
    let (fake, _tasks) = new();
    fake.update_runtime_config("10.42.3.0/24").await.unwrap();
    for (uid, address) in [("a", "10.42.3.2"), ("b", "10.42.3.3")] {
        let id = pod(&fake, uid).await;
        let status = fake.pod_sandbox_status(&id, false).await.unwrap().status.unwrap();
        assert_eq!(status.network.unwrap().ip, address);
        fake.stop_pod_sandbox(&id).await.unwrap();
        let status = fake.pod_sandbox_status(&id, false).await.unwrap().status.unwrap();
        assert_eq!(status.network, None);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_fail_when_told_and_streams_end_in_an_outage() {
    let (fake, _tasks) = new();
    let down = || Error::Unavailable("down".into());
    fake.fail_next("list_images", down());
    assert_eq!(fake.list_images(None).await, Err(down()));
    assert!(fake.list_images(None).await.is_ok());

    let mut events = fake.events();
    pod(&fake, "a").await;
    fake.set_unavailable(true);
    assert!(matches!(fake.version().await, Err(Error::Unavailable(_))));
    assert_eq!(events.next().await.unwrap().unwrap().kind, EventKind::Listening);
    assert_eq!(events.next().await.unwrap().unwrap().kind, EventKind::Started);
    assert!(matches!(events.next().await, Some(Err(Error::Unavailable(_)))));
    assert!(events.next().await.is_none());
    fake.set_unavailable(false);
    assert!(fake.version().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_killed_container_ends_once_and_pulls_know_the_registry() {
    let (fake, _tasks) = new();
    let sandbox = pod(&fake, "a").await;
    let id = container(&fake, &sandbox, &["sleep", "600"]).await;
    let mut events = fake.events();
    fake.kill_container(&id, 9);
    fake.kill_container(&id, 1);
    fake.kill_sandbox(&sandbox);
    assert_eq!(fake.container_status(&id, false).await.unwrap().status.unwrap().exit_code, 9);
    let ids: Vec<String> = events.by_ref().skip(1).take(2).map(|event| event.unwrap().id).collect().await;
    assert_eq!(ids, [id, sandbox], "one stop each");

    let spec = v1::ImageSpec::named("new:1");
    assert!(fake.pull_image(spec.clone(), None, None).await.unwrap_err().is_not_found());
    fake.publish_image("new:1");
    fake.pull_image(spec.clone(), None, None).await.unwrap();
    assert!(fake.image_status(spec).await.unwrap().is_some());
}
