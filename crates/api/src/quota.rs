//! What objects count for in ResourceQuotas, which quotas they count in, and whether they fit. Pure: shared by
//! admission, which charges, and by the controller, which counts.
//!
//! Upstream: pkg/quota/v1/evaluator/core and apiserver/pkg/admission/plugin/resourcequota.

mod charge;
mod limited;
mod pod;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::core::v1::{self, PersistentVolumeClaim, ResourceQuota, Service};
use crate::lean::Pod;
use crate::object::{Object, downcast};
use crate::quantity::{Amount, Format, amount};
use crate::{Quantity, Timestamp};

pub use charge::{Charge, charge};
pub use limited::{Limited, Uncovered, covered};
pub use pod::requested;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Amount>;

/// What follows a storage class's name in the name of what is counted of it.
const BY_STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";
/// Core resources that are counted under their own name too.
const ALIASES: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];

/// A resource as quotas name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct What<'a> {
    /// `""`: the core group.
    pub group: &'a str,
    pub plural: &'a str,
}

impl What<'_> {
    /// `count/deployments.apps`, `count/pods`.
    pub fn count_name(&self) -> String {
        match self.group {
            "" => format!("count/{}", self.plural),
            group => format!("count/{}.{group}", self.plural),
        }
    }

    /// Whether the name is of something that this resource's objects count for.
    pub fn counts_for(&self, name: &str) -> bool {
        if name == self.count_name() {
            return true;
        }
        match self.plural {
            _ if !self.group.is_empty() => false,
            "pods" => pod::is_name(name),
            "services" => matches!(name, "services" | "services.nodeports" | "services.loadbalancers"),
            CLAIMS => {
                matches!(name, CLAIMS | STORAGE)
                    || [CLAIMS, STORAGE]
                        .iter()
                        .any(|own| name.strip_suffix(own).is_some_and(|head| head.ends_with(BY_STORAGE_CLASS)))
            }
            plural => ALIASES.contains(&plural) && name == plural,
        }
    }

    /// What an object counts for.
    pub fn usage(&self, object: &dyn Object, now: Timestamp) -> Amounts {
        let mut used = Amounts::from([(self.count_name(), one())]);
        if let Some(pod) = pod_of(object) {
            pod::add_usage(&pod, now, &mut used);
        } else if let Some(service) = downcast::<Service>(object) {
            add_service(service, &mut used);
        } else if let Some(claim) = downcast::<PersistentVolumeClaim>(object) {
            add_claim(claim, &mut used);
        } else if self.group.is_empty() && ALIASES.contains(&self.plural) {
            used.insert(self.plural.to_owned(), one());
        }
        used
    }
}

/// A whole pod's lean form, for who asks several things of it.
fn leaned(object: &dyn Object) -> Option<Pod> {
    downcast::<v1::Pod>(object).map(|pod| Pod::from(pod.clone()))
}

/// The object as a lean pod, if it is a pod of either form.
fn pod_of(object: &dyn Object) -> Option<Cow<'_, Pod>> {
    downcast::<Pod>(object).map(Cow::Borrowed).or_else(|| leaned(object).map(Cow::Owned))
}

fn one() -> Amount {
    Amount::new(1, Format::DecimalSi)
}

fn number(count: usize) -> Amount {
    Amount::new(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

fn add_service(service: &Service, used: &mut Amounts) {
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let type_ = spec.type_.as_deref().unwrap_or("ClusterIP");
    let node_ports = match type_ {
        "NodePort" => ports.len(),
        "LoadBalancer" if spec.allocate_load_balancer_node_ports == Some(false) => {
            ports.iter().filter(|port| port.node_port.is_some_and(|port| port != 0)).count()
        }
        "LoadBalancer" => ports.len(),
        _ => 0,
    };
    used.insert("services".to_owned(), one());
    used.insert("services.nodeports".to_owned(), number(node_ports));
    used.insert("services.loadbalancers".to_owned(), number(usize::from(type_ == "LoadBalancer")));
}

fn add_claim(claim: &PersistentVolumeClaim, used: &mut Amounts) {
    let spec = claim.spec.clone().unwrap_or_default();
    let old_way = claim.metadata.annotations.as_ref().and_then(|all| all.get(STORAGE_CLASS)).cloned();
    let class = old_way.or(spec.storage_class_name).filter(|class| !class.is_empty());
    let of = |list: Option<&BTreeMap<String, Quantity>>| list.and_then(|list| list.get("storage")).map(amount);
    let asked = of(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    let allocated = of(claim.status.as_ref().and_then(|status| status.allocated_resources.as_ref()));
    let storage = asked.map(|asked| allocated.map_or(asked, |allocated| asked.max(allocated)));
    // Whole bytes: quotas count no fractions.
    let storage = storage.map(|storage| Amount::new(storage.value(), storage.format()));
    let all = [(CLAIMS, Some(one())), (STORAGE, storage)];
    for (name, amount) in all.into_iter().filter_map(|(name, amount)| Some((name, amount?))) {
        used.insert(name.to_owned(), amount);
        if let Some(class) = &class {
            used.insert(format!("{class}{BY_STORAGE_CLASS}{name}"), amount);
        }
    }
}

/// The classes of volume attributes that a claim has, has asked for or is on its way to.
fn attribute_classes(claim: &PersistentVolumeClaim) -> BTreeSet<String> {
    let spec = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.clone());
    let target =
        status.and_then(|status| status.modify_volume_status.as_ref()?.target_volume_attributes_class_name.clone());
    [spec, current, target].into_iter().flatten().filter(|name| !name.is_empty()).collect()
}

/// Whether a quota's scopes take the object in. Objects that know no scopes are in none.
pub fn in_scopes(quota: &ResourceQuota, object: &dyn Object) -> bool {
    let Some(spec) = &quota.spec else { return true };
    let plain = spec.scopes.iter().flatten().map(|scope| (scope.as_str(), "Exists", &[][..]));
    let selected = spec.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    let selected =
        selected.map(|one| (one.scope_name.as_str(), one.operator.as_str(), one.values.as_deref().unwrap_or_default()));
    plain.chain(selected).all(|(scope, operator, values)| in_scope(object, scope, operator, values))
}

fn in_scope(object: &dyn Object, scope: &str, operator: &str, values: &[String]) -> bool {
    if let Some(pod) = pod_of(object) {
        return pod::in_scope(&pod, scope, operator, values);
    }
    match downcast::<PersistentVolumeClaim>(object) {
        Some(claim) if scope == "VolumeAttributesClass" => selects(operator, values, &attribute_classes(claim)),
        _ => false,
    }
}

/// A requirement on a name that an object may have, one or several.
fn selects(operator: &str, values: &[String], names: &BTreeSet<String>) -> bool {
    match operator {
        "Exists" => !names.is_empty(),
        "DoesNotExist" => names.is_empty(),
        "In" => names.iter().any(|name| values.contains(name)),
        "NotIn" => names.is_empty() || names.iter().any(|name| !values.contains(name)),
        _ => false,
    }
}

/// The sum of what objects count for, of the names given.
pub fn total<'a>(
    what: What<'_>,
    quota: &ResourceQuota,
    objects: impl Iterator<Item = &'a dyn Object>,
    names: &BTreeSet<&str>,
    now: Timestamp,
) -> Amounts {
    let mut sum: Amounts = names.iter().map(|name| ((*name).to_owned(), Amount::ZERO)).collect();
    for object in objects.filter(|object| in_scopes(quota, *object)) {
        for (name, amount) in what.usage(object, now) {
            if let Some(own) = sum.get_mut(&name) {
                *own += amount;
            }
        }
    }
    sum
}

/// As API values.
pub fn quantities(amounts: &Amounts) -> BTreeMap<String, Quantity> {
    amounts.iter().map(|(name, amount)| (name.clone(), amount.to_quantity())).collect()
}

fn amounts<'a>(list: Option<impl IntoIterator<Item = (&'a String, &'a Quantity)>>) -> Amounts {
    list.into_iter().flatten().map(|(name, quantity)| (name.clone(), amount(quantity))).collect()
}

#[cfg(test)]
mod tests;
