//! `pintle status`: one screen of what there is and what is stuck, through the public API like any other client.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::Object;
use api::core::v1::{Node, Pod};
use base::Clock;
use client::{Client, ListOptions};
use pki::Kubeconfig;

use super::block_on;
use crate::cli::StatusArgs;
use crate::layout::Layout;

pub fn run(arguments: &StatusArgs) -> Result<ExitCode> {
    block_on(async {
        let layout = Layout::new(&arguments.place.data_dir);
        if let Some(seconds) = arguments.wait {
            wait(&layout, seconds).await?;
        }
        let client = connect(&layout)?;
        show(&client, &layout).await
    })
}

/// A client with the admin's kubeconfig.
pub fn connect(layout: &Layout) -> Result<Client> {
    Ok(Client::new(Arc::new(transport(layout)?)))
}

/// The way to the server with the admin's kubeconfig.
pub fn transport(layout: &Layout) -> Result<client::https::Https> {
    let path = layout.admin_kubeconfig();
    if !path.exists() {
        bail!("{} does not exist: is `pintle server` running with this data dir?", path.display());
    }
    let kubeconfig = Kubeconfig::load(&path, None).with_context(|| format!("reading {}", path.display()))?;
    let identity = kubeconfig.identity.clone().context("the admin kubeconfig has no client certificate")?;
    let tls = pki::tls::client_config(
        kubeconfig.ca_pem.as_deref().context("the admin kubeconfig has no CA")?,
        Some(pki::tls::Reloadable::new(identity)),
        pki::tls::Alpn::Http2,
        Clock::system(),
    )?;
    Ok(client::https::Https::new(&kubeconfig.server, tls, None))
}

/// Waits for the API and a Ready node, telling what is still missing whenever that changes.
async fn wait(layout: &Layout, seconds: u64) -> Result<()> {
    let mut told = String::new();
    let waiting = async {
        loop {
            let missing = match connect(layout) {
                Err(_) => "the server to write its kubeconfig".to_owned(),
                Ok(client) => match client.list::<Node>(&ListOptions::default()).await {
                    Err(error) => format!("the API ({error})"),
                    Ok(nodes) => match nodes.items.iter().find(|node| !is_ready(node)) {
                        Some(node) => format!("node {} ({})", node.name(), why_not_ready(node)),
                        None if nodes.items.is_empty() => "the node to register".to_owned(),
                        None => return,
                    },
                },
            };
            if missing != told {
                eprintln!("waiting for {missing}");
                told = missing;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(seconds), waiting).await;
    if waited.is_err() {
        bail!("not ready after {seconds} s: still waiting for {told}");
    }
    Ok(())
}

fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a api::core::v1::NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready.status == "True")
}

fn why_not_ready(node: &Node) -> String {
    let message = condition(node, "Ready").and_then(|ready| ready.message.clone());
    message.unwrap_or_else(|| "it has not reported yet".into())
}

async fn show(client: &Client, layout: &Layout) -> Result<ExitCode> {
    let nodes = client.list::<Node>(&ListOptions::default()).await.context("asking the API server")?;
    let pods = client.list::<Pod>(&ListOptions::default()).await.context("asking the API server")?;
    println!("API        ready, revision {}", pods.resource_version);
    println!("store      embedded, {} bytes in {}", folder_bytes(&layout.store()), layout.store().display());
    for node in &nodes.items {
        let state = if is_ready(node) { "Ready".to_owned() } else { format!("NotReady: {}", why_not_ready(node)) };
        println!("node       {} {state}", node.name());
        if let Some(said) = condition(node, node::network::CONDITION).filter(|said| said.status != "True") {
            let why = said.message.as_deref().unwrap_or_default();
            println!("policies   {} does not enforce all NetworkPolicies: {why}", node.name());
        }
    }
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_else(|| "Pending".into());
    let running = pods.items.iter().filter(|pod| phase(pod) == "Running").count();
    println!("pods       {} of {} running", running, pods.items.len());
    let mut stuck = 0;
    for pod in pods.items.iter() {
        if let Some(why) = why_stuck(pod) {
            stuck += 1;
            println!("stuck      pod {}: {why}", pod.key());
        }
    }
    for node in nodes.items.iter().filter(|node| !is_ready(node)) {
        stuck += 1;
        println!("stuck      node {}: {}", node.name(), why_not_ready(node));
    }
    if stuck == 0 {
        println!("stuck      nothing");
    }
    Ok(ExitCode::SUCCESS)
}

/// Why a pod does not run, in one line.
fn why_stuck(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let phase = status.phase.as_deref().unwrap_or("Pending");
    if matches!(phase, "Succeeded") {
        return None;
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    if let Some(scheduled) = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False") {
        return Some(scheduled.message.clone().unwrap_or_else(|| "not scheduled".into()));
    }
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    for container in containers {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let Some(waiting) = waiting else { continue };
        let reason = waiting.reason.as_deref().unwrap_or_default();
        if !matches!(reason, "ContainerCreating" | "PodInitializing" | "") {
            let message = waiting.message.as_deref().unwrap_or_default();
            return Some(format!("container {}: {reason} {message}", container.name));
        }
    }
    (phase == "Failed").then(|| status.message.clone().unwrap_or_else(|| "it failed".into()))
}

fn folder_bytes(folder: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
