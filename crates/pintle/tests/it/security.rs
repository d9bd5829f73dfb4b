//! What is on from the first start: who may do what, secrets sealed on disk, a record of who did what.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::starts::{one_line, server};
use crate::tools::{eventually, run};

#[test]
fn a_kubeconfig_for_a_user_who_may_do_nothing() {
    let cluster = Cluster::control_plane();
    let text = cluster.pintle(&["kubeconfig", "--user", "jane", "--group", "readers"]).run(20).ok();
    let path = cluster.scratch().join("jane");
    std::fs::write(&path, text).unwrap();
    let path = path.to_string_lossy().into_owned();
    let error = cluster.kubectl(&["get", "pods", "--kubeconfig", &path]).run(20).fails();
    let words = "User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"";
    assert!(error.contains(words), "{error}");
    let group = ["create", "clusterrolebinding", "readers", "--clusterrole=view", "--group=readers"];
    cluster.kubectl(&group).run(20).ok();
    cluster.kubectl(&["get", "pods", "--kubeconfig", &path]).run(20).ok();
    cluster.finish();
}

#[test]
fn secrets_are_sealed_and_their_key_is_missed() {
    let mut cluster = Cluster::control_plane();
    for (kind, marker) in [(&["secret", "generic"][..], "marker-4bZq8s"), (&["configmap"], "marker-9xTr2k")] {
        let value = format!("--from-literal=value={marker}");
        cluster.kubectl(&["create"]).args(kind).args(&["marked", &value]).run(20).ok();
    }
    cluster.stop_server();
    let data_dir = cluster.data_dir();
    let holds = |marker: &str| {
        let output = run(Command::new("grep").args(["-r", "-l", "-a", marker]).arg(data_dir.join("store")), b"", 20);
        output.code == 0
    };
    assert!(holds("marker-9xTr2k"), "what is no secret can be read in the files, else this test sees nothing");
    assert!(!holds("marker-4bZq8s") && !holds("bWFya2VyLTRiWnE4cw"), "a secret can be read in the files");

    let (key, aside) = (data_dir.join("pki/secrets.key"), data_dir.join("aside"));
    fs::rename(&key, &aside).unwrap();
    let line = one_line(server(&data_dir, &[]), 1);
    assert!(line.contains("secrets.key is missing"), "{line}");
    assert!(!key.exists(), "no other key is made: what is sealed would be lost");
    fs::rename(&aside, &key).unwrap();
    cluster.launch();
    cluster.wait_api();
    let value = cluster.kubectl(&["get", "secret", "marked", "-o", "jsonpath={.data.value}"]).run(20).ok();
    assert_eq!(value, "bWFya2VyLTRiWnE4cw==");
    cluster.finish();
}

/// The key changes while the server serves; what it was is kept apart, and the old store of a wrong configuration is
/// not touched.
#[test]
fn keys_change_while_serving() {
    let mut cluster = Cluster::control_plane();
    let value = "--from-literal=value=marker-Qw81";
    cluster.kubectl(&["create", "secret", "generic", "kept", value]).run(20).ok();
    let data_dir = cluster.data_dir();
    let (key, retired) = (data_dir.join("pki/secrets.key"), data_dir.join("pki/secrets-retired.key"));
    let before = fs::read_to_string(&key).unwrap();
    let said = cluster.pintle(&["secrets", "rotate"]).run(60).ok();
    assert!(said.contains("secrets sealed anew") && said.contains("key2 in "), "{said}");
    assert_eq!(fs::read_to_string(&retired).unwrap(), before);
    assert_eq!(fs::metadata(&retired).unwrap().permissions().mode() & 0o777, 0o600);
    let now = fs::read_to_string(&key).unwrap();
    assert!(now.starts_with("key2:") && now.lines().count() == 1, "{}", now.len());
    let read =
        |cluster: &Cluster| cluster.kubectl(&["get", "secret", "kept", "-o", "jsonpath={.data.value}"]).run(20).ok();
    assert_eq!(read(&cluster), "bWFya2VyLVF3ODE=");
    cluster.stop_server();
    fs::write(&key, before).unwrap();
    let line = one_line(server(&data_dir, &[]), 1);
    assert!(line.contains("sealed objects are not opened by the encryption keys"), "{line}");
    let wrong = cluster.scratch().join("wrong.yaml");
    fs::write(&wrong, "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n").unwrap();
    let flag = format!("--encryption-provider-config={}", wrong.display());
    let line = one_line(server(&data_dir, &[&flag]), 1);
    assert!(line.contains("resources: Required value: at least one resources is required"), "{line}");
    fs::write(&key, now).unwrap();
    cluster.launch();
    cluster.wait_api();
    assert_eq!(read(&cluster), "bWFya2VyLVF3ODE=");
    cluster.finish();
}

#[test]
fn requests_are_recorded_without_their_bodies() {
    let cluster = Cluster::control_plane();
    let create = ["create", "secret", "generic", "quiet", "--from-literal=value=marker-7Lw3"];
    cluster.kubectl(&create).run(20).ok();
    cluster.kubectl(&["get", "secrets", "--as", "jane"]).run(20).fails();
    let path = cluster.data_dir().join("audit/audit.log");
    let record = |what: &str, wanted: &dyn Fn(&Value) -> bool| {
        eventually(what, 10, || {
            let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
            let mut records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            records.find(|record| wanted(record)).ok_or(text)
        })
    };
    let of = |record: &Value, verb: &str| record["verb"] == verb && record["objectRef"]["resource"] == "secrets";
    let created = record("the creation", &|record| of(record, "create"));
    assert_eq!((&created["level"], &created["stage"]), (&json!("Metadata"), &json!("ResponseComplete")));
    assert_eq!(created["user"]["groups"][0], "system:masters", "{created:#}");
    assert_eq!(
        (&created["responseStatus"]["code"], &created["objectRef"]["namespace"]),
        (&json!(201), &json!("default"))
    );
    let by_jane = |record: &Value| record["impersonatedUser"]["username"] == "jane";
    let refused = record("the refusal", &|record| of(record, "list") && by_jane(record));
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid", "{refused:#}");
    assert_eq!(refused["responseStatus"]["code"], 403, "{refused:#}");
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("marker-7Lw3") && !text.contains("bWFya2VyLTdMdzM"), "a secret is in the audit log");
    cluster.finish();
}

/// Whoever is not root reads nothing of what matters.
#[test]
fn files_are_private() {
    let cluster = Cluster::control_plane();
    let data_dir = cluster.data_dir();
    let mode = |path: &str| fs::metadata(data_dir.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    assert_eq!((mode("admin.kubeconfig"), mode("pki/ca.key"), mode("pki/secrets.key")), (0o600, 0o600, 0o600));
    for file in fs::read_dir(data_dir.join("pki")).unwrap() {
        let path = file.unwrap().path();
        let open = path.metadata().unwrap().permissions().mode() & 0o077;
        assert!(path.extension().is_some_and(|kind| kind != "key") || open == 0, "{} is open", path.display());
    }
    cluster.finish();
}
