//! 5.3: network policies.

use super::facts::{Facts, known};
use super::{Check, Decided, Group, not_applicable, pod_security, warn, warn_of};

pub static GROUP: Group = Group {
    id: "5.3",
    title: "Network policies",
    checks: &[
        Check { id: "5.3.1", title: "NetworkPolicies are enforced", decide: enforced },
        Check { id: "5.3.2", title: "Wherever pods are, a policy holds", decide: everywhere },
    ],
};

fn enforced(facts: &Facts) -> Decided {
    if !facts.has_node()? {
        return not_applicable("no node runs here");
    }
    warn(
        "this version of Pintle keeps NetworkPolicies and does not enforce them",
        "pintle version # nothing changes this but a newer version",
    )
}

fn everywhere(facts: &Facts) -> Decided {
    let policies = known(&facts.objects.network_policies)?;
    let mut offenders = Vec::new();
    for namespace in known(&facts.objects.namespaces)? {
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        let in_use = pod_security::pods(facts)?.any(|(pod, _)| pod_security::key(pod).0 == name);
        let held = policies.iter().any(|policy| policy.metadata.namespace.as_deref() == Some(name));
        if in_use && !held {
            offenders.push((format!("namespace {name} has pods and no NetworkPolicy"), deny(name)));
        }
    }
    warn_of(offenders, "no namespace with pods is without")
}

/// The command that makes a policy which lets nothing in.
fn deny(namespace: &str) -> String {
    format!(
        "echo '{{\"apiVersion\":\"networking.k8s.io/v1\",\"kind\":\"NetworkPolicy\",\"metadata\":{{\"name\":\
         \"default-deny\",\"namespace\":\"{namespace}\"}},\"spec\":{{\"podSelector\":{{}},\"policyTypes\":\
         [\"Ingress\"]}}}}' | kubectl apply -f -"
    )
}
