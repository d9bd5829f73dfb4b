//! Decisions over facts made up for them. That facts are collected rightly is seen in `tests/it/hardening.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use api::core::v1::{Namespace, Pod};
use api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde_json::{Value, json};

use super::doors::{Agreed, Doors, Seen};
use super::facts::{File, Objects, SecretHead};
use super::*;

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn file(path: &str, folder: bool, mode: u32, uid: u32) -> File {
    File { path: PathBuf::from("/d").join(path), folder, mode, uid, gid: 0 }
}

/// A cluster in which nothing is wrong.
fn facts() -> Facts {
    let flags = [
        ("anonymous-auth", "[/healthz,/livez,/readyz]"),
        ("audit-log-maxage", "30"),
        ("audit-log-maxbackup", "10"),
        ("audit-log-maxsize", "100"),
        ("audit-log-path", "/d/audit/audit.log"),
        ("authorization-mode", "[Node,RBAC]"),
        ("client-ca-file", "/d/pki/ca.crt"),
        ("config", ""),
        ("effective-audit-levels", "[secrets=Metadata,pods=Metadata]"),
        ("effective-encryption-providers", "[aesgcm,identity]"),
        ("enable-admission-plugins", "[NamespaceLifecycle,ServiceAccount,NodeRestriction,PodSecurity]"),
        ("kubelet-certificate-authority", "/d/pki/ca.crt"),
        ("kubelet-client-certificate", "/d/pki/kubelet-client.crt"),
        ("no-agent", "true"),
        ("request-timeout", "1m0s"),
        ("service-account-extend-token-expiration", "false"),
        ("service-account-key-file", "[/d/pki/sa.key]"),
        ("service-account-lookup", "true"),
        ("service-account-signing-key-file", "/d/pki/sa.key"),
        ("store", "embedded"),
        ("tls-private-key-file", "/d/pki/server.key"),
    ];
    let agreed = || Ok(Agreed { version: "TLSv1_3".into(), cipher: "TLS13_AES_256_GCM_SHA384".into() });
    let ca = pki::Ca::generate("ca", "2026-01-01T00:00:00Z".parse().unwrap(), std::time::Duration::from_secs(86_400));
    let ca = ca.unwrap();
    let now = "2026-01-01T01:00:00Z".parse().unwrap();
    Facts {
        now,
        data_dir: "/d".into(),
        owners: [0, 0],
        files: Ok(vec![
            file("", true, 0o700, 0),
            file("admin.kubeconfig", false, 0o600, 0),
            file("audit/audit.log", false, 0o600, 0),
            file("pki", true, 0o700, 0),
            file("pki/ca.crt", false, 0o644, 0),
            file("pki/sa.key", false, 0o600, 0),
            file("store", true, 0o700, 0),
        ]),
        config_file: None,
        flags: Ok(flags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()),
        doors: Doors {
            anonymous: Ok(Seen::Answered(401)),
            profiler: Ok(Seen::Answered(404)),
            old_tls: Ok(Seen::Refused),
            agreed: agreed(),
            certificate: Ok(pki::Certificate::from_pem(ca.cert_pem()).unwrap()),
            node: None,
        },
        objects: Objects {
            cluster_roles: Ok(Vec::new()),
            cluster_role_bindings: Ok(vec![object(json!({
                "metadata": {"name": "system:controller:x"},
                "roleRef": {"apiGroup": "", "kind": "ClusterRole", "name": "x"}
            }))]),
            roles: Ok(Vec::new()),
            role_bindings: Ok(Vec::new()),
            namespaces: Ok(Vec::new()),
            service_accounts: Ok(Vec::new()),
            pods: Ok(Vec::new()),
            services: Ok(Vec::new()),
            network_policies: Ok(Vec::new()),
            nodes: Ok(Vec::new()),
            secrets: Ok(Vec::new()),
            root_cas: Ok(Vec::new()),
            flow_schemas: Ok(13),
            pod_admission: Ok(Vec::new()),
        },
        defaults: authority::defaults(),
        ca_pem: Ok("pem".into()),
        users: Ok(Vec::new()),
        process_limit: Err("there is no node".into()),
    }
}

/// What is no pass, by number.
fn faults(facts: &Facts) -> BTreeMap<&'static str, Verdict> {
    let lines = report(facts).into_iter().flat_map(|(_, lines)| lines);
    lines.filter(|line| line.verdict.mend().is_some()).map(|line| (line.check.id, line.verdict)).collect()
}

#[track_caller]
fn only(facts: &Facts, ids: &[&str]) -> BTreeMap<&'static str, Verdict> {
    let found = faults(facts);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), ids, "{found:#?}");
    found
}

fn set(facts: &mut Facts, flag: &str, value: &str) {
    facts.flags.as_mut().unwrap().insert(flag.to_owned(), value.to_owned());
}

#[test]
fn a_cluster_in_which_nothing_is_wrong_passes() {
    let facts = facts();
    only(&facts, &[]);
    let report = report(&facts);
    let ([passed, failed, warned, other], words) = counts(&report);
    assert_eq!((failed, warned), (0, 0));
    // Sections 1 to 5 of the benchmark.
    assert_eq!(passed + other, 21 + 30 + 7 + 2 + 7 + 3 + 2 + 10 + 14 + 1 + 13 + 12 + 2 + 2 + 1 + 4, "{words}");
    let ids: std::collections::BTreeSet<&str> =
        ALL.iter().flat_map(|group| group.checks).map(|check| check.id).collect();
    assert_eq!(ids.len(), passed + other, "each number once");
    assert!(text(&report).contains("  1.1.21  PASS            Keys are their owner's alone\n"));
}

#[test]
fn what_could_not_be_looked_at_is_no_pass() {
    let mut blind = facts();
    blind.flags = Err("/flagz: 403".into());
    blind.files = Err("permission denied".into());
    let found = faults(&blind);
    for id in ["1.1.11", "1.1.21", "1.2.6", "1.2.16", "1.2.28", "2.1", "3.2.1", "4.1.9", "4.2.1", "5.2.1"] {
        assert!(found[id].why().starts_with("could not be checked: "), "{id}: {:?}", found.get(id));
    }
}

#[test]
fn files_are_judged_by_mode_and_owner() {
    let mut spoilt = facts();
    spoilt.files.as_mut().unwrap().extend([
        file("pki/ca.key", false, 0o640, 0),
        file("pki/odd", false, 0o604, 0),
        file("store/0.log", false, 0o600, 1000),
    ]);
    let found = only(&spoilt, &["1.1.12", "1.1.21"]);
    assert_eq!(found["1.1.21"].mend(), Some("chmod 600 /d/pki/ca.key && chmod 600 /d/pki/odd"));
    assert_eq!(found["1.1.12"].mend(), Some("chown 0:0 /d/store/0.log"));
}

#[test]
fn the_servers_own_words_are_judged() {
    let mut spoilt = facts();
    set(&mut spoilt, "authorization-mode", "[Node,AlwaysAllow]");
    set(&mut spoilt, "effective-encryption-providers", "[identity,aesgcm]");
    set(&mut spoilt, "effective-audit-levels", "[secrets=RequestResponse,pods=None]");
    set(&mut spoilt, "audit-log-maxage", "7");
    set(&mut spoilt, "anonymous-auth", "[/healthz,/version]");
    spoilt.doors.old_tls = Ok(Seen::Answered(200));
    let found = only(&spoilt, &["1.2.1", "1.2.17", "1.2.28", "1.2.29", "1.2.6", "1.2.8", "3.2.2"]);
    assert_eq!(found["1.2.17"].mend(), Some("pintle server --data-dir /d --audit-log-maxage=30"));
    assert_eq!(found["1.2.1"].why(), "paths are shown without credentials: /version");
    assert!(found["3.2.2"].why().contains("bodies of secrets are recorded"));
    let mut without_log = facts();
    set(&mut without_log, "audit-log-path", "");
    set(&mut without_log, "effective-audit-levels", "[]");
    only(&without_log, &["1.2.16", "3.2.1"]);
}

fn binding(name: &str, role: &str, subject: Value) -> Arc<ClusterRoleBinding> {
    object(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }))
}

fn role(name: &str, rules: Value) -> Arc<ClusterRole> {
    object(json!({"metadata": {"name": name}, "rules": rules}))
}

#[test]
fn grants_beyond_the_defaults_are_found() {
    let mut spoilt = facts();
    let masters = json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:masters"});
    let jane = json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"});
    spoilt.objects.cluster_roles = Ok(vec![
        role(
            "cluster-admin",
            json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                                     {"nonResourceURLs": ["*"], "verbs": ["*"]}]),
        ),
        role(
            "csr",
            json!([{"apiGroups": ["certificates.k8s.io"], "verbs": ["update"],
                            "resources": ["certificatesigningrequests/approval"]}]),
        ),
        role("subs", json!([{"apiGroups": [""], "resources": ["*/token"], "verbs": ["create"]}])),
    ]);
    // The cluster's own binding is no offence.
    let bindings = spoilt.objects.cluster_role_bindings.as_mut().unwrap();
    bindings.push(binding("cluster-admin", "cluster-admin", masters.clone()));
    only(&spoilt, &[]);
    let bindings = spoilt.objects.cluster_role_bindings.as_mut().unwrap();
    bindings.push(binding("janes", "cluster-admin", jane.clone()));
    bindings.push(binding("signs", "csr", jane.clone()));
    bindings.push(binding("makes", "subs", jane));
    let found = only(&spoilt, &["5.1.1", "5.1.11", "5.1.13"]);
    assert_eq!(found["5.1.1"].mend(), Some("kubectl delete clusterrolebinding janes"));
    assert_eq!(found["5.1.11"].why(), "User jane may approve certificates by ClusterRoleBinding signs");
}

#[test]
fn a_default_role_that_was_added_to_is_found() {
    let mut spoilt = facts();
    let own = apiserver::bootstrap::policy::cluster_roles();
    let mut grown = own.into_iter().find(|role| role.metadata.name.as_deref() == Some("system:basic-user")).unwrap();
    let added = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]});
    grown.rules.as_mut().unwrap().push(serde_json::from_value(added).unwrap());
    spoilt.objects.cluster_roles = Ok(vec![Arc::new(grown)]);
    let everybody = json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:authenticated"});
    let bindings = spoilt.objects.cluster_role_bindings.as_mut().unwrap();
    bindings.push(binding("system:basic-user", "system:basic-user", everybody));
    let found = only(&spoilt, &["5.1.2", "5.1.3"]);
    assert!(found["5.1.2"].why().ends_with("the default role system:basic-user was added to"), "{found:#?}");
    let patch =
        "kubectl patch clusterrole system:basic-user --type=json -p='[{\"op\":\"remove\",\"path\":\"/rules/2\"}]'";
    assert_eq!(found["5.1.3"].mend(), Some(patch));
}

#[test]
fn pods_are_judged_with_their_namespaces() {
    let mut spoilt = facts();
    let namespace =
        |name: &str, labels: Value| -> Arc<Namespace> { object(json!({"metadata": {"name": name, "labels": labels}})) };
    let enforce = "pod-security.kubernetes.io/enforce";
    spoilt.objects.root_cas = Ok(vec![
        object(json!({"metadata": {"namespace": "shop"}, "data": {"ca.crt": "pem\n"}})),
        object(json!({"metadata": {"namespace": "safe"}, "data": {"ca.crt": "pem\n"}})),
    ]);
    spoilt.objects.namespaces =
        Ok(vec![namespace("shop", json!({})), namespace("safe", json!({enforce: "restricted"}))]);
    let good = json!({"allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}});
    let pod = |namespace: &str, context: Value, more: Value| -> Arc<Pod> {
        let mut spec = json!({"automountServiceAccountToken": false,
                              "containers": [{"name": "c", "image": "i", "securityContext": context}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object(json!({"metadata": {"name": "p", "namespace": namespace}, "spec": spec}))
    };
    spoilt.objects.network_policies = Ok(vec![
        object(json!({"metadata": {"name": "deny", "namespace": "safe"}})),
        object(json!({"metadata": {"name": "deny", "namespace": "shop"}})),
    ]);
    spoilt.objects.pod_admission = Ok(vec!["ValidatingAdmissionPolicy images".into()]);
    spoilt.objects.pods = Ok(vec![pod("safe", good.clone(), json!({}))]);
    only(&spoilt, &[]);
    let host = json!({"hostNetwork": true, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]});
    spoilt.objects.pods = Ok(vec![pod("shop", json!({"runAsUser": 0, "privileged": true}), host)]);
    let found = only(&spoilt, &["5.2.1", "5.2.11", "5.2.2", "5.2.5", "5.2.6", "5.2.7", "5.2.8", "5.6.2"]);
    assert_eq!(found["5.2.11"].why(), "pod shop/p: hostPath (v)");
    assert_eq!(found["5.2.1"].word(), "WARN");
    // What is the cluster's own may be what it must.
    spoilt.objects.pods = Ok(vec![pod("kube-system", json!({"privileged": true}), json!({}))]);
    only(&spoilt, &[]);
}

#[test]
fn nodes_are_believed_about_network_policies() {
    let mut spoilt = facts();
    spoilt.flags.as_mut().unwrap().insert("no-agent".into(), "false".into());
    let judged = |spoilt: &Facts| {
        let check = network::GROUP.checks.iter().find(|check| check.id == "5.3.1").unwrap();
        (check.decide)(spoilt).unwrap()
    };
    let node =
        |conditions: Value| Ok(vec![object(json!({"metadata": {"name": "n"}, "status": {"conditions": conditions}}))]);
    let said = |status: &str, reason: &str, message: &str| {
        json!([{"type": "Ready", "status": "True"},
            {"type": "NetworkPolicyEnforced", "status": status, "reason": reason, "message": message}])
    };
    spoilt.objects.nodes = node(said("True", "PoliciesApplied", "they are"));
    assert_eq!(judged(&spoilt).word(), "PASS");
    spoilt.objects.nodes = node(said("False", "PoliciesPartlyApplied", "not on the bridge"));
    assert_eq!(judged(&spoilt).why(), "node n: not on the bridge");
    assert_eq!(judged(&spoilt).mend(), Some("modprobe br_netfilter # on that node"));
    for (conditions, why) in [
        (said("False", "PoliciesNotApplied", "nft is missing"), "node n: nft is missing"),
        (said("Unknown", "Starting", "not listed"), "node n: not listed"),
        (json!([]), "node n does not say whether it enforces them"),
    ] {
        spoilt.objects.nodes = node(conditions);
        let judged = judged(&spoilt);
        assert_eq!((judged.word(), judged.why()), ("WARN", why));
        assert!(judged.mend().unwrap().starts_with("kubectl describe node n"));
    }
}

#[test]
fn secrets_are_judged_by_their_types() {
    let mut spoilt = facts();
    let head = |type_: &str| SecretHead {
        namespace: "a".into(),
        name: "b".into(),
        type_: type_.into(),
        ..SecretHead::default()
    };
    let token = SecretHead { authenticates: true, ..head("bootstrap.kubernetes.io/token") };
    let ending = SecretHead { expiration: Some("2026-01-02T00:00:00Z".into()), ..token.clone() };
    spoilt.objects.secrets = Ok(vec![head("Opaque"), ending]);
    only(&spoilt, &[]);
    spoilt.objects.secrets =
        Ok(vec![head("kubernetes.io/service-account-token"), head("kubernetes.io/dockerconfigjson"), token]);
    let found = only(&spoilt, &["1.2.11", "3.1.2", "3.1.3"]);
    assert_eq!(found["3.1.3"].mend(), Some("kubectl delete secret b -n a"));
    assert_eq!(found["1.2.11"].word(), "WARN");
}

#[test]
fn many_offenders_are_named_up_to_a_number() {
    let offenders = (0..25).map(|at| (format!("o{at}"), format!("m{at}"))).collect();
    let (why, mend) = joined(offenders).unwrap();
    assert!(why.ends_with("; and 5 more") && mend.ends_with("m19"), "{why} {mend}");
}
