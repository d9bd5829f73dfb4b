//! The server's own node: it reaches the API within the process, and the server issues its serving certificate.

use std::sync::Arc;

use anyhow::Result;
use apiserver::Server;
use pki::authority::Authority;

use super::{Common, client_of, reflectors};
use crate::node_wiring::{self, Parts};

/// Starts the node within the server's process.
pub async fn start(common: &Common, authority: &Arc<Authority>, server: &Arc<Server>) -> Result<()> {
    let arguments = &common.arguments;
    let name = node_wiring::name(&arguments.node)?;
    let parts = Parts {
        ips: vec![common.advertise_address],
        instance: arguments.place.instance.clone(),
        layout: common.layout.clone(),
        arguments: arguments.node.clone(),
        settings: common.settings.clone(),
        client: client_of(server, &format!("system:node:{name}"), &["system:nodes"]),
        shared: reflectors(common, server),
        clock: common.clock,
        random: common.random.clone(),
        tasks: common.tasks.clone(),
        name,
    };
    let running = node_wiring::start(&parts).await?;
    let request = pki::Request {
        common_name: format!("system:node:{}", parts.name),
        organizations: vec!["system:nodes".into()],
        dns_names: vec![parts.name.clone()],
        ip_addresses: parts.ips.clone(),
        usage: pki::Usage::Server,
        valid: pki::authority::VALID,
    };
    let identity = authority.also("kubelet", request, common.clock.now())?;
    node_wiring::serve(&parts, &running, arguments.bind.ip(), identity, authority.cluster().trust()).await
}
