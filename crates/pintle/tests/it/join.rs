//! Tokens, and machines that join with them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Invocation};
use crate::joined::{FAR, Machine, NEAR};
use crate::tools::{Beside, check, eventually};

/// The words of `pintle token create --print-join-command`, without the program's name.
fn join_words(cluster: &Cluster, further: &[&str]) -> Vec<String> {
    let line = cluster.pintle(&["token", "create", "--print-join-command"]).args(further).run(20).ok();
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    assert_eq!(words[..3], ["pintle", "agent", "--server"], "{line}");
    words[2..].to_vec()
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// The words with the one after `flag` changed.
fn with(words: &[String], flag: &str, change: impl Fn(&str) -> String) -> Vec<String> {
    let at = words.iter().position(|word| word == flag).unwrap() + 1;
    let mut words = words.to_vec();
    words[at] = change(&words[at]);
    words
}

fn agent(folder: &Path, words: &[String]) -> Invocation {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pintle"));
    command.args(["agent", "--node-name", "nobody", "--data-dir"]).arg(folder).args(words);
    Invocation::of(command)
}

#[test]
fn tokens_are_made_listed_and_deleted() {
    let cluster = Cluster::control_plane();
    let token = |words: &[&str]| cluster.pintle(&["token", words[0]]).args(&words[1..]);
    let made = token(&["create", "abcdef.0123456789abcdef", "--description", "rack 7", "--ttl", "1h"]).run(20);
    assert_eq!((made.code, made.stdout.trim()), (0, "abcdef.0123456789abcdef"), "{made:#?}");
    assert!(made.stderr.contains(" --token abcdef.0123456789abcdef --ca-pin sha256:"), "{made:#?}");
    let again = token(&["create", "abcdef.aaaaaaaaaaaaaaaa"]).run(20).fails();
    assert!(again.contains("there is a token with the id abcdef already"), "{again}");
    let random = token(&["create", "--ttl", "0", "--usages", "signing,authentication"]).run(20).ok();
    let listed = token(&["list"]).run(20).ok();
    let mut lines = listed.lines().map(|line| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()));
    let heads: Vec<&str> = lines.next().unwrap().collect();
    assert_eq!(heads, ["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"]);
    let rows: Vec<Vec<&str>> = lines.map(Iterator::collect).collect();
    let row = |token: &str| rows.iter().find(|row| row[0] == token.trim()).unwrap_or_else(|| panic!("{listed}"));
    assert_eq!(row(&random)[1..5], ["<forever>", "<never>", "authentication,signing", "<none>"]);
    let known = row("abcdef.0123456789abcdef");
    assert_eq!((known[3], known[4], known[5]), ("authentication", "rack 7", "system:bootstrappers:nodes"));
    // The guide to hardening has nothing against a token that ends.
    let secret = cluster.get(&["secret", "bootstrap-token-abcdef", "-n", "kube-system"]);
    assert_eq!(secret["type"], "bootstrap.kubernetes.io/token");
    assert_eq!(token(&["delete", "abcdef"]).run(20).ok(), "bootstrap token \"abcdef\" deleted\n");
    assert_eq!(token(&["delete", "abcdef"]).run(20).fails(), "pintle: there is no token with the id abcdef\n");
    // Its time over, a token goes by itself.
    token(&["create", "ghijkl.0123456789abcdef", "--ttl", "2s"]).run(20).ok();
    eventually("the token's end", 20, || {
        let listed = token(&["list"]).run(20).ok();
        check(!listed.contains("ghijkl"), || listed.clone())
    });
    refusals(&cluster);
    cluster.finish();
}

/// What keeps a machine from joining is said, and ends the agent.
fn refusals(cluster: &Cluster) {
    let folder = cluster.scratch().join("agent");
    let words = with(&join_words(cluster, &[]), "--server", |_| format!("https://127.0.0.1:{}", cluster.port));
    let said = |words: &[String]| agent(&folder, words).run(20).fails();
    let without = said(&words[..2]);
    assert!(without.contains("--token: this node has not joined yet"), "{without}");
    let file = cluster.scratch().join("token");
    let flag = ["--token-file".to_owned(), file.display().to_string()];
    let without = said(&[&words[..2], &flag].concat());
    assert!(without.contains("token is not there, and this node has not joined yet"), "{without}");
    fs::write(&file, "abcdef.0123456789abcdef\n").unwrap();
    let wrong = said(&[&words[..2], &flag, &words[4..]].concat());
    assert!(wrong.contains("the server does not accept the token"), "{wrong}");
    let without = said(&words[..4]);
    assert!(without.contains("--ca-pin or --ca-file: by what is the server to be known?"), "{without}");
    let wrong = said(&with(&words, "--token", |token| format!("{}.0123456789abcdef", &token[..6])));
    assert!(wrong.contains("the server does not accept the token"), "{wrong}");
    assert!(!wrong.contains("0123456789abcdef"), "{wrong}");
    let wrong = said(&with(&words, "--ca-pin", |_| format!("sha256:{}", "0".repeat(64))));
    assert!(wrong.contains("has no CA with the hash sha256:0000"), "{wrong}");
    let wrong = said(&with(&words, "--server", |_| format!("https://127.0.0.2:{}", cluster.port)));
    assert!(wrong.contains("start the server with --tls-san 127.0.0.2"), "{wrong}");
    let ca = cluster.data_dir().join("pki/front-proxy-ca.crt").display().to_string();
    let wrong = said(&[&words[..4], &["--ca-file".to_owned(), ca]].concat());
    assert!(wrong.contains("is not of the CA that was given"), "{wrong}");
    let wrong = agent(&cluster.data_dir(), &words).run(20).fails();
    assert!(wrong.contains("is a server's, which has a node of its own"), "{wrong}");
    assert!(!folder.join("pki/kubelet-client-current.pem").exists());
    assert_eq!(cluster.get(&["csr"])["items"], json!([]), "nobody was let as far as a request");
}

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: far}}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: localhost/guestbook/web:v1
    command: [sh, -c, "cd /tmp; echo hello > index.html; python3.11 -m http.server 8000 & while true; do date +%s; sleep 0.5; done"]
---
apiVersion: v1
kind: Pod
metadata: {name: near}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: "localhost/guestbook/web:v1", command: [sh, -c, "sleep 100000"]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: far}, ports: [{port: 80, targetPort: 8000}]}
"#;

#[test]
fn a_machine_joins_and_stays() {
    let mut machine = Machine::new();
    let near = NEAR.to_string();
    // Certificates live 40 s: the node's two are renewed while the test looks on.
    let flags = ["--advertise-address", &near, "--cluster-signing-duration", "40s"];
    let mut cluster = Cluster::start_with(&flags, &["web"]);
    let words = join_words(&cluster, &["--ttl", "10m"]);
    assert_eq!(words[1], format!("https://{NEAR}:{}", cluster.port));
    machine.launch(&strs(&words));
    wait_ready(&cluster);
    let whoami = cluster.kubectl(&["--kubeconfig"]).arg(machine.data_dir().join("kubelet.kubeconfig"));
    let whoami = whoami.args(&["auth", "whoami", "-o", "jsonpath={.status.userInfo}"]).run(20).ok();
    let whoami: Value = serde_json::from_str(&whoami).unwrap();
    assert_eq!(whoami["username"], "system:node:node-2");
    assert_eq!(whoami["groups"], json!(["system:nodes", "system:authenticated"]));
    let token_id = words[3][..6].to_owned();
    cluster.pintle(&["token", "delete", &token_id]).run(20).ok();

    machine.pintle(&["image", "import"], &machine.data_dir()).arg(crate::tools::image("web")).run(60).ok();
    cluster.apply(PODS);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/near", "pod/far", "--timeout=60s"]).run(70).ok();
    let container = container(&cluster);
    works(&cluster);
    is_renewed(&cluster, &machine);
    name_is_taken(&cluster, &machine);

    // A restart without a token, without anything.
    machine.stop();
    machine.launch(&[]);
    eventually("exec after the restart", 30, || exec(&cluster));
    cas_are_replaced(&cluster, &machine);
    starts_without_its_server(&mut cluster, &mut machine);
    certificate_ends(&cluster, &mut machine);
    works(&cluster);
    assert_eq!(self::container(&cluster), container, "the container was not touched by any of this");
    cluster.kubectl(&["delete", "pod", "near", "far", "--timeout=60s"]).run(70).ok();
    machine.finish();
    cluster.finish();
}

fn wait_ready(cluster: &Cluster) {
    eventually("node-2", 90, || {
        let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"]).run(20).ok();
        let ready = nodes.lines().filter(|line| line.split_whitespace().nth(1) == Some("Ready")).count();
        check(ready == 2, || nodes)
    });
    let node = cluster.get(&["node", "node-2"]);
    let addresses = node["status"]["addresses"].as_array().unwrap();
    assert!(addresses.contains(&json!({"type": "InternalIP", "address": FAR.to_string()})), "{node:#}");
}

/// The far pod's container: which, when it began, how often it was restarted.
fn container(cluster: &Cluster) -> (Value, Value, Value) {
    let pod = cluster.get(&["pod", "far"]);
    let status = &pod["status"]["containerStatuses"][0];
    (status["containerID"].clone(), status["state"]["running"]["startedAt"].clone(), status["restartCount"].clone())
}

fn exec(cluster: &Cluster) -> Result<(), String> {
    let said = cluster.kubectl(&["exec", "far", "--", "hostname"]).run(20);
    check(said.stdout == "far\n", || format!("{said:#?}"))
}

/// Logs and exec through the server; the Service from a pod of each node.
fn works(cluster: &Cluster) {
    let logs = cluster.kubectl(&["logs", "far", "--tail=1"]).run(20).ok();
    assert!(logs.trim().parse::<u64>().is_ok(), "{logs}");
    exec(cluster).unwrap();
    let program = "import urllib.request as r; print(r.urlopen('http://web/', timeout=5).read().decode(), end='')";
    for pod in ["near", "far"] {
        eventually(&format!("the Service from {pod}"), 20, || {
            let said = cluster.kubectl(&["exec", pod, "--", "python3.11", "-c", program]).run(20);
            check(said.stdout == "hello\n", || format!("{said:#?}"))
        });
    }
}

/// Both certificates are replaced, and what was going on goes on.
fn is_renewed(cluster: &Cluster, machine: &Machine) {
    let current = |name: &str| fs::read_link(machine.data_dir().join(format!("pki/{name}-current.pem"))).unwrap();
    let before = ["kubelet-client", "kubelet-server"].map(current);
    let mut follow = cluster.kubectl(&["logs", "-f", "--tail=1", "far"]);
    let following = Beside::start(&mut follow.command);
    eventually("the renewal", 60, || {
        let now = ["kubelet-client", "kubelet-server"].map(current);
        check(now.iter().zip(&before).all(|(new, old)| new != old), || format!("{now:?}"))
    });
    // A line that was written after the renewal, by the follower that began before.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    following.line_with(&(now + 2).to_string(), 20);
    exec(cluster).unwrap();
    let pki = machine.data_dir().join("pki");
    let kept = fs::read_dir(pki)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("kubelet-client-2"));
    assert_eq!(kept.count(), 2, "the one in use and the one before");
    // The node writes with the new one: a condition's heartbeat, on a connection of its own.
    let requests = cluster.get(&["csr"]);
    let own = requests["items"].as_array().unwrap().iter().filter(|request| {
        request["spec"]["username"] == "system:node:node-2"
            && request["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"
    });
    assert!(own.count() >= 1, "the node asked in its own name: {requests:#}");
    assert!(!machine.logged(0).contains("following the API failed"), "{}", machine.logged(0));
}

/// The node follows when the server's CAs are replaced: it is told of the new ones, and renews its certificates.
fn cas_are_replaced(cluster: &Cluster, machine: &Machine) {
    let pki = machine.data_dir().join("pki");
    let trusted = || fs::read_to_string(pki.join("server-ca.crt")).unwrap();
    let knows = |count: usize| {
        eventually("the CAs known to the node", 30, || {
            let all = trusted().matches("BEGIN CERTIFICATE").count();
            check(all == count, || all.to_string())
        });
    };
    let step = |step: &str| cluster.pintle(&["certs", "rotate", "--ca", step]).run(30).ok();
    let before = trusted();
    step("introduce");
    knows(2);
    step("switch");
    exec(cluster).unwrap();
    let ca = fs::read_to_string(cluster.data_dir().join("pki/ca.crt")).unwrap();
    assert_ne!(ca, before);
    let ca = pki::Certificate::from_pem(&ca).unwrap();
    eventually("certificates of the new CA", 90, || {
        let of = |name: &str| {
            let text = fs::read_to_string(pki.join(format!("{name}-current.pem"))).unwrap();
            pki::Certificate::from_pem(&text).unwrap()
        };
        let both = ["kubelet-client", "kubelet-server"].map(of);
        check(both.iter().all(|own| own.names_as_issuer(&ca)), || format!("{both:?}"))
    });
    step("retire");
    knows(1);
    eventually("exec under the new CA alone", 20, || exec(cluster));
    wait_ready(cluster);
}

fn name_is_taken(cluster: &Cluster, machine: &Machine) {
    let words = join_words(cluster, &["--ttl", "1m"]);
    let refused = machine.pintle(&["agent", "--node-name", "node-2"], &machine.other_dir()).args(&strs(&words));
    let refused = refused.run(20).fails();
    assert!(refused.contains(&format!("a node node-2 is in the cluster and Ready, at {FAR}")), "{refused}");
    let refused = machine.pintle(&["agent", "--node-name", "node-2"], &machine.data_dir()).run(20).fails();
    assert!(refused.contains("an agent is running with"), "{refused}");
    let down = ["down", "--instance", machine.instance.as_str()];
    let refused = machine.pintle(&down, &machine.data_dir()).run(20).fails();
    assert!(refused.contains("an agent is running with") && refused.contains("end it first"), "{refused}");
    let other = machine.pintle(&["certs", "list"], &machine.data_dir()).run(20).ok();
    assert!(other.contains("kubelet-client-current.pem") && other.contains("system:node:node-2"), "{other}");
}

/// The server is away when the agent starts: pods go on, and the node is there again when the server is.
fn starts_without_its_server(cluster: &mut Cluster, machine: &mut Machine) {
    machine.stop();
    cluster.stop_server();
    let before = machine.launch(&[]);
    eventually("the start without the server", 60, || {
        let said = machine.logged(before);
        check(said.contains("the node starts with what it was told last"), || said)
    });
    cluster.launch();
    cluster.wait_api();
    eventually("exec after the server's return", 60, || exec(cluster));
}

/// What has ended lets nobody in; a token does, once the node it is for is not there any more.
fn certificate_ends(cluster: &Cluster, machine: &mut Machine) {
    machine.stop();
    let current = machine.data_dir().join("pki/kubelet-client-current.pem");
    let end = pki::Certificate::from_pem(&fs::read_to_string(&current).unwrap()).unwrap().not_after;
    eventually("the certificate's end", 60, || {
        let now = base::Clock::system().now();
        check(now > end, || format!("{now}, {end}"))
    });
    let refused = machine.pintle(&["agent", "--node-name", "node-2"], &machine.data_dir()).run(20).fails();
    assert!(refused.contains("ended at") && refused.contains("pintle token create"), "{refused}");
    let words = join_words(cluster, &["--ttl", "10m"]);
    machine.launch(&strs(&words));
    eventually("the node's return", 120, || {
        let node = client_certificate(cluster);
        check(node == 0, || format!("{node} requests wait")).and_then(|()| exec(cluster))
    });
    wait_ready(cluster);
}

/// Requests for client certificates that have none yet.
fn client_certificate(cluster: &Cluster) -> usize {
    let requests = cluster.get(&["csr"]);
    let all = requests["items"].as_array().unwrap().iter();
    all.filter(|request| request["status"]["certificate"].is_null()).count()
}
