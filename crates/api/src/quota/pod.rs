//! What a pod counts for: its number, and what its containers ask for together.

use std::collections::{BTreeMap, BTreeSet};

use super::{Amounts, one, selects};
use crate::Timestamp;
use crate::core::v1::{self, PodAffinityTerm};
use crate::lean::{Container, Pod, PodSpec, ResourceList};
use crate::quantity::amount;

/// Names with which a quota demands that every container says a number.
pub const DEMANDED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const OTHERS: [&str; 4] = ["ephemeral-storage", "requests.ephemeral-storage", "limits.ephemeral-storage", "pods"];
const HUGE_PAGES: &str = "hugepages-";

/// Names with a domain, and not Kubernetes' own.
fn is_extended(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
        && !name.starts_with("requests.")
}

pub fn is_name(name: &str) -> bool {
    let requested = name.strip_prefix("requests.");
    DEMANDED.contains(&name)
        || OTHERS.contains(&name)
        || name.starts_with(HUGE_PAGES)
        || requested.is_some_and(|own| own.starts_with(HUGE_PAGES) || is_extended(own))
}

/// Adds what a pod that is not over counts for.
pub fn add_usage(pod: &Pod, now: Timestamp, used: &mut Amounts) {
    if is_over(pod, now) {
        return;
    }
    let Some(spec) = &pod.spec else { return };
    let pick = |container: &Container, limits: bool| list(container, limits);
    let (requests, limits) =
        (whole(spec, |container| pick(container, false), false), whole(spec, |c| pick(c, true), true));
    used.extend(names(&requests, &limits));
}

/// What a pod asks for as a whole.
pub fn requested(pod: &v1::Pod) -> Amounts {
    let spec = pod.spec.clone().map(PodSpec::from);
    spec.map(|spec| whole(&spec, |container| list(container, false), false)).unwrap_or_default()
}

/// Whether it is finished, or its time to end is up: its node may be gone.
fn is_over(pod: &Pod, now: Timestamp) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Failed" | "Succeeded")) {
        return true;
    }
    let (Some(deleted), Some(grace)) = (&pod.metadata.deletion_timestamp, pod.metadata.deletion_grace_period_seconds)
    else {
        return false;
    };
    now.duration_since(deleted.0).as_secs() > grace
}

fn list(container: &Container, limits: bool) -> Amounts {
    let resources = container.resources.as_ref();
    let list = resources.and_then(|own| if limits { own.limits.as_ref() } else { own.requests.as_ref() });
    super::amounts(list)
}

fn add(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        *sum.entry(name.clone()).or_default() += *amount;
    }
}

/// What a pod has as a whole: containers and sidecars together, or the largest moment of its initialisation; what the
/// pod says for itself; and its overhead.
fn whole(spec: &PodSpec, of: impl Fn(&Container) -> Amounts, limits: bool) -> Amounts {
    let mut sum = Amounts::new();
    spec.containers.iter().for_each(|container| add(&mut sum, &of(container)));
    let (mut sidecars, mut largest) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        let mut moment = sidecars.clone();
        add(&mut moment, &own);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &own);
        }
        for (name, amount) in moment {
            let most = largest.entry(name).or_insert(amount);
            *most = amount.max(*most);
        }
    }
    add(&mut sum, &sidecars);
    for (name, amount) in largest {
        let most = sum.entry(name).or_insert(amount);
        *most = amount.max(*most);
    }
    let own = spec.resources.as_ref().and_then(|own| if limits { own.limits.as_ref() } else { own.requests.as_ref() });
    for (name, amount) in super::amounts(own) {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with(HUGE_PAGES) {
            sum.insert(name, amount);
        }
    }
    for (name, amount) in super::amounts(spec.overhead.as_ref()) {
        // A limit that there is not is not made by overhead.
        if !limits || sum.get(&name).is_some_and(|own| !own.is_zero()) {
            *sum.entry(name).or_default() += amount;
        }
    }
    sum
}

/// As quotas name it.
fn names(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut all = Amounts::from([("pods".to_owned(), one())]);
    for (name, amount) in requests {
        let standard = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with(HUGE_PAGES);
        if standard {
            all.insert(name.clone(), *amount);
        }
        if standard || is_extended(name) {
            all.insert(format!("requests.{name}"), *amount);
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            all.insert(format!("limits.{name}"), *amount);
        }
    }
    all
}

/// What containers leave out that these names demand: `must specify limits.cpu for: c; ...`.
pub fn missing(pod: &Pod, demanded: &BTreeSet<&str>) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let given = names(&list(container, false), &list(container, true));
        for name in DEMANDED.into_iter().filter(|name| demanded.contains(name) && !given.contains_key(*name)) {
            missing.entry(name).or_default().insert(&container.name);
        }
    }
    let each = missing
        .iter()
        .map(|(name, containers)| format!("{name} for: {}", containers.iter().copied().collect::<Vec<_>>().join(",")));
    let each: Vec<String> = each.collect();
    (!each.is_empty()).then(|| format!("must specify {}", each.join("; ")))
}

pub fn in_scope(pod: &Pod, scope: &str, operator: &str, values: &[String]) -> bool {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let terminating = spec.active_deadline_seconds.is_some_and(|seconds| seconds >= 0);
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(pod, spec),
        "NotBestEffort" => !is_best_effort(pod, spec),
        "PriorityClass" => {
            let name = spec.priority_class_name.iter().filter(|name| !name.is_empty()).cloned().collect();
            selects(operator, values, &name)
        }
        "CrossNamespacePodAffinity" => looks_elsewhere(spec),
        _ => false,
    }
}

fn is_best_effort(pod: &Pod, spec: &PodSpec) -> bool {
    if let Some(class) = pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        return class == "BestEffort";
    }
    let asks = |list: Option<&ResourceList>| {
        list.into_iter().flatten().any(|(name, quantity)| {
            matches!(name.as_str(), "cpu" | "memory") && amount(quantity) > crate::quantity::Amount::ZERO
        })
    };
    let own = spec.resources.as_ref().is_some_and(|own| asks(own.requests.as_ref()) || asks(own.limits.as_ref()));
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let any = all.any(|container| {
        let resources = container.resources.as_ref();
        resources.is_some_and(|own| asks(own.requests.as_ref()) || asks(own.limits.as_ref()))
    });
    !own && !any
}

/// Whether its affinity looks at pods of other namespaces.
fn looks_elsewhere(spec: &PodSpec) -> bool {
    let Some(affinity) = &spec.affinity else { return false };
    let elsewhere = |term: &PodAffinityTerm| {
        term.namespaces.as_ref().is_some_and(|all| !all.is_empty()) || term.namespace_selector.is_some()
    };
    let with = affinity.pod_affinity.iter().flat_map(|own| {
        let must = own.required_during_scheduling_ignored_during_execution.iter().flatten();
        let may = own.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        must.chain(may.map(|one| &one.pod_affinity_term))
    });
    let without = affinity.pod_anti_affinity.iter().flat_map(|own| {
        let must = own.required_during_scheduling_ignored_during_execution.iter().flatten();
        let may = own.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        must.chain(may.map(|one| &one.pod_affinity_term))
    });
    with.chain(without).any(elsewhere)
}
