//! 3.1: who people are.

use api::Timestamp;

use super::facts::{Facts, known};
use super::{Check, Decided, Group, Offender, fail_on, warn_of};

pub static GROUP: Group = Group {
    id: "3.1",
    title: "Authentication",
    checks: &[
        Check { id: "3.1.1", title: "People do not come with client certificates", decide: certificates },
        Check { id: "3.1.2", title: "Nobody holds a service account token without end", decide: account_tokens },
        Check { id: "3.1.3", title: "Bootstrap tokens are for nodes, and end", decide: bootstrap_tokens },
    ],
};

/// The administrator whom a data dir has.
const ADMIN: &str = "kubernetes-admin";

/// A certificate cannot be taken back, so people should have tokens that end.
fn certificates(facts: &Facts) -> Decided {
    let users = known(&facts.users)?;
    let people = users.iter().filter(|user| user.certificate && !user.name.starts_with("system:"));
    let others = people.filter(|user| user.name != ADMIN && !is_component(&user.name));
    let mend = facts.server_with("--oidc-issuer-url=URL --oidc-client-id=ID");
    let offenders = others.map(|user| (format!("{} came with a certificate", user.name), mend.clone()));
    warn_of(offenders.collect(), "nobody but the administrator does, as far as the audit log goes back")
}

/// The cluster's own parts that have certificates.
fn is_component(name: &str) -> bool {
    matches!(name, "kube-apiserver-kubelet-client" | "front-proxy-client")
}

fn account_tokens(facts: &Facts) -> Decided {
    let secrets = known(&facts.objects.secrets)?.iter();
    let tokens = secrets.filter(|secret| secret.type_ == "kubernetes.io/service-account-token");
    let offenders = tokens.map(|secret| {
        let (namespace, name) = (&secret.namespace, &secret.name);
        (format!("Secret {namespace}/{name} is such a token"), format!("kubectl delete secret {name} -n {namespace}"))
    });
    fail_on(offenders.collect(), "there is none")
}

fn bootstrap_tokens(facts: &Facts) -> Decided {
    let mut offenders: Vec<Offender> = Vec::new();
    for secret in known(&facts.objects.secrets)?.iter().filter(|secret| secret.authenticates) {
        let name = &secret.name;
        let nodes = |group: &String| group.starts_with("system:bootstrappers:kubeadm") || group.contains(":nodes");
        let others: Vec<&str> = secret.extra_groups.iter().filter(|group| !nodes(group)).map(String::as_str).collect();
        let why = match secret.expiration.as_deref().map(str::parse::<Timestamp>) {
            None => "never ends".to_owned(),
            Some(Err(_)) => "has an end that is no time".to_owned(),
            Some(Ok(_)) if !others.is_empty() => format!("is of {}", others.join(", ")),
            Some(Ok(_)) => continue,
        };
        let namespace = &secret.namespace;
        offenders
            .push((format!("bootstrap token {name} {why}"), format!("kubectl delete secret {name} -n {namespace}")));
    }
    fail_on(offenders, "there is none that would last")
}
