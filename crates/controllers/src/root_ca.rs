//! Every namespace has a ConfigMap `kube-root-ca.crt`, with which pods check the API server.
//!
//! Upstream: pkg/controller/certificates/rootcacertpublisher.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{ConfigMap, Namespace};
use api::meta::v1::ObjectMeta;
use api::{Object, Timestamp};

use crate::harness::{Plan, Read, Step, View, Write};

const NAME: &str = "kube-root-ca.crt";
/// All other ConfigMaps are none of our business, and there may be many.
const SELECTOR: &str = "metadata.name=kube-root-ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "root-ca-cert-publisher";
    type Primary = Namespace;

    fn reads() -> Vec<Read> {
        let published = Read::selected::<ConfigMap>(SELECTOR, |change, _, keys| {
            keys.extend(change.latest().map(|map| map.namespace().to_owned()));
        });
        let everywhere = Read::root_ca::<Namespace>(|_, reflectors, keys| {
            keys.extend(reflectors.of::<Namespace>().snapshot().keys().cloned());
        });
        vec![published, everywhere]
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<ConfigMap>(&["create", "update"])]
    }

    fn plan(&self, namespace: &Arc<Namespace>, view: &View<'_>, _now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        if namespace.is_terminating() {
            return plan;
        }
        let data = Some(BTreeMap::from([("ca.crt".to_owned(), view.facts().root_ca.borrow().clone())]));
        match view.selected::<ConfigMap>(SELECTOR, &format!("{}/{NAME}", namespace.name())) {
            None => {
                let description = "Holds the certificate authority with which clients of the API server check it.";
                plan.push(Step::create(ConfigMap {
                    metadata: ObjectMeta {
                        name: Some(NAME.into()),
                        namespace: namespace.metadata.name.clone(),
                        annotations: Some(BTreeMap::from([(DESCRIPTION.to_owned(), description.to_owned())])),
                        ..Default::default()
                    },
                    data,
                    ..Default::default()
                }));
            }
            Some(map) if map.data != data => {
                let mut new = ConfigMap::clone(&map);
                new.data = data;
                plan.push(Step::update(new));
            }
            Some(_) => {}
        }
        plan
    }
}
