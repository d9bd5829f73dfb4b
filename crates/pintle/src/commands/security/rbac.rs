//! 5.1: what roles give, and service accounts.

use std::collections::BTreeSet;

use api::core::v1::Pod;
use api::rbac::v1::{PolicyRule, Subject};

use super::authority::Key;
use super::facts::{Facts, Known, known};
use super::grants::{self, Grant, beyond, place, within};
use super::{Check, Decided, Group, Offender, fail_on, warn_of};

pub static GROUP: Group = Group {
    id: "5.1",
    title: "Roles and service accounts",
    checks: &[
        Check { id: "5.1.1", title: "cluster-admin is bound to system:masters alone", decide: cluster_admin },
        Check { id: "5.1.2", title: "Nobody was given to read Secrets", decide: secrets },
        Check { id: "5.1.3", title: "No role was written with wildcards", decide: wildcards },
        Check { id: "5.1.4", title: "Nobody was given to make pods", decide: pods },
        Check { id: "5.1.5", title: "Accounts named default have no rights and no pods", decide: default_accounts },
        Check { id: "5.1.6", title: "Pods without rights have no token", decide: idle_tokens },
        Check { id: "5.1.7", title: "system:masters is not in use", decide: masters },
        Check { id: "5.1.8", title: "Nobody was given to bind, impersonate or escalate", decide: escalation },
        Check { id: "5.1.9", title: "Nobody was given to make PersistentVolumes", decide: volumes },
        Check { id: "5.1.10", title: "Nobody was given the nodes' proxy", decide: node_proxy },
        Check { id: "5.1.11", title: "Nobody was given to approve certificates", decide: approval },
        Check { id: "5.1.12", title: "Nobody was given to change admission webhooks", decide: webhooks },
        Check { id: "5.1.13", title: "Nobody was given to make tokens of accounts", decide: tokens },
    ],
};

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];

/// Every verb on everything.
fn is_everything(rule: &PolicyRule) -> bool {
    let star = |list: &[String]| list.iter().any(|item| item == "*");
    star(&rule.verbs)
        && star(rule.api_groups.as_deref().unwrap_or_default())
        && star(rule.resources.as_deref().unwrap_or_default())
}

fn cluster_admin(facts: &Facts) -> Decided {
    let all = grants::all(facts)?;
    let whole = |grant: &&Grant| {
        grant.role == "cluster-admin" || (grant.binding.1.is_empty() && grant.rules.iter().any(is_everything))
    };
    fail_on(all.iter().filter(whole).map(|grant| grant.offence("may do everything")).collect(), "nobody else")
}

/// Warns of grants that allow something; of `cluster-admin` 5.1.1 tells already.
fn warn_of_grants(facts: &Facts, what: &str, allows: impl Fn(&Grant) -> bool) -> Decided {
    let all = grants::all(facts)?;
    let found = all.iter().filter(|grant| grant.role != "cluster-admin" && allows(grant));
    warn_of(found.map(|grant| grant.offence(what)).collect(), "nobody but the cluster's own parts")
}

fn secrets(facts: &Facts) -> Decided {
    warn_of_grants(facts, "may read Secrets", |grant| grant.allows(READ, "", "secrets"))
}

fn pods(facts: &Facts) -> Decided {
    warn_of_grants(facts, "may make pods", |grant| grant.allows(&["create"], "", "pods"))
}

fn escalation(facts: &Facts) -> Decided {
    let rbac = |grant: &Grant| {
        ["roles", "clusterroles"]
            .iter()
            .any(|resource| grant.allows(&["bind", "escalate"], "rbac.authorization.k8s.io", resource))
    };
    let acting = |grant: &Grant| {
        ["users", "groups", "serviceaccounts"].iter().any(|resource| grant.allows(&["impersonate"], "", resource))
    };
    warn_of_grants(facts, "may take further rights", |grant| rbac(grant) || acting(grant))
}

fn volumes(facts: &Facts) -> Decided {
    let what = "may make PersistentVolumes";
    warn_of_grants(facts, what, |grant| grant.allows(&["create"], "", "persistentvolumes"))
}

fn node_proxy(facts: &Facts) -> Decided {
    let what = "may reach nodes through the proxy";
    warn_of_grants(facts, what, |grant| grant.allows(&["get", "create"], "", "nodes/proxy"))
}

fn approval(facts: &Facts) -> Decided {
    warn_of_grants(facts, "may approve certificates", |grant| {
        grant.allows(&["update", "patch"], "certificates.k8s.io", "certificatesigningrequests/approval")
    })
}

fn webhooks(facts: &Facts) -> Decided {
    warn_of_grants(facts, "may change admission webhooks", |grant| {
        ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"]
            .iter()
            .any(|resource| grant.allows(WRITE, "admissionregistration.k8s.io", resource))
    })
}

fn tokens(facts: &Facts) -> Decided {
    let what = "may make tokens of service accounts";
    warn_of_grants(facts, what, |grant| grant.allows(&["create"], "", "serviceaccounts/token"))
}

fn wildcard(rule: &PolicyRule) -> bool {
    let star = |list: Option<&[String]>| list.unwrap_or_default().iter().any(|item| item == "*");
    star(Some(&rule.verbs)) || star(rule.api_groups.as_deref()) || star(rule.resources.as_deref())
}

/// A role that somebody wrote with wildcards, and the patch that takes these rules out of it.
fn wild_role(facts: &Facts, key: &Key, rules: &[PolicyRule]) -> Option<Offender> {
    if !beyond(&facts.defaults, key, rules).iter().any(wildcard) {
        return None;
    }
    let own = facts.defaults.rules.get(key);
    let added = |rule: &PolicyRule| own.is_none_or(|own| !own.contains(rule));
    let wild = rules.iter().enumerate().filter(|(_, rule)| wildcard(rule) && added(rule));
    let mut places: Vec<usize> = wild.map(|(at, _)| at).collect();
    // From the last on, so that the places of those before stay what they are.
    places.reverse();
    let steps: Vec<String> =
        places.iter().map(|at| format!("{{\"op\":\"remove\",\"path\":\"/rules/{at}\"}}")).collect();
    let (kind, namespace, name) = key;
    Some((
        format!("{kind} {} allows \"*\"", place(namespace, name)),
        format!(
            "kubectl patch {} {name}{} --type=json -p='[{}]'",
            kind.to_lowercase(),
            within(namespace),
            steps.join(",")
        ),
    ))
}

fn wildcards(facts: &Facts) -> Decided {
    let mut offenders = Vec::new();
    for role in known(&facts.objects.cluster_roles)? {
        // What an aggregated role has comes from others, which are looked at themselves.
        if role.aggregation_rule.is_some() {
            continue;
        }
        let key: Key = ("ClusterRole", String::new(), role.metadata.name.clone().unwrap_or_default());
        offenders.extend(wild_role(facts, &key, role.rules.as_deref().unwrap_or_default()));
    }
    for role in known(&facts.objects.roles)? {
        let metadata = &role.metadata;
        let key: Key =
            ("Role", metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
        offenders.extend(wild_role(facts, &key, role.rules.as_deref().unwrap_or_default()));
    }
    fail_on(offenders, "none beyond the cluster's own")
}

/// The account that a pod acts as: namespace and name.
fn account(pod: &Pod) -> (String, String) {
    let name = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()).unwrap_or_else(|| "default".into());
    (pod.metadata.namespace.clone().unwrap_or_default(), name)
}

/// Whether a pod is given its account's token; the pod's own word goes before the account's.
fn has_token(facts: &Facts, pod: &Pod) -> Known<bool> {
    if let Some(own) = pod.spec.as_ref().and_then(|spec| spec.automount_service_account_token) {
        return Ok(own);
    }
    let (namespace, name) = account(pod);
    let accounts = known(&facts.objects.service_accounts)?;
    let found = accounts.iter().find(|account| {
        account.metadata.namespace.as_deref() == Some(&namespace) && account.metadata.name.as_deref() == Some(&name)
    });
    Ok(found.and_then(|account| account.automount_service_account_token) != Some(false))
}

fn no_token(namespace: &str, name: &str) -> String {
    format!("kubectl patch serviceaccount {name} -n {namespace} -p '{{\"automountServiceAccountToken\":false}}'")
}

fn is_default_account(subject: &Subject) -> bool {
    subject.kind == "ServiceAccount" && subject.name == "default"
}

fn default_accounts(facts: &Facts) -> Decided {
    let all = grants::all(facts)?;
    let bound = all.iter().filter(|grant| is_default_account(&grant.subject));
    let mut offenders: Vec<Offender> = bound.map(|grant| grant.offence(&format!("has {}", grant.role))).collect();
    for pod in known(&facts.objects.pods)? {
        let (namespace, name) = account(pod);
        if name == "default" && has_token(facts, pod)? {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            let why = format!("pod {namespace}/{pod} has the token of the account default");
            offenders.push((why, no_token(&namespace, &name)));
        }
    }
    fail_on(offenders, "none has")
}

fn idle_tokens(facts: &Facts) -> Decided {
    let all = grants::all(facts)?;
    let granted: BTreeSet<(String, String)> = all
        .iter()
        .filter(|grant| grant.subject.kind == "ServiceAccount")
        .map(|grant| (grant.subject.namespace.clone().unwrap_or_default(), grant.subject.name.clone()))
        .collect();
    let mut offenders = Vec::new();
    for pod in known(&facts.objects.pods)? {
        let own = account(pod);
        if own.1 != "default" && !granted.contains(&own) && has_token(facts, pod)? {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            let (namespace, name) = &own;
            offenders.push((
                format!("pod {namespace}/{pod} has a token of {name}, which may do nothing"),
                no_token(namespace, name),
            ));
        }
    }
    warn_of(offenders, "none has one in vain")
}

/// The group is beyond every rule: it is for the first administrator, and for the server's own parts.
fn masters(facts: &Facts) -> Decided {
    let all = grants::all(facts)?;
    let bound = all.iter().filter(|grant| grant.subject.kind == "Group" && grant.subject.name == "system:masters");
    let mut offenders: Vec<Offender> = bound.map(|grant| grant.offence(&format!("has {}", grant.role))).collect();
    let own = |name: &str| matches!(name, "kubernetes-admin" | "system:apiserver" | "kube-apiserver-kubelet-client");
    // Without a record the bindings are all there is to see.
    for user in facts.users.iter().flatten().filter(|user| user.master && !own(&user.name)) {
        offenders.push((
            format!("{} used the API as one of system:masters", user.name),
            format!("pintle kubeconfig --data-dir {} --user {} --group GROUP", facts.data_dir.display(), user.name),
        ));
    }
    fail_on(offenders, "nobody but the first administrator")
}
