//! Takes back IPAddresses that were given to services that do not have them.
//!
//! Upstream: pkg/registry/core/service/ipallocator/controller, `syncIPAddress`. Those that others made are let be.

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Service;
use api::networking::v1::IPAddress;
use api::{Object, Timestamp};

use crate::harness::{Plan, Read, Step, View, Write};
use crate::service_cidr::MANAGED_BY;

/// How long an IPAddress may be there before its service: it is made first.
const GRACE_SECONDS: i64 = 60;
/// What is right is looked at again after this long (upstream's interval). Services' changes call for nothing: the API
/// server takes their addresses back itself, a moment later.
const LOOK_AGAIN: Duration = Duration::from_secs(180);

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "ipaddress-repair-controller";
    type Primary = IPAddress;

    fn reads() -> Vec<Read> {
        vec![Read::only::<Service>()]
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<IPAddress>(&["delete"])]
    }

    fn plan(&self, address: &Arc<IPAddress>, view: &View<'_>, now: Timestamp) -> Plan {
        plan(address, |key| view.get::<Service>(key), now)
    }
}

fn plan(address: &IPAddress, service: impl Fn(&str) -> Option<Arc<Service>>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if address.label(MANAGED_BY.0) != Some(MANAGED_BY.1) || address.is_terminating() {
        return plan;
    }
    let (ip, parent) = (address.name(), &address.spec.parent_ref);
    let namespace = parent.namespace.as_deref().unwrap_or_default();
    let (reason, why) = if !parent.group.as_deref().unwrap_or_default().is_empty() || parent.resource != "services" {
        let shown = format!("{}/{}", parent.resource, parent.name);
        let why =
            format!("IPAddress {ip} appears to have been modified, not referencing a Service {shown}: cleaning up");
        ("IPAddressNotAllocated", why)
    } else {
        let created = address.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
        let left_seconds = GRACE_SECONDS - now.duration_since(created).as_secs();
        match (service(&format!("{namespace}/{}", parent.name)), u64::try_from(left_seconds)) {
            (Some(service), _) if has(&service, ip) => return Plan::again_after(LOOK_AGAIN),
            // Its service is being made, or changed, at this moment.
            (_, Ok(left_seconds @ 1..)) => return Plan::again_after(Duration::from_secs(left_seconds)),
            (Some(_), _) => {
                let why = format!(
                    "IPAddress: {ip} for Service {namespace}/{} has a wrong reference; cleaning up",
                    parent.name
                );
                ("IPAddressWrongReference", why)
            }
            (None, _) => {
                let why = format!(
                    "IPAddress: {ip} for Service {namespace}/{} appears to have leaked: cleaning up",
                    parent.name
                );
                ("IPAddressNotAllocated", why)
            }
        }
    };
    plan.warning(reason, why);
    plan.push(Step::delete(address));
    plan
}

fn has(service: &Service, ip: &str) -> bool {
    service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten()).any(|own| own == ip)
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use serde_json::json;

    use super::*;

    fn told(resource: &str, managed: bool, ips: Option<&[&str]>, seconds: i64) -> (String, usize, Option<Duration>) {
        let by = if managed { MANAGED_BY.1 } else { "me" };
        let value = json!({"metadata": {"name": "10.0.0.7", "labels": {MANAGED_BY.0: by},
                "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"parentRef": {"resource": resource, "namespace": "n", "name": "s"}}});
        let service = ips.map(|ips| Arc::new(Service::from_value(json!({"spec": {"clusterIPs": ips}})).unwrap()));
        let now = Timestamp::from_second(seconds).unwrap();
        let plan = plan(&IPAddress::from_value(value).unwrap(), |_| service.clone(), now);
        let events: Vec<String> = plan.events.iter().map(|(_, reason, why)| format!("{reason}: {why}")).collect();
        (events.join(" "), plan.steps.len(), plan.requeue_after)
    }

    #[test]
    fn leaks_are_taken_back_after_a_minute() {
        assert_eq!(told("services", true, None, 20), (String::new(), 0, Some(Duration::from_secs(40))));
        let leaked = "IPAddressNotAllocated: IPAddress: 10.0.0.7 for Service n/s appears to have leaked: cleaning up";
        assert_eq!(told("services", true, None, 60), (leaked.to_owned(), 1, None));
        let wrong = "IPAddressWrongReference: IPAddress: 10.0.0.7 for Service n/s has a wrong reference; cleaning up";
        assert_eq!(told("services", true, Some(&["10.0.0.8"]), 60), (wrong.to_owned(), 1, None));
    }

    #[test]
    fn what_is_right_or_of_others_stays() {
        assert_eq!(told("services", true, Some(&["10.0.0.7"]), 600), (String::new(), 0, Some(LOOK_AGAIN)));
        assert_eq!(told("services", false, None, 600), (String::new(), 0, None));
        let (why, steps, _) = told("gateways", true, None, 0);
        assert!(why.contains("appears to have been modified, not referencing a Service"), "{why}");
        assert_eq!(steps, 1);
    }
}
