//! LimitRanger: containers that ask for nothing get a namespace's defaults, and nobody asks for more or less than its
//! LimitRanges allow.
//!
//! Upstream: plugin/pkg/admission/limitranger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::core::v1::{Container, LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod, PodSpec, ResourceRequirements};
use api::quantity::{Amount, amount};
use api::{Quantity, Status};
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};
use crate::authz::rule::aggregate;

pub struct Plugin;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

type Amounts = BTreeMap<String, Quantity>;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        let pods = operation == Operation::Create && resource == "pods";
        let claims = matches!(operation, Operation::Create | Operation::Update) && resource == "persistentvolumeclaims";
        group.is_empty() && subresource.is_empty() && (pods || claims)
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let ranges = request.lookup().list::<LimitRange>(Some(request.namespace));
        if let Some(pod) = request.object::<Pod>() {
            for range in &ranges {
                default_pod(pod, range);
            }
        }
        done(Ok(()))
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let ranges = request.lookup().list::<LimitRange>(Some(request.namespace));
        let mut errors = Vec::new();
        for item in items(&ranges) {
            if let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_ref()) {
                check_pod(spec, item, &mut errors);
            } else if let Some(claim) = request.object::<PersistentVolumeClaim>() {
                check_claim(claim, item, &mut errors);
            }
        }
        if errors.is_empty() { done(Ok(())) } else { done(Err(request.forbidden(&aggregate(&errors)))) }
    }
}

fn items(ranges: &[Arc<LimitRange>]) -> impl Iterator<Item = &LimitRangeItem> {
    ranges.iter().filter_map(|range| range.spec.as_ref()).flat_map(|spec| &spec.limits)
}

/// Fills in what containers leave out, and says so in an annotation.
fn default_pod(pod: &mut Pod, range: &LimitRange) {
    let (mut limits, mut requests) = (Amounts::new(), Amounts::new());
    for item in range.spec.iter().flat_map(|spec| &spec.limits).filter(|item| item.type_ == "Container") {
        limits.extend(item.default.clone().unwrap_or_default());
        requests.extend(item.default_request.clone().unwrap_or_default());
    }
    let Some(spec) = &mut pod.spec else { return };
    let mut said = Vec::new();
    for container in &mut spec.containers {
        default_container(container, "container", &limits, &requests, &mut said);
    }
    for container in spec.init_containers.iter_mut().flatten() {
        default_container(container, "init container", &limits, &requests, &mut said);
    }
    if !said.is_empty() {
        let text = format!("LimitRanger plugin set: {}", said.join("; "));
        pod.metadata.annotations.get_or_insert_default().insert(ANNOTATION.to_owned(), text);
    }
}

fn default_container(
    container: &mut Container,
    what: &str,
    limits: &Amounts,
    requests: &Amounts,
    said: &mut Vec<String>,
) {
    let mut fill = |of: &str, own: &mut Option<Amounts>, defaults: &Amounts| {
        let missing: Vec<_> =
            defaults.iter().filter(|(key, _)| own.as_ref().is_none_or(|own| !own.contains_key(*key))).collect();
        if missing.is_empty() {
            return;
        }
        let names: Vec<&str> = missing.iter().map(|(key, _)| key.as_str()).collect();
        said.push(format!("{} {of} for {what} {}", names.join(", "), container.name));
        own.get_or_insert_default().extend(missing.into_iter().map(|(key, value)| (key.clone(), value.clone())));
    };
    let resources = container.resources.get_or_insert_default();
    fill("request", &mut resources.requests, requests);
    fill("limit", &mut resources.limits, limits);
}

fn of(resources: Option<&ResourceRequirements>) -> (Amounts, Amounts) {
    let resources = resources.cloned().unwrap_or_default();
    (resources.requests.unwrap_or_default(), resources.limits.unwrap_or_default())
}

fn check_pod(spec: &PodSpec, item: &LimitRangeItem, errors: &mut Vec<String>) {
    let init = || spec.init_containers.iter().flatten();
    match item.type_.as_str() {
        "Container" => {
            for container in spec.containers.iter().chain(init()) {
                let (requests, limits) = of(container.resources.as_ref());
                check(item, &requests, &limits, errors);
            }
        }
        "Pod" => {
            let each = |list: Vec<&Container>, pick: fn((Amounts, Amounts)) -> Amounts| -> Vec<Amounts> {
                list.into_iter().map(|container| pick(of(container.resources.as_ref()))).collect()
            };
            let total = |pick: fn((Amounts, Amounts)) -> Amounts| {
                whole_pod(&each(spec.containers.iter().collect(), pick), &each(init().collect(), pick))
            };
            check(item, &total(|(requests, _)| requests), &total(|(_, limits)| limits), errors);
        }
        _ => {}
    }
}

/// What a pod has in all: its containers together, or its greediest init container. An amount that one container leaves
/// out is not known for the pod.
fn whole_pod(containers: &[Amounts], init: &[Amounts]) -> Amounts {
    let keys: BTreeSet<&String> = containers.iter().flat_map(BTreeMap::keys).collect();
    let mut all = Amounts::new();
    for key in keys {
        let of = |amounts: &Amounts| amounts.get(key).map(amount);
        let Some(sum) = containers.iter().map(of).collect::<Option<Vec<Amount>>>() else { continue };
        let sum: Amount = sum.into_iter().sum();
        let most = init.iter().filter_map(of).fold(sum, Amount::max);
        all.insert(key.clone(), most.to_quantity());
    }
    all
}

fn check_claim(claim: &PersistentVolumeClaim, item: &LimitRangeItem, errors: &mut Vec<String>) {
    if item.type_ != "PersistentVolumeClaim" {
        return;
    }
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let requests = resources.and_then(|resources| resources.requests.clone()).unwrap_or_default();
    // A claim has no limits: only requests are held against the range.
    for (key, least) in item.min.iter().flatten() {
        errors.extend(below(item, key, least, requests.get(key), None));
    }
    for (key, most) in item.max.iter().flatten() {
        if let Some(asked) = requests.get(key).filter(|asked| amount(asked) > amount(most)) {
            errors.push(format!("{}, but request is {}", bound("maximum", item, key, most), shown(asked)));
        }
    }
}

fn shown(quantity: &Quantity) -> String {
    amount(quantity).to_string()
}

fn bound(which: &str, item: &LimitRangeItem, key: &str, quantity: &Quantity) -> String {
    format!("{which} {key} usage per {} is {}", item.type_, shown(quantity))
}

fn below(
    item: &LimitRangeItem,
    key: &str,
    least: &Quantity,
    asked: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let head = bound("minimum", item, key, least);
    let Some(asked) = asked else { return Some(format!("{head}.  No request is specified")) };
    if amount(asked) < amount(least) {
        return Some(format!("{head}, but request is {}", shown(asked)));
    }
    let limit = limit.filter(|limit| amount(limit) < amount(least))?;
    Some(format!("{head}, but limit is {}", shown(limit)))
}

fn above(
    item: &LimitRangeItem,
    key: &str,
    most: &Quantity,
    asked: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let head = bound("maximum", item, key, most);
    let Some(limit) = limit else { return Some(format!("{head}.  No limit is specified")) };
    if amount(limit) > amount(most) {
        return Some(format!("{head}, but limit is {}", shown(limit)));
    }
    let asked = asked.filter(|asked| amount(asked) > amount(most))?;
    Some(format!("{head}, but request is {}", shown(asked)))
}

fn too_far_apart(
    item: &LimitRangeItem,
    key: &str,
    most: &Quantity,
    asked: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let head = format!("{key} max limit to request ratio per {} is {}", item.type_, shown(most));
    let some = |quantity: Option<&Quantity>| quantity.map(amount).filter(|amount| !amount.is_zero());
    let Some(asked) = some(asked) else { return Some(format!("{head}, but no request is specified or request is 0")) };
    let Some(limit) = some(limit) else { return Some(format!("{head}, but no limit is specified or limit is 0")) };
    let ratio = limit.as_f64() / asked.as_f64();
    (ratio > amount(most).as_f64()).then(|| format!("{head}, but provided ratio is {ratio:.6}"))
}

fn check(item: &LimitRangeItem, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
    let both = |key: &str| (requests.get(key), limits.get(key));
    for (key, least) in item.min.iter().flatten() {
        let (asked, limit) = both(key);
        errors.extend(below(item, key, least, asked, limit));
    }
    for (key, most) in item.max.iter().flatten() {
        let (asked, limit) = both(key);
        errors.extend(above(item, key, most, asked, limit));
    }
    for (key, most) in item.max_limit_request_ratio.iter().flatten() {
        let (asked, limit) = both(key);
        errors.extend(too_far_apart(item, key, most, asked, limit));
    }
}

#[cfg(test)]
mod tests {
    use api::core::v1::LimitRangeSpec;

    use super::*;

    fn amounts(list: &[(&str, &str)]) -> Option<Amounts> {
        Some(list.iter().map(|(key, value)| ((*key).to_owned(), Quantity((*value).to_owned()))).collect())
    }

    fn item(kind: &str) -> LimitRangeItem {
        LimitRangeItem { type_: kind.into(), ..LimitRangeItem::default() }
    }

    fn container(name: &str, requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Container {
        let (requests, limits) = (amounts(requests), amounts(limits));
        let resources = ResourceRequirements { requests, limits, ..ResourceRequirements::default() };
        Container { name: name.into(), resources: Some(resources), ..Container::default() }
    }

    #[test]
    fn what_is_left_out_is_filled_in_and_told() {
        let default = LimitRangeItem {
            default: amounts(&[("cpu", "500m"), ("memory", "1Gi")]),
            default_request: amounts(&[("cpu", "100m")]),
            ..item("Container")
        };
        let range = LimitRange { spec: Some(LimitRangeSpec { limits: vec![default] }), ..LimitRange::default() };
        let containers = vec![container("a", &[], &[("cpu", "1")]), container("b", &[("cpu", "1")], &[])];
        let mut pod = Pod { spec: Some(PodSpec { containers, ..PodSpec::default() }), ..Pod::default() };
        default_pod(&mut pod, &range);
        let spec = pod.spec.as_ref().unwrap();
        let resources = spec.containers[0].resources.as_ref().unwrap();
        assert_eq!(resources.limits, amounts(&[("cpu", "1"), ("memory", "1Gi")]));
        assert_eq!(resources.requests, amounts(&[("cpu", "100m")]));
        assert_eq!(
            pod.metadata.annotations.unwrap()[ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; memory limit for container a; \
             cpu, memory limit for container b"
        );
    }

    #[test]
    fn bounds_are_kept_in_upstreams_words() {
        let said = |item: &LimitRangeItem, requests: &[(&str, &str)], limits: &[(&str, &str)]| {
            let mut errors = Vec::new();
            let spec = PodSpec { containers: vec![container("a", requests, limits)], ..PodSpec::default() };
            check_pod(&spec, item, &mut errors);
            errors.join("|")
        };
        let min = LimitRangeItem { min: amounts(&[("cpu", "100m")]), ..item("Container") };
        assert_eq!(said(&min, &[], &[]), "minimum cpu usage per Container is 100m.  No request is specified");
        assert_eq!(said(&min, &[("cpu", "50m")], &[]), "minimum cpu usage per Container is 100m, but request is 50m");
        assert_eq!(said(&min, &[("cpu", "100m")], &[]), "");
        let max = LimitRangeItem { max: amounts(&[("memory", "1Gi")]), ..item("Container") };
        assert_eq!(said(&max, &[], &[]), "maximum memory usage per Container is 1Gi.  No limit is specified");
        assert_eq!(
            said(&max, &[], &[("memory", "2Gi")]),
            "maximum memory usage per Container is 1Gi, but limit is 2Gi"
        );
        let ratio = LimitRangeItem { max_limit_request_ratio: amounts(&[("cpu", "2")]), ..item("Container") };
        assert_eq!(
            said(&ratio, &[("cpu", "1")], &[("cpu", "3")]),
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"
        );
    }

    #[test]
    fn a_pod_is_its_containers_together() {
        let of = |list: &[(&str, &str)]| amounts(list).unwrap();
        let containers = [of(&[("cpu", "1"), ("memory", "1Gi")]), of(&[("cpu", "500m")])];
        assert_eq!(whole_pod(&containers, &[]), of(&[("cpu", "1500m")]));
        assert_eq!(whole_pod(&containers, &[of(&[("cpu", "2")])]), of(&[("cpu", "2")]));
    }
}
