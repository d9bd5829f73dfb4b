//! `bench`: the table of ARCHITECTURE.md section 6. Starts servers of its own in temporary folders, speaks nothing but
//! the Kubernetes API to them (and CRI to their containerd), and prints what it measured beside the goals.
//!
//! CPU is what the server's process used, from /proc, per unit of work: on a noisy machine that is the steadier figure.

mod api_load;
mod connection;
mod pods;
mod schedule;
mod server;

use std::time::Duration;

use anyhow::{Context, Result};

use server::Server;

/// One measured line.
struct Row {
    work: String,
    measured: String,
    goal: &'static str,
}

#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn row(&mut self, work: impl Into<String>, measured: impl Into<String>, goal: &'static str) {
        let row = Row { work: work.into(), measured: measured.into(), goal };
        eprintln!("  {}: {}", row.work, row.measured);
        self.0.push(row);
    }

    fn print(&self) {
        let width = |of: fn(&Row) -> &str| self.0.iter().map(|row| of(row).chars().count()).max().unwrap_or(0);
        let (work, measured) = (width(|row| &row.work), width(|row| &row.measured));
        println!("| {:work$} | {:measured$} | goal |", "work", "measured");
        println!("|-{:-<work$}-|-{:-<measured$}-|------|", "", "");
        for row in &self.0 {
            println!("| {:work$} | {:measured$} | {} |", row.work, row.measured, row.goal);
        }
    }
}

/// Measures everything, or the one part named as argument, and prints the table. `PINTLE` names the binary.
pub fn run() -> Result<()> {
    let binary = std::env::var("PINTLE").context("PINTLE must name the release binary (make bench does it)")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut table = Table::default();
        let part = std::env::args().nth(2);
        let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
        if wanted("start") {
            start(&binary, &mut table).await?;
        }
        if wanted("load") {
            load(&binary, &mut table).await?;
        }
        if wanted("schedule") {
            schedule::measure(&binary, &mut table).await?;
        }
        if wanted("pods") {
            pods::measure(&binary, &mut table).await?;
        }
        table.print();
        Ok(())
    })
}

async fn start(binary: &str, table: &mut Table) -> Result<()> {
    eprintln!("start");
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..5 {
        let server = Server::start(binary, &["--no-agent"]).await?;
        times.push(server.ready_after);
        server.end().await?;
    }
    times.sort();
    table.row("process start to /readyz, empty (median of 5)", ms(times[2]), "0.3 s");
    Ok(())
}

async fn load(binary: &str, table: &mut Table) -> Result<()> {
    eprintln!("API load");
    let server = Server::start(binary, &["--no-agent"]).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    table.row("idle memory, whole control plane", format!("{} MiB", server.rss_bytes()? >> 20), "60 MiB");
    api_load::create(&server, table).await?;
    api_load::get(&server, table).await?;
    api_load::watch(&server, table).await?;
    api_load::fill(&server).await?;
    let held = server.rss_bytes()? >> 20;
    table.row("memory holding 10,000 pods (6.4 KB) + 20,000 ConfigMaps (1.4 KB)", format!("{held} MiB"), "300 MiB");
    api_load::list(&server, "/api/v1/pods", "LIST 10,000 pods", "0.2 s, 0.1 s CPU", table).await?;
    let path = "/api/v1/namespaces/bench-a/configmaps";
    api_load::list(&server, path, "LIST 10,000 ConfigMaps", "0.03 s, 0.02 s CPU", table).await?;
    let again = server.restart(&["--no-agent"]).await?;
    table.row("process start to /readyz, 30,000 objects", ms(again.ready_after), "1.0 s with 10,000");
    again.end().await
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
