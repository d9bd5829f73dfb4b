//! 5.5 and 5.6: where images come from, and namespaces and security contexts in general.

use super::facts::{Facts, known};
use super::{Check, Decided, Group, Offender, fail_on, not_applicable, pass, pod_security, warn, warn_of};

pub static ADMISSION: Group = Group {
    id: "5.5",
    title: "Admission",
    checks: &[Check { id: "5.5.1", title: "Somebody looks at where images come from", decide: provenance }],
};

pub static GROUP: Group = Group {
    id: "5.6",
    title: "In general",
    checks: &[
        Check { id: "5.6.1", title: "Applications are apart from each other by namespaces", decide: boundaries },
        Check { id: "5.6.2", title: "Containers have a seccomp profile", decide: seccomp },
        Check { id: "5.6.3", title: "Pods have a security context", decide: contexts },
        Check { id: "5.6.4", title: "The namespace default is not in use", decide: default_namespace },
    ],
};

/// The plugin ImagePolicyWebhook, or a policy or webhook on pods.
fn provenance(facts: &Facts) -> Decided {
    if super::api_server::plugin(facts, "ImagePolicyWebhook")? {
        return pass("ImagePolicyWebhook is on");
    }
    let admission = known(&facts.objects.pod_admission)?;
    if !admission.is_empty() {
        return pass(admission.join(", "));
    }
    if pod_security::pods(facts)?.next().is_none() {
        return not_applicable("there are no pods");
    }
    warn(
        "no webhook and no ValidatingAdmissionPolicy looks at pods",
        "kubectl apply -f image-policy.yaml # a ValidatingAdmissionPolicy on pods with its binding",
    )
}

fn boundaries(facts: &Facts) -> Decided {
    let mut namespaces: Vec<&str> = pod_security::pods(facts)?.map(|(pod, _)| pod_security::key(pod).0).collect();
    let count = namespaces.len();
    namespaces.sort_unstable();
    namespaces.dedup();
    if count > 1 && namespaces == ["default"] {
        return warn(format!("all {count} pods are in the namespace default"), "kubectl create namespace NAME");
    }
    pass(format!("{count} pods in {} namespaces", namespaces.len()))
}

fn delete((namespace, name): (&str, &str)) -> String {
    format!("kubectl delete pod {name} -n {namespace}")
}

/// Who says nothing is given the runtime's own profile by the node.
fn seccomp(facts: &Facts) -> Decided {
    let found = pod_security::pods(facts)?.filter_map(|(pod, spec)| {
        let of_pod = spec.security_context.as_ref().and_then(|own| own.seccomp_profile.as_ref());
        let unconfined = |one: &pod_security::Context<'_>| {
            let own = one.own.and_then(|own| own.seccomp_profile.as_ref()).or(of_pod);
            own.is_some_and(|profile| profile.type_ == "Unconfined")
                || one.own.is_some_and(|own| own.privileged == Some(true))
        };
        let names: Vec<&str> =
            pod_security::containers(spec).filter(unconfined).map(|container| container.name).collect();
        let key = pod_security::key(pod);
        let why = format!("pod {}/{}: {} has none", key.0, key.1, names.join(", "));
        (!names.is_empty()).then(|| (why, delete(key)))
    });
    fail_on(found.collect(), "RuntimeDefault, unless a pod says more")
}

fn contexts(facts: &Facts) -> Decided {
    let found = pod_security::pods(facts)?.filter_map(|(pod, spec)| {
        let none = spec.security_context.as_ref().is_none_or(|own| *own == Default::default())
            && pod_security::containers(spec).any(|container| container.own.is_none());
        let (namespace, name) = pod_security::key(pod);
        let why = format!("pod {namespace}/{name} says nothing of its security");
        let standard = "pod-security.kubernetes.io/enforce=restricted";
        let mend = format!("kubectl label namespace {namespace} {standard} --overwrite");
        none.then(|| (why, format!("{mend} && {}", delete((namespace, name)))))
    });
    warn_of(found.collect(), "every pod does")
}

fn default_namespace(facts: &Facts) -> Decided {
    let mut offenders: Vec<Offender> = Vec::new();
    for pod in known(&facts.objects.pods)? {
        let key = pod_security::key(pod);
        if key.0 == "default" {
            offenders.push((format!("pod {}", key.1), delete(key)));
        }
    }
    for service in known(&facts.objects.services)? {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        if service.metadata.namespace.as_deref() == Some("default") && name != "kubernetes" {
            offenders.push((format!("Service {name}"), format!("kubectl delete service {name} -n default")));
        }
    }
    warn_of(offenders, "nothing is in it")
}
