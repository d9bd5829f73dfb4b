//! What must stay small: memory of idle watches, of long lists read by many, of thousands of definitions; and the time
//! that a webhook adds.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::Method;
use serde_json::json;

use super::api_load::{CONNECTIONS, config_map, namespace, now};
use super::server::Server;
use super::target::Target;
use super::{Table, ms, percentile};

/// Idle watches, and how many share a connection (Go's clients stop at 250).
const WATCHES: usize = 10_000;
const PER_CONNECTION: usize = 100;
/// Objects in the long list, and how many read it at a time.
const LISTED: usize = 100_000;
const READERS: usize = 10;
const DEFINITIONS: usize = 5_000;

fn kib(bytes: u64, count: usize) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let each = bytes as f64 / count as f64;
    each / 1024.0
}

/// What each of 10,000 watches that see nothing takes.
pub async fn watches(target: &Target, table: &mut Table) -> Result<()> {
    namespace(target, "still").await?;
    let before = target.rss_bytes()?;
    let mut held = Vec::new();
    for _ in 0..WATCHES / PER_CONNECTION {
        let mut streams = target.streams().await?;
        for _ in 0..PER_CONNECTION {
            let path = "/api/v1/namespaces/still/configmaps?watch=true&allowWatchBookmarks=true&timeoutSeconds=3000";
            let response = streams.send(Method::GET, path).await?;
            ensure!(response.status() == 200, "a watch answered {}", response.status());
            held.push(response.into_body());
        }
    }
    let each = kib(target.rss_bytes()?.saturating_sub(before), held.len());
    table.row("memory of an idle watch, 10,000 open over HTTP/2", format!("{each:.1} KB"), "10 KB", Some(each));
    Ok(())
}

/// Ten clients list 100,000 objects at once, in JSON and in protobuf: the peak above what the server holds anyway.
pub async fn lists(target: &Target, table: &mut Table) -> Result<()> {
    namespace(target, "long").await?;
    try_join_all((0..CONNECTIONS).map(|at| async move {
        let mut connection = target.connect().await?;
        for n in (at..LISTED).step_by(CONNECTIONS) {
            connection.post("/api/v1/namespaces/long/configmaps", config_map(&format!("l-{n}"), 100)).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    for (media, name) in [("application/json", "JSON"), ("application/vnd.kubernetes.protobuf", "protobuf")] {
        let before = target.rss_bytes()?;
        target.forget_peak()?;
        let (cpu, begun) = (target.cpu()?, now());
        let lens = try_join_all((0..READERS).map(|_| async move {
            let mut connection = target.connect().await?;
            let (status, len) = connection.get_as("/api/v1/namespaces/long/configmaps", media).await?;
            ensure!(status == 200, "LIST answered {status}");
            Ok(len)
        }))
        .await?;
        let (took, cpu) = (begun.elapsed(), (target.cpu()? - cpu).as_secs_f64());
        let above = target.peak_bytes()?.saturating_sub(before) >> 20;
        let total = lens.iter().sum::<usize>() / 1_000_000;
        let work = format!("10 clients LIST 100,000 ConfigMaps each ({total} MB {name} in all)");
        let measured = format!("peak {above} MiB above what is held, {}, {cpu:.2} s CPU", ms(took));
        table.row(work, measured, "flat", Some(cpu));
    }
    Ok(())
}

/// 5,000 definitions with one object each: memory, and the time to start again.
pub async fn definitions(binary: &str, table: &mut Table) -> Result<()> {
    let server = Server::start(binary, &["--no-agent"]).await?;
    let target = &server.target()?;
    try_join_all((0..CONNECTIONS).map(|at| async move {
        let mut connection = target.connect().await?;
        for n in (at..DEFINITIONS).step_by(CONNECTIONS) {
            let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            connection.post(path, definition(n)).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    try_join_all((0..CONNECTIONS).map(|at| async move {
        let mut connection = target.connect().await?;
        for n in (at..DEFINITIONS).step_by(CONNECTIONS) {
            let (path, body) = instance(n);
            let deadline = now() + Duration::from_secs(60);
            while connection.get(&path).await?.0 != 200 {
                ensure!(now() < deadline, "{path} is not served within 60 s");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            connection.post(&path, body).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    let again = server.restart(&["--no-agent"]).await?;
    table.row("process start to /readyz, 5,000 CRDs with an object each", ms(again.ready_after), "2 s", None);
    let held = again.target()?.rss_bytes()? >> 20;
    table.row("memory holding them", format!("{held} MiB"), "400 MiB", None);
    again.end().await
}

fn definition(n: usize) -> Bytes {
    let (group, plural) = (format!("g{}.example.com", n % 500), format!("things{n}"));
    let field = json!({"type": "string", "maxLength": 100});
    let object = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "scope": "Cluster",
            "names": {"plural": plural, "singular": format!("thing{n}"), "kind": format!("Thing{n}")},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"a": field, "b": field, "c": {"type": "integer"}}},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                }}},
            }],
        },
    });
    Bytes::from(object.to_string())
}

fn instance(n: usize) -> (String, Bytes) {
    let group = format!("g{}.example.com", n % 500);
    let object = json!({
        "apiVersion": format!("{group}/v1"), "kind": format!("Thing{n}"), "metadata": {"name": "one"},
        "spec": {"a": "x", "c": 1},
    });
    (format!("/apis/{group}/v1/things{n}"), Bytes::from(object.to_string()))
}

/// What a validating webhook adds to a create, less the bare call of it.
pub async fn webhook(target: &Target, table: &mut Table) -> Result<()> {
    let hook = super::webhook::Hook::start().await?;
    namespace(target, "guarded").await?;
    namespace(target, "free").await?;
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "bench"},
        "webhooks": [{
            "name": "bench.example.com",
            "clientConfig": {"url": hook.url(), "caBundle": hook.ca_base64()},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "guarded"}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    });
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let mut connection = target.connect().await?;
    connection.post(path, Bytes::from(configuration.to_string())).await?;
    let deadline = now() + Duration::from_secs(20);
    while hook.calls() == 0 {
        ensure!(now() < deadline, "the webhook is not called");
        connection.post("/api/v1/namespaces/guarded/configmaps", generated()).await?;
    }
    let (mut guarded, mut free, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let mut direct = hook.client().await?;
    for _ in 0..500 {
        let begun = now();
        connection.post("/api/v1/namespaces/guarded/configmaps", generated()).await?;
        guarded.push(begun.elapsed());
        let begun = now();
        connection.post("/api/v1/namespaces/free/configmaps", generated()).await?;
        free.push(begun.elapsed());
        let begun = now();
        direct.post("/", Bytes::from_static(super::webhook::EXAMPLE)).await?;
        bare.push(begun.elapsed());
    }
    let middle = |times: &mut Vec<Duration>| {
        times.sort();
        percentile(times, 0.5).as_secs_f64() * 1e3
    };
    let (guarded, free, bare) = (middle(&mut guarded), middle(&mut free), middle(&mut bare));
    let own = guarded - free - bare;
    let measured = format!("{own:.2} ms (create {free:.2} ms, guarded {guarded:.2} ms, the bare call {bare:.2} ms)");
    table.row("our own time that a webhook adds to a create, p50", measured, "0.5 ms", Some(own));
    let gone = format!("{path}/bench");
    connection.delete(&gone).await
}

fn generated() -> Bytes {
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "w-"}, "data": {"a": "b"}});
    Bytes::from(object.to_string())
}

/// Simple CEL rules on one core.
pub fn cel(table: &mut Table) -> Result<()> {
    const COUNT: u32 = 500_000;
    let environment = cel::Environment::new().variable("self", cel::Type::DYN);
    let program = environment.compile("self.replicas <= 5 && self.name.startsWith('a')");
    let program = Arc::new(program.ok().context("the rule compiles")?);
    let object = json!({"replicas": 3, "name": "abc"});
    let begun = now();
    for _ in 0..COUNT {
        let variables = [("self", cel::Value::json(&object))];
        let (result, _) = program.evaluate_with(&&variables[..], cel::PER_CALL_LIMIT);
        ensure!(matches!(result, Ok((cel::Value::Bool(true), _))), "the rule holds");
    }
    let rate = f64::from(COUNT) / begun.elapsed().as_secs_f64();
    table.row("CEL: simple rules evaluated on one core", format!("{rate:.0}/s"), "1,000,000/s", None);
    Ok(())
}
