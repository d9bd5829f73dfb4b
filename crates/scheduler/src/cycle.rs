//! One scheduling cycle: which node is best for this pod, or why none is. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::framework::{ClusterEvent, Plugin, Reason};
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};

/// Below this many nodes all are looked at; above, a share that shrinks to 5 % (upstream's
/// `percentageOfNodesToScore` 0).
const NODES_LEN_MIN: usize = 100;

/// Why a pod fits nowhere.
#[derive(Debug, PartialEq, Eq)]
pub struct Unschedulable {
    pub nodes_len: usize,
    /// Each reason, and how many nodes gave it.
    pub reasons: BTreeMap<Reason, usize>,
    /// What may change that.
    pub events: Vec<ClusterEvent>,
}

impl Unschedulable {
    /// As `kubectl describe pod` shows it.
    pub fn message(&self) -> String {
        if self.nodes_len == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut parts: Vec<String> =
            self.reasons.iter().map(|(reason, count)| format!("{count} {}", reason.0)).collect();
        parts.sort();
        format!("0/{} nodes are available: {}.", self.nodes_len, parts.join(", "))
    }
}

/// The best node for the pod.
///
/// `start` is where looking begins, so that over many pods all nodes get their turn; `tie` picks one of several best
/// (given how many there are).
///
/// # Errors
/// Why no node will do.
pub fn schedule(
    pod: &PodInfo,
    nodes: &Snapshot,
    plugins: &[&dyn Plugin],
    start: usize,
    tie: impl FnOnce(usize) -> usize,
) -> Result<String, Unschedulable> {
    let wanted = feasible_len(nodes.len());
    let mut feasible: Vec<&Arc<NodeInfo>> = Vec::new();
    let mut reasons: BTreeMap<Reason, usize> = BTreeMap::new();
    let mut refused_by: BTreeSet<usize> = BTreeSet::new();
    let start = if nodes.is_empty() { 0 } else { start % nodes.len() };
    for node in nodes.values().skip(start).chain(nodes.values().take(start)) {
        match refusal(pod, node, plugins) {
            None => feasible.push(node),
            Some((plugin, why)) => {
                refused_by.insert(plugin);
                for reason in why {
                    *reasons.entry(reason).or_default() += 1;
                }
            }
        }
        if feasible.len() >= wanted {
            break;
        }
    }
    match feasible.as_slice() {
        [] => {
            let events: BTreeSet<usize> = refused_by;
            let mut events: Vec<ClusterEvent> =
                events.into_iter().flat_map(|at| plugins[at].requeue_on().iter().copied()).collect();
            events.push(ClusterEvent::NodeAdded);
            events.dedup();
            Err(Unschedulable { nodes_len: nodes.len(), reasons, events })
        }
        [one] => Ok(one.name().to_owned()),
        many => Ok(best(pod, many, plugins, tie)),
    }
}

fn feasible_len(nodes_len: usize) -> usize {
    if nodes_len < NODES_LEN_MIN {
        return nodes_len;
    }
    let percent = 50_usize.saturating_sub(nodes_len / 125).max(5);
    (nodes_len * percent / 100).max(NODES_LEN_MIN)
}

/// The first plugin that refuses, and why.
fn refusal(pod: &PodInfo, node: &NodeInfo, plugins: &[&dyn Plugin]) -> Option<(usize, Vec<Reason>)> {
    plugins.iter().enumerate().find_map(|(at, plugin)| plugin.filter(pod, node).err().map(|why| (at, why)))
}

fn best(pod: &PodInfo, nodes: &[&Arc<NodeInfo>], plugins: &[&dyn Plugin], tie: impl FnOnce(usize) -> usize) -> String {
    let mut totals = vec![0_i64; nodes.len()];
    for plugin in plugins {
        let scores: Option<Vec<i64>> = nodes.iter().map(|node| plugin.score(pod, node)).collect();
        let Some(mut scores) = scores else { continue };
        plugin.normalize(&mut scores);
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += score * plugin.weight();
        }
    }
    let highest = totals.iter().copied().max().unwrap_or(0);
    let ties: Vec<usize> = (0..nodes.len()).filter(|at| totals[*at] == highest).collect();
    let chosen = ties[tie(ties.len()).min(ties.len() - 1)];
    nodes[chosen].name().to_owned()
}

#[cfg(test)]
mod tests;
