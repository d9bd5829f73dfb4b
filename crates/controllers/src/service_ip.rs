//! Sees to it that every address of a service has its IPAddress.
//!
//! Upstream: pkg/registry/core/service/ipallocator/controller, `syncService`. The API server makes the IPAddresses;
//! what is repaired here was lost, changed by hand, or given out before there were any.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::Service;
use api::meta::v1::ObjectMeta;
use api::networking::v1::{IPAddress, IPAddressSpec, ParentReference, ServiceCIDR};
use api::{Object, Target, Timestamp, Typed};
use client::{Change, Reflectors};

use crate::harness::{Answered, Plan, Read, Step, View, Write};
use crate::service_cidr::{FAMILY, MANAGED_BY, prefixes};

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "ipallocator-repair-controller";
    type Primary = Service;

    fn reads() -> Vec<Read> {
        vec![Read::mapped::<IPAddress>(services_of), Read::only::<ServiceCIDR>()]
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<IPAddress>(&["get", "create", "delete"])]
    }

    /// An IPAddress that is not in view is asked for, because one view may be behind the other; then the service, which
    /// goes before its IPAddress does.
    fn asks(&self, service: &Arc<Service>, view: &View<'_>) -> Vec<Target> {
        let unseen = |ip: &IpAddr| view.get::<IPAddress>(&ip.to_string()).is_none();
        let mut asks: Vec<Target> =
            addresses(service).into_iter().flatten().filter(unseen).map(|ip| target(&ip)).collect();
        if !asks.is_empty() {
            asks.push(itself(service));
        }
        asks
    }

    fn plan(&self, service: &Arc<Service>, view: &View<'_>, _now: Timestamp) -> Plan {
        let ranges: Vec<_> = view.all::<ServiceCIDR>().values().flat_map(|range| prefixes(range)).collect();
        let in_range = |ip: IpAddr| ranges.is_empty() || ranges.iter().any(|range| range.gives(ip));
        let known = |ip: &IpAddr| match view.get::<IPAddress>(&ip.to_string()) {
            Some(known) => Known::Is(known),
            None => match view.answer(&target(ip)) {
                Some(Err(error)) if error.is_not_found() && still_has(view.answer(&itself(service)), ip) => {
                    Known::IsNot
                }
                // Still on its way to the view, or nobody knows: its event, or the next round, tells.
                _ => Known::Unknown,
            },
        };
        let has = |parent: &ParentReference, ip: &str| {
            let key = format!("{}/{}", parent.namespace.as_deref().unwrap_or_default(), parent.name);
            let other = view.get::<Service>(&key);
            other.is_some_and(|other| {
                other.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten()).any(|own| own == ip)
            })
        };
        plan(service, in_range, known, has)
    }
}

fn itself(service: &Service) -> Target {
    Target::kind(Service::KIND).namespaced(service.namespace()).named(service.name())
}

/// Whether the service has the address at this moment.
fn still_has(answered: Option<&Answered>, ip: &IpAddr) -> bool {
    let live = answered.and_then(|answered| answered.as_ref().ok()).and_then(|live| api::downcast::<Service>(&**live));
    live.is_some_and(|live| addresses(live).contains(&Ok(*ip)))
}

/// What is known of an address's object.
enum Known {
    Is(Arc<IPAddress>),
    IsNot,
    Unknown,
}

fn target(ip: &IpAddr) -> Target {
    Target::kind(IPAddress::KIND).named(&ip.to_string())
}

/// An IPAddress concerns the service it names.
fn services_of(change: &Change<IPAddress>, _: &Reflectors, keys: &mut BTreeSet<String>) {
    for address in [&change.old, &change.new].into_iter().flatten() {
        let parent = &address.spec.parent_ref;
        if parent.resource == "services" {
            keys.insert(format!("{}/{}", parent.namespace.as_deref().unwrap_or_default(), parent.name));
        }
    }
}

/// The addresses a service was given; those that are none as their text.
fn addresses(service: &Service) -> Vec<Result<IpAddr, String>> {
    let Some(spec) = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName")) else {
        return Vec::new();
    };
    let ips = spec.cluster_ips.iter().flatten().filter(|ip| !ip.is_empty() && *ip != "None");
    ips.map(|ip| ip.parse().map_err(|_| ip.clone())).collect()
}

fn family(ip: &IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn wanted(ip: &IpAddr, service: &Service) -> IPAddress {
    let labels = [(FAMILY, family(ip)), MANAGED_BY].map(|(key, value)| (key.to_owned(), value.to_owned()));
    IPAddress {
        metadata: ObjectMeta { name: Some(ip.to_string()), labels: Some(labels.into()), ..Default::default() },
        spec: IPAddressSpec {
            parent_ref: ParentReference {
                group: None,
                resource: "services".to_owned(),
                namespace: Some(service.namespace().to_owned()),
                name: service.name().to_owned(),
            },
        },
    }
}

fn plan(
    service: &Service,
    in_range: impl Fn(IpAddr) -> bool,
    known: impl Fn(&IpAddr) -> Known,
    has: impl Fn(&ParentReference, &str) -> bool,
) -> Plan {
    let mut plan = Plan::default();
    for ip in addresses(service) {
        let ip = match ip {
            Ok(ip) => ip,
            Err(text) => {
                let why = format!("Cluster IP {text} is not a valid IP; please recreate Service");
                plan.warning("ClusterIPNotValid", why);
                continue;
            }
        };
        let family = family(&ip);
        if !in_range(ip) {
            let why = format!(
                "Cluster IP [{family}]: {ip} is not within any configured Service CIDR; please recreate service"
            );
            plan.warning("ClusterIPOutOfRange", why);
            continue;
        }
        let address = match known(&ip) {
            Known::Is(address) => address,
            Known::IsNot => {
                let why = format!("Cluster IP [{family}]: {ip} is not allocated; repairing");
                plan.warning("ClusterIPNotAllocated", why);
                plan.push(Step::create(wanted(&ip, service)));
                continue;
            }
            Known::Unknown => continue,
        };
        let parent = &address.spec.parent_ref;
        let ours =
            parent.namespace.as_deref().unwrap_or_default() == service.namespace() && parent.name == service.name();
        let of_a_service = parent.group.as_deref().unwrap_or_default().is_empty() && parent.resource == "services";
        if !of_a_service || (!ours && !has(parent, address.name())) {
            let (namespace, name) = (service.namespace(), service.name());
            let why = format!(
                "the ClusterIP [{family}]: {ip} for Service {namespace}/{name} has a wrong reference; repairing"
            );
            plan.warning("ClusterIPNotAllocated", why);
        } else if !ours {
            let why = format!("Cluster IP [{family}]:{ip} was assigned to multiple services; please recreate service");
            plan.warning("ClusterIPAlreadyAllocated", why);
            continue;
        } else if address.label(FAMILY) == Some(family) && address.label(MANAGED_BY.0) == Some(MANAGED_BY.1) {
            continue;
        }
        plan.push(Step::delete(&*address));
        plan.push(Step::create(wanted(&ip, service)));
    }
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::harness::Op;

    fn service(ips: &[&str]) -> Service {
        let value = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"clusterIPs": ips}});
        Service::from_value(value).unwrap()
    }

    fn shown(plan: &Plan) -> (Vec<String>, Vec<&'static str>) {
        let events = plan.events.iter().map(|(_, reason, why)| format!("{reason}: {why}")).collect();
        let step = |op: &Op| match op {
            Op::Create(_) => "create",
            Op::Delete { .. } => "delete",
            _ => "other",
        };
        (events, plan.steps.iter().map(|step_| step(&step_.op)).collect())
    }

    #[test]
    fn what_is_lost_is_made_again() {
        let plan = plan(&service(&["10.0.0.7"]), |_| true, |_| Known::IsNot, |_, _| false);
        let (events, steps) = shown(&plan);
        assert_eq!(events, ["ClusterIPNotAllocated: Cluster IP [IPv4]: 10.0.0.7 is not allocated; repairing"]);
        assert_eq!(steps, ["create"]);
    }

    #[test]
    fn wrong_references_and_labels_are_mended() {
        let service = service(&["fd00::7"]);
        let ip: IpAddr = "fd00::7".parse().unwrap();
        let told = |change: fn(&mut IPAddress), other: bool| {
            let mut address = wanted(&ip, &service);
            change(&mut address);
            let address = Arc::new(address);
            let plan = plan(&service, |_| true, |_| Known::Is(address.clone()), |_, _| other);
            let (events, steps) = shown(&plan);
            (events.join(" "), steps.join(" "))
        };
        assert_eq!(told(|_| {}, false), (String::new(), String::new()));
        assert_eq!(told(|address| address.metadata.labels = None, false), (String::new(), "delete create".to_owned()));
        let wrong =
            "ClusterIPNotAllocated: the ClusterIP [IPv6]: fd00::7 for Service n/s has a wrong reference; repairing";
        let elsewhere: fn(&mut IPAddress) = |address| address.spec.parent_ref.name = "x".into();
        assert_eq!(told(elsewhere, false), (wrong.to_owned(), "delete create".to_owned()));
        let gateway: fn(&mut IPAddress) = |address| address.spec.parent_ref.resource = "gateways".into();
        assert_eq!(told(gateway, false), (wrong.to_owned(), "delete create".to_owned()));
        let twice = "ClusterIPAlreadyAllocated: Cluster IP [IPv6]:fd00::7 was assigned to multiple services; please \
                     recreate service";
        assert_eq!(told(elsewhere, true), (twice.to_owned(), String::new()));
    }

    #[test]
    fn what_cannot_be_mended_is_told() {
        let plan = plan(&service(&["x", "10.9.0.1", "None"]), |_| false, |_| Known::IsNot, |_, _| false);
        let (events, steps) = shown(&plan);
        assert_eq!(
            events,
            [
                "ClusterIPNotValid: Cluster IP x is not a valid IP; please recreate Service",
                "ClusterIPOutOfRange: Cluster IP [IPv4]: 10.9.0.1 is not within any configured Service CIDR; please \
                 recreate service"
            ]
        );
        assert!(steps.is_empty());
    }
}
