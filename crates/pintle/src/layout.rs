//! What is where below the data dir.

use std::path::{Path, PathBuf};

/// The folder of one Pintle.
#[derive(Debug, Clone)]
pub struct Layout(PathBuf);

impl Layout {
    pub fn new(data_dir: &Path) -> Self {
        Self(data_dir.to_owned())
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Keys and certificates.
    pub fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }

    /// The key that secrets are sealed with. Without it they cannot be read: keep a copy with every backup.
    pub fn secrets_key(&self) -> PathBuf {
        self.pki().join("secrets.key")
    }

    /// Keys that secrets were sealed with before. Only backups made then need them.
    pub fn retired_secrets_keys(&self) -> PathBuf {
        self.pki().join("secrets-retired.key")
    }

    /// Who did what, one JSON line each.
    pub fn audit_log(&self) -> PathBuf {
        self.0.join("audit/audit.log")
    }

    /// A joined node's way to its API server; its certificates are in `pki`.
    pub fn kubelet_kubeconfig(&self) -> PathBuf {
        self.0.join("kubelet.kubeconfig")
    }

    /// The CAs that a joined node knows its API server by.
    pub fn server_ca(&self) -> PathBuf {
        self.pki().join("server-ca.crt")
    }

    /// What a joined node was last told that all nodes are told.
    pub fn node_settings(&self) -> PathBuf {
        self.0.join("node-settings.json")
    }

    /// Held by the agent that is running with this data dir.
    pub fn agent_lock(&self) -> PathBuf {
        self.0.join("agent.lock")
    }

    /// The embedded store.
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// The admin's kubeconfig.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.0.join("admin.kubeconfig")
    }

    /// What the node keeps: volumes, logs, CNI leases.
    pub fn node(&self) -> PathBuf {
        self.0.join("node")
    }

    /// Containers' logs.
    pub fn pod_logs(&self) -> PathBuf {
        self.0.join("log/pods")
    }

    /// The runtime's CNI configuration.
    pub fn cni_conf(&self) -> PathBuf {
        self.0.join("cni/net.d")
    }

    /// Address leases of the pod network.
    pub fn cni_leases(&self) -> PathBuf {
        self.0.join("cni/leases")
    }
}
