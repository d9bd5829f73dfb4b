//! No secret value is in any file: whatever way a Secret, a token or a credential comes into the cluster and goes out
//! of it, nothing below the data dir and nothing that is logged has it, neither as it is nor in base64 nor in hex.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::tools::{check, eventually, run};

/// A value that is nowhere else, with a mark of its own in the middle, where every encoding leaves it whole.
fn secret(mark: &str) -> String {
    format!("hush-{mark}-d41d8cd98f00b204e9800998ecf8427e-{mark}-hush")
}

/// What a value looks like in files: as it is, in hex, and in base64 wherever it begins (three ways), in both
/// alphabets.
fn shapes(value: &str) -> Vec<Vec<u8>> {
    let bytes = value.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut shapes = vec![bytes.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for before in 0..3 {
        let text = base64(&[&b"\0\0"[..before], bytes].concat());
        // What depends on the neighbours is cut off.
        let whole = &text[if before == 0 { 0 } else { 4 }..];
        let whole = whole[..whole.len().saturating_sub(4)].to_owned();
        shapes.push(whole.replace('+', "-").replace('/', "_").into_bytes());
        shapes.push(whole.into_bytes());
    }
    shapes
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            text.push(ALPHABET[(word >> (18 - 6 * at)) as usize & 63] as char);
        }
    }
    text
}

/// As objects have it.
fn padded(text: String) -> String {
    let missing = (4 - text.len() % 4) % 4;
    text + &"=".repeat(missing)
}

/// Every file below a folder on its own disk: volumes of Secrets are in memory, as they should be.
fn files(folder: &Path) -> Vec<PathBuf> {
    let device = fs::metadata(folder).unwrap().dev();
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            match metadata {
                other if other.dev() != device => {}
                folder if folder.is_dir() => folders.push(entry.path()),
                file if file.is_file() => all.push(entry.path()),
                _ => {}
            }
        }
    }
    all
}

/// Where any of the values is found, and in which shape: `FILE:SHAPE` a line.
fn found(cluster: &Cluster, paths: &[PathBuf], values: &[String]) -> String {
    let patterns = cluster.scratch().join("patterns");
    let shapes: Vec<Vec<u8>> = values.iter().flat_map(|value| shapes(value)).collect();
    fs::write(&patterns, shapes.join(&b'\n')).unwrap();
    let mut grep = Command::new("xargs");
    grep.args(["-0", "grep", "-a", "-o", "-H", "-F", "-f"]).arg(&patterns);
    let list: Vec<&[u8]> = paths.iter().map(|path| path.as_os_str().as_bytes()).collect();
    let output = run(&mut grep, &list.join(&b'\0'), 120);
    // 123: grep found nothing in some of the files, or they are gone meanwhile.
    assert!(matches!(output.code, 0 | 123), "{output:#?}");
    output.stdout
}

/// Makes Secrets in every way that there is; what must be found nowhere.
fn secrets(cluster: &Cluster) -> Vec<String> {
    let mut all = Vec::new();
    let mut new = |mark: &str| {
        let value = secret(mark);
        all.push(value.clone());
        value
    };
    let create = |object: &Value| cluster.apply(&object.to_string());
    let of_type = |name: &str, type_: &str, data: Value| {
        let metadata = json!({"name": name});
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": type_, "stringData": data})
    };
    // Kinds of Secrets. `kubectl apply` puts all of it into an annotation once more.
    create(&of_type("opaque", "Opaque", json!({"a": new("opaque")})));
    create(&of_type("custom", "example.com/own", json!({"a": new("custom")})));
    create(&of_type(
        "basic",
        "kubernetes.io/basic-auth",
        json!({"username": new("username"), "password": new("password")}),
    ));
    create(&of_type("ssh", "kubernetes.io/ssh-auth", json!({"ssh-privatekey": new("ssh")})));
    create(&of_type("tls", "kubernetes.io/tls", json!({"tls.crt": new("crt"), "tls.key": new("key")})));
    let docker = json!({"auths": {"registry.example": {"auth": new("docker")}}}).to_string();
    create(&of_type("docker", "kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": docker})));
    let long = new("long").repeat(2000);
    create(&of_type("long", "Opaque", json!({"a": long})));
    let mut token = of_type(
        "bootstrap-token-abcdef",
        "bootstrap.kubernetes.io/token",
        json!({"token-id": "abcdef", "token-secret": "0123456789abcdef", "description": new("bootstrap")}),
    );
    token["metadata"]["namespace"] = json!("kube-system");
    create(&token);
    let kubectl = |words: &[&str]| cluster.kubectl(words).run(30).ok();
    // Written over, in every way of writing.
    for (name, type_) in [("merge", "merge"), ("strategic", "strategic")] {
        create(&of_type(name, "Opaque", json!({"a": new(&format!("before-{name}"))})));
        let patch = json!({"stringData": {"a": new(&format!("after-{name}"))}}).to_string();
        kubectl(&["patch", "secret", name, "--type", type_, "-p", &patch]);
    }
    create(&of_type("json", "Opaque", json!({"a": new("before-json")})));
    let value = padded(base64(new("after-json").as_bytes()));
    let patch = json!([{"op": "replace", "path": "/data/a", "value": value}]).to_string();
    kubectl(&["patch", "secret", "json", "--type", "json", "-p", &patch]);
    for round in ["first", "second"] {
        let object = of_type("applied", "Opaque", json!({"a": new(&format!("applied-{round}"))})).to_string();
        cluster.kubectl(&["apply", "--server-side", "-f", "-"]).stdin(&object).run(30).ok();
    }
    create(&of_type("replaced", "Opaque", json!({"a": new("replaced")})));
    let object = of_type("replaced", "Opaque", json!({"a": new("replacing")})).to_string();
    cluster.kubectl(&["replace", "-f", "-"]).stdin(&object).run(30).ok();
    create(&of_type("gone", "Opaque", json!({"a": new("gone")})));
    kubectl(&["delete", "secret", "gone"]);
    let object = of_type("dry", "Opaque", json!({"a": new("dry")})).to_string();
    cluster.kubectl(&["create", "--dry-run=server", "-f", "-"]).stdin(&object).run(30).ok();
    // Refused: what is wrong is said and logged without what is secret.
    let mut wrong = of_type("wrong", "kubernetes.io/tls", json!({"tls.key": new("no-crt")}));
    cluster.kubectl(&["create", "-f", "-"]).stdin(&wrong.to_string()).run(30).fails();
    wrong["metadata"]["name"] = json!("Not A Name");
    wrong["stringData"] = json!({"a": new("bad-name")});
    cluster.kubectl(&["create", "-f", "-"]).stdin(&wrong.to_string()).run(30).fails();
    let bodies = [
        format!("{{\"kind\":\"Secret\",\"apiVersion\":\"v1\",\"data\":{{\"a\":\"{}\"", new("cut-off")),
        json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "x"}, "data": {"a": new("no-base64")}})
            .to_string(),
        json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "x"}, "data": new("no-map")}).to_string(),
        json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "y"}, "odd": {"a": new("unknown-field")}})
            .to_string(),
    ];
    for body in &bodies {
        let path = "/api/v1/namespaces/default/secrets?fieldValidation=Strict";
        let (code, answer) = cluster.http("POST", path, &["content-type: application/json"], body.as_bytes());
        assert!((400..500).contains(&code), "{code} {answer}");
    }
    let nobody = of_type("nobodys", "Opaque", json!({"a": new("nobodys")})).to_string();
    cluster.kubectl(&["create", "--as", "jane", "-f", "-"]).stdin(&nobody).run(30).fails();
    all
}

/// Tokens that are given out, and used: what must be found nowhere.
fn tokens(cluster: &Cluster) -> Vec<String> {
    let token = cluster.kubectl(&["create", "token", "default"]).run(30).ok().trim().to_owned();
    let with = format!("authorization: Bearer {token}");
    let (code, _) = cluster.anonymous("/api/v1/namespaces/default/pods", &[&with]);
    assert_eq!(code, 403, "it is known and may not");
    let wrong = secret("wrong-token");
    let (code, _) = cluster.anonymous("/api", &[&format!("authorization: Bearer {wrong}")]);
    assert_eq!(code, 401);
    let (code, _) = cluster.anonymous("/api", &[&format!("authorization: Bearer abcdef.{}", "0123456789abcdef")]);
    assert_eq!(code, 401, "a bootstrap token that is not for authentication");
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let reviews = ["create", "--raw", "/apis/authentication.k8s.io/v1/tokenreviews", "-f", "-"];
    let reviewed = cluster.kubectl(&reviews).stdin(&review.to_string()).run(30).ok();
    assert!(reviewed.contains("\"authenticated\":true"), "{reviewed}");
    // The signature is what makes it a secret; the rest says whose it is.
    let signature = token.rsplit('.').next().unwrap().to_owned();
    vec![signature, wrong]
}

fn nowhere(cluster: &Cluster, values: &[String], known: &str) {
    let mut paths = files(&cluster.data_dir());
    paths.push(cluster.log());
    assert!(paths.len() > 10, "{paths:#?}");
    let plain = found(cluster, &paths, &[known.to_owned()]);
    assert!(plain.contains("/store/"), "what is no secret is found, else this test sees nothing: {plain}");
    let hidden = found(cluster, &paths, values);
    assert!(hidden.is_empty(), "found:\n{hidden}");
}

#[test]
fn no_secret_value_is_in_any_file() {
    let mut cluster = Cluster::control_plane();
    // At its most talkative.
    cluster.restart_with(&["--log-level=trace".to_owned()]);
    let known = secret("known");
    let literal = format!("--from-literal=a={known}");
    cluster.kubectl(&["create", "configmap", "known", &literal]).run(30).ok();
    let mut values = secrets(&cluster);
    values.extend(tokens(&cluster));
    assert!(values.len() > 30);
    nowhere(&cluster, &values, &known);
    // Another key, and everything sealed anew: what was sealed before is still in the store's history.
    cluster.pintle(&["secrets", "rotate"]).run(60).ok();
    nowhere(&cluster, &values, &known);
    cluster.stop_server();
    nowhere(&cluster, &values, &known);
    let log = fs::read_to_string(cluster.log()).unwrap();
    assert!(log.contains("TRACE"), "the log was at its most talkative");
    cluster.launch();
    cluster.wait_api();
    let value = cluster.kubectl(&["get", "secret", "applied", "-o", "jsonpath={.data.a}"]).run(30).ok();
    assert_eq!(value, padded(base64(secret("applied-second").as_bytes())), "they are all there");
    nowhere(&cluster, &values, &known);
    cluster.finish();
}

/// A pod that has Secrets in volumes: these are in memory, and nothing of them is on the disk. (What a pod has in its
/// environment is in the runtime's files as long as the container is: `pintle status --security` warns of it.)
#[test]
fn a_pods_secrets_are_not_on_the_disk() {
    let mut cluster = Cluster::start(&["web"]);
    let (volume, projected) = (secret("volume"), secret("projected"));
    let known = secret("known");
    cluster.kubectl(&["create", "configmap", "known", &format!("--from-literal=a={known}")]).run(30).ok();
    for (name, value) in [("volume", &volume), ("projected", &projected)] {
        let literal = format!("--from-literal=a={value}");
        cluster.kubectl(&["create", "secret", "generic", name, &literal]).run(30).ok();
    }
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reader"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": "localhost/guestbook/web:v1",
                "command": ["sh", "-c", "test -s /v/a && test -s /p/a && test -s /p/token && echo read; sleep 1000"],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "p", "mountPath": "/p"}],
            }],
            "volumes": [
                {"name": "v", "secret": {"secretName": "volume"}},
                {"name": "p", "projected": {"sources": [
                    {"secret": {"name": "projected"}}, {"serviceAccountToken": {"path": "token"}},
                ]}},
            ],
        },
    });
    cluster.apply(&pod.to_string());
    eventually("the pod has read its Secrets", 60, || {
        let said = cluster.kubectl(&["logs", "reader"]).run(20);
        check(said.stdout == "read\n", || format!("{said:?}"))
    });
    let token = cluster.kubectl(&["exec", "reader", "--", "cat", "/p/token"]).run(30).ok();
    let signature = token.trim().rsplit('.').next().unwrap().to_owned();
    let values = [volume, projected, signature];
    nowhere(&cluster, &values, &known);
    cluster.kubectl(&["delete", "pod", "reader"]).run(60).ok();
    nowhere(&cluster, &values, &known);
    cluster.stop_server();
    nowhere(&cluster, &values, &known);
    cluster.finish();
}
