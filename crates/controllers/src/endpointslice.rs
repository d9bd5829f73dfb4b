//! Keeps the EndpointSlices of each Service with a selector.
//!
//! Upstream: pkg/controller/endpointslice, staging endpointslice reconciler. Slices hold at most 100 endpoints, all of
//! one address family and one set of ports; endpoints stay in their slice as long as they can, so that a change of one
//! pod rewrites one slice.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{Node, Service};
use api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use api::lean::Pod;
use api::meta::v1::ObjectMeta;
use api::{Object, Timestamp};

use crate::endpoints::{self, Port};
use crate::harness::{Plan, Read, Step, View, Write};
use crate::pod;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Endpoints in one slice at most (upstream's `--max-endpoints-per-slice`).
const ENDPOINTS_LEN_MAX: usize = 100;

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "endpointslice-controller";
    type Primary = Service;

    fn reads() -> Vec<Read> {
        vec![
            Read::mapped::<Pod>(endpoints::services_of),
            Read::mapped::<EndpointSlice>(|change, _, keys| {
                for slice in [&change.old, &change.new].into_iter().flatten() {
                    if slice.label(MANAGED_BY) == Some(MANAGER)
                        && let Some(service) = slice.label(SERVICE_NAME)
                    {
                        keys.insert(format!("{}/{service}", slice.namespace()));
                    }
                }
            }),
            Read::only::<Node>(),
        ]
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<EndpointSlice>(&["create", "update", "delete"])]
    }

    fn plan(&self, service: &Arc<Service>, view: &View<'_>, _now: Timestamp) -> Plan {
        plan(service, view)
    }
}

/// Endpoints that can share slices.
type Groups = BTreeMap<(&'static str, Vec<Port>), Vec<Endpoint>>;

fn plan(service: &Arc<Service>, view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(selector) = endpoints::selector(service) else { return plan };
    if service.is_terminating() {
        return plan;
    }
    let pods = view.in_namespace::<Pod>(service.namespace());
    let pods = pods.iter().filter(|pod| selector.matches_labels(pod.metadata.labels.as_ref()));
    let mut groups = groups(service, pods, view);
    let mut slices: Vec<Arc<EndpointSlice>> = view.in_namespace::<EndpointSlice>(service.namespace());
    slices.retain(|slice| {
        slice.label(SERVICE_NAME) == Some(service.name())
            && slice.label(MANAGED_BY) == Some(MANAGER)
            && !slice.is_terminating()
    });
    if groups.is_empty() {
        // A Service without endpoints has an empty slice, so that readers see that it is looked after.
        for family in families(service) {
            groups.insert((family, Vec::new()), Vec::new());
        }
    }
    for ((family, ports), wanted) in groups {
        let same = |slice: &EndpointSlice| slice.address_type == family && ports_of(slice) == ports;
        let (ours, rest): (Vec<_>, Vec<_>) = slices.into_iter().partition(|slice| same(slice));
        slices = rest;
        arrange(&mut plan, service, family, &ports, wanted, ours);
    }
    for slice in slices {
        plan.push(Step::delete(&*slice));
    }
    plan
}

fn families(service: &Service) -> Vec<&'static str> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    let families: Vec<&str> = families.iter().map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    if families.is_empty() {
        vec!["IPv4"]
    } else {
        families.into_iter().map(|f| if f == "IPv6" { "IPv6" } else { "IPv4" }).collect()
    }
}

fn groups<'a>(service: &Service, pods: impl Iterator<Item = &'a Arc<Pod>>, view: &View<'_>) -> Groups {
    let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let families = families(service);
    let mut groups = Groups::new();
    for pod in pods.filter(|pod| endpoints::takes_part(pod)) {
        let node = pod::node_name(pod);
        let zone = view.get::<Node>(node).and_then(|node| node.label(ZONE).map(str::to_owned));
        let terminating = pod.is_terminating();
        let serving = pod::is_ready(pod);
        for family in &families {
            let addresses = endpoints::addresses(pod);
            let mut addresses = addresses.into_iter().filter(|ip| ip.contains(':') == (*family == "IPv6"));
            let Some(address) = addresses.next() else { continue };
            let endpoint = Endpoint {
                addresses: vec![address.to_owned()],
                conditions: Some(EndpointConditions {
                    ready: Some(publish || (serving && !terminating)),
                    serving: Some(serving),
                    terminating: Some(terminating),
                }),
                hostname: endpoints::hostname(service, pod),
                node_name: (!node.is_empty()).then(|| node.to_owned()),
                target_ref: Some(endpoints::reference(pod)),
                zone: zone.clone(),
                ..Default::default()
            };
            groups.entry((family, endpoints::ports(service, pod))).or_default().push(endpoint);
        }
    }
    groups
}

fn ports_of(slice: &EndpointSlice) -> Vec<Port> {
    let mut ports: Vec<Port> = slice
        .ports
        .iter()
        .flatten()
        .map(|port| Port {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            port: port.port.unwrap_or(0),
            app_protocol: port.app_protocol.clone(),
        })
        .collect();
    ports.sort();
    ports
}

/// Puts the wanted endpoints into the slices there are, with as few writes as possible.
fn arrange(
    plan: &mut Plan,
    service: &Arc<Service>,
    family: &'static str,
    ports: &[Port],
    wanted: Vec<Endpoint>,
    slices: Vec<Arc<EndpointSlice>>,
) {
    let uid = |endpoint: &Endpoint| endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    let mut wanted: BTreeMap<Option<String>, Endpoint> =
        wanted.into_iter().map(|endpoint| (uid(&endpoint), endpoint)).collect();
    let mut kept: Vec<(Option<Arc<EndpointSlice>>, Vec<Endpoint>)> = Vec::new();
    for slice in slices {
        let endpoints = slice.endpoints.iter().flatten();
        let stay: Vec<Endpoint> = endpoints.filter_map(|endpoint| wanted.remove(&uid(endpoint))).collect();
        kept.push((Some(slice), stay));
    }
    let mut rest: Vec<Endpoint> = wanted.into_values().collect();
    // Fill the fullest slices first, so that few slices change.
    let mut order: Vec<usize> = (0..kept.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(kept[*at].1.len()));
    for at in order {
        let room = ENDPOINTS_LEN_MAX.saturating_sub(kept[at].1.len()).min(rest.len());
        kept[at].1.extend(rest.drain(..room));
    }
    while !rest.is_empty() {
        let full = rest.split_off(rest.len().min(ENDPOINTS_LEN_MAX));
        kept.push((None, std::mem::replace(&mut rest, full)));
    }
    if kept.is_empty() {
        kept.push((None, Vec::new()));
    }
    // One empty slice may stay, if it is all there is.
    let empty_stays = kept.iter().all(|(_, endpoints)| endpoints.is_empty());
    let mut kept_empty = false;
    for (slice, endpoints) in kept {
        if endpoints.is_empty() && (!empty_stays || kept_empty) {
            plan.steps.extend(slice.map(|slice| Step::delete(&*slice)));
            continue;
        }
        kept_empty |= endpoints.is_empty();
        let new = build(service, family, ports, endpoints, slice.as_deref());
        match slice {
            None => plan.push(Step::create(new).in_batch(0)),
            Some(old) if new != *old => plan.push(Step::update(new)),
            Some(_) => {}
        }
    }
}

fn build(
    service: &Arc<Service>,
    family: &str,
    ports: &[Port],
    endpoints: Vec<Endpoint>,
    old: Option<&EndpointSlice>,
) -> EndpointSlice {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if endpoints::is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), service.name().to_owned());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut metadata = old.map(|slice| slice.metadata.clone()).unwrap_or_else(|| ObjectMeta {
        generate_name: Some(format!("{}-", service.name())),
        namespace: service.metadata.namespace.clone(),
        owner_references: Some(vec![api::owner::controller_reference(&**service)]),
        ..Default::default()
    });
    metadata.labels = Some(labels);
    let ports: Vec<EndpointPort> = ports
        .iter()
        .map(|port| EndpointPort {
            name: Some(port.name.clone()),
            protocol: Some(port.protocol.clone()),
            port: Some(port.port),
            app_protocol: port.app_protocol.clone(),
        })
        .collect();
    EndpointSlice { metadata, address_type: family.to_owned(), endpoints: Some(endpoints), ports: Some(ports) }
}
