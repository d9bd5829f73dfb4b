//! Keeps a volume that is being deleted until it is no longer bound: takes the finalizer `kubernetes.io/pv-protection`
//! away then, and gives it to volumes that were made without it.
//!
//! Upstream: pkg/controller/volume/pvprotection.

use std::sync::Arc;

use api::Timestamp;
use api::core::v1::PersistentVolume;

use crate::harness::{Plan, Read, Step, View, Write};
use crate::protection::{Due, due};

const FINALIZER: &str = "kubernetes.io/pv-protection";

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "pv-protection-controller";
    type Primary = PersistentVolume;

    fn reads() -> Vec<Read> {
        Vec::new()
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<PersistentVolume>(&["update"])]
    }

    fn plan(&self, volume: &Arc<PersistentVolume>, _view: &View<'_>, _now: Timestamp) -> Plan {
        plan(volume)
    }
}

fn plan(volume: &PersistentVolume) -> Plan {
    let mut plan = Plan::default();
    let bound = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    match due(volume, FINALIZER) {
        Some(Due::Removal) if bound => {}
        Some(due) => plan.push(Step::update(due.done(volume.clone(), FINALIZER))),
        None => {}
    }
    plan
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use serde_json::{Value, json};

    use super::*;
    use crate::harness::Op;

    /// The finalizers that a volume is given; `None` if it is left alone.
    fn planned(metadata: Value, phase: &str) -> Option<Vec<String>> {
        let volume = json!({"metadata": metadata, "status": {"phase": phase}});
        let plan = plan(&PersistentVolume::from_value(volume).unwrap());
        match plan.steps.into_iter().next()?.op {
            Op::Update(object) => Some(object.metadata().finalizers.clone().unwrap_or_default()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_volume_stays_while_it_is_bound() {
        let going = |finalizers: &[&str]| {
            let at = "2026-01-01T00:00:00Z";
            json!({"name": "v", "deletionTimestamp": at, "finalizers": finalizers})
        };
        assert_eq!(planned(going(&[FINALIZER]), "Bound"), None);
        assert_eq!(planned(going(&[FINALIZER]), "Released"), Some(vec![]));
        assert_eq!(planned(going(&["a/b", FINALIZER]), "Available"), Some(vec!["a/b".to_owned()]));
        assert_eq!(planned(going(&["a/b"]), "Available"), None);
        assert_eq!(planned(json!({"name": "v"}), "Bound"), Some(vec![FINALIZER.to_owned()]));
        assert_eq!(planned(json!({"name": "v", "finalizers": [FINALIZER]}), "Bound"), None);
    }
}
