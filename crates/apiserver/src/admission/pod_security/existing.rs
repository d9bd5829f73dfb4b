//! What is told of the pods that are in a namespace when more is demanded of it. They stay as they are.
//!
//! Upstream: pod-security-admission/admission (EvaluatePodsInNamespace).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::Object;
use api::core::v1::Pod;

use super::{Demand, Settings, checks};

/// Further pods are not looked at, and that is told.
const PODS_MAX: usize = 3000;

/// The pods to look at: those that are not exempt, one of each owner before the others, which are likely to be like it.
pub(super) fn prioritized(pods: Vec<Arc<Pod>>, settings: &Settings) -> Vec<Arc<Pod>> {
    let mut owners: BTreeSet<String> = BTreeSet::new();
    let asked = pods.into_iter().filter(|pod| pod.spec.as_ref().is_none_or(|spec| !settings.exempts_class(spec)));
    let (mut first, more): (Vec<_>, Vec<_>) = asked.partition(|pod| {
        let mut references = pod.metadata.owner_references.iter().flatten();
        references.find(|owner| owner.controller == Some(true)).is_none_or(|owner| owners.insert(owner.uid.clone()))
    });
    first.extend(more);
    first
}

/// A line for each kind of violation, by the first of the pods that have it, below one that says what they are.
pub(super) fn violations(pods: &[Arc<Pod>], namespace: &str, demand: Demand) -> Vec<String> {
    let mut by_violation: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for pod in pods.iter().take(PODS_MAX) {
        let Some(spec) = &pod.spec else { continue };
        let found = checks::violations(demand, &pod.metadata, spec);
        if !found.is_empty() {
            let reasons: Vec<&str> = found.iter().map(|(reason, _)| reason.as_str()).collect();
            by_violation.entry(reasons.join(", ")).or_default().push(pod.name());
        }
    }
    let mut told = Vec::new();
    if pods.len() > PODS_MAX {
        let all = pods.len();
        told.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {all} existing pods"
        ));
    }
    if !by_violation.is_empty() {
        let shown = demand.shown();
        told.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {shown:?}"
        ));
    }
    let mut each: Vec<String> = by_violation.iter().map(|(reasons, names)| line(reasons, names)).collect();
    each.sort();
    told.extend(each);
    told
}

fn line(reasons: &str, names: &[&str]) -> String {
    let others = match names.len() - 1 {
        0 => String::new(),
        1 => " (and 1 other pod)".to_owned(),
        more => format!(" (and {more} other pods)"),
    };
    let first = names.iter().min().expect("there is one, or there were no line");
    format!("{first}{others}: {reasons}")
}

#[cfg(test)]
mod tests {
    use api::core::v1::{Container, PodSpec};
    use api::meta::v1::OwnerReference;

    use super::super::{Level, Version};
    use super::*;

    const BASELINE: Demand = Demand { level: Level::Baseline, version: Version::Latest };

    fn pod(name: &str, host: bool, owner: &str) -> Pod {
        let spec = PodSpec { containers: vec![Container::default()], host_network: Some(host), ..PodSpec::default() };
        let mut pod = Pod { spec: Some(spec), ..Pod::default() };
        pod.metadata.name = Some(name.into());
        let reference = OwnerReference { uid: owner.into(), controller: Some(true), ..OwnerReference::default() };
        pod.metadata.owner_references = (!owner.is_empty()).then(|| vec![reference]);
        pod
    }

    #[test]
    fn pods_that_are_there_are_told_of() {
        let mut other = pod("z", false, "");
        other.spec.as_mut().unwrap().host_pid = Some(true);
        other.spec.as_mut().unwrap().containers[0].security_context =
            Some(api::core::v1::SecurityContext { privileged: Some(true), ..Default::default() });
        let pods = [pod("c", true, ""), pod("b", false, ""), pod("a", true, ""), other].map(Arc::new);
        assert_eq!(
            violations(&pods, "ns", BASELINE),
            [
                "existing pods in namespace \"ns\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "a (and 1 other pod): host namespaces",
                "z: host namespaces, privileged",
            ]
        );
    }

    #[test]
    fn one_of_each_owner_is_looked_at_first_and_the_exempt_are_not() {
        let settings = Settings { runtime_classes: vec!["kata".into()], ..Settings::default() };
        let mut exempt = pod("exempt", true, "");
        exempt.spec.as_mut().unwrap().runtime_class_name = Some("kata".into());
        let pods = [pod("a1", true, "a"), pod("a2", true, "a"), exempt, pod("b1", true, "b"), pod("own", true, "")];
        let order = prioritized(pods.map(Arc::new).into(), &settings);
        assert_eq!(order.iter().map(|pod| pod.name()).collect::<Vec<_>>(), ["a1", "b1", "own", "a2"]);
    }

    #[test]
    fn what_is_not_looked_at_is_told() {
        let mut pods: Vec<Arc<Pod>> = (0..PODS_MAX).map(|_| Arc::new(pod("fine", false, ""))).collect();
        assert!(violations(&pods, "ns", BASELINE).is_empty());
        pods.push(Arc::new(pod("late", true, "")));
        assert_eq!(
            violations(&pods, "ns", BASELINE),
            ["new PodSecurity enforce level only checked against the first 3000 of 3001 existing pods"]
        );
    }
}
