//! Keys and certificates of pods on a real node: what a container reads, and what a restart of the node agent leaves.

use std::time::Duration;

use k8s_openapi::ByteString;
use pki::{Ca, Profile, Usages};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::tools::{check, eventually};

const HOUR: Duration = Duration::from_secs(3600);

/// A signer that answers when it is told to.
struct Signer<'a> {
    cluster: &'a Cluster,
    ca: Ca,
    answered: Vec<String>,
}

impl Signer<'_> {
    /// Signs the next request. Returns the chain.
    fn sign(&mut self) -> String {
        let request = eventually("a request", 40, || {
            let all = self.cluster.get(&["podcertificaterequests", "-n", "pods"]);
            let new = all["items"].as_array().unwrap().iter().find(|item| !self.answered.contains(&name(item)));
            new.cloned().ok_or_else(|| format!("{all:#}"))
        });
        let spec = &request["spec"];
        assert_eq!((&spec["signerName"], &spec["podName"]), (&json!("example.com/pods"), &json!("tls")), "{spec:#}");
        let stub: ByteString = serde_json::from_value(spec["stubPKCS10Request"].clone()).unwrap();
        let now = base::Clock::system().now();
        let profile = Profile { usages: Usages::parse(&["client auth", "server auth"]).unwrap(), valid: 2 * HOUR };
        let leaf = self.ca.sign_stub_request(&stub.0, "tls", &profile, now).unwrap();
        let issued = pki::Certificate::from_pem(&leaf).unwrap();
        let chain = leaf + self.ca.cert_pem();
        let at = |time: base::Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let status = json!({"status": {
            "certificateChain": chain, "notBefore": at(issued.not_before), "notAfter": at(issued.not_after),
            "beginRefreshAt": at(issued.not_before + HOUR),
            "conditions": [
                {"type": "Issued", "status": "True", "reason": "Issued", "message": "", "lastTransitionTime": at(now)}
            ],
        }});
        let patch = ["patch", "podcertificaterequest", &name(&request), "-n", "pods", "--type=merge"];
        let patch = self.cluster.kubectl(&patch).args(&["--subresource=status", "-p", &status.to_string()]);
        patch.run(20).ok();
        self.answered.push(name(&request));
        chain
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

#[test]
fn a_pod_reads_its_key_and_certificates() {
    let mut cluster = Cluster::start(&["web"]);
    cluster.kubectl(&["create", "namespace", "pods"]).run(20).ok();
    let mount = json!([{"name": "tls", "mountPath": "/tls"}]);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tls", "namespace": "pods"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsUser": 1000},
            "containers": [{
                "name": "main", "image": "localhost/guestbook/web:v1", "command": ["sh", "-c", "sleep 1000"],
                "volumeMounts": mount,
            }],
            "volumes": [{"name": "tls", "projected": {"sources": [{"podCertificate": {
                "signerName": "example.com/pods", "keyType": "ECDSAP256", "maxExpirationSeconds": 86400,
                "credentialBundlePath": "both.pem", "keyPath": "key.pem", "certificateChainPath": "chain.pem",
            }}]}}],
        }
    });
    cluster.apply(&pod.to_string());
    eventually("the event", 40, || {
        let events = cluster.kubectl(&["events", "-n", "pods", "--for", "pod/tls"]).run(20).ok();
        let told = "MountVolume.SetUp failed for volume \"tls\" : credential bundle is not issued yet";
        check(events.contains(told), || events)
    });
    let now = base::Clock::system().now();
    let ca = Ca::generate("example.com/pods", now, 24 * HOUR).unwrap();
    let mut signer = Signer { cluster: &cluster, ca: ca.clone(), answered: Vec::new() };
    let chain = signer.sign();
    let answered = signer.answered;
    let container = running(&cluster);
    let read = |cluster: &Cluster, words: &[&str]| {
        cluster.kubectl(&["exec", "-n", "pods", "tls", "--"]).args(words).run(20).ok()
    };
    assert_eq!(read(&cluster, &["cat", "/tls/chain.pem"]), chain);
    let key = read(&cluster, &["cat", "/tls/key.pem"]);
    let public = pki::PrivateKey::from_pem(&key).unwrap().public_key().as_der().to_vec();
    assert_eq!(public, pki::Certificate::from_pem(&chain).unwrap().public_key_der);
    assert_eq!(read(&cluster, &["cat", "/tls/both.pem"]), format!("{key}{chain}"));
    let program = "import os; s = os.stat('/tls/both.pem'); print(oct(s.st_mode & 0o777), s.st_uid)";
    let owner = read(&cluster, &["python3.11", "-c", program]);
    assert_eq!(owner, "0o600 1000\n", "the pod's user alone reads it");
    let mounts = read(&cluster, &["cat", "/proc/mounts"]);
    assert!(mounts.contains("\ntmpfs /tls tmpfs "), "keys are in memory: {mounts}");

    // The node agent forgets, and asks anew; the files stay until it is answered.
    cluster.kill_server();
    cluster.launch();
    cluster.wait_ready();
    let mut signer = Signer { cluster: &cluster, ca, answered };
    eventually("another request", 40, || {
        let all = cluster.get(&["podcertificaterequests", "-n", "pods"]);
        check(all["items"].as_array().unwrap().len() == 2, || format!("{all:#}"))
    });
    assert_eq!(read(&cluster, &["cat", "/tls/both.pem"]), format!("{key}{chain}"));
    let other = signer.sign();
    eventually("the new files", 40, || {
        let both = read(&cluster, &["cat", "/tls/both.pem"]);
        check(both.ends_with(&other) && !both.starts_with(&key), || both)
    });
    assert_eq!(running(&cluster), container, "the container is the same");
    cluster.kubectl(&["delete", "namespace", "pods", "--timeout=60s"]).run(70).ok();
    cluster.finish();
}

/// The id of the pod's container once it runs.
fn running(cluster: &Cluster) -> String {
    eventually("the container", 40, || {
        let status = cluster.get(&["pod", "tls", "-n", "pods"])["status"].clone();
        let first = &status["containerStatuses"][0];
        let id = first["containerID"].as_str().filter(|_| first["ready"] == true);
        id.map(str::to_owned).ok_or_else(|| format!("{status:#}"))
    })
}
