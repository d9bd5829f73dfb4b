//! Load on the API alone: creates, gets, lists, watches.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::Method;
use http_body_util::BodyExt;
use serde_json::json;

use super::target::Target;
use super::{Table, ms, percentile};

pub const CONNECTIONS: usize = 16;

pub fn now() -> Instant {
    #[allow(clippy::disallowed_methods)] // real time is what is measured
    Instant::now()
}

pub fn config_map(name: &str, bytes: usize) -> Bytes {
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"v": "x".repeat(bytes)}});
    Bytes::from(object.to_string())
}

pub async fn namespace(target: &Target, name: &str) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    target.connect().await?.post("/api/v1/namespaces", Bytes::from(object.to_string())).await
}

fn micros(time: Duration, count: usize) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1000.0 / f64::from(u32::try_from(count).unwrap_or(u32::MAX)))
}

fn rate(count: usize, time: Duration) -> String {
    format!("{:.0}/s", f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64())
}

/// Creates 1 KB ConfigMaps over one connection, then over sixteen.
pub async fn create(target: &Target, table: &mut Table) -> Result<()> {
    namespace(target, "bench").await?;
    let path = "/api/v1/namespaces/bench/configmaps";
    let mut one = target.connect().await?;
    let mut times = Vec::new();
    for n in 0..1000 {
        let begun = now();
        one.post(path, config_map(&format!("one-{n}"), 900)).await?;
        times.push(begun.elapsed());
    }
    times.sort();
    let (p50, p99) = (percentile(&times, 0.5), percentile(&times, 0.99));
    let measured = format!("{:.2} / {:.2} ms", p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3);
    let figure = Some(p50.as_secs_f64());
    table.row("create a 1 KB ConfigMap, one connection, p50 / p99", measured, "0.6 / 2 ms", figure);

    const EACH: usize = 625;
    let (cpu, begun) = (target.cpu()?, now());
    try_join_all((0..CONNECTIONS).map(|at| async move {
        let mut connection = target.connect().await?;
        for n in 0..EACH {
            connection.post(path, config_map(&format!("c{at}-{n}"), 900)).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    let count = CONNECTIONS * EACH;
    let (took, cpu) = (begun.elapsed(), target.cpu()? - cpu);
    let measured = format!("{}, {} CPU each", rate(count, took), micros(cpu, count));
    let goal = "4 times upstream's 1,200-1,900/s, 0.12 ms CPU";
    table.row("the same, 16 connections", measured, goal, Some(took.as_secs_f64()));
    Ok(())
}

/// Reads one object over sixteen connections.
pub async fn get(target: &Target, table: &mut Table) -> Result<()> {
    const EACH: usize = 2000;
    let (cpu, begun) = (target.cpu()?, now());
    try_join_all((0..CONNECTIONS).map(|_| async move {
        let mut connection = target.connect().await?;
        for _ in 0..EACH {
            let (status, _) = connection.get("/api/v1/namespaces/bench/configmaps/one-1").await?;
            anyhow::ensure!(status == 200, "GET answered {status}");
        }
        Ok(())
    }))
    .await?;
    let count = CONNECTIONS * EACH;
    let (took, cpu) = (begun.elapsed(), target.cpu()? - cpu);
    let measured = format!("{}, {} CPU each", rate(count, took), micros(cpu, count));
    let goal = "4 times upstream's 2,900-3,950/s, 0.05 ms CPU";
    table.row("GET one object, 16 connections", measured, goal, Some(took.as_secs_f64()));
    Ok(())
}

/// 200 watchers of one namespace see 500 creates in a burst.
pub async fn watch(target: &Target, table: &mut Table) -> Result<()> {
    const WATCHERS: usize = 200;
    const CREATES: usize = 500;
    namespace(target, "watched").await?;
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let mut connection = target.connect().await?;
        let path = "/api/v1/namespaces/watched/secrets?watch=true&resourceVersion=0";
        let response = connection.send(Method::GET, path, Bytes::new(), "application/json").await?;
        anyhow::ensure!(response.status() == 200, "a watch answered {}", response.status());
        watchers.push((connection, response.into_body()));
    }
    let (cpu, begun) = (target.cpu()?, now());
    let mut writer = target.connect().await?;
    let write = async {
        for n in 0..CREATES {
            let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("s{n}")}});
            writer.post("/api/v1/namespaces/watched/secrets", Bytes::from(object.to_string())).await?;
        }
        anyhow::Ok(begun.elapsed())
    };
    let read = try_join_all(watchers.into_iter().map(|(connection, mut body)| async move {
        let mut seen = 0;
        while seen < CREATES {
            let frame = body.frame().await.context("a watch ended early")??;
            seen += frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
        }
        drop(connection);
        anyhow::Ok(begun.elapsed())
    }));
    let (written, seen) = futures_util::future::try_join(write, read).await?;
    let last = seen.into_iter().max().unwrap_or_default();
    let count = WATCHERS * CREATES;
    let each = (target.cpu()? - cpu).as_secs_f64() * 1e6 / f64::from(u32::try_from(count)?);
    let lag = last.saturating_sub(written);
    let measured = format!("{}, {each:.1} us CPU each, last watcher {} behind", rate(count, last), ms(lag));
    let goal = "2 times upstream's 50,000/s, 5 us CPU, 0.5 s";
    table.row("watch: 200 watchers, 500 creates in a burst", measured, goal, Some(last.as_secs_f64()));
    Ok(())
}

/// 10,000 pods of 6.4 KB and 20,000 ConfigMaps of 1.4 KB.
pub async fn fill(target: &Target) -> Result<()> {
    for name in ["bench-a", "bench-b", "bench-pods"] {
        namespace(target, name).await?;
    }
    // A pod needs its namespace's service account. Where no controller runs nobody makes it, and nobody asks for it.
    let mut connection = target.connect().await?;
    let deadline = now() + Duration::from_secs(20);
    while connection.get("/api/v1/namespaces/bench-pods/serviceaccounts/default").await?.0 != 200 {
        if now() > deadline {
            let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
            connection.post("/api/v1/namespaces/bench-pods/serviceaccounts", Bytes::from(object.to_string())).await?;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    try_join_all((0..CONNECTIONS).map(|at| async move {
        let mut connection = target.connect().await?;
        for n in (at..10_000).step_by(CONNECTIONS) {
            connection.post("/api/v1/namespaces/bench-a/configmaps", config_map(&format!("a-{n}"), 1200)).await?;
            connection.post("/api/v1/namespaces/bench-b/configmaps", config_map(&format!("b-{n}"), 1200)).await?;
            connection.post("/api/v1/namespaces/bench-pods/pods", pod(n)).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(())
}

/// A pod that nobody schedules, about 6.4 KB as stored.
fn pod(n: usize) -> Bytes {
    let container = |name: &str| {
        let env: Vec<_> =
            (0..9).map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "some value ".repeat(3)})).collect();
        json!({
            "name": name, "image": "example/application:1.0.0", "env": env,
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        })
    };
    let labels: serde_json::Map<String, serde_json::Value> =
        (0..8).map(|n| (format!("example.com/label-{n}"), json!("value"))).collect();
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{n}"), "labels": labels},
        "spec": {"schedulerName": "nobody", "containers": [container("a"), container("b")]},
    });
    Bytes::from(object.to_string())
}

/// One whole list, the best of five.
pub async fn list(target: &Target, path: &str, work: &str, goal: &'static str, table: &mut Table) -> Result<()> {
    let mut connection = target.connect().await?;
    let (mut best, mut len) = (Duration::MAX, 0);
    let cpu = target.cpu()?;
    for _ in 0..5 {
        let begun = now();
        let (status, bytes) = connection.get(path).await?;
        anyhow::ensure!(status == 200, "LIST answered {status}");
        (best, len) = (best.min(begun.elapsed()), bytes);
    }
    let each = (target.cpu()? - cpu).as_secs_f64() / 5.0;
    let work = format!("{work} ({} MB JSON), consistent", len / 1_000_000);
    table.row(work, format!("{}, {each:.3} s CPU", ms(best)), goal, Some(best.as_secs_f64()));
    Ok(())
}
