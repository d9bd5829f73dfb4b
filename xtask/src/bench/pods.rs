//! Real pods: how long Pintle takes for one and for thirty, beside what a bare CRI client takes of the same containerd
//! in the same run.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use cri::{Runtime, v1};
use futures_util::StreamExt;
use serde_json::json;

use super::connection::Connection;
use super::server::Server;
use super::{Table, ms, percentile};

/// What every node has: the image that the binary carries.
const IMAGE: &str = "localhost/pintle/pause:1";
const PODS: usize = 30;
const IN_FLIGHT: usize = 10;

fn now() -> Instant {
    #[allow(clippy::disallowed_methods)] // real time is what is measured
    Instant::now()
}

pub async fn measure(binary: &str, table: &mut Table) -> Result<()> {
    eprintln!("pods");
    let server = Server::start(binary, &[]).await?;
    let measured = rows(&server, table).await;
    let ended = server.end().await;
    match (measured, ended) {
        (Err(first), Err(then)) => Err(first.context(then)),
        (measured, ended) => measured.and(ended),
    }
}

async fn rows(server: &Server, table: &mut Table) -> Result<()> {
    let mut connection = server.connect().await?;
    until(
        "the node to be Ready",
        Duration::from_secs(60),
        async |connection| {
            let nodes = connection.json("/api/v1/nodes").await?;
            let conditions = nodes["items"][0]["status"]["conditions"].as_array().cloned().unwrap_or_default();
            Ok(conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
                && nodes["items"][0]["spec"]["taints"].is_null())
        },
        &mut connection,
    )
    .await?;
    let runtime =
        Runtime::connect(&format!("unix://{}/containerd/containerd.sock", server.data_dir().display())).await?;
    idle(server, table).await?;

    // Warm both ways, then measure them in turn.
    bare(&runtime, 2, 2).await?;
    deployment(&mut connection, "warm", 1).await?;
    gone(&mut connection, "warm").await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..5 {
        theirs.push(bare(&runtime, 1, 1).await?);
        let name = format!("one-{n}");
        ours.push(deployment(&mut connection, &name, 1).await?);
        gone(&mut connection, &name).await?;
    }
    ours.sort();
    theirs.sort();
    let (own, bare_one) = (percentile(&ours, 0.5), percentile(&theirs, 0.5));
    let measured =
        format!("{} (containerd alone {}, so {} above it)", ms(own), ms(bare_one), ms(own.saturating_sub(bare_one)));
    table.row(
        "one-replica Deployment, image present, created to Ready",
        measured,
        "containerd's own + 100 ms, under 1.0 s",
        None,
    );

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..3 {
        theirs.push(bare(&runtime, PODS, IN_FLIGHT).await?);
        let name = format!("thirty-{n}");
        deployment(&mut connection, &name, 0).await?;
        ours.push(scaled(&mut connection, &name).await?);
        gone(&mut connection, &name).await?;
    }
    ours.sort();
    theirs.sort();
    let ratio = ours[1].as_secs_f64() / theirs[1].as_secs_f64();
    let measured =
        format!("{:.2} s (bare CRI client {:.2} s, {ratio:.2} times)", ours[1].as_secs_f64(), theirs[1].as_secs_f64());
    table.row("30 pods, Deployment 0 to all Ready", measured, "3.3 s; 1.3 times the bare client", None);
    Ok(())
}

/// Memory and CPU of control plane and node doing nothing.
async fn idle(server: &Server, table: &mut Table) -> Result<()> {
    const SECONDS: u32 = 20;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let cpu = server.cpu()?;
    tokio::time::sleep(Duration::from_secs(u64::from(SECONDS))).await;
    let share = (server.cpu()? - cpu).as_secs_f64() / f64::from(SECONDS) * 100.0;
    let measured = format!("{} MiB, {share:.2} % of a core", server.rss_bytes()? >> 20);
    table.row("idle, control plane and node in one process", measured, "100 MB, 1 % of a core", None);
    Ok(())
}

async fn until(
    what: &str,
    limit: Duration,
    condition: impl AsyncFn(&mut Connection) -> Result<bool>,
    connection: &mut Connection,
) -> Result<()> {
    let begun = now();
    while begun.elapsed() < limit {
        if condition(connection).await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    anyhow::bail!("waited {limit:?} for {what} in vain")
}

fn path(name: &str) -> String {
    format!("/apis/apps/v1/namespaces/default/deployments/{name}")
}

async fn ready(connection: &mut Connection, name: &str, count: usize) -> Result<()> {
    let path = path(name);
    until(
        "pods to be Ready",
        Duration::from_secs(120),
        async |connection| {
            let deployment = connection.json(&path).await?;
            Ok(deployment["status"]["readyReplicas"].as_u64() == Some(count as u64))
        },
        connection,
    )
    .await
}

/// Creates a Deployment and waits until its pods are Ready.
async fn deployment(connection: &mut Connection, name: &str, replicas: usize) -> Result<Duration> {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": IMAGE}]},
        }},
    });
    let begun = now();
    connection.post("/apis/apps/v1/namespaces/default/deployments", Bytes::from(object.to_string())).await?;
    if replicas > 0 {
        ready(connection, name, replicas).await?;
    }
    Ok(begun.elapsed())
}

async fn scaled(connection: &mut Connection, name: &str) -> Result<Duration> {
    let begun = now();
    let patch = json!({"spec": {"replicas": PODS}});
    connection.patch(&format!("{}/scale", path(name)), Bytes::from(patch.to_string())).await?;
    ready(connection, name, PODS).await?;
    Ok(begun.elapsed())
}

/// Deletes the Deployment and waits until its pods are gone.
async fn gone(connection: &mut Connection, name: &str) -> Result<()> {
    connection.delete(&path(name)).await?;
    let list = format!("/api/v1/namespaces/default/pods?labelSelector=app%3D{name}&limit=1");
    until(
        "pods to be gone",
        Duration::from_secs(120),
        async |connection| Ok(connection.json(&list).await?["items"].as_array().is_none_or(Vec::is_empty)),
        connection,
    )
    .await
}

/// What containerd itself takes for that many pods: sandbox, create, start. They are removed afterwards, untimed.
async fn bare(runtime: &Runtime, count: usize, in_flight: usize) -> Result<Duration> {
    let runtime = Arc::new(runtime.clone());
    let files = Arc::new(tempfile::tempdir_in("/tmp")?);
    std::fs::write(files.path().join("hosts"), "127.0.0.1 localhost\n")?;
    std::fs::write(files.path().join("termination-log"), "")?;
    std::fs::create_dir(files.path().join("token"))?;
    let begun = now();
    let sandboxes: Vec<Result<String>> = futures_util::stream::iter(0..count)
        .map(|n| {
            let (runtime, files) = (runtime.clone(), files.clone());
            async move { one_bare(&runtime, files.path(), n).await }
        })
        .buffer_unordered(in_flight)
        .collect()
        .await;
    let took = begun.elapsed();
    for sandbox in sandboxes {
        let id = sandbox?;
        runtime.stop_pod_sandbox(&id).await?;
        runtime.remove_pod_sandbox(&id).await?;
    }
    Ok(took)
}

/// The same pod as the Deployment's, as far as the runtime sees it: sandbox with its resolver, a container with the
/// default seccomp profile, hidden paths, and files mounted from the node. Making those files is not in the time.
async fn one_bare(runtime: &Runtime, files: &Path, n: usize) -> Result<String> {
    let seccomp = v1::SecurityProfile {
        profile_type: v1::security_profile::ProfileType::RuntimeDefault.into(),
        ..Default::default()
    };
    let metadata = v1::PodSandboxMetadata {
        name: format!("bare-{n}"),
        uid: format!("bare-{n}-{:?}", now()),
        namespace: "bench".into(),
        attempt: 0,
    };
    let sandbox_security = v1::LinuxSandboxSecurityContext { seccomp: Some(seccomp.clone()), ..Default::default() };
    let config = v1::PodSandboxConfig {
        metadata: Some(metadata),
        hostname: "bare".into(),
        dns_config: Some(v1::DnsConfig { servers: vec!["10.153.0.10".into()], ..Default::default() }),
        linux: Some(v1::LinuxPodSandboxConfig { security_context: Some(sandbox_security), ..Default::default() }),
        ..Default::default()
    };
    let sandbox = runtime.run_pod_sandbox(config.clone(), "").await.context("a sandbox")?;
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    let security = v1::LinuxContainerSecurityContext {
        seccomp: Some(seccomp),
        masked_paths: paths(&["/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/sys/firmware"]),
        readonly_paths: paths(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
        ..Default::default()
    };
    let mount = |container: &str, host: &str| v1::Mount {
        container_path: container.to_owned(),
        host_path: files.join(host).to_string_lossy().into_owned(),
        ..Default::default()
    };
    let container = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "c".into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: IMAGE.into(), ..Default::default() }),
        mounts: vec![
            mount("/etc/hosts", "hosts"),
            mount("/dev/termination-log", "termination-log"),
            mount("/var/run/secrets/kubernetes.io/serviceaccount", "token"),
        ],
        linux: Some(v1::LinuxContainerConfig { security_context: Some(security), ..Default::default() }),
        ..Default::default()
    };
    let id = runtime.create_container(&sandbox, container, config).await.context("a container")?;
    runtime.start_container(&id).await.context("a start")?;
    Ok(sandbox)
}
