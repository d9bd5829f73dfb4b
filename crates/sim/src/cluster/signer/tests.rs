//! What pods find in their volumes, and for how long.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use api::core::v1::Pod;
use api::{Object, Typed};
use serde_json::{Value, json};

use super::*;
use crate::cluster::{Cluster, Options, admin, block_on};

const HOUR: Duration = Duration::from_secs(3600);

fn pod(name: &str, source: &Value, spec: &Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "containers": [
                {"name": "c", "image": "web:1", "volumeMounts": [{"name": "tls", "mountPath": "/tls"}]}
            ],
            "volumes": [{"name": "tls", "projected": {"sources": [{"podCertificate": source}]}}],
        }
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    Pod::from_value(pod).unwrap()
}

async fn cluster() -> Cluster {
    let options = Options { nodes: 1, signer: Some("example.com/pods".to_owned()), ..Options::default() };
    Cluster::start(options).await.unwrap()
}

/// The pod once it runs.
async fn running(client: &Client, pod: Pod) -> Arc<Pod> {
    let name = pod.name().to_owned();
    let own = ListOptions { field_selector: Some(format!("metadata.name={name}")), ..ListOptions::default() };
    let tasks = TaskGroup::new();
    let pods = Reflector::<Pod>::start(client.clone(), own, Random::seeded(7), &tasks);
    let mut changes = pods.subscribe();
    client.create(pod).await.unwrap();
    let seen = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            for pod in changes.next().await.into_iter().filter_map(|change| change.new) {
                if pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running") {
                    return pod;
                }
            }
        }
    });
    let seen = seen.await.unwrap_or_else(|_| panic!("{name} does not run"));
    tasks.cancel();
    seen
}

fn volume(cluster: &Cluster, pod: &Pod) -> PathBuf {
    let pods = cluster.data.path().join("node-1/pods");
    pods.join(pod.uid()).join("volumes/kubernetes.io~projected/tls")
}

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

/// The two belong to each other, and the second is issued by the third.
fn check(key: &str, chain: &str) {
    let key = pki::PrivateKey::from_pem(key).unwrap();
    let leaf = pki::Certificate::from_pem(chain).unwrap();
    assert_eq!(leaf.public_key_der, key.public_key().as_der());
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2, "{chain}");
}

#[test]
fn a_volume_shows_a_key_and_its_certificate_and_then_others() {
    block_on(async {
        let cluster = cluster().await;
        let client = cluster.client(&admin());
        let source = json!({
            "signerName": "example.com/pods", "keyType": "ECDSAP256",
            "credentialBundlePath": "both.pem", "keyPath": "key.pem", "certificateChainPath": "chain.pem",
            "maxExpirationSeconds": 3600,
        });
        let pod = running(&client, pod("web", &source, &json!({"securityContext": {"fsGroup": 0}}))).await;
        let dir = volume(&cluster, &pod);
        let (key, chain) = (read(&dir, "key.pem"), read(&dir, "chain.pem"));
        check(&key, &chain);
        assert_eq!(read(&dir, "both.pem"), format!("{key}{chain}"));
        assert_eq!(pki::Certificate::from_pem(&chain).unwrap().common_name, "web");
        let mode = fs::metadata(dir.join("both.pem")).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o640, "the pod's group may read it, nobody else");
        cluster.advance(HOUR / 2 - Duration::from_secs(360)).await;
        assert_eq!(read(&dir, "both.pem"), format!("{key}{chain}"), "not before it is time");
        // Half of its life is over, and the five minutes in which all begin.
        cluster.advance(Duration::from_secs(720)).await;
        let (new_key, new_chain) = (read(&dir, "key.pem"), read(&dir, "chain.pem"));
        assert_ne!(key, new_key, "a refresh has a key of its own");
        check(&new_key, &new_chain);
        assert_eq!(read(&dir, "both.pem"), format!("{new_key}{new_chain}"));
        client.delete::<Pod>("default", "web", Default::default()).await.unwrap();
        cluster.advance(Duration::from_secs(120)).await;
        assert!(!dir.exists());
        let left = client.list::<PodCertificateRequest>(&ListOptions::default()).await.unwrap();
        assert!(left.items.is_empty(), "{:?}", left.items);
        cluster.advance(2 * HOUR).await;
        let left = client.list::<PodCertificateRequest>(&ListOptions::default()).await.unwrap();
        assert!(left.items.is_empty(), "nobody asks for a pod that is gone: {:?}", left.items);
        cluster.stop().await.unwrap();
    });
}

#[test]
fn every_kind_of_key_comes_into_a_volume() {
    block_on(async {
        let cluster = cluster().await;
        let client = cluster.client(&admin());
        for kind in ["RSA3072", "RSA4096", "ECDSAP384", "ECDSAP521", "ED25519"] {
            let source = json!({
                "signerName": "example.com/pods", "keyType": kind, "credentialBundlePath": "tls/both.pem",
                "maxExpirationSeconds": 3600,
            });
            let pod = running(&client, pod(&kind.to_lowercase(), &source, &json!({}))).await;
            let both = read(&volume(&cluster, &pod), "tls/both.pem");
            assert!(both.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{kind}");
            assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2, "{kind}");
        }
        cluster.stop().await.unwrap();
    });
}
