//! Guards the ranges that services get their addresses from: a ServiceCIDR is ready once it is protected, and goes only
//! when no address depends on it alone.
//!
//! Upstream: pkg/controller/servicecidrs.

pub(crate) mod prefix;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::meta::v1::{Condition, Time};
use api::networking::v1::{IPAddress, ServiceCIDR};
use api::{Object, Timestamp};
use client::{Change, Reflectors};

use crate::harness::{Plan, Read, Step, View, Write};
use prefix::Prefix;

/// Who makes IPAddresses for services.
pub(crate) const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
/// The label that names an address's family.
pub(crate) const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Ready";
/// How long after its deletion was asked for a range may still be given out of: those who do so must see it first.
const GRACE_SECONDS: i64 = 10;

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "service-cidrs-controller";
    type Primary = ServiceCIDR;

    fn reads() -> Vec<Read> {
        vec![Read::mapped::<IPAddress>(ranges_of), Read::mapped::<ServiceCIDR>(others)]
    }

    fn writes() -> Vec<Write> {
        vec![Write::of::<ServiceCIDR>(&["patch", "update"]), Write::status::<ServiceCIDR>()]
    }

    fn plan(&self, range: &Arc<ServiceCIDR>, view: &View<'_>, now: Timestamp) -> Plan {
        let ranges: Vec<Arc<ServiceCIDR>> = view.all::<ServiceCIDR>().values().cloned().collect();
        plan(range, &ranges, || view.all::<IPAddress>().values().cloned().collect(), now)
    }
}

/// An address that comes or goes concerns the ranges that go away.
fn ranges_of(_: &Change<IPAddress>, reflectors: &Reflectors, keys: &mut BTreeSet<String>) {
    terminating(reflectors, keys);
}

/// A range concerns the others that go away: it may take over their addresses.
fn others(_: &Change<ServiceCIDR>, reflectors: &Reflectors, keys: &mut BTreeSet<String>) {
    terminating(reflectors, keys);
}

fn terminating(reflectors: &Reflectors, keys: &mut BTreeSet<String>) {
    let all = reflectors.of::<ServiceCIDR>().snapshot();
    keys.extend(all.values().filter(|range| range.is_terminating()).map(|range| range.name().to_owned()));
}

/// The prefixes of a range.
pub(crate) fn prefixes(range: &ServiceCIDR) -> Vec<Prefix> {
    let cidrs = range.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
    cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect()
}

fn has_finalizer(range: &ServiceCIDR) -> bool {
    range.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

fn plan(
    range: &ServiceCIDR,
    ranges: &[Arc<ServiceCIDR>],
    addresses: impl FnOnce() -> Vec<Arc<IPAddress>>,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    if let Some(since) = &range.metadata.deletion_timestamp {
        if !has_finalizer(range) {
            return plan;
        }
        if !may_go(range, ranges, addresses) {
            let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new \
                       ServiceCIDR";
            set_ready(&mut plan, range, "False", "Terminating", why, now);
            return plan;
        }
        let left_seconds = GRACE_SECONDS - now.duration_since(since.0).as_secs();
        if let Ok(left_seconds @ 1..) = u64::try_from(left_seconds) {
            return Plan::again_after(Duration::from_secs(left_seconds));
        }
        let mut new = range.clone();
        new.metadata.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
        plan.push(Step::update(new));
        return plan;
    }
    if !has_finalizer(range) {
        // Its change brings us back for the condition.
        let mut new = range.clone();
        new.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
        plan.push(Step::update(new));
        return plan;
    }
    let ready = conditions(range).iter().any(|condition| condition.type_ == READY && condition.status == "True");
    if !ready {
        set_ready(&mut plan, range, "True", "", "Kubernetes Service CIDR is ready", now);
    }
    plan
}

fn conditions(range: &ServiceCIDR) -> &[Condition] {
    range.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn set_ready(plan: &mut Plan, range: &ServiceCIDR, status: &str, reason: &str, message: &str, now: Timestamp) {
    let old = conditions(range).iter().find(|condition| condition.type_ == READY);
    if old.is_some_and(|old| {
        (old.status.as_str(), old.reason.as_str(), old.message.as_str()) == (status, reason, message)
    }) {
        return;
    }
    let since = old.filter(|old| old.status == status).map(|old| old.last_transition_time.clone());
    let condition = Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: None,
        last_transition_time: since.unwrap_or(Time(now)),
    };
    let mut new = range.clone();
    let all = new.status.get_or_insert_default().conditions.get_or_insert_default();
    match all.iter_mut().find(|own| own.type_ == READY) {
        Some(own) => *own = condition,
        None => all.push(condition),
    }
    plan.push(Step::update_status(new));
}

/// Whether no address would be left without a range: another one holds all of it, or none of its addresses is given.
fn may_go(range: &ServiceCIDR, ranges: &[Arc<ServiceCIDR>], addresses: impl FnOnce() -> Vec<Arc<IPAddress>>) -> bool {
    let own = prefixes(range);
    let others: Vec<Prefix> =
        ranges.iter().filter(|other| other.name() != range.name()).flat_map(|other| prefixes(other)).collect();
    if own.iter().all(|prefix| others.iter().any(|other| other.covers(prefix))) {
        return true;
    }
    let alone = |address: IpAddr| {
        own.iter().any(|prefix| prefix.gives(address)) && !others.iter().any(|other| other.gives(address))
    };
    let managed = |address: &IPAddress| address.label(MANAGED_BY.0) == Some(MANAGED_BY.1);
    !addresses().iter().filter(|address| managed(address)).filter_map(|address| address.name().parse().ok()).any(alone)
}

#[cfg(test)]
mod tests;
