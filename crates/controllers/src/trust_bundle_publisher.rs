//! Keeps one ClusterTrustBundle of the signer `kubernetes.io/kube-apiserver-serving`: the CAs with which clients check
//! the API server. Its name ends with a hash of what is in it; others of that signer go.
//!
//! Upstream: pkg/controller/certificates/clustertrustbundlepublisher.

use std::sync::Arc;

use api::certificates::v1::{ClusterTrustBundle, ClusterTrustBundleSpec};
use api::meta::v1::ObjectMeta;
use api::{Object, Timestamp};
use sha2::{Digest, Sha256};

use crate::harness::{Plan, Read, Step, View, Write};

const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";
/// Of the hash, so much is in the name.
const HASH_BYTES: usize = 12;

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "kube-apiserver-serving-clustertrustbundle-publisher";
    type Primary = ClusterTrustBundle;
    /// Every key asks for the same: there is one bundle.
    const WORKERS: usize = 1;

    fn reads() -> Vec<Read> {
        vec![Read::root_ca::<ClusterTrustBundle>(|pem, _, keys| {
            keys.insert(name(pem));
        })]
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<ClusterTrustBundle>(&["create", "update", "delete"])]
    }

    fn plan(&self, _bundle: &Arc<ClusterTrustBundle>, view: &View<'_>, _now: Timestamp) -> Plan {
        plan(view)
    }

    fn plan_gone(&self, _key: &str, view: &View<'_>, _now: Timestamp) -> Plan {
        plan(view)
    }
}

fn plan(view: &View<'_>) -> Plan {
    let pem = view.facts().root_ca.borrow().clone();
    let mut plan = Plan::default();
    if pem.is_empty() {
        return plan;
    }
    let name = name(&pem);
    match view.get::<ClusterTrustBundle>(&name) {
        None => plan.push(Step::create(ClusterTrustBundle {
            metadata: ObjectMeta { name: Some(name.clone()), ..Default::default() },
            spec: ClusterTrustBundleSpec { signer_name: Some(SIGNER.to_owned()), trust_bundle: pem },
        })),
        Some(bundle) if bundle.spec.trust_bundle != pem => {
            let mut new = ClusterTrustBundle::clone(&bundle);
            new.spec.trust_bundle = pem;
            plan.push(Step::update(new));
        }
        Some(_) => {}
    }
    let all = view.all::<ClusterTrustBundle>();
    let others = all.values().filter(|other| {
        other.spec.signer_name.as_deref() == Some(SIGNER) && other.name() != name && !other.is_terminating()
    });
    others.for_each(|other| plan.push(Step::delete(&**other)));
    plan
}

/// `kubernetes.io:kube-apiserver-serving:<hash>`.
fn name(pem: &str) -> String {
    format!("{}:{}", SIGNER.replace('/', ":"), hex::encode(&Sha256::digest(pem.as_bytes())[..HASH_BYTES]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_what_is_in_it() {
        // printf 'x\n' | sha256sum
        let wanted = "kubernetes.io:kube-apiserver-serving:73cb3858a687a8494ca33230";
        assert_eq!(name("x\n"), wanted);
        assert_ne!(name("y\n"), wanted);
    }
}
