//! 5.4: Secrets.

use api::core::v1::{Container, Pod, PodSpec};

use super::facts::Facts;
use super::{Check, Decided, Group, not_applicable, pass, pod_security, warn_of};

pub static GROUP: Group = Group {
    id: "5.4",
    title: "Secrets",
    checks: &[
        Check { id: "5.4.1", title: "Pods have Secrets as files, not as environment", decide: environment },
        Check { id: "5.4.2", title: "Keys are kept outside the cluster", decide: outside },
    ],
};

fn from_environment(container: &Container) -> bool {
    let single = container.env.iter().flatten().filter_map(|one| one.value_from.as_ref());
    single.into_iter().any(|from| from.secret_key_ref.is_some())
        || container.env_from.iter().flatten().any(|from| from.secret_ref.is_some())
}

fn names(spec: &PodSpec) -> Vec<&str> {
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.filter(|container| from_environment(container)).map(|container| container.name.as_str()).collect()
}

/// What a pod comes from is what must be edited.
fn source(pod: &Pod) -> String {
    let (namespace, name) = pod_security::key(pod);
    let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let (kind, name) = owner.map_or(("pod".to_owned(), name), |owner| (owner.kind.to_lowercase(), owner.name.as_str()));
    format!("kubectl edit {kind} {name} -n {namespace} # mount the Secret as a volume instead")
}

fn environment(facts: &Facts) -> Decided {
    let found = pod_security::pods(facts)?.filter_map(|(pod, spec)| {
        let names = names(spec);
        let (namespace, name) = pod_security::key(pod);
        let why = format!("pod {namespace}/{name}: {} has Secrets in its environment", names.join(", "));
        (!names.is_empty()).then(|| (why, source(pod)))
    });
    warn_of(found.collect(), "no pod has them in its environment")
}

fn outside(facts: &Facts) -> Decided {
    let providers = facts.list("effective-encryption-providers")?;
    if providers.first() == Some(&"kms") {
        return pass("Secrets are sealed by keys that a KMS seals");
    }
    not_applicable(format!("a matter of choice; Secrets are sealed here by {}", providers.join(", ")))
}
