//! Keeps a PodGroup that is being deleted until its pods have ended: takes the finalizer
//! `scheduling.k8s.io/podgroup-protection` away then. Who makes one gets the finalizer by admission.
//!
//! Upstream: pkg/controller/scheduling/podgroupprotection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::lean::Pod;
use api::scheduling::v1beta1::PodGroup;
use client::{Change, Client, Error, ListOptions};

use crate::harness::{Actor, Context, Read, Write};
use crate::protection::{Due, due};

const FINALIZER: &str = "scheduling.k8s.io/podgroup-protection";

pub struct Controller;

impl Actor for Controller {
    const NAME: &'static str = "podgroup-protection-controller";
    const OPTIONAL: bool = true;
    type Primary = PodGroup;

    fn reads() -> Vec<Read> {
        vec![Read::mapped::<Pod>(|change, _, keys| left(change, keys))]
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<PodGroup>(&["update"])]
    }

    async fn act(&self, group: Arc<PodGroup>, context: &Context, client: &Client) -> Result<Option<Duration>, Error> {
        if due(&*group, FINALIZER) != Some(Due::Removal) {
            return Ok(None);
        }
        let has = |pod: &Pod| !has_ended(pod) && group_of(pod) == Some(group.name());
        if context.reflectors.of::<Pod>().in_namespace(group.namespace()).iter().any(|pod| has(pod)) {
            return Ok(None);
        }
        // A pod may be too young for the view: nothing short of a consistent list proves that there is none.
        let options = ListOptions { namespace: Some(group.namespace().to_owned()), ..ListOptions::default() };
        if client.list::<Pod>(&options).await?.items.iter().any(|pod| has(pod)) {
            return Ok(None);
        }
        match client.update(Due::Removal.done((*group).clone(), FINALIZER)).await {
            Err(error) if error.is_not_found() => Ok(None),
            other => other.map(|_| None),
        }
    }
}

/// The group that a change of a pod may let go: the pod is gone or has ended, or another one has its name.
fn left(change: &Change<Pod>, keys: &mut BTreeSet<String>) {
    let (old, new) = (change.old.as_deref(), change.new.as_deref());
    let stays = new.is_some_and(|new| !has_ended(new) && old.is_none_or(|old| old.uid() == new.uid()));
    if !stays {
        let pods = [old, new].into_iter().flatten();
        keys.extend(pods.filter_map(|pod| Some(format!("{}/{}", pod.namespace(), group_of(pod)?))));
    }
}

fn group_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.scheduling_group.as_ref()?.pod_group_name.as_deref()
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use serde_json::json;

    use super::*;

    #[test]
    fn groups_are_looked_at_when_a_pod_leaves() {
        let pod = |uid: &str, phase: &str, group: Option<&str>| {
            let group = group.map(|name| json!({"podGroupName": name}));
            let spec = json!({"containers": [{"name": "c"}], "schedulingGroup": group});
            let metadata = json!({"name": "p", "namespace": "n", "uid": uid});
            Some(Pod::from_value(json!({"metadata": metadata, "spec": spec, "status": {"phase": phase}})).unwrap())
        };
        let keys = |old: Option<Pod>, new: Option<Pod>| {
            let mut keys = BTreeSet::new();
            left(&Change { key: "n/p".to_owned(), old: old.map(Arc::new), new: new.map(Arc::new) }, &mut keys);
            keys.into_iter().collect::<Vec<_>>().join(" ")
        };
        let running = |uid: &str, group: &str| pod(uid, "Running", Some(group));
        assert_eq!(keys(None, running("a", "g")), "");
        assert_eq!(keys(running("a", "g"), running("a", "g")), "");
        assert_eq!(keys(running("a", "g"), None), "n/g", "it is gone");
        assert_eq!(keys(running("a", "g"), running("b", "h")), "n/g n/h", "another pod of the name");
        assert_eq!(keys(running("a", "g"), pod("a", "Succeeded", Some("g"))), "n/g", "it has ended");
        assert_eq!(keys(pod("a", "Running", None), None), "", "of no group");
    }
}
