//! Runs CNI plugins as a container runtime does, for runtimes that do not do it themselves (Docker). containerd and
//! CRI-O read the configuration file and need none of this.
//!
//! CNI specification 1.0.0, sections 2 and 3.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::find_plugin;
use crate::{Error, Result, command};

/// One pod's place on the network.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The sandbox's id; the address lease carries it.
    pub container_id: String,
    /// The network namespace, as a path that can be opened.
    pub netns: PathBuf,
    /// The pod's namespace.
    pub pod_namespace: String,
    /// The pod's name.
    pub pod_name: String,
}

/// The interface's name inside a pod.
pub const INTERFACE: &str = "eth0";

/// Hangs a pod on the network of `conflist`; returns its addresses, without their prefix lengths. On failure what was
/// done so far is undone.
pub async fn add(conflist: &Value, bin_dirs: &[PathBuf], attachment: &Attachment) -> Result<Vec<IpAddr>> {
    let mut result = Value::Null;
    for plugin in plugin_configurations(conflist) {
        match run("ADD", conflist, plugin, &result, bin_dirs, attachment).await {
            Ok(answer) => result = answer,
            Err(error) => {
                if let Err(second) = delete(conflist, bin_dirs, attachment).await {
                    let second = &second as &dyn std::error::Error;
                    tracing::warn!(error = second, "a half-made pod network was not undone");
                }
                return Err(error);
            }
        }
    }
    let ips = result["ips"].as_array().map_or(&[][..], Vec::as_slice).iter();
    Ok(ips.filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok()).collect())
}

/// Takes a pod off the network and frees its addresses. Fine if it is not on it; the namespace may be gone already.
pub async fn delete(conflist: &Value, bin_dirs: &[PathBuf], attachment: &Attachment) -> Result<()> {
    for plugin in plugin_configurations(conflist).rev() {
        run("DEL", conflist, plugin, &Value::Null, bin_dirs, attachment).await?;
    }
    Ok(())
}

fn plugin_configurations(conflist: &Value) -> impl DoubleEndedIterator<Item = &Value> {
    conflist["plugins"].as_array().map_or(&[][..], Vec::as_slice).iter()
}

async fn run(
    verb: &str,
    conflist: &Value,
    plugin: &Value,
    previous: &Value,
    bin_dirs: &[PathBuf],
    attachment: &Attachment,
) -> Result<Value> {
    let kind = plugin["type"].as_str().unwrap_or_default();
    let program = find_plugin(bin_dirs, kind)?;
    let mut input = plugin.clone();
    input["cniVersion"] = conflist["cniVersion"].clone();
    input["name"] = conflist["name"].clone();
    if !previous.is_null() {
        input["prevResult"] = previous.clone();
    }
    let path = bin_dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":");
    let arguments = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={}",
        attachment.pod_namespace, attachment.pod_name, attachment.container_id
    );
    let netns = existing(&attachment.netns);
    let env = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", &attachment.container_id),
        ("CNI_NETNS", &netns),
        ("CNI_IFNAME", INTERFACE),
        ("CNI_ARGS", &arguments),
        ("CNI_PATH", &path),
    ];
    let output = command::output(&program.display().to_string(), &[], &env, &input.to_string()).await?;
    let answer = serde_json::from_slice::<Value>(&output.stdout).unwrap_or(Value::Null);
    if output.success {
        return Ok(answer);
    }
    // A plugin puts its error on its standard output as JSON.
    let mut message = answer["msg"].as_str().unwrap_or(&output.stderr).to_owned();
    if let Some(details) = answer["details"].as_str().filter(|details| !details.is_empty()) {
        message = format!("{message}; {details}");
    }
    Err(Error::Command { command: format!("CNI plugin {kind} {verb} for {}", attachment.container_id), message })
}

/// An empty path tells a plugin that the namespace is gone: it then only frees what lies outside.
fn existing(netns: &Path) -> String {
    if netns.exists() { netns.display().to_string() } else { String::new() }
}
