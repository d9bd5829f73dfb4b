//! Keeps a claim that is being deleted until no pod on a node uses it: takes the finalizer
//! `kubernetes.io/pvc-protection` away then, and gives it to claims that were made without it.
//!
//! Upstream: pkg/controller/volume/pvcprotection. A pod that is on no node yet does not count: the node does not start
//! it while the claim is going.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::core::v1::{PersistentVolumeClaim, Volume};
use api::lean::Pod;
use client::{Change, Client, Error, ListOptions};

use crate::harness::{Actor, Context, Read, Write};
use crate::protection::{Due, due};

const FINALIZER: &str = "kubernetes.io/pvc-protection";

pub struct Controller;

impl Actor for Controller {
    const NAME: &'static str = "pvc-protection-controller";
    type Primary = PersistentVolumeClaim;

    fn reads() -> Vec<Read> {
        vec![Read::mapped::<Pod>(|change, _, keys| released(change, keys))]
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<PersistentVolumeClaim>(&["update"])]
    }

    async fn act(
        &self,
        claim: Arc<PersistentVolumeClaim>,
        context: &Context,
        client: &Client,
    ) -> Result<Option<Duration>, Error> {
        let Some(due) = due(&*claim, FINALIZER) else { return Ok(None) };
        if due == Due::Removal {
            let known = context.reflectors.of::<Pod>().in_namespace(claim.namespace());
            if known.iter().any(|pod| uses(pod, &claim)) {
                return Ok(None);
            }
            // A pod may be too young for the view: nothing short of a consistent list proves that there is none.
            let options = ListOptions { namespace: Some(claim.namespace().to_owned()), ..ListOptions::default() };
            if client.list::<Pod>(&options).await?.items.iter().any(|pod| uses(pod, &claim)) {
                return Ok(None);
            }
        }
        match client.update(due.done((*claim).clone(), FINALIZER)).await {
            Err(error) if error.is_not_found() => Ok(None),
            other => other.map(|_| None),
        }
    }
}

/// The claims that a change of a pod may let go: it is gone, another one has its name, or its node is done with it.
fn released(change: &Change<Pod>, keys: &mut BTreeSet<String>) {
    let (old, new) = (change.old.as_deref(), change.new.as_deref());
    let stays = new.is_some_and(|new| !is_shut_down(new) && old.is_none_or(|old| old.uid() == new.uid()));
    if stays {
        return;
    }
    for pod in [old, new].into_iter().flatten() {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        keys.extend(volumes.filter_map(|volume| Some(format!("{}/{}", pod.namespace(), claim_of(pod, volume)?))));
    }
}

/// The name of the claim behind a volume.
fn claim_of(pod: &Pod, volume: &Volume) -> Option<String> {
    let named = volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone());
    named.or_else(|| volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod.name(), volume.name)))
}

/// Whether a pod on a node uses the claim.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let Some(spec) = pod.spec.as_ref().filter(|spec| spec.node_name.as_deref().is_some_and(|node| !node.is_empty()))
    else {
        return false;
    };
    spec.volumes.iter().flatten().any(|volume| {
        if claim_of(pod, volume).as_deref() != Some(claim.name()) {
            return false;
        }
        // A claim that was made for the pod may be what its finalizers wait for.
        let own = || api::owner::controller_of(claim).is_some_and(|owner| owner.uid == pod.uid());
        volume.ephemeral.is_none() || !is_shut_down(pod) && own()
    })
}

/// Whether the node is done with a pod, or it was deleted by force.
fn is_shut_down(pod: &Pod) -> bool {
    pod.is_terminating() && pod.metadata.deletion_grace_period_seconds == Some(0)
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use serde_json::{Value, json};

    use super::*;

    fn pod(node: Value, volume: Value, more: Value) -> Pod {
        let mut metadata = json!({"name": "web", "namespace": "n", "uid": "p"});
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Pod::from_value(json!({"metadata": metadata, "spec": {
            "nodeName": node, "containers": [{"name": "c"}], "volumes": [{"name": "a"}, volume],
        }}))
        .unwrap()
    }

    fn claim(name: &str, owner: Option<&str>) -> PersistentVolumeClaim {
        let owners = owner
            .map(|uid| json!([{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": uid, "controller": true}]));
        PersistentVolumeClaim::from_value(json!({"metadata": {"name": name, "ownerReferences": owners}})).unwrap()
    }

    #[test]
    fn pods_on_nodes_use_claims() {
        let named = || json!({"name": "d", "persistentVolumeClaim": {"claimName": "data"}});
        assert!(uses(&pod(json!("here"), named(), json!({})), &claim("data", None)));
        assert!(!uses(&pod(json!("here"), named(), json!({})), &claim("other", None)));
        assert!(!uses(&pod(json!(null), named(), json!({})), &claim("data", None)), "it is on no node");
        let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0});
        assert!(uses(&pod(json!("here"), named(), going.clone()), &claim("data", None)), "until it is gone");
        let made = || json!({"name": "d", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}});
        assert!(uses(&pod(json!("here"), made(), json!({})), &claim("web-d", Some("p"))));
        assert!(!uses(&pod(json!("here"), made(), json!({})), &claim("web-d", Some("other"))), "somebody else's");
        assert!(!uses(&pod(json!("here"), made(), going), &claim("web-d", Some("p"))), "it waits for its claim");
    }

    #[test]
    fn claims_are_looked_at_when_a_pod_lets_go() {
        let named = |claim: &str| json!({"name": "d", "persistentVolumeClaim": {"claimName": claim}});
        let keys = |old: Option<Pod>, new: Option<Pod>| {
            let mut keys = BTreeSet::new();
            let change = Change { key: "n/web".to_owned(), old: old.map(Arc::new), new: new.map(Arc::new) };
            released(&change, &mut keys);
            keys.into_iter().collect::<Vec<_>>().join(" ")
        };
        let here = |claim: &str, more: Value| pod(json!("here"), named(claim), more);
        assert_eq!(keys(Some(here("a", json!({}))), None), "n/a");
        assert_eq!(keys(None, Some(here("a", json!({})))), "");
        assert_eq!(keys(Some(here("a", json!({}))), Some(here("a", json!({})))), "");
        assert_eq!(keys(Some(here("a", json!({}))), Some(here("b", json!({"uid": "q"})))), "n/a n/b", "another pod");
        let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0});
        assert_eq!(keys(Some(here("a", json!({}))), Some(here("a", going))), "n/a");
    }
}
