//! Whether the node can take a pod at all. The scheduler has usually asked the same; pods bound by hand have not been
//! asked. Pure.
//!
//! Upstream: kubelet `lifecycle/predicate.go`.

use std::collections::BTreeMap;

use api::Quantity;
use api::core::v1::Pod;

use crate::{amount, pod};

/// Why a pod is refused: reason and message of its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    pub message: String,
}

fn requests(p: &Pod, resource: &str) -> i128 {
    pod::pod_total(p, resource, |r| r.requests.as_ref()).0
}

/// Names of all resources any container of the pod asks for.
fn resources(p: &Pod) -> Vec<String> {
    let all = pod::containers(p).iter().chain(pod::init_containers(p));
    let mut names: Vec<String> = all
        .filter_map(|c| c.resources.as_ref()?.requests.as_ref())
        .flat_map(|requests| requests.keys().cloned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The units upstream counts a resource in.
fn counted(resource: &str, nano: i128) -> i64 {
    if resource == "cpu" { amount::milli_of_nano(nano) } else { amount::units_of_nano(nano) }
}

/// Whether the node, with `others` on it, has room for the pod. Without `node_labels` its selector is not looked at.
pub fn admit<'a>(
    p: &Pod,
    others: impl Iterator<Item = &'a Pod> + Clone,
    allocatable: &BTreeMap<String, Quantity>,
    node_labels: Option<&BTreeMap<String, String>>,
) -> Result<(), Refusal> {
    let short = |resource: &str, requested: i64, used: i64, capacity: i64| Refusal {
        reason: format!("OutOf{resource}"),
        message: format!(
            "Pod was rejected: Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, \
             capacity: {capacity}"
        ),
    };
    let capacity = |resource: &str| allocatable.get(resource).map_or(0, amount::nano);
    let count = i64::try_from(others.clone().count()).unwrap_or(i64::MAX);
    let pods_max = amount::units_of_nano(capacity("pods"));
    if count >= pods_max {
        return Err(short("pods", 1, count, pods_max));
    }
    for resource in resources(p) {
        let requested = requests(p, &resource);
        if requested == 0 {
            continue;
        }
        let used: i128 = others.clone().map(|other| requests(other, &resource)).sum();
        if used + requested > capacity(&resource) {
            let of = |nano| counted(&resource, nano);
            return Err(short(&resource, of(requested), of(used), of(capacity(&resource))));
        }
    }
    let mut selector = pod::spec(p).node_selector.iter().flatten();
    if node_labels.is_some_and(|labels| selector.any(|(key, value)| labels.get(key) != Some(value))) {
        return Err(Refusal {
            reason: "NodeAffinity".into(),
            message:
                "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
                    .into(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    fn pod_of(cpu: &str) -> Pod {
        let text = format!(
            r#"{{"spec":{{"containers":[{{"name":"a","resources":{{"requests":{{"cpu":"{cpu}"}}}}}}],"nodeSelector":{{"a":"b"}}}}}}"#
        );
        Pod::decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn room_and_labels() {
        let quantity = |text: &str| Quantity(text.into());
        let allocatable = BTreeMap::from([("cpu".to_owned(), quantity("2")), ("pods".to_owned(), quantity("2"))]);
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let one = [pod_of("1500m")];
        assert_eq!(admit(&pod_of("500m"), one.iter(), &allocatable, Some(&labels)), Ok(()));
        let refusal = admit(&pod_of("600m"), one.iter(), &allocatable, Some(&labels)).unwrap_err();
        assert_eq!(refusal.reason, "OutOfcpu");
        assert_eq!(
            refusal.message,
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"
        );
        let two = [pod_of("1m"), pod_of("1m")];
        assert_eq!(admit(&pod_of("1m"), two.iter(), &allocatable, Some(&labels)).unwrap_err().reason, "OutOfpods");
        let refusal = admit(&pod_of("1m"), one.iter(), &allocatable, Some(&BTreeMap::new())).unwrap_err();
        assert_eq!(refusal.reason, "NodeAffinity");
    }
}
