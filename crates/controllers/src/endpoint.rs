//! Keeps the (deprecated, still read) Endpoints object of each Service with a selector.
//!
//! Upstream: pkg/controller/endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use api::lean::Pod;
use api::meta::v1::ObjectMeta;
use api::{Object, Timestamp};

use crate::endpoints::{self, Port};
use crate::harness::{Plan, Read, Step, View, Write};
use crate::pod;

const HEADLESS: &str = "service.kubernetes.io/headless";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one object at most; the rest is left out and the object says so.
const ADDRESSES_LEN_MAX: usize = 1000;

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "endpoint-controller";
    type Primary = Service;

    fn reads() -> Vec<Read> {
        vec![
            Read::mapped::<Pod>(endpoints::services_of),
            Read::mapped::<Endpoints>(|change, _, keys| {
                keys.insert(change.key.clone());
            }),
        ]
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<Endpoints>(&["create", "update", "delete"])]
    }

    fn plan(&self, service: &Arc<Service>, view: &View<'_>, _now: Timestamp) -> Plan {
        plan(service, view)
    }

    fn plan_gone(&self, key: &str, view: &View<'_>, _now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        // Those without our label were made by hand, for a Service without selector.
        let ours = |endpoints: &Arc<Endpoints>| endpoints.label(MANAGED_BY).is_some() && !endpoints.is_terminating();
        if let Some(endpoints) = view.get::<Endpoints>(key).filter(ours) {
            plan.push(Step::delete(&*endpoints));
        }
        plan
    }
}

fn plan(service: &Arc<Service>, view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(selector) = endpoints::selector(service) else { return plan };
    if service.is_terminating() {
        return plan;
    }
    let pods = view.in_namespace::<Pod>(service.namespace());
    let pods = pods.iter().filter(|pod| selector.matches_labels(pod.metadata.labels.as_ref()));
    let (subsets, over_capacity) = subsets(service, pods);
    let old = view.get::<Endpoints>(&service.key());
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if endpoints::is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), "endpoint-controller".into());
    let mut metadata = old.as_deref().map(|old| old.metadata.clone()).unwrap_or_else(|| ObjectMeta {
        name: service.metadata.name.clone(),
        namespace: service.metadata.namespace.clone(),
        ..Default::default()
    });
    metadata.labels = Some(labels);
    if over_capacity {
        metadata.annotations.get_or_insert_default().insert(OVER_CAPACITY.into(), "truncated".into());
    } else if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(OVER_CAPACITY);
    }
    let new = Endpoints { metadata, subsets: (!subsets.is_empty()).then_some(subsets) };
    match old {
        None => plan.push(Step::create(new)),
        Some(old) if new != *old => plan.push(Step::update(new)),
        Some(_) => {}
    }
    plan
}

/// The addresses, grouped by the ports they answer, in order.
fn subsets<'a>(service: &Service, pods: impl Iterator<Item = &'a Arc<Pod>>) -> (Vec<EndpointSubset>, bool) {
    let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let ipv6 = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref()?.first().cloned());
    let ipv6 = ipv6.as_deref() == Some("IPv6");
    let mut groups: BTreeMap<Vec<Port>, EndpointSubset> = BTreeMap::new();
    let (mut count, mut over_capacity) = (0, false);
    // Terminating pods are in EndpointSlices only.
    for pod in pods.filter(|pod| endpoints::takes_part(pod) && (publish || !pod.is_terminating())) {
        let addresses = endpoints::addresses(pod);
        let Some(ip) = addresses.into_iter().find(|ip| ip.contains(':') == ipv6) else { continue };
        if count == ADDRESSES_LEN_MAX {
            over_capacity = true;
            break;
        }
        count += 1;
        let address = EndpointAddress {
            ip: ip.to_owned(),
            hostname: endpoints::hostname(service, pod),
            node_name: Some(pod::node_name(pod).to_owned()),
            target_ref: Some(endpoints::reference(pod)),
        };
        let subset = groups.entry(endpoints::ports(service, pod)).or_default();
        let addresses =
            if publish || pod::is_ready(pod) { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        addresses.get_or_insert_default().push(address);
    }
    let subsets = groups.into_iter().map(|(ports, mut subset)| {
        for addresses in [&mut subset.addresses, &mut subset.not_ready_addresses].into_iter().flatten() {
            addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        }
        let ports = ports.into_iter().map(|port| EndpointPort {
            name: (!port.name.is_empty()).then_some(port.name),
            port: port.port,
            protocol: Some(port.protocol),
            app_protocol: port.app_protocol,
        });
        subset.ports = Some(ports.collect());
        subset
    });
    (subsets.collect(), over_capacity)
}
