//! 1.3 and 1.4: the controllers and the scheduler, which run within the server.

use super::facts::{Facts, known};
use super::{Check, Decided, Group, api_server, fail, fail_on, not_applicable, pass, warn};

/// Ended pods that upstream's collector leaves alone (`--terminated-pod-gc-threshold`).
const ENDED_LEN_MAX: usize = 12_500;

pub static CONTROLLER_MANAGER: Group = Group {
    id: "1.3",
    title: "Controllers",
    checks: &[
        Check { id: "1.3.1", title: "Pods that ended do not pile up", decide: ended_pods },
        Check { id: "1.3.2", title: "No profiler is served", decide: api_server::profiler },
        Check { id: "1.3.3", title: "Each controller acts as an account of its own", decide: own_accounts },
        Check { id: "1.3.4", title: "Tokens are signed with a key of their own", decide: signing_key },
        Check { id: "1.3.5", title: "Pods are given the CA that signs for the API server", decide: root_ca },
        Check { id: "1.3.6", title: "The node's serving certificate is renewed", decide: serving_renewal },
        Check { id: "1.3.7", title: "The controllers listen on loopback only", decide: no_port },
    ],
};

pub static SCHEDULER: Group = Group {
    id: "1.4",
    title: "Scheduler",
    checks: &[
        Check { id: "1.4.1", title: "No profiler is served", decide: api_server::profiler },
        Check { id: "1.4.2", title: "The scheduler listens on loopback only", decide: no_port },
    ],
};

fn ended_pods(facts: &Facts) -> Decided {
    let ended = |phase: Option<&str>| matches!(phase, Some("Succeeded" | "Failed"));
    let pods = known(&facts.objects.pods)?.iter();
    let count = pods.filter(|pod| ended(pod.status.as_ref().and_then(|status| status.phase.as_deref()))).count();
    if count <= ENDED_LEN_MAX {
        return pass(format!("{count} pods have ended and are still there"));
    }
    warn(
        format!("{count} pods have ended and are still there"),
        "kubectl delete pods -A --field-selector=status.phase!=Running,status.phase!=Pending",
    )
}

/// Seen by whom the record says uses the API; without a record, by the bindings of the accounts.
fn own_accounts(facts: &Facts) -> Decided {
    const ACCOUNTS: &str = "system:serviceaccount:kube-system:";
    if let Ok(users) = &facts.users {
        let count = users.iter().filter(|user| user.name.starts_with(ACCOUNTS)).count();
        if count > 1 {
            return pass(format!("{count} accounts of kube-system are in the audit log"));
        }
    }
    let bindings = known(&facts.objects.cluster_role_bindings)?;
    let name = |at: &api::rbac::v1::ClusterRoleBinding| at.metadata.name.clone().unwrap_or_default();
    let own = bindings.iter().filter(|one| name(one).starts_with("system:controller:")).count();
    if own == 0 {
        return fail(
            "no controller has a role of its own",
            format!("pintle server --data-dir {}", facts.data_dir.display()),
        );
    }
    pass(format!("{own} controllers have roles of their own"))
}

fn signing_key(facts: &Facts) -> Decided {
    let path = facts.flag("service-account-signing-key-file")?;
    let found = facts.below(path.as_ref())?;
    if found.is_empty() {
        return Err(format!("there is no file {path:?}"));
    }
    let loose = found.into_iter().filter_map(|file| super::control_plane_files::loose(file, 0o600));
    fail_on(loose.collect(), path)
}

fn root_ca(facts: &Facts) -> Decided {
    let ca = known(&facts.ca_pem)?.trim();
    let maps = known(&facts.objects.root_cas)?;
    let mut offenders = Vec::new();
    for namespace in known(&facts.objects.namespaces)? {
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        if namespace.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let map = maps.iter().find(|map| map.metadata.namespace.as_deref() == Some(name));
        let given = map.and_then(|map| map.data.as_ref()?.get("ca.crt"));
        let what = match given {
            Some(given) if given.trim() == ca => continue,
            Some(_) => "is another CA's",
            None => "is missing",
        };
        // It is made anew at once when it is gone.
        offenders.push((
            format!("kube-root-ca.crt of {name} {what}"),
            format!("kubectl delete configmap kube-root-ca.crt -n {name} --ignore-not-found"),
        ));
    }
    fail_on(offenders, "every namespace has it")
}

pub fn serving_renewal(facts: &Facts) -> Decided {
    if !facts.has_node()? {
        return not_applicable("no node runs here");
    }
    let Some(node) = &facts.doors.node else { return Err("the node's port is not known".into()) };
    let certificate = known(&node.certificate)?;
    if certificate.renewal_due(facts.now) {
        return warn(
            format!("the certificate of the node's API ends {} and is renewed at a start", certificate.not_after),
            "systemctl restart pintle # pods keep running",
        );
    }
    pass(format!("it ends {}", certificate.not_after))
}

fn no_port(_: &Facts) -> Decided {
    not_applicable("it runs within the server and has no port of its own")
}
