//! `bench`: the table of ARCHITECTURE.md section 6. Starts servers of its own in temporary folders, speaks nothing but
//! the Kubernetes API to them (and CRI to their containerd), and prints what it measured beside the goals.
//!
//! CPU is what the server's process used, from /proc, per unit of work: on a noisy machine that is the steadier figure.

mod api_load;
mod bounds;
mod connection;
mod pods;
mod schedule;
mod server;
mod target;
mod upstream;
mod webhook;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use server::Server;
use target::Target;

/// One measured line.
struct Row {
    work: String,
    measured: String,
    goal: &'static str,
    /// What servers are compared by: less is better.
    figure: Option<f64>,
}

impl Row {
    /// What is measured, without the numbers in it: how many bytes a list has differs from server to server.
    fn subject(&self) -> String {
        let words = self.work.split_whitespace().filter(|word| word.trim_start_matches('(').parse::<u64>().is_err());
        words.collect::<Vec<_>>().join(" ")
    }
}

#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn row(&mut self, work: impl Into<String>, measured: impl Into<String>, goal: &'static str, figure: Option<f64>) {
        let row = Row { work: work.into(), measured: measured.into(), goal, figure };
        eprintln!("  {}: {}", row.work, row.measured);
        self.0.push(row);
    }

    /// Beside the rows of another server, if there are any.
    fn print(&self, other: &Self) {
        let header = if other.0.is_empty() { "" } else { " upstream | ratio |" };
        println!("| work | measured | goal |{header}");
        println!("|---|---|---|{}", if other.0.is_empty() { "" } else { "---|---|" });
        for row in &self.0 {
            print!("| {} | {} | {} |", row.work, row.measured, row.goal);
            if !other.0.is_empty() {
                let same = other.0.iter().find(|own| own.subject() == row.subject());
                let ratio = same.and_then(|own| Some(own.figure? / row.figure?));
                let ratio = ratio.map(|ratio| format!("{ratio:.1}")).unwrap_or_default();
                print!(" {} | {ratio} |", same.map_or("", |own| &own.measured));
            }
            println!();
        }
    }
}

/// The parts, in their order.
const PARTS: &[&str] =
    &["start", "load", "held", "watches", "lists", "webhook", "definitions", "cel", "schedule", "pods"];
/// Those that know nothing but the Kubernetes API.
const PLAIN: &[&str] = &["load", "held", "watches", "lists", "webhook"];

/// Measures everything, or the one part named as argument, and prints the table. `PINTLE` names the binary.
/// `BENCH_KUBECONFIG` names another server that is measured instead, as far as its API goes; `KUBE_APISERVER` and
/// `ETCD` name upstream's programs, which then take their turn.
pub fn run() -> Result<()> {
    let part = std::env::args().nth(2);
    let known = part.as_deref().is_none_or(|part| PARTS.contains(&part));
    ensure!(known, "{:?} is no part: there are {}", part.unwrap_or_default(), PARTS.join(", "));
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (mut table, mut other) = (Table::default(), Table::default());
        if let Ok(kubeconfig) = std::env::var("BENCH_KUBECONFIG") {
            let target = Target::of(Path::new(&kubeconfig), Vec::new())?;
            for part in PLAIN.iter().filter(|part| wanted(part)) {
                plain(part, &target, &mut table).await?;
            }
            table.print(&other);
            return Ok(());
        }
        let binary = std::env::var("PINTLE").context("PINTLE must name the release binary (make bench does it)")?;
        for part in PARTS.iter().filter(|part| wanted(part)) {
            eprintln!("{part}");
            own(part, &binary, &mut table).await?;
        }
        if let Some((apiserver, etcd)) = upstream::named() {
            for part in PLAIN.iter().filter(|part| wanted(part)) {
                eprintln!("{part}, upstream");
                let upstream = upstream::Upstream::start(&apiserver, &etcd).await?;
                eprintln!("  ready after {}", ms(upstream.ready_after));
                plain(part, &upstream.target()?, &mut other).await?;
                upstream.end().await?;
            }
        }
        table.print(&other);
        Ok(())
    })
}

async fn own(part: &str, binary: &str, table: &mut Table) -> Result<()> {
    match part {
        "start" => start(binary, table).await,
        "schedule" => schedule::measure(binary, table).await,
        "pods" => pods::measure(binary, table).await,
        "definitions" => bounds::definitions(binary, table).await,
        "cel" => bounds::cel(table),
        _ => {
            let server = Server::start(binary, &["--no-agent"]).await?;
            plain(part, &server.target()?, table).await?;
            if part != "held" {
                return server.end().await;
            }
            let again = server.restart(&["--no-agent"]).await?;
            table.row("process start to /readyz, 30,000 objects", ms(again.ready_after), "1.0 s with 10,000", None);
            again.end().await
        }
    }
}

/// A part that knows nothing but the Kubernetes API.
async fn plain(part: &str, target: &Target, table: &mut Table) -> Result<()> {
    match part {
        "load" => load(target, table).await,
        "held" => held(target, table).await,
        "watches" => bounds::watches(target, table).await,
        "lists" => bounds::lists(target, table).await,
        _ => bounds::webhook(target, table).await,
    }
}

async fn start(binary: &str, table: &mut Table) -> Result<()> {
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..5 {
        let server = Server::start(binary, &["--no-agent"]).await?;
        times.push(server.ready_after);
        server.end().await?;
    }
    times.sort();
    table.row("process start to /readyz, empty (median of 5)", ms(times[2]), "0.3 s", None);
    Ok(())
}

async fn load(target: &Target, table: &mut Table) -> Result<()> {
    tokio::time::sleep(Duration::from_secs(3)).await;
    memory(target, "idle memory, whole control plane", "60 MiB", table)?;
    api_load::create(target, table).await?;
    api_load::get(target, table).await?;
    api_load::watch(target, table).await
}

async fn held(target: &Target, table: &mut Table) -> Result<()> {
    api_load::fill(target).await?;
    memory(target, "memory holding 10,000 pods (6.4 KB) + 20,000 ConfigMaps (1.4 KB)", "300 MiB", table)?;
    api_load::list(target, "/api/v1/pods", "LIST 10,000 pods", "0.2 s, 0.1 s CPU", table).await?;
    let path = "/api/v1/namespaces/bench-a/configmaps";
    api_load::list(target, path, "LIST 10,000 ConfigMaps", "0.03 s, 0.02 s CPU", table).await
}

fn memory(target: &Target, work: &str, goal: &'static str, table: &mut Table) -> Result<()> {
    if target.is_here() {
        let held = target.rss_bytes()? >> 20;
        #[allow(clippy::cast_precision_loss)]
        table.row(work, format!("{held} MiB"), goal, Some(held as f64));
    }
    Ok(())
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

/// The value at a share (0 to 1) of sorted times.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = ((sorted.len() as f64 - 1.0) * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}
