//! Forgets UDP flows that lead to endpoints which are no longer there. A UDP "connection" has no end: without this a
//! client that keeps sending from one port would talk to a dead pod for ever. TCP mends itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::compile::Frontend;
use super::facts::Facts;
use crate::{Error, Family, Result, command};

/// A UDP flow as the kernel remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Where the client sent its packets.
    pub original: SocketAddr,
    /// Who answers: the endpoint after rewriting, the same as `original` without.
    pub answering: SocketAddr,
}

/// Reads the lines of `conntrack -L`. Lines that are no UDP flow are skipped.
pub fn parse(listing: &str) -> BTreeSet<Flow> {
    listing.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Flow> {
    let values = |name: &str| -> Vec<&str> {
        line.split_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')).collect()
    };
    if !line.trim_start().starts_with("udp") {
        return None;
    }
    let (src, dst, sport, dport) = (values("src"), values("dst"), values("sport"), values("dport"));
    let addr = |ip: Option<&&str>, port: Option<&&str>| -> Option<SocketAddr> {
        Some(SocketAddr::new(ip?.parse().ok()?, port?.parse().ok()?))
    };
    Some(Flow { original: addr(dst.first(), dport.first())?, answering: addr(src.get(1), sport.get(1))? })
}

/// The flows that the present Services would not make.
pub fn stale(flows: &BTreeSet<Flow>, frontends: &BTreeMap<Frontend, BTreeSet<SocketAddr>>, facts: &Facts) -> Vec<Flow> {
    let is_stale = |flow: &&Flow| {
        let rewritten = flow.original != flow.answering;
        let (ip, port) = (flow.original.ip(), flow.original.port());
        if let Some(backends) = frontends.get(&Frontend::Address(flow.original)) {
            // What was not rewritten is right as long as there is nowhere to go (or the node itself answers).
            return if rewritten { !backends.contains(&flow.answering) } else { !backends.is_empty() };
        }
        if facts.is_service_address(ip) {
            return rewritten;
        }
        let node_port = frontends.get(&Frontend::NodePort(Family::of(ip), port));
        rewritten && node_port.is_some_and(|backends| !backends.contains(&flow.answering))
    };
    flows.iter().filter(is_stale).copied().collect()
}

/// Lists the kernel's UDP flows and deletes the stale ones; returns how many kinds of flow were deleted.
/// `Error::Missing` if the `conntrack` tool is not installed.
pub async fn clean(frontends: &BTreeMap<Frontend, BTreeSet<SocketAddr>>, facts: &Facts) -> Result<usize> {
    let mut deleted = 0;
    for family in facts.families() {
        let option = if family == Family::V4 { "ipv4" } else { "ipv6" };
        let listing = command::run("conntrack", &["-L", "-f", option, "-p", "udp"], "").await?;
        let flows = parse(&String::from_utf8_lossy(&listing));
        for flow in stale(&flows, frontends, facts) {
            delete(option, flow).await?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

async fn delete(family: &str, flow: Flow) -> Result<()> {
    let text = |ip: IpAddr| ip.to_string();
    let (dst, dport) = (text(flow.original.ip()), flow.original.port().to_string());
    let (src, sport) = (text(flow.answering.ip()), flow.answering.port().to_string());
    let args = [
        "-D",
        "-f",
        family,
        "-p",
        "udp",
        "--orig-dst",
        &dst,
        "--orig-port-dst",
        &dport,
        "--reply-src",
        &src,
        "--reply-port-src",
        &sport,
    ];
    let output = command::output("conntrack", &args, &[], "").await?;
    // A flow that ended by itself in the meantime is what was wanted.
    if output.success || output.stderr.contains("0 flow entries") {
        return Ok(());
    }
    Err(Error::Command { command: format!("conntrack {}", args.join(" ")), message: output.stderr })
}
