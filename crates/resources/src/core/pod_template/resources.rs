//! Resources of containers and pods: names, quantities, sums and the QoS class.

use std::collections::{BTreeMap, BTreeSet};

use api::Quantity;
use api::core::v1::{PodSpec, ResourceClaim, ResourceRequirements};
use api::field::{FieldError, FieldErrors, Path, Problem};
use api::quantity::{Amount, amount};

use crate::checks;

const HUGE_PAGES: &str = "hugepages-";
/// Names that need no domain.
const STANDARD: [&str; 21] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
    "resourceclaims",
];
/// Names that count things, so that fractions make no sense.
const COUNTS: [&str; 8] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
];

/// Huge pages of some size.
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with(HUGE_PAGES)
}

/// A name of Kubernetes' own: without a domain, or of kubernetes.io.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource that some vendor added.
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && api::name::qualified(&format!("requests.{name}")).is_empty()
}

/// Whether more may be promised than there is: requests below limits.
pub fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Whether it may be set for a pod as a whole.
pub fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

/// A qualified name; without a domain one of the standard ones.
pub fn validate_name(errors: &mut FieldErrors, path: &Path, name: &str) -> bool {
    let problems = api::name::qualified(name);
    if !problems.is_empty() {
        checks::problems(errors, path, name, problems);
        return false;
    }
    if !name.contains('/') && !STANDARD.contains(&name) && !is_huge_page(name) && !is_quota_huge_page(name) {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
        return false;
    }
    true
}

fn is_quota_huge_page(name: &str) -> bool {
    name.strip_prefix("requests.").is_some_and(is_huge_page)
}

pub fn validate_container_name(errors: &mut FieldErrors, path: &Path, name: &str) {
    validate_name(errors, path, name);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge_page(name) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

fn validate_pod_level_name(errors: &mut FieldErrors, path: &Path, name: &str) {
    if validate_name(errors, path, name) && !is_pod_level(name) {
        errors.not_supported(path, name, &["cpu", HUGE_PAGES, "memory"]);
    }
}

/// A quantity fit for that resource: not negative, and whole if the resource is counted.
pub fn validate_quantity(errors: &mut FieldErrors, path: &Path, name: &str, quantity: &Quantity) {
    match Amount::try_from(quantity) {
        Err(problem) => errors.invalid(path, quantity.0.as_str(), problem.to_string()),
        Ok(value) => {
            if value.is_negative() {
                errors.invalid(path, value.to_string(), checks::NEGATIVE);
            }
            if (COUNTS.contains(&name) || is_extended(name)) && value.milli_value() % 1000 != 0 {
                errors.invalid(path, value.to_string(), "must be an integer");
            }
        }
    }
}

fn validate_huge_page(errors: &mut FieldErrors, path: &Path, name: &str, quantity: &Quantity) {
    let Some(size) = name.strip_prefix(HUGE_PAGES).and_then(|size| Amount::parse(size).ok()) else {
        let why = format!("{} is not positive integer multiple of {name}", quantity.0);
        errors.invalid(path, quantity.0.as_str(), why);
        return;
    };
    let (value, size) = (amount(quantity).value(), size.value());
    if size <= 0 || value < 0 || value % size != 0 {
        let text = amount(quantity).to_string();
        let why = format!("{text} is not positive integer multiple of {name}");
        errors.invalid(path, text, why);
    }
}

/// Whose requirements are checked, for the names that may stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Container,
    Pod,
}

/// Requirements of a container or of a whole pod. `claims`: the names of the pod's resource claims.
pub fn validate_requirements(
    errors: &mut FieldErrors,
    path: &Path,
    requirements: &ResourceRequirements,
    level: Level,
    claims: &BTreeSet<&str>,
) {
    let check_name = match level {
        Level::Container => validate_container_name,
        Level::Pod => validate_pod_level_name,
    };
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    let empty = BTreeMap::new();
    let limits = requirements.limits.as_ref().unwrap_or(&empty);
    let requests = requirements.requests.as_ref().unwrap_or(&empty);
    for (name, quantity) in limits {
        let path = limits_path.key(name);
        check_name(errors, &path, name);
        validate_quantity(errors, &path, name, quantity);
        if is_huge_page(name) {
            validate_huge_page(errors, &path, name, quantity);
        }
    }
    for (name, quantity) in requests {
        let path = requests_path.key(name);
        check_name(errors, &path, name);
        validate_quantity(errors, &path, name, quantity);
        let request = amount(quantity);
        match limits.get(name).map(amount) {
            Some(limit) if request != limit && !may_overcommit(name) => {
                errors.invalid(
                    &requests_path,
                    request.to_string(),
                    format!("must be equal to {name} limit of {limit}"),
                );
            }
            Some(limit) if request > limit => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid(&requests_path, request.to_string(), why);
            }
            None if !may_overcommit(name) => {
                errors.required(&limits_path, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
        if is_huge_page(name) {
            validate_huge_page(errors, &path, name, quantity);
        }
    }
    let any = |wanted: fn(&str) -> bool| limits.keys().chain(requests.keys()).any(|name| wanted(name));
    if any(is_huge_page) && !any(|name| matches!(name, "cpu" | "memory")) {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    validate_claims(errors, &path.child("claims"), requirements.claims.as_deref().unwrap_or_default(), claims);
}

fn validate_claims(errors: &mut FieldErrors, path: &Path, claims: &[ResourceClaim], known: &BTreeSet<&str>) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (index, claim) in claims.iter().enumerate() {
        let path = path.index(index);
        let name = claim.name.as_str();
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        if seen.contains(name) {
            errors.duplicate(&path, name);
        } else {
            let request = claim.request.as_deref().unwrap_or_default();
            let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            if !request.is_empty() {
                checks::dns_label(errors, &path.child("request"), request);
            }
            let overlaps = |seen: &String| seen.split_once('/').is_some_and(|(claim, _)| claim == name);
            if seen.contains(&key) {
                errors.duplicate(&path, key.as_str());
            } else if request.is_empty() && seen.iter().any(overlaps) {
                errors.duplicate(&path, name);
            }
            seen.insert(key);
        }
        if !known.contains(name) {
            let names: Vec<&str> = known.iter().copied().collect();
            let which = if names.is_empty() { " which is empty".to_owned() } else { format!(": {}", names.join(", ")) };
            errors.0.push(FieldError {
                path,
                problem: Problem::NotFound(name.into()),
                detail: format!("must be one of the names in pod.spec.resourceClaims{which}"),
            });
        }
    }
}

/// Resources of the pod as a whole: fit by themselves, and for its containers.
pub fn validate_pod_level(errors: &mut FieldErrors, path: &Path, spec: &PodSpec, claims: &BTreeSet<&str>) {
    let Some(level) = &spec.resources else { return };
    if level.claims.is_some() {
        errors.forbidden(&path.child("claims"), "claims cannot be set for Resources at pod-level");
    }
    validate_requirements(errors, path, level, Level::Pod, claims);
    let empty = BTreeMap::new();
    let requests = level.requests.as_ref().unwrap_or(&empty);
    for (name, sum) in aggregate(spec, |requirements| requirements.requests.as_ref()) {
        let request = requests.get(&name).map(amount).unwrap_or_default();
        if sum > request {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&path.child("requests").key(&name), request.to_string(), why);
        }
    }
    let limits = level.limits.as_ref().unwrap_or(&empty);
    for (index, container) in spec.containers.iter().enumerate() {
        for (name, limit) in container.resources.iter().flat_map(|resources| resources.limits.iter().flatten()) {
            let (Some(most), limit) = (limits.get(name).map(amount), amount(limit)) else { continue };
            if limit > most {
                let path = path.child("containers").index(index).key(name).child("limits");
                errors.invalid(&path, limit.to_string(), format!("must be less than or equal to pod limits of {most}"));
            }
        }
    }
}

type Sums = BTreeMap<String, Amount>;

fn add(sums: &mut Sums, list: &Sums) {
    for (name, value) in list {
        *sums.entry(name.clone()).or_default() += *value;
    }
}

fn raise(sums: &mut Sums, list: Sums) {
    for (name, value) in list {
        let sum = sums.entry(name).or_insert(value);
        *sum = (*sum).max(value);
    }
}

/// What the containers of a pod need at most at any one time: all containers and sidecars together, or an init
/// container beside the sidecars before it (upstream's `AggregateContainerRequests`). `list` picks requests or limits.
pub fn aggregate(
    spec: &PodSpec,
    list: impl Fn(&ResourceRequirements) -> Option<&BTreeMap<String, Quantity>>,
) -> BTreeMap<String, Amount> {
    let of = |container: &api::core::v1::Container| -> Sums {
        let list = container.resources.as_ref().and_then(&list);
        list.into_iter().flatten().map(|(name, quantity)| (name.clone(), amount(quantity))).collect()
    };
    let mut sums = Sums::new();
    for container in &spec.containers {
        add(&mut sums, &of(container));
    }
    let (mut sidecars, mut initial) = (Sums::new(), Sums::new());
    for container in spec.init_containers.iter().flatten() {
        let mut needed = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sums, &needed);
            add(&mut sidecars, &needed);
            needed = sidecars.clone();
        } else {
            add(&mut needed, &sidecars);
        }
        raise(&mut initial, needed);
    }
    raise(&mut sums, initial);
    sums
}

/// The quality-of-service class: `Guaranteed` if every container limits cpu and memory and requests as much,
/// `BestEffort` if none says anything, else `Burstable`.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let level = spec.resources.as_ref().filter(|resources| {
        let set = |list: &Option<BTreeMap<String, Quantity>>| list.iter().flatten().any(|(name, _)| is_pod_level(name));
        set(&resources.requests) || set(&resources.limits)
    });
    let (mut requests, mut limits) = (Sums::new(), Sums::new());
    let mut guaranteed = true;
    let mut take = |requirements: Option<&ResourceRequirements>| {
        let positive = |list: Option<&BTreeMap<String, Quantity>>| -> Sums {
            let counted = |(name, quantity): (&String, &Quantity)| {
                let value = amount(quantity);
                let counts = matches!(name.as_str(), "cpu" | "memory") && value > Amount::ZERO;
                counts.then(|| (name.clone(), value))
            };
            list.into_iter().flatten().filter_map(counted).collect()
        };
        let limited = positive(requirements.and_then(|resources| resources.limits.as_ref()));
        guaranteed &= limited.len() == 2;
        add(&mut requests, &positive(requirements.and_then(|resources| resources.requests.as_ref())));
        add(&mut limits, &limited);
    };
    match level {
        Some(level) => take(Some(level)),
        None => spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .for_each(|container| take(container.resources.as_ref())),
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(value: Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_qos_class_follows_requests_and_limits() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let cases = [
            (json!({"containers": [{"name": "a"}]}), "BestEffort"),
            (json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "0"}}}]}), "BestEffort"),
            (json!({"containers": [{"name": "a", "resources": {"requests": both, "limits": both}}]}), "Guaranteed"),
            (
                json!({"containers": [{"name": "a", "resources": {"requests": both, "limits": both}}, {"name": "b"}]}),
                "Burstable",
            ),
            (json!({"containers": [{"name": "a", "resources": {"requests": both}}]}), "Burstable"),
            (json!({"containers": [{"name": "a"}], "resources": {"requests": both, "limits": both}}), "Guaranteed"),
            (
                json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"},
                    "limits": both}}]}),
                "Guaranteed",
            ),
        ];
        for (value, class) in cases {
            assert_eq!(qos_class(&spec(value.clone())), class, "{value}");
        }
    }

    #[test]
    fn an_init_container_counts_beside_the_sidecars_before_it() {
        let cpu = |value: &str| json!({"requests": {"cpu": value}});
        let spec = spec(json!({
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": cpu("1")},
                {"name": "i", "resources": cpu("4")},
            ],
            "containers": [{"name": "a", "resources": cpu("2")}],
        }));
        let sums = aggregate(&spec, |requirements| requirements.requests.as_ref());
        assert_eq!(sums["cpu"].to_string(), "5");
    }

    #[test]
    fn requirements_are_checked_in_upstreams_words() {
        let check = |value: Value| {
            let mut errors = FieldErrors::new();
            let requirements = serde_json::from_value(value).unwrap();
            let known = BTreeSet::new();
            validate_requirements(&mut errors, &Path::new("r"), &requirements, Level::Container, &known);
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let cases = [
            (
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                "r.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
            (
                json!({"requests": {"cpu": "-1"}}),
                "r.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"requests": {"disk": "1"}}),
                "r.requests[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified",
            ),
            (
                json!({"requests": {"pods": "1"}}),
                "r.requests[pods]: Invalid value: \"pods\": must be a standard resource for containers",
            ),
            (
                json!({"requests": {"a.b/gpu": "1"}}),
                "r.limits: Required value: Limit must be set for non overcommitable resources",
            ),
            (json!({"limits": {"a.b/gpu": "500m"}}), "r.limits[a.b/gpu]: Invalid value: \"500m\": must be an integer"),
            (
                json!({"requests": {"a.b/gpu": "1"}, "limits": {"a.b/gpu": "2"}}),
                "r.requests: Invalid value: \"1\": must be equal to a.b/gpu limit of 2",
            ),
            (
                json!({"limits": {"hugepages-2Mi": "3Mi", "cpu": "1"}}),
                "r.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of \
                 hugepages-2Mi",
            ),
            (json!({"limits": {"hugepages-2Mi": "4Mi"}}), "r: Forbidden: HugePages require cpu or memory"),
            (
                json!({"claims": [{"name": "c"}]}),
                "r.claims[0]: Not found: \"c\": must be one of the names in pod.spec.resourceClaims which is empty",
            ),
        ];
        for (value, text) in cases {
            assert!(check(value.clone()).contains(&text.to_owned()), "{value}: {:?}", check(value.clone()));
        }
    }
}
