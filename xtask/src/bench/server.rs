//! A server under measurement: started in a temporary folder, ended without a trace.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::connection::Connection;
use super::target::{self, Target};

/// How long a server may take to be ready.
const READY_MAX: Duration = Duration::from_secs(60);

pub struct Server {
    binary: String,
    pub folder: TempDir,
    child: Child,
    pub port: u16,
    kubelet_port: u16,
    /// From the start of the process to the first `ok` of `/readyz`.
    pub ready_after: Duration,
}

/// Names what this server puts into the kernel.
pub const INSTANCE: &str = "pbench";

impl Server {
    /// Starts a server and waits until it is ready.
    pub async fn start(binary: &str, arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("pb").tempdir_in("/tmp")?;
        let ports = (free_port()?, free_port()?);
        Self::start_in(binary, folder, ports, arguments).await
    }

    async fn start_in(binary: &str, folder: TempDir, ports: (u16, u16), arguments: &[&str]) -> Result<Self> {
        let log = std::fs::File::options().create(true).append(true).open(folder.path().join("server.log"))?;
        #[allow(clippy::disallowed_methods)] // real time is what is measured
        let started = Instant::now();
        let child = Command::new(binary)
            .arg("server")
            .arg(format!("--data-dir={}", folder.path().display()))
            .arg(format!("--bind=0.0.0.0:{}", ports.0))
            .arg(format!("--kubelet-port={}", ports.1))
            .arg(format!("--instance={INSTANCE}"))
            .args(["--cluster-cidr=10.152.0.0/16", "--service-cidr=10.153.0.0/16", "--cluster-dns=10.153.0.10"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {binary}"))?;
        let mut server = Self {
            binary: binary.to_owned(),
            folder,
            child,
            port: ports.0,
            kubelet_port: ports.1,
            ready_after: Duration::ZERO,
        };
        while started.elapsed() < READY_MAX {
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended ({status}): {}", server.log_tail());
            }
            let ready = async { server.connect().await?.get("/readyz").await };
            if ready.await.is_ok_and(|(status, _)| status == 200) {
                server.ready_after = started.elapsed();
                return Ok(server);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("the server was not ready in {READY_MAX:?}: {}", server.log_tail())
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
        log.lines().rev().take(3).collect::<Vec<_>>().join(" / ")
    }

    /// A connection of its own, as the administrator.
    pub async fn connect(&self) -> Result<Connection> {
        self.target()?.connect().await
    }

    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    fn pid(&self) -> Result<u32> {
        self.child.id().context("the server has ended")
    }

    /// Resident memory.
    pub fn rss_bytes(&self) -> Result<u64> {
        target::memory(self.pid()?, "VmRSS:")
    }

    /// CPU time used so far, user and system.
    pub fn cpu(&self) -> Result<Duration> {
        target::cpu(self.pid()?)
    }

    /// What knows nothing but the Kubernetes API of it.
    pub fn target(&self) -> Result<Target> {
        Target::of(&self.folder.path().join("admin.kubeconfig"), vec![self.pid()?])
    }

    /// Ends the process in good order.
    async fn stop(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended by itself ({status}): {}", self.log_tail());
        }
        let pid = self.pid()?.to_string();
        Command::new("kill").arg(&pid).status().await?;
        tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await.context("the server did not end")??;
        Ok(())
    }

    /// Stops it and starts it again on the same data.
    pub async fn restart(mut self, arguments: &[&str]) -> Result<Self> {
        self.stop().await?;
        let Self { binary, folder, port, kubelet_port, .. } = self;
        Self::start_in(&binary, folder, (port, kubelet_port), arguments).await
    }

    /// Stops it and removes all it left.
    pub async fn end(mut self) -> Result<()> {
        self.stop().await?;
        let down = Command::new(&self.binary)
            .args(["down", "--instance", INSTANCE, "--data-dir"])
            .arg(self.folder.path())
            .status()
            .await?;
        if !down.success() {
            bail!("pintle down failed");
        }
        Ok(())
    }
}

pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
