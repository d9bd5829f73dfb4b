//! 5.3: network policies.

use super::facts::{Facts, known};
use super::{Check, Decided, Group, not_applicable, pod_security, warn_of};

/// The condition in which a node says whether NetworkPolicies hold there.
const ENFORCED: &str = node::network::CONDITION;

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
    let mut offenders = Vec::new();
    for node in known(&facts.objects.nodes)? {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let status = node.status.as_ref();
        let said = status.and_then(|status| status.conditions.iter().flatten().find(|c| c.type_ == ENFORCED));
        let (why, remedy) = match said {
            Some(said) if said.status == "True" => continue,
            Some(said) => {
                let why = said.message.clone().unwrap_or_default();
                let bridged = said.reason.as_deref() == Some("PoliciesPartlyApplied");
                let remedy = if bridged { "modprobe br_netfilter # on that node" } else { "" };
                (format!("node {name}: {why}"), remedy.to_owned())
            }
            None => (format!("node {name} does not say whether it enforces them"), String::new()),
        };
        let look = format!("kubectl describe node {name} # its condition {ENFORCED}, and the log there");
        offenders.push((why, if remedy.is_empty() { look } else { remedy }));
    }
    warn_of(offenders, "every node says that it enforces them")
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
