//! Secrets sealed with the help of a KMS plugin: the flag, another key by command, and a plugin that is missed.

use std::fs;

use crate::cluster::Cluster;
use crate::kms_plugin::KmsPlugin;
use crate::starts::{one_line, server};

#[test]
fn secrets_are_sealed_with_the_help_of_a_plugin() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _within = runtime.enter();
    let folder = tempfile::Builder::new().prefix("ptk").tempdir_in("/tmp").unwrap();
    let mut plugin = KmsPlugin::start(folder.path());
    let config = folder.path().join("encryption.yaml");
    let providers = plugin.provider("1s");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - {{resources: [secrets], providers: [{providers}, {{identity: {{}}}}]}}\n"
    );
    fs::write(&config, text).unwrap();
    let flag = format!("--encryption-provider-config={}", config.display());
    let mut cluster = Cluster::control_plane_with(&[&flag]);
    cluster.kubectl(&["create", "secret", "generic", "kept", "--from-literal=value=marker-kms4"]).run(20).ok();
    let read =
        |cluster: &Cluster| cluster.kubectl(&["get", "secret", "kept", "-o", "jsonpath={.data.value}"]).run(20).ok();
    plugin.state.lock().key_id = "2".to_owned();
    let said = cluster.pintle(&["secrets", "rotate"]).run(60).ok();
    assert!(said.contains("secrets sealed anew") && said.contains("encryption.yaml, read anew"), "{said}");
    assert_eq!(read(&cluster), "bWFya2VyLWttczQ=");
    let audited = cluster.pintle(&["status", "--security", "-o", "json"]).run(60).stdout;
    assert!(audited.contains("Secrets are sealed by keys that a KMS seals"), "{audited}");
    cluster.stop_server();
    // Nothing needs the first key any more; without the plugin nothing begins.
    plugin.state.lock().gone.push("1".to_owned());
    runtime.block_on(plugin.stop());
    let data_dir = cluster.data_dir();
    let line = one_line(server(&data_dir, &[&flag]), 1);
    let words = format!("the KMS plugin vault at unix://{} does not serve: ", plugin.socket.display());
    assert!(line.contains(&words) && line.contains("code = Unavailable"), "{line}");
    plugin.resume();
    cluster.launch();
    cluster.wait_api();
    assert_eq!(read(&cluster), "bWFya2VyLWttczQ=");
    cluster.finish();
}
