//! What an agent keeps in its data dir beside what every node keeps: how it reaches its server, and by what it knows
//! it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use base::{Clock, Random, TaskGroup};
use client::Client;
use client::https::Https;
use node::certificate::Files;
use pki::bootstrap::Token;
use pki::file;
use pki::tls::{Alpn, Trust};

use super::discovery::Address;
use crate::cli::agent::AgentArgs;
use crate::layout::Layout;
use crate::settings::Settings;

/// The agent's folder, and who it is.
pub struct Home {
    pub layout: Layout,
    /// The node's name.
    pub name: String,
    pub server: Address,
    pub clock: Clock,
    pub random: Random,
    pub tasks: TaskGroup,
}

impl Home {
    /// Where the node's client certificate is.
    pub fn client_files(&self) -> Files {
        Files::new(&self.layout.pki(), "kubelet-client")
    }

    /// A client that is known by a bootstrap token.
    pub fn bearer(&self, trust: &Trust, token: &Token) -> Client {
        let tls = pki::tls::client_config_trusting(trust, None, Alpn::Http2, self.clock);
        Client::new(Arc::new(Https::new(&self.server.to_string(), tls, Some(token.to_string()))))
    }
}

/// The server as told, or as it was told when the node joined.
pub fn server(arguments: &AgentArgs, layout: &Layout) -> Result<Address> {
    if let Some(server) = &arguments.server {
        return server.parse().context("--server");
    }
    let path = layout.kubelet_kubeconfig();
    if !path.exists() {
        anyhow::bail!("--server: say which cluster to join: https://HOST:6443, as `pintle token create` prints it");
    }
    let kubeconfig =
        pki::Kubeconfig::load(&path, None).with_context(|| format!("reading {}; give --server", path.display()))?;
    kubeconfig.server.parse().with_context(|| format!("the server in {}", path.display()))
}

/// Writes the CAs that the server is known by.
pub fn write_ca(layout: &Layout, pem: &str) -> Result<()> {
    file::create_directory(&layout.pki())?;
    Ok(file::write_atomic(&layout.server_ca(), pem.as_bytes(), file::PUBLIC)?)
}

/// Writes the kubeconfig of the node as a user. It names the files of CA and certificate, which are renewed.
pub fn write_kubeconfig(home: &Home) -> Result<()> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let certificate = "pki/kubelet-client-current.pem";
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: pintle\n  cluster:\n    server: {server}\n    \
         certificate-authority: pki/server-ca.crt\nusers:\n- name: {user}\n  user:\n    \
         client-certificate: {certificate}\n    client-key: {certificate}\ncontexts:\n- name: {user}@pintle\n  \
         context:\n    cluster: pintle\n    user: {user}\ncurrent-context: {user}@pintle\n",
        server = quoted(&home.server.to_string()),
        user = node::certificate::user(&home.name),
    );
    Ok(file::write_atomic(&home.layout.kubelet_kubeconfig(), text.as_bytes(), file::SECRET)?)
}

/// What nodes were told last, if this one was told.
pub fn read_settings(path: &Path) -> Option<Settings> {
    let data: BTreeMap<String, String> = serde_json::from_str(&file::read(path).ok()?).ok()?;
    Settings::from_data(&data).ok()
}

/// Keeps what nodes are told for a start without the server.
pub fn write_settings(path: &Path, data: &BTreeMap<String, String>) -> Result<()> {
    let text = serde_json::to_string_pretty(data).context("writing the settings")?;
    Ok(file::write_atomic(path, text.as_bytes(), file::SECRET)?)
}
