//! Kubeconfigs read back, by us and by kubectl.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::ca::{Ca, Request};

fn ca() -> Ca {
    Ca::generate("kubernetes", "2026-01-01T00:00:00Z".parse().unwrap(), Duration::from_secs(3600)).unwrap()
}

fn identity(ca: &Ca) -> Identity {
    let request = Request::client("jane", &["developers"], Duration::from_secs(3600));
    ca.issue(&request, "2026-01-01T00:00:00Z".parse().unwrap()).unwrap()
}

fn admin(ca: &Ca) -> Kubeconfig {
    Kubeconfig::new("https://10.0.0.1:6443", ca.cert_pem(), "pintle", "jane").with_identity(identity(ca))
}

/// kubectl's standard output.
fn kubectl(kubeconfig: &Path, arguments: &[&str]) -> String {
    let output = Command::new("kubectl").arg("--kubeconfig").arg(kubeconfig).args(arguments).output();
    let output = output.expect("kubectl is in the path: `make test` puts it there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_saved_file_is_private_and_reads_back() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), ca());
    let path = dir.path().join("admin.kubeconfig");
    let mut written = admin(&ca).with_token("0123456789");
    written.namespace = Some("shop".to_owned());
    written.save(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let read = Kubeconfig::load(&path, None).unwrap();
    assert_eq!(read.server, written.server);
    assert_eq!(read.ca_pem.as_deref(), Some(ca.cert_pem()));
    assert_eq!(read.context, "jane@pintle");
    assert_eq!(read.namespace.as_deref(), Some("shop"));
    assert_eq!(read.token, Some(Token::Inline("0123456789".to_owned())), "a token of digits stays text");
    let (read, written) = (read.identity.unwrap(), written.identity.unwrap());
    assert_eq!((read.cert_pem(), read.key_pem()), (written.cert_pem(), written.key_pem()));
}

#[test]
fn the_text_is_kubectls_line_by_line() {
    let ca = ca();
    let written = admin(&ca);
    let identity = written.identity.as_ref().unwrap();
    let expected = format!(
        "apiVersion: v1\n\
         clusters:\n\
         - cluster:\n    certificate-authority-data: {}\n    server: https://10.0.0.1:6443\n  name: pintle\n\
         contexts:\n\
         - context:\n    cluster: pintle\n    user: jane\n  name: jane@pintle\n\
         current-context: jane@pintle\n\
         kind: Config\n\
         users:\n\
         - name: jane\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        STANDARD.encode(ca.cert_pem()),
        STANDARD.encode(identity.cert_pem()),
        STANDARD.encode(identity.key_pem()),
    );
    assert_eq!(*written.to_yaml().unwrap(), expected);
}

#[test]
fn kubectl_accepts_what_we_write() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), ca());
    let path = dir.path().join("admin.kubeconfig");
    let written = admin(&ca).with_token("0123456789");
    written.save(&path).unwrap();
    let view = kubectl(&path, &["config", "view", "--raw", "--flatten", "--minify", "-o", "json"]);
    let view: serde_json::Value = serde_json::from_str(&view).unwrap();
    assert_eq!(view["current-context"], "jane@pintle");
    assert_eq!(view["contexts"][0]["context"], serde_json::json!({"cluster": "pintle", "user": "jane"}));
    assert_eq!(view["clusters"][0]["cluster"]["server"], "https://10.0.0.1:6443");
    assert_eq!(view["clusters"][0]["cluster"]["certificate-authority-data"], STANDARD.encode(ca.cert_pem()));
    let user = &view["users"][0]["user"];
    let identity = written.identity.unwrap();
    assert_eq!(user["client-certificate-data"], STANDARD.encode(identity.cert_pem()));
    assert_eq!(user["client-key-data"], STANDARD.encode(identity.key_pem()));
    assert_eq!(user["token"], "0123456789");
    // kubectl rewrites the file without losing anything we need.
    kubectl(&path, &["config", "set-context", "--current", "--namespace=shop"]);
    let read = Kubeconfig::load(&path, None).unwrap();
    assert_eq!(read.namespace.as_deref(), Some("shop"));
    assert_eq!(read.identity.unwrap().cert_pem(), identity.cert_pem());
}

#[test]
fn a_file_with_paths_and_several_contexts_is_read() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), ca());
    let identity = identity(&ca);
    std::fs::write(dir.path().join("ca.crt"), ca.cert_pem()).unwrap();
    identity.save(&dir.path().join("jane.crt"), &dir.path().join("jane.key")).unwrap();
    let path = dir.path().join("config");
    let text = r"
apiVersion: v1
kind: Config
preferences: {}
current-context: a
clusters:
- name: one
  cluster:
    server: 'https://one'
    certificate-authority: ca.crt
    tls-server-name: api
    extensions: [{name: x, extension: {a: 1}}]
- name: two
  cluster: {server: 'https://two'}
contexts:
- name: a
  context: {cluster: one, user: jane, namespace: shop}
- name: b
  context: {cluster: two, user: robot}
- name: c
  context: {cluster: three, user: jane}
- name: d
  context: {cluster: two, user: nobody}
users:
- name: jane
  user: {client-certificate: jane.crt, client-key: jane.key}
- name: robot
  user: {tokenFile: robot.token, token: old}
";
    std::fs::write(&path, text).unwrap();
    let a = Kubeconfig::load(&path, None).unwrap();
    assert_eq!((a.server.as_str(), a.tls_server_name.as_deref()), ("https://one", Some("api")));
    assert_eq!(a.ca_pem.as_deref(), Some(ca.cert_pem()));
    assert_eq!(a.identity.unwrap().certificate().common_name, "jane");
    let b = Kubeconfig::load(&path, Some("b")).unwrap();
    assert_eq!((b.server.as_str(), b.ca_pem), ("https://two", None));
    assert_eq!(b.token, Some(Token::File(dir.path().join("robot.token"))), "the renewed one wins");
    for (context, message) in [
        ("c", "kubeconfig: cluster \"three\" does not exist"),
        ("d", "kubeconfig: user \"nobody\" does not exist"),
        ("e", "kubeconfig: context \"e\" does not exist"),
    ] {
        assert_eq!(Kubeconfig::load(&path, Some(context)).unwrap_err().to_string(), message);
    }
    std::fs::remove_file(dir.path().join("jane.key")).unwrap();
    assert!(Kubeconfig::load(&path, None).unwrap_err().is_missing_file());
}

#[test]
fn what_we_cannot_honour_is_refused_by_name() {
    let read = |cluster: &str, user: &str| {
        let text = format!(
            "{{current-context: a, clusters: [{{name: c, cluster: {{server: 'https://c'{cluster}}}}}], \
             contexts: [{{name: a, context: {{cluster: c, user: u}}}}], users: [{{name: u, user: {{{user}}}}}]}}"
        );
        Kubeconfig::from_yaml(&text, Path::new("."), None).map_err(|e| e.to_string())
    };
    assert!(read("", "token: abc").is_ok());
    assert!(read("", "").unwrap().token.is_none());
    for (cluster, user, word) in [
        (", insecure-skip-tls-verify: true", "", "insecure-skip-tls-verify"),
        (", proxy-url: 'http://p'", "", "proxy-url"),
        ("", "exec: {command: aws}", "exec"),
        ("", "auth-provider: {name: gcp}", "auth-provider"),
        ("", "username: a, password: b", "username"),
        ("", "client-key-data: aGk=", "must be given together"),
        (", certificate-authority-data: '%'", "", "kubeconfig: "),
    ] {
        let error = read(cluster, user).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
    for text in ["", "a: [", "{}", "current-context: a", "clusters: null\ncurrent-context: ''"] {
        assert!(Kubeconfig::from_yaml(text, Path::new("."), None).is_err(), "{text:?}");
    }
}
