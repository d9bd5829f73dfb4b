//! The seam between the cycle and its plugins, in the terms of upstream's scheduling framework.

use crate::pod::PodInfo;
use crate::snapshot::NodeInfo;

/// Why a node does not fit, in upstream's words: shown to users as `2 Insufficient cpu`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason(pub String);

impl Reason {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// What happened in the cluster that may make a pod fit after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClusterEvent {
    NodeAdded,
    NodeAllocatableGrew,
    NodeLabelsChanged,
    NodeTaintsChanged,
    /// A pod that was assigned is gone, finished, or asks for less.
    PodGone,
}

/// One plugin: extension points with nothing to say keep their defaults. The logic is a pure function in its file.
pub trait Plugin: Send + Sync {
    /// As upstream names it, `NodeResourcesFit`.
    fn name(&self) -> &'static str;

    /// Whether the pod may run on the node.
    ///
    /// # Errors
    /// Every reason why not.
    fn filter(&self, _pod: &PodInfo, _node: &NodeInfo) -> Result<(), Vec<Reason>> {
        Ok(())
    }

    /// How well the pod would be placed there; any scale, see [`Plugin::normalize`]. `None`: this plugin has no
    /// opinion on this pod.
    fn score(&self, _pod: &PodInfo, _node: &NodeInfo) -> Option<i64> {
        None
    }

    /// Brings the scores of all nodes to 0..=100.
    fn normalize(&self, _scores: &mut [i64]) {}

    /// How much its score counts.
    fn weight(&self) -> i64 {
        1
    }

    /// Events after which a pod this plugin refused is worth another try (queueing hints).
    fn requeue_on(&self) -> &'static [ClusterEvent] {
        &[]
    }
}

/// Scores as shares of the largest, of 100; turned round if `reverse` (large is bad).
pub fn normalize_to_largest(scores: &mut [i64], reverse: bool) {
    let largest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let share = if largest == 0 { 0 } else { *score * 100 / largest };
        *score = if reverse { 100 - share } else { share };
    }
}
