//! Scheduling alone: many pods on many nodes that are objects only.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use futures_util::future::try_join_all;
use serde_json::json;

use super::Table;
use super::server::Server;

const NODES: usize = 500;
const PODS: usize = 2000;

/// 2,000 pods on 500 nodes, from the first create until the last is bound.
pub async fn measure(binary: &str, table: &mut Table) -> Result<()> {
    eprintln!("scheduling");
    let server = Server::start(binary, &["--no-agent"]).await?;
    try_join_all((0..8).map(|at| {
        let server = &server;
        async move {
            let mut connection = server.connect().await?;
            for n in (at..NODES).step_by(8) {
                node(&mut connection, &format!("hollow-{n}")).await?;
            }
            anyhow::Ok(())
        }
    }))
    .await?;
    let mut connection = server.connect().await?;
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    while connection.get(account).await?.0 != 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    #[allow(clippy::disallowed_methods)] // real time is what is measured
    let (cpu, begun) = (server.cpu()?, Instant::now());
    try_join_all((0..16).map(|at| {
        let server = &server;
        async move {
            let mut connection = server.connect().await?;
            for n in (at..PODS).step_by(16) {
                connection.post("/api/v1/namespaces/default/pods", pod(n)).await?;
            }
            anyhow::Ok(())
        }
    }))
    .await?;
    loop {
        let left = connection.json("/api/v1/pods?fieldSelector=spec.nodeName%3D&limit=1").await?;
        if left["items"].as_array().is_none_or(Vec::is_empty) {
            break;
        }
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(120), "pods were not scheduled in 120 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = begun.elapsed();
    let count = f64::from(u32::try_from(PODS)?);
    let each = (server.cpu()? - cpu).as_secs_f64() * 1e3 / count;
    let measured = format!("{:.0} pods/s, {each:.2} ms CPU each", count / took.as_secs_f64());
    table.row("schedule 2,000 pods on 500 nodes, API included", measured, "3,000 pods/s, 0.5 ms CPU", None);
    server.end().await
}

async fn node(connection: &mut super::connection::Connection, name: &str) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    connection.post("/api/v1/nodes", Bytes::from(object.to_string())).await?;
    let status = json!({"status": {
        "capacity": {"cpu": "8", "memory": "32Gi", "pods": "110"},
        "allocatable": {"cpu": "8", "memory": "32Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady",
            "lastHeartbeatTime": "2100-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }});
    connection.patch(&format!("/api/v1/nodes/{name}/status"), Bytes::from(status.to_string())).await?;
    let spec = json!({"spec": {"taints": null}});
    connection.patch(&format!("/api/v1/nodes/{name}"), Bytes::from(spec.to_string())).await
}

fn pod(n: usize) -> Bytes {
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("pod-{n}"), "labels": {"app": "bench"}},
        "spec": {"containers": [{
            "name": "c", "image": "example/application:1.0.0",
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        }]},
    });
    Bytes::from(object.to_string())
}
