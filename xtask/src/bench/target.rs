//! What is measured: a server that speaks the Kubernetes API, and the processes it is made of.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use base::Clock;
use pki::Kubeconfig;
use pki::tls::Alpn;
use tokio_rustls::rustls::ClientConfig;

use super::connection::{Connection, Streams};

pub struct Target {
    /// `127.0.0.1:6443`.
    address: String,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    /// None are known of a server elsewhere: CPU and memory are then not told.
    pids: Vec<u32>,
}

impl Target {
    /// The server of a kubeconfig, which has to have a client certificate.
    pub fn of(kubeconfig: &Path, pids: Vec<u32>) -> Result<Self> {
        let kubeconfig = Kubeconfig::load(kubeconfig, None)?;
        let identity = pki::tls::Reloadable::new(kubeconfig.identity.context("no client certificate")?);
        let ca = kubeconfig.ca_pem.context("no CA")?;
        let config = |alpn| pki::tls::client_config(&ca, Some(identity.clone()), alpn, Clock::system());
        let address = kubeconfig.server.trim_start_matches("https://").trim_end_matches('/').to_owned();
        Ok(Self { address, http1: config(Alpn::Http1)?, http2: config(Alpn::Http2)?, pids })
    }

    /// A connection of its own, as the kubeconfig's user.
    pub async fn connect(&self) -> Result<Connection> {
        Connection::open(self.http1.clone(), &self.address).await
    }

    /// A connection for many requests at once.
    pub async fn streams(&self) -> Result<Streams> {
        Streams::open(self.http2.clone(), &self.address).await
    }

    /// Whether CPU and memory can be told.
    pub fn is_here(&self) -> bool {
        !self.pids.is_empty()
    }

    /// CPU time of all processes so far.
    pub fn cpu(&self) -> Result<Duration> {
        self.pids.iter().map(|pid| cpu(*pid)).sum()
    }

    /// Resident memory of all processes.
    pub fn rss_bytes(&self) -> Result<u64> {
        self.pids.iter().map(|pid| memory(*pid, "VmRSS:")).sum()
    }

    /// The most memory since [`Target::forget_peak`].
    pub fn peak_bytes(&self) -> Result<u64> {
        self.pids.iter().map(|pid| memory(*pid, "VmHWM:")).sum()
    }

    /// Begins to watch the peak anew.
    pub fn forget_peak(&self) -> Result<()> {
        for pid in &self.pids {
            std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        }
        Ok(())
    }
}

/// User and system time.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(") ").next().context("no stat")?.split_whitespace().collect();
    let ticks: u64 =
        fields.get(11).context("no utime")?.parse::<u64>()? + fields.get(12).context("no stime")?.parse::<u64>()?;
    // The kernel counts in hundredths of a second on every platform Linux runs on.
    Ok(Duration::from_millis(ticks * 10))
}

/// A line of `/proc/PID/status`, in bytes.
pub fn memory(pid: u32, line: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let text = status.lines().find_map(|own| own.strip_prefix(line)).with_context(|| format!("no {line}"))?;
    Ok(text.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}
