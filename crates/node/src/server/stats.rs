//! `/pods`, `/stats/summary`, `/metrics` and `/metrics/resource`: what runs here and what it uses.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use api::Object;
use api::core::v1::Pod;
use base::Timestamp;
use cri::v1::{ContainerStats, UInt64Value};
use serde_json::{Map, Value, json};

use super::Shared;
use super::reply::{self, Failure, Reply};
use crate::labels;

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const NANOS_PER_SECOND: f64 = 1e9;

/// A `PodList` as JSON.
pub fn pod_list(pods: &[Arc<Pod>]) -> Vec<u8> {
    let mut list = br#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":["#.to_vec();
    for (n, pod) in pods.iter().enumerate() {
        if n > 0 {
            list.push(b',');
        }
        list.extend_from_slice(&pod.encode());
    }
    list.extend_from_slice(b"]}");
    list
}

/// What the node as a whole uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct NodeFigures {
    started: Timestamp,
    cpu_seconds: f64,
    memory_bytes: u64,
    memory_available_bytes: u64,
    fs_capacity_bytes: u64,
    fs_available_bytes: u64,
    fs_inodes: u64,
    fs_inodes_free: u64,
}

impl NodeFigures {
    /// Asks the kernel.
    fn read() -> Option<Self> {
        use procfs::{Current, CurrentSI};
        let kernel = procfs::KernelStats::current().ok()?;
        let memory = procfs::Meminfo::current().ok()?;
        let fs = rustix::fs::statvfs("/").ok()?;
        let cpu = kernel.total;
        let ticks = cpu.user
            + cpu.nice
            + cpu.system
            + cpu.irq.unwrap_or_default()
            + cpu.softirq.unwrap_or_default()
            + cpu.steal.unwrap_or_default();
        let available = memory.mem_available.unwrap_or(memory.mem_free);
        Some(Self {
            started: Timestamp::from_second(i64::try_from(kernel.btime).ok()?).ok()?,
            cpu_seconds: ticks as f64 / procfs::ticks_per_second() as f64,
            memory_bytes: memory.mem_total.saturating_sub(available),
            memory_available_bytes: available,
            fs_capacity_bytes: fs.f_blocks * fs.f_frsize,
            fs_available_bytes: fs.f_bavail * fs.f_frsize,
            fs_inodes: fs.f_files,
            fs_inodes_free: fs.f_ffree,
        })
    }

    fn to_json(self, name: &str, now: Timestamp) -> Value {
        json!({
            "nodeName": name,
            "startTime": self.started,
            "cpu": { "time": now, "usageCoreNanoSeconds": (self.cpu_seconds * NANOS_PER_SECOND) as u64 },
            "memory": {
                "time": now,
                "availableBytes": self.memory_available_bytes,
                "workingSetBytes": self.memory_bytes,
            },
            "fs": {
                "time": now,
                "availableBytes": self.fs_available_bytes,
                "capacityBytes": self.fs_capacity_bytes,
                "usedBytes": self.fs_capacity_bytes.saturating_sub(self.fs_available_bytes),
                "inodes": self.fs_inodes,
                "inodesFree": self.fs_inodes_free,
                "inodesUsed": self.fs_inodes.saturating_sub(self.fs_inodes_free),
            },
        })
    }
}

/// Answers `/stats/summary`.
pub async fn summary(shared: &Shared) -> Result<Reply, Failure> {
    let stats = shared.runtime.list_container_stats(None).await?;
    let node = NodeFigures::read().unwrap_or_default();
    let now = shared.clock.now();
    let summary = json!({
        "node": node.to_json(&shared.options.node_name, now),
        "pods": pods_json(&shared.pods.pods(), &stats),
    });
    Ok(reply::json(summary.to_string()))
}

/// The containers that have figures, by their pods' uid.
fn by_pod(stats: &[ContainerStats]) -> BTreeMap<&str, Vec<(&str, &ContainerStats)>> {
    let mut pods: BTreeMap<&str, Vec<(&str, &ContainerStats)>> = BTreeMap::new();
    for stats in stats {
        let Some(attributes) = &stats.attributes else { continue };
        let label = |name| attributes.labels.get(name).map(String::as_str);
        if let (Some(uid), Some(container)) = (label(labels::POD_UID), label(labels::CONTAINER_NAME)) {
            pods.entry(uid).or_default().push((container, stats));
        }
    }
    pods
}

fn pods_json(pods: &[Arc<Pod>], stats: &[ContainerStats]) -> Vec<Value> {
    let figures = by_pod(stats);
    let mut all = Vec::new();
    for pod in pods {
        let Some(containers) = figures.get(pod.uid()) else { continue };
        let stats = || containers.iter().map(|(_, stats)| *stats);
        let mut entry = json!({
            "podRef": { "name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid() },
            "startTime": pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0),
            "containers": containers.iter().map(|(name, stats)| container_json(pod, name, stats)).collect::<Vec<_>>(),
        });
        entry["cpu"] = Value::Object(total(stats(), cpu_json));
        entry["memory"] = Value::Object(total(stats(), memory_json));
        all.push(entry);
    }
    all
}

fn container_json(pod: &Pod, name: &str, stats: &ContainerStats) -> Value {
    let rootfs = stats.writable_layer.as_ref().map(|layer| {
        json!({ "time": time(layer.timestamp), "usedBytes": value(&layer.used_bytes),
            "inodesUsed": value(&layer.inodes_used) })
    });
    json!({
        "name": name,
        "startTime": started(pod, name),
        "cpu": cpu_json(stats),
        "memory": memory_json(stats),
        "rootfs": rootfs,
    })
}

fn started(pod: &Pod, container: &str) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let kinds = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let found = kinds.into_iter().flatten().flatten().find(|status| status.name == container)?;
    Some(found.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0)
}

fn time(nanos: i64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(nanos.into()).ok()
}

fn value(value: &Option<UInt64Value>) -> Option<u64> {
    value.as_ref().map(|value| value.value)
}

/// The figures that are there, with their time.
fn figures(nanos: i64, pairs: &[(&str, Option<u64>)]) -> Map<String, Value> {
    let known = pairs.iter().filter_map(|(name, value)| Some(((*name).to_owned(), Value::from((*value)?))));
    [("time".to_owned(), json!(time(nanos)))].into_iter().chain(known).collect()
}

fn cpu_json(stats: &ContainerStats) -> Map<String, Value> {
    let Some(cpu) = &stats.cpu else { return Map::new() };
    let pairs = [
        ("usageNanoCores", value(&cpu.usage_nano_cores)),
        ("usageCoreNanoSeconds", value(&cpu.usage_core_nano_seconds)),
    ];
    figures(cpu.timestamp, &pairs)
}

fn memory_json(stats: &ContainerStats) -> Map<String, Value> {
    let Some(memory) = &stats.memory else { return Map::new() };
    let pairs = [
        ("availableBytes", value(&memory.available_bytes).filter(|bytes| *bytes > 0)),
        ("usageBytes", value(&memory.usage_bytes)),
        ("workingSetBytes", value(&memory.working_set_bytes)),
        ("rssBytes", value(&memory.rss_bytes)),
        ("pageFaults", value(&memory.page_faults)),
        ("majorPageFaults", value(&memory.major_page_faults)),
    ];
    figures(memory.timestamp, &pairs)
}

/// The sums of the figures of several containers, with the time of the last.
fn total<'a>(
    stats: impl Iterator<Item = &'a ContainerStats>,
    of: fn(&ContainerStats) -> Map<String, Value>,
) -> Map<String, Value> {
    let mut sum = Map::new();
    for (name, value) in stats.flat_map(of) {
        let added = match (sum.get(&name).and_then(Value::as_u64), value.as_u64()) {
            (Some(before), Some(more)) => Value::from(before + more),
            _ => value,
        };
        sum.insert(name, added);
    }
    sum
}

/// Answers `/metrics`.
pub async fn metrics(shared: &Shared) -> Result<Reply, Failure> {
    let open = shared.options.streams_len_max - shared.streams.available_permits();
    let mut text = String::new();
    let streams = [(String::new(), open as f64)];
    put(
        &mut text,
        "pintle_node_streams",
        "gauge",
        "Execs, attaches, port-forwards and followed logs that are open",
        &streams,
    );
    let serving = shared.options.serving.as_ref().map(|serving| serving.identity().not_after());
    certificate_lives(&mut text, serving, shared.clock.now());
    text.push_str(&shared.pods.metrics());
    Ok(reply::with_type(PROMETHEUS, text))
}

/// How long the node's certificates last, in seconds. Within the server's process it is a client without one.
fn certificate_lives(text: &mut String, serving: Option<Timestamp>, now: Timestamp) {
    let left = |end: Option<Timestamp>| end.map_or(f64::INFINITY, |end| (end.as_second() - now.as_second()) as f64);
    let of = [("server", "serving", left(serving)), ("client", "client", left(None))];
    for (name, what, left_seconds) in of {
        let help = format!(
            "Gauge of the TTL (time-to-live) of the Kubelet's {what} certificate. The value is in seconds until \
             certificate expiry (negative if already expired). If the certificate is invalid or unused, the value will \
             be +INF."
        );
        let name = format!("kubelet_certificate_manager_{name}_ttl_seconds");
        put(text, &name, "gauge", &help, &[(String::new(), left_seconds)]);
    }
}

/// Answers `/metrics/resource`: what metrics-server reads.
pub async fn resource_metrics(shared: &Shared) -> Result<Reply, Failure> {
    let stats = shared.runtime.list_container_stats(None).await;
    let text = match (&stats, NodeFigures::read()) {
        (Ok(stats), Some(node)) => resource_text(&shared.pods.pods(), stats, &node),
        _ => String::new(),
    };
    let mut text = text;
    let failed = if text.is_empty() { 1.0 } else { 0.0 };
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    put(&mut text, "resource_scrape_error", "gauge", help, &[(String::new(), failed)]);
    Ok(reply::with_type(PROMETHEUS, text))
}

type Samples = Vec<(String, f64)>;

fn resource_text(pods: &[Arc<Pod>], stats: &[ContainerStats], node: &NodeFigures) -> String {
    let (mut cpu, mut memory, mut start): (Samples, Samples, Samples) = Default::default();
    let (mut pod_cpu, mut pod_memory): (Samples, Samples) = Default::default();
    let figures = by_pod(stats);
    for pod in pods {
        let of_pod = format!("namespace=\"{}\",pod=\"{}\"", pod.namespace(), pod.name());
        let (mut seconds_sum, mut bytes_sum) = (0.0, 0.0);
        let Some(containers) = figures.get(pod.uid()) else { continue };
        for (name, stats) in containers {
            let labels = format!("{{container=\"{name}\",{of_pod}}}");
            let nanos = stats.cpu.as_ref().and_then(|cpu| value(&cpu.usage_core_nano_seconds)).unwrap_or(0);
            let bytes = stats.memory.as_ref().and_then(|memory| value(&memory.working_set_bytes)).unwrap_or(0);
            seconds_sum += nanos as f64 / NANOS_PER_SECOND;
            bytes_sum += bytes as f64;
            cpu.push((labels.clone(), nanos as f64 / NANOS_PER_SECOND));
            memory.push((labels.clone(), bytes as f64));
            if let Some(started) = started(pod, name) {
                start.push((labels, started.as_millisecond() as f64 / 1000.0));
            }
        }
        pod_cpu.push((format!("{{{of_pod}}}"), seconds_sum));
        pod_memory.push((format!("{{{of_pod}}}"), bytes_sum));
    }
    let table = [
        (
            "container_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed by the container in core-seconds",
            cpu,
        ),
        ("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes", memory),
        ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds", start),
        (
            "node_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed by the node in core-seconds",
            vec![(String::new(), node.cpu_seconds)],
        ),
        (
            "node_memory_working_set_bytes",
            "gauge",
            "Current working set of the node in bytes",
            vec![(String::new(), node.memory_bytes as f64)],
        ),
        ("pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod in core-seconds", pod_cpu),
        ("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes", pod_memory),
    ];
    let mut text = String::new();
    for (name, kind, help, samples) in table {
        put(&mut text, name, kind, help, &samples);
    }
    text
}

/// One metric in Prometheus' text format.
fn put(text: &mut String, name: &str, kind: &str, help: &str, samples: &[(String, f64)]) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        let _ = match value.is_infinite() {
            true => writeln!(text, "{name}{labels} {}Inf", if *value < 0.0 { '-' } else { '+' }),
            false => writeln!(text, "{name}{labels} {value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use cri::v1;

    use super::*;

    fn pod() -> Arc<Pod> {
        let json = r#"{"metadata":{"name":"p","namespace":"ns","uid":"u"},"status":{"containerStatuses":[
            {"name":"a","image":"","imageID":"","ready":true,"restartCount":0,
             "state":{"running":{"startedAt":"2026-01-01T00:00:00Z"}}}]}}"#;
        Arc::new(Pod::decode(json.as_bytes()).unwrap())
    }

    fn stats(container: &str, nanos: u64, bytes: u64) -> ContainerStats {
        let labels = [(labels::POD_UID, "u"), (labels::CONTAINER_NAME, container)];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        ContainerStats {
            attributes: Some(v1::ContainerAttributes { labels, ..Default::default() }),
            cpu: Some(v1::CpuUsage {
                timestamp: 1_000_000_000,
                usage_core_nano_seconds: Some(UInt64Value { value: nanos }),
                ..Default::default()
            }),
            memory: Some(v1::MemoryUsage {
                timestamp: 1_000_000_000,
                working_set_bytes: Some(UInt64Value { value: bytes }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn pods_are_the_sums_of_their_containers() {
        let pods = pods_json(&[pod()], &[stats("a", 1_500_000_000, 100), stats("b", 500_000_000, 20)]);
        assert_eq!(pods[0]["cpu"], json!({ "time": "1970-01-01T00:00:01Z", "usageCoreNanoSeconds": 2_000_000_000 }));
        assert_eq!(pods[0]["memory"]["workingSetBytes"], 120);
        assert_eq!(pods[0]["containers"][0]["startTime"], "2026-01-01T00:00:00Z");
        let text = resource_text(&[pod()], &[stats("a", 1_500_000_000, 100)], &NodeFigures::default());
        for line in [
            "container_cpu_usage_seconds_total{container=\"a\",namespace=\"ns\",pod=\"p\"} 1.5",
            "pod_memory_working_set_bytes{namespace=\"ns\",pod=\"p\"} 100",
            "container_start_time_seconds{container=\"a\",namespace=\"ns\",pod=\"p\"} 1767225600",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn the_node_has_figures() {
        let node = NodeFigures::read().unwrap();
        assert!(node.cpu_seconds > 0.0 && node.memory_bytes > 0 && node.fs_capacity_bytes > 0, "{node:?}");
    }

    #[test]
    fn a_list_of_pods() {
        let list: Value = serde_json::from_slice(&pod_list(&[pod(), pod()])).unwrap();
        assert_eq!((&list["kind"], &list["items"][1]["metadata"]["name"]), (&json!("PodList"), &json!("p")));
    }
}
