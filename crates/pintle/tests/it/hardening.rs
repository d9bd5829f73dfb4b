//! `pintle status --security`: a fresh cluster passes, with a node and without; whatever is spoilt is found by its
//! check, and the command that the check names mends it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::tools::{Version, check, eventually, run};

/// What came of one check.
#[derive(Debug, Clone, Default)]
struct Line {
    result: String,
    why: String,
    mend: String,
}

fn lines(cluster: &Cluster) -> (i32, BTreeMap<String, Line>) {
    let output = cluster.pintle(&["status", "--security", "-o", "json"]).run(60);
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:#?}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |check: &Value| {
        let line = Line { result: text(&check["result"]), why: text(&check["why"]), mend: text(&check["mend"]) };
        (text(&check["id"]), line)
    };
    (output.code, report["checks"].as_array().unwrap().iter().map(line).collect())
}

/// The lines that are no pass and should be.
fn faults(lines: &BTreeMap<String, Line>) -> BTreeMap<&str, &Line> {
    let faults = lines.iter().filter(|(_, line)| matches!(line.result.as_str(), "FAIL" | "WARN"));
    faults.map(|(id, line)| (id.as_str(), line)).collect()
}

/// Until everything passes: the controllers write some of it after the API is ready.
fn passes(cluster: &Cluster) -> BTreeMap<String, Line> {
    eventually("all checks pass", 30, || {
        let (code, lines) = lines(cluster);
        let faults = faults(&lines);
        check(faults.is_empty() && code == 0, || format!("exit code {code}, {faults:#?}"))?;
        drop(faults);
        Ok(lines)
    })
}

/// Finds the fault that was made, and nothing of what should not be touched by it.
#[track_caller]
fn found(cluster: &Cluster, id: &str, result: &str, why: &str) -> String {
    let (code, lines) = lines(cluster);
    let line = &lines[id];
    assert_eq!(code, 1, "{id} {line:#?}");
    assert!(line.result == result && line.why.contains(why), "{id}: {line:#?}");
    line.mend.clone()
}

/// Runs a command as its reader would, with the cluster's kubeconfig.
#[track_caller]
fn mend(cluster: &Cluster, command: &str) {
    let kubectl = Version::V1_35.path();
    let path = format!("{}:{}", kubectl.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env("PATH", path).env("KUBECONFIG", cluster.data_dir().join("admin.kubeconfig"));
    run(&mut shell, b"", 60).ok();
}

const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: till, namespace: shop}
";

/// Object, the check that finds it, how, what it says, and the command that it names.
const SPOILT: &[(&str, &str, &str, &str, &str)] = &[
    (
        "apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: wild}
rules:
- {apiGroups: [apps], resources: [deployments], verbs: [get]}
- {apiGroups: ['*'], resources: [deployments], verbs: [get]}
- {apiGroups: [apps], resources: [deployments], verbs: ['*']}",
        "5.1.3",
        "FAIL",
        "ClusterRole wild allows \"*\"",
        "kubectl patch clusterrole wild --type=json \
         -p='[{\"op\":\"remove\",\"path\":\"/rules/2\"},{\"op\":\"remove\",\"path\":\"/rules/1\"}]'",
    ),
    (
        "apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: till-is-admin}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: till, namespace: shop}]",
        "5.1.1",
        "FAIL",
        "ServiceAccount shop/till may do everything by ClusterRoleBinding till-is-admin",
        "kubectl delete clusterrolebinding till-is-admin",
    ),
    (
        "apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: default-views, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: default, namespace: shop}]",
        "5.1.5",
        "FAIL",
        "ServiceAccount shop/default has view",
        "kubectl delete rolebinding default-views -n shop",
    ),
    (
        "apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: everybody-edits, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'system:authenticated'}]",
        "5.1.2",
        "WARN",
        "Group system:authenticated may read Secrets",
        "kubectl delete rolebinding everybody-edits -n shop",
    ),
    (
        "apiVersion: v1
kind: Namespace
metadata: {name: open, labels: {pod-security.kubernetes.io/enforce: privileged}}",
        "5.2.1",
        "FAIL",
        "namespace open lets privileged pods in",
        "kubectl label namespace open pod-security.kubernetes.io/enforce=baseline --overwrite",
    ),
    (
        "apiVersion: v1
kind: Secret
metadata: {name: for-ever, namespace: shop, annotations: {kubernetes.io/service-account.name: till}}
type: kubernetes.io/service-account-token",
        "3.1.2",
        "FAIL",
        "Secret shop/for-ever is such a token",
        "kubectl delete secret for-ever -n shop",
    ),
    (
        "apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-abcdef, namespace: kube-system}
type: bootstrap.kubernetes.io/token
stringData: {token-id: abcdef, token-secret: 0123456789abcdef, usage-bootstrap-authentication: 'true'}",
        "3.1.3",
        "FAIL",
        "bootstrap token bootstrap-token-abcdef never ends",
        "kubectl delete secret bootstrap-token-abcdef -n kube-system",
    ),
    (
        "apiVersion: v1
kind: Service
metadata: {name: thief, namespace: shop}
spec: {ports: [{port: 80}], externalIPs: [192.0.2.7]}",
        "1.2.3",
        "WARN",
        "Service shop/thief takes 192.0.2.7",
        "kubectl patch service thief -n shop -p '{\"spec\":{\"externalIPs\":null}}'",
    ),
    (
        "apiVersion: v1
kind: Pod
metadata: {name: bold, namespace: shop}
spec: {containers: [{name: c, image: i, securityContext: {privileged: true}}]}",
        "5.2.2",
        "FAIL",
        "pod shop/bold: privileged (c)",
        "kubectl label namespace shop pod-security.kubernetes.io/enforce=baseline --overwrite \
         && kubectl delete pod bold -n shop",
    ),
];

#[test]
fn what_is_spoilt_is_found_and_mended_by_the_command_named() {
    let cluster = Cluster::control_plane();
    let fresh = passes(&cluster);
    let count = |result: &str| fresh.values().filter(|line| line.result == result).count();
    assert!(count("PASS") > 60, "{fresh:#?}");
    assert!(fresh.values().all(|line| !line.why.is_empty()), "{fresh:#?}");

    cluster.apply(SHOP);
    let data_dir = cluster.data_dir();
    for (id, path, bad) in [
        ("1.1.21", "pki/ca.key", 0o640),
        ("1.1.20", "pki/ca.crt", 0o666),
        ("1.1.11", "store", 0o755),
        ("1.1.13", "admin.kubeconfig", 0o644),
    ] {
        let path = data_dir.join(path);
        let good = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        fs::set_permissions(&path, fs::Permissions::from_mode(bad)).unwrap();
        let why = format!("{} has mode {bad:03o}", path.display());
        let command = found(&cluster, id, "FAIL", &why);
        assert_eq!(command, format!("chmod {good:03o} {}", path.display()));
        mend(&cluster, &command);
        assert_eq!(lines(&cluster).1[id].result, "PASS", "{id}");
    }
    for (object, id, result, why, command) in SPOILT {
        cluster.apply(object);
        let named = found(&cluster, id, result, why);
        assert_eq!(named, *command, "{id}");
        mend(&cluster, &named);
        let now = &lines(&cluster).1[*id];
        assert_eq!(now.result, "PASS", "{id}: {now:#?}");
    }
    let left = lines(&cluster);
    assert!(faults(&left.1).is_empty() && left.0 == 0, "{:#?}", faults(&left.1));
    cluster.finish();
}

/// The server's own configuration: what it says holds and what it does are looked at, not what was typed.
#[test]
fn a_fresh_cluster_with_a_node_passes() {
    let cluster = Cluster::start_with(&["--pod-max-pids=64"], &["web"]);
    let lines = passes(&cluster);
    let enforced = &lines["5.3.1"];
    assert!(enforced.result == "PASS" && enforced.why == "every node says that it enforces them", "{enforced:#?}");
    let limit = &lines["4.2.13"];
    assert!(limit.result == "PASS" && limit.why.ends_with("each: 64"), "{limit:#?}");

    cluster.kubectl(&["run", "web", "--image=localhost/guestbook/web:v1"]).run(30).ok();
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]).run(70).ok();
    let uid = cluster.kubectl(&["get", "pod", "web", "-o", "jsonpath={.metadata.uid}"]).run(30).ok();
    let kept = ["/sys/fs/cgroup", "/sys/fs/cgroup/pids"]
        .iter()
        .find_map(|root| fs::read_to_string(format!("{root}/{}/besteffort/pod{uid}/pids.max", cluster.instance)).ok());
    assert_eq!(kept.as_deref().map(str::trim), Some("64"), "{uid}");
    cluster.finish();
}

#[test]
fn a_server_started_carelessly_is_found_out() {
    let mut cluster = Cluster::control_plane();
    passes(&cluster);
    let scratch = cluster.scratch();
    let plain = scratch.join("plain.yaml");
    let key = "c2VjcmV0IGlzIHNlY3VyZSwgb3IgaXMgaXQ/Pz8/Pz8=";
    let config = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{{identity: {{}}}}, {{secretbox: {{keys: [{{name: k, secret: {key}}}]}}}}]\n"
    );
    fs::write(&plain, &config).unwrap();
    let careless = [
        "--anonymous-auth=true".to_owned(),
        "--audit-log-path=".to_owned(),
        "--authorization-mode=AlwaysAllow".to_owned(),
        "--disable-admission-plugins=NodeRestriction,PodSecurity".to_owned(),
        format!("--encryption-provider-config={}", plain.display()),
    ];
    cluster.restart_with(&careless);
    let data_dir = cluster.data_dir();
    let server = |flag: &str| format!("pintle server --data-dir {} {flag}", data_dir.display());
    let log = format!("--audit-log-path={}", data_dir.join("audit/audit.log").display());
    let (code, now) = lines(&cluster);
    assert_eq!(code, 1);
    for (id, why, flag) in [
        ("1.2.1", "a request without credentials gets as far as", "--anonymous-auth=false"),
        ("1.2.6", "authorizers are AlwaysAllow", "--authorization-mode=Node,RBAC"),
        ("1.2.7", "Node is not among", "--authorization-mode=Node,RBAC"),
        ("1.2.8", "RBAC is not among", "--authorization-mode=Node,RBAC"),
        ("1.2.14", "NodeRestriction is off", "# without NodeRestriction in --disable-admission-plugins"),
        ("1.2.16", "no audit log is kept", log.as_str()),
        ("3.2.1", "no audit backend is on", log.as_str()),
        ("5.2.1", "PodSecurity is off", "# without PodSecurity in --disable-admission-plugins"),
    ] {
        let line = &now[id];
        assert!(line.result == "FAIL" && line.why.contains(why), "{id}: {line:#?}");
        assert_eq!(line.mend, server(flag), "{id}");
    }
    let line = &now["1.2.28"];
    assert!(line.result == "FAIL" && line.why.contains("written by identity"), "{line:#?}");
    assert!(line.mend.contains(&*plain.to_string_lossy()) && line.mend.contains("pintle secrets rotate"), "{line:#?}");
    // Who used the API cannot be told without a record, and that is no pass.
    assert!(now["3.1.1"].result == "WARN" && now["3.1.1"].why.starts_with("could not be checked"), "{now:#?}");

    // As the checks say: these flags in place of the same ones, and one left out.
    let mut mended = careless.to_vec();
    for id in ["1.2.1", "1.2.6", "1.2.16"] {
        let flag = now[id].mend.rsplit_once(' ').unwrap().1;
        let name = flag.split('=').next().unwrap();
        mended.retain(|own| own.split('=').next() != Some(name));
        mended.push(flag.to_owned());
    }
    mended.retain(|own| !own.starts_with("--disable-admission-plugins"));
    fs::write(&plain, config.replace("{identity: {}}, ", "").replace("}]}}]", "}]}}, {identity: {}}]")).unwrap();
    cluster.restart_with(&mended);
    passes(&cluster);
    cluster.finish();
}
