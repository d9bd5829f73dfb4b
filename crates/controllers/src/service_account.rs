//! Every namespace has a ServiceAccount `default`.
//!
//! Upstream: pkg/controller/serviceaccount.

use std::sync::Arc;

use api::Object;
use api::Timestamp;
use api::core::v1::{Namespace, ServiceAccount};
use api::meta::v1::ObjectMeta;

use crate::harness::{Plan, Read, Step, View, Write};

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "service-account-controller";
    type Primary = Namespace;

    fn reads() -> Vec<Read> {
        vec![Read::mapped::<ServiceAccount>(|change, _, keys| {
            if change.new.is_none()
                && let Some(old) = &change.old
            {
                keys.insert(old.namespace().to_owned());
            }
        })]
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<ServiceAccount>(&["create"])]
    }

    fn plan(&self, namespace: &Arc<Namespace>, view: &View<'_>, _now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        let key = format!("{}/default", namespace.name());
        if !namespace.is_terminating() && view.get::<ServiceAccount>(&key).is_none() {
            plan.push(Step::create(ServiceAccount {
                metadata: ObjectMeta {
                    name: Some("default".into()),
                    namespace: namespace.metadata.name.clone(),
                    ..Default::default()
                },
                ..Default::default()
            }));
        }
        plan
    }
}
