//! kube-apiserver and etcd as `KUBE_APISERVER` and `ETCD` name them, started for a comparison with the same
//! certificates that Pintle makes for itself.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base::Clock;
use pki::authority::{Authority, Options};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::server::free_port;
use super::target::Target;

const READY_MAX: Duration = Duration::from_secs(60);

pub struct Upstream {
    folder: TempDir,
    etcd: Child,
    apiserver: Child,
    pub ready_after: Duration,
}

/// The two programs, if both are named.
pub fn named() -> Option<(String, String)> {
    Some((std::env::var("KUBE_APISERVER").ok()?, std::env::var("ETCD").ok()?))
}

impl Upstream {
    /// Starts both and waits until `/readyz` says ok.
    pub async fn start(apiserver: &str, etcd: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("pu").tempdir_in("/tmp")?;
        let (peer, client, port) = (free_port()?, free_port()?, free_port()?);
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let service = IpAddr::V4(Ipv4Addr::new(10, 153, 0, 1));
        let options = Options::new("cluster.local", &[service], "localhost", &[loopback], &[]);
        let pki = folder.path().join("pki");
        let authority = Authority::open_or_create(&pki, options, Clock::system().now())?;
        let kubeconfig = authority.admin_kubeconfig(&format!("https://127.0.0.1:{port}"), "upstream");
        kubeconfig.save(&folder.path().join("admin.kubeconfig"))?;

        #[allow(clippy::disallowed_methods)] // real time is what is measured
        let started = Instant::now();
        let etcd = spawn(
            etcd,
            &[
                format!("--data-dir={}", folder.path().join("etcd").display()),
                format!("--listen-client-urls=http://127.0.0.1:{client}"),
                format!("--advertise-client-urls=http://127.0.0.1:{client}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
                format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
            ],
            &folder.path().join("etcd.log"),
        )?;
        let file = |name: &str| pki.join(name).display().to_string();
        let apiserver = spawn(
            apiserver,
            &[
                format!("--etcd-servers=http://127.0.0.1:{client}"),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--secure-port={port}"),
                "--advertise-address=127.0.0.1".to_owned(),
                "--service-cluster-ip-range=10.153.0.0/16".to_owned(),
                "--authorization-mode=RBAC".to_owned(),
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                format!("--client-ca-file={}", file("ca.crt")),
                format!("--tls-cert-file={}", file("server.crt")),
                format!("--tls-private-key-file={}", file("server.key")),
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
                format!("--service-account-key-file={}", file("sa.pub")),
                format!("--service-account-signing-key-file={}", file("sa.key")),
            ],
            &folder.path().join("server.log"),
        )?;
        let mut upstream = Self { folder, etcd, apiserver, ready_after: Duration::ZERO };
        while started.elapsed() < READY_MAX {
            if let Some(status) = upstream.apiserver.try_wait()? {
                bail!("kube-apiserver ended ({status}): see {}", upstream.folder.keep().display());
            }
            let ready = async { upstream.target()?.connect().await?.get("/readyz").await };
            if ready.await.is_ok_and(|(status, _)| status == 200) {
                upstream.ready_after = started.elapsed();
                return Ok(upstream);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("kube-apiserver was not ready in {READY_MAX:?}: see {}", upstream.folder.keep().display())
    }

    pub fn target(&self) -> Result<Target> {
        let pids = [&self.apiserver, &self.etcd].map(Child::id).into_iter().flatten().collect();
        Target::of(&self.folder.path().join("admin.kubeconfig"), pids)
    }

    /// Ends both.
    pub async fn end(mut self) -> Result<()> {
        self.apiserver.kill().await?;
        self.etcd.kill().await?;
        Ok(())
    }
}

fn spawn(binary: &str, arguments: &[String], log: &Path) -> Result<Child> {
    let log = std::fs::File::create(log)?;
    Command::new(binary)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {binary}"))
}
