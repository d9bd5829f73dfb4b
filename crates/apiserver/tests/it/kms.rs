//! KMS v2 with a real plugin on a Unix socket: what is sealed with its help, what it is asked and how often, another
//! key while serving, and a plugin that is down, hangs, or has lost its keys.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apiserver::seal::{Rotation, Rules};
use apiserver::{Options, Server};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base::{Clock, TaskGroup};
use prost::Message;
use store::Store;

use crate::kms_plugin::KmsPlugin;
use crate::world::World;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const PREFIX: &[u8] = b"k8s:enc:kms:v2:vault:";
/// sha256 of `1` and of `2`, as figures show these keys.
const HASHES: [&str; 2] = [
    "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
    "sha256:d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35",
];

/// What is stored, by upstream's numbers.
#[derive(Clone, PartialEq, Message)]
struct EncryptedObject {
    #[prost(bytes, tag = "1")]
    data: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(bytes, tag = "3")]
    source: Vec<u8>,
    #[prost(btree_map = "string, bytes", tag = "4")]
    annotations: BTreeMap<String, Vec<u8>>,
    #[prost(int32, tag = "5")]
    kind: i32,
}

fn configuration(providers: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - {{resources: [secrets], providers: [{providers}]}}\n"
    )
}

fn rules(plugin: &KmsPlugin, timeout: &str) -> Rules {
    Rules::parse(&configuration(&format!("{}, {{identity: {{}}}}", plugin.provider(timeout)))).unwrap()
}

/// The configuration read anew, as the binary does.
struct Anew(String);

impl Rotation for Anew {
    fn begin(&self) -> Result<Rules, String> {
        Rules::parse(&self.0)
    }

    fn end(&self) -> Result<(Option<Rules>, String), String> {
        Ok((None, "read anew".to_owned()))
    }
}

fn options(plugin: &KmsPlugin) -> Options {
    let rotation = Anew(configuration(&format!("{}, {{identity: {{}}}}", plugin.provider("2s"))));
    Options { sealing: rotation.begin().unwrap(), rotation: Some(Arc::new(rotation)), ..Options::default() }
}

async fn on_disk(path: &Path, tasks: &TaskGroup) -> Store {
    Store::open(store::Options::new(path), Clock::system(), tasks.clone()).await.unwrap()
}

async fn create(world: &World, name: &str) -> (u16, String) {
    let body = format!(r#"{{"metadata":{{"name":"{name}"}},"stringData":{{"a":"hush-{name}"}}}}"#);
    let answer = world.create(SECRETS, &body).await;
    (answer.code, answer.text())
}

async fn stored(world: &World, name: &str) -> EncryptedObject {
    let key = format!("/registry/secrets/default/{name}");
    let value = world.server.store().get(&key).await.unwrap().value.unwrap().value;
    EncryptedObject::decode(value.strip_prefix(PREFIX).unwrap()).unwrap()
}

/// Moves the clock on, and lets real time go on from there.
async fn skip(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn end(world: World) {
    assert!(world.tasks.shutdown(Duration::from_secs(5)).await);
}

/// The message of a start that fails.
async fn refused(store: Store, sealing: Rules) -> String {
    let tasks = TaskGroup::new();
    let started = Server::start(store, Options { sealing, ..Options::default() }, tasks.clone()).await;
    tasks.shutdown(Duration::from_secs(5)).await;
    started.map(drop).unwrap_err().message().to_owned()
}

#[tokio::test]
async fn secrets_are_sealed_and_read_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = KmsPlugin::start(folder.path());
    let storing = TaskGroup::new();
    let world = World::start_on(on_disk(&folder.path().join("store"), &storing).await, options(&plugin)).await;
    for number in 0..20 {
        assert_eq!(create(&world, &format!("s{number}")).await.0, 201);
    }
    assert_eq!((plugin.count("Encrypt"), plugin.count("Decrypt")), (1, 0), "not once a value");
    let object = stored(&world, "s0").await;
    assert_eq!((object.key_id.as_str(), object.kind), ("1", 1));
    assert_eq!(object.annotations["vault.example.com"], b"shelf 1");
    assert!(object.source.starts_with(b"wrapped-") && !object.data.windows(4).any(|window| window == b"hush"));
    assert_ne!(object.data[..32], stored(&world, "s1").await.data[..32], "each value has a key of its own");
    for endpoint in ["healthz", "livez", "readyz"] {
        let said = world.get(&format!("/{endpoint}?verbose")).await.text();
        assert!(said.contains("[+]kms-providers ok\n"), "{said}");
    }
    end(world).await;
    assert!(storing.shutdown(Duration::from_secs(10)).await);

    let storing = TaskGroup::new();
    let world = World::start_on(on_disk(&folder.path().join("store"), &storing).await, options(&plugin)).await;
    for number in 0..20 {
        let found = world.get(&format!("{SECRETS}/s{number}")).await;
        assert_eq!((found.code, found.json()["data"]["a"].is_string()), (200, true), "{}", found.text());
    }
    assert_eq!((plugin.count("Encrypt"), plugin.count("Decrypt")), (2, 1), "one seed a start");
    assert_eq!(create(&world, "late").await.0, 201);
    let figures = world.get("/metrics").await.text();
    let [one, _] = HASHES;
    for wanted in [
        format!(
            "apiserver_envelope_encryption_key_id_hash_total{{apiserver_id_hash=\"\",key_id_hash=\"{one}\",\
             provider_name=\"vault\",transformation_type=\"to_storage\"}} 1"
        ),
        "apiserver_envelope_encryption_dek_source_cache_size{provider_name=\"vault\"} 2".to_owned(),
        "apiserver_storage_envelope_transformation_cache_misses_total 1".to_owned(),
        "apiserver_envelope_encryption_kms_operations_latency_seconds_count{grpc_status_code=\"OK\",\
         method_name=\"/v2.KeyManagementService/Decrypt\",provider_name=\"vault\"} 1"
            .to_owned(),
    ] {
        assert!(figures.contains(&format!("{wanted}\n")), "{wanted} in {figures}");
    }
    end(world).await;
    assert!(storing.shutdown(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn another_key_seals_what_is_written_next_and_a_rotation_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = KmsPlugin::start(folder.path());
    let store = Store::memory();
    let world = World::start_on(store.clone(), options(&plugin)).await;
    let (old, touched) = (create(&world, "old").await, create(&world, "touched").await);
    assert_eq!((old.0, touched.0), (201, 201));
    plugin.state.lock().key_id = "2".to_owned();
    let asked = plugin.count("Status");
    skip(Duration::from_secs(61)).await;
    plugin.called_more_than("Status", asked).await;
    // Waits for what the plugin is being asked.
    assert_eq!(world.get("/readyz/kms-providers").await.text(), "ok");
    assert_eq!(create(&world, "new").await.0, 201);
    assert_eq!((stored(&world, "old").await.key_id, stored(&world, "new").await.key_id), ("1".into(), "2".into()));
    // A write that changes nothing seals it anew, once.
    let path = format!("{SECRETS}/touched");
    let updated = world.update(&path, &touched.1).await;
    assert_eq!((updated.code, stored(&world, "touched").await.key_id), (200, "2".to_owned()));
    let again = world.update(&path, &updated.text()).await;
    assert_eq!(again.json()["metadata"]["resourceVersion"], updated.json()["metadata"]["resourceVersion"]);
    assert_eq!(world.get(&format!("{SECRETS}/old")).await.json()["data"]["a"], "aHVzaC1vbGQ=");
    let done = world.create("/pintle/secrets/rotate", "").await;
    assert_eq!((done.code, &done.json()["resealed"]), (200, &serde_json::json!({"secrets": 1})), "{}", done.text());
    assert_eq!(stored(&world, "old").await.key_id, "2");
    let figures = world.get("/metrics").await.text();
    for (hash, count) in HASHES.iter().zip([2, 3]) {
        let wanted =
            format!("key_id_hash=\"{hash}\",provider_name=\"vault\",transformation_type=\"to_storage\"}} {count}\n");
        assert!(figures.contains(&wanted), "{wanted} in {figures}");
    }
    end(world).await;
    // The first key is not needed any more.
    plugin.state.lock().gone.push("1".to_owned());
    let world = World::start_on(store, options(&plugin)).await;
    for name in ["old", "new", "touched"] {
        assert_eq!(world.get(&format!("{SECRETS}/{name}")).await.code, 200, "{name}");
    }
    end(world).await;
}

#[tokio::test]
async fn a_plugin_that_is_down_stops_writes_after_a_while_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut plugin = KmsPlugin::start(folder.path());
    let world = World::start_with(options(&plugin)).await;
    assert_eq!(create(&world, "before").await.0, 201);
    plugin.stop().await;
    assert_eq!(create(&world, "meanwhile").await.0, 201, "it coasts");
    skip(Duration::from_secs(181)).await;
    let (code, why) = create(&world, "late").await;
    assert_eq!(code, 500, "{why}");
    let words =
        format!("Internal error occurred: encryptedDEKSource with keyID hash \\\"{}\\\" expired at ", HASHES[0]);
    assert!(why.contains(&words), "{why}");
    assert_eq!(world.create("/api/v1/namespaces/default/configmaps", r#"{"metadata":{"name":"m"}}"#).await.code, 201);
    for name in ["before", "meanwhile"] {
        assert_eq!(world.get(&format!("{SECRETS}/{name}")).await.code, 200, "{name}");
    }
    let ready = world.get("/readyz/kms-providers").await;
    let words = "internal server error: kms-providers: kms-provider-0: failed to perform status section of the healthz \
                 check for KMS Provider vault, error: rpc error: code = Unavailable desc = ";
    assert!(ready.code == 500 && ready.text().starts_with(words), "{}", ready.text());
    assert_eq!(world.get("/readyz?exclude=kms-providers").await.code, 200);
    let asked = plugin.count("Status");
    plugin.resume();
    skip(Duration::from_secs(11)).await;
    plugin.called_more_than("Status", asked).await;
    assert_eq!(world.get("/readyz/kms-providers").await.text(), "ok");
    assert_eq!(create(&world, "late").await.0, 201);
    assert_eq!(plugin.count("Encrypt"), 1, "the seed is still good: the key is the same");
    end(world).await;
}

#[tokio::test]
async fn what_another_server_sealed_waits_for_the_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = KmsPlugin::start(folder.path());
    let store = Store::memory();
    let one = World::start_on(store.clone(), options(&plugin)).await;
    let two = World::start_on(store, options(&plugin)).await;
    let mut watch = two.watch(&format!("{SECRETS}?watch=true")).await;
    plugin.state.lock().cannot_decrypt = true;
    assert_eq!(create(&one, "s").await.0, 201);
    let found = two.get(&format!("{SECRETS}/s")).await;
    let words = "Internal error occurred: failed to decrypt DEK, error: rpc error: code = Unavailable desc = the vault \
                 is locked";
    assert_eq!((found.code, found.message().as_str()), (500, words));
    let asked = plugin.count("Decrypt");
    plugin.called_more_than("Decrypt", asked).await;
    plugin.state.lock().cannot_decrypt = false;
    assert_eq!(watch.next_name().await, "ADDED s", "whoever follows misses nothing");
    assert_eq!(two.get(&format!("{SECRETS}/s")).await.code, 200);
    end(two).await;
    end(one).await;
}

#[tokio::test]
async fn a_start_without_its_plugin_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut plugin = KmsPlugin::start(folder.path());
    let store = Store::memory();
    let world = World::start_on(store.clone(), options(&plugin)).await;
    assert_eq!(create(&world, "s").await.0, 201);
    end(world).await;
    let value = store.get("/registry/secrets/default/s").await.unwrap().value.unwrap().value;

    plugin.stop().await;
    let socket = plugin.socket.display();
    let words = format!("the KMS plugin vault at unix://{socket} does not serve: failed to perform status section");
    let why = refused(store.clone(), rules(&plugin, "200ms")).await;
    assert!(why.contains(&words) && why.contains("code = Unavailable"), "{why}");

    plugin.resume();
    plugin.state.lock().hangs = true;
    let why = refused(store.clone(), rules(&plugin, "200ms")).await;
    assert!(why.contains(&words) && why.contains("code = DeadlineExceeded desc = context deadline exceeded"), "{why}");
    plugin.state.lock().hangs = false;

    plugin.state.lock().encrypts_with = Some("2".to_owned());
    let why = refused(store.clone(), rules(&plugin, "200ms")).await;
    let hashes = format!("encryptKeyIDHash=\"{}\", statusKeyIDHash=\"{}\"", HASHES[1], HASHES[0]);
    assert!(why.contains("failed to rotate DEK uid=") && why.contains(&hashes), "{why}");
    plugin.state.lock().encrypts_with = None;

    plugin.state.lock().ciphertext_len = 1025;
    let why = refused(store.clone(), rules(&plugin, "200ms")).await;
    assert!(why.contains("encrypted DEK source is 1025 bytes, which exceeds the max size of 1024"), "{why}");
    plugin.state.lock().ciphertext_len = 0;

    plugin.state.lock().key_id = String::new();
    let why = refused(store.clone(), rules(&plugin, "200ms")).await;
    assert!(why.contains("got invalid KMSv2 KeyID hash \"\": keyID is empty"), "{why}");

    {
        let mut state = plugin.state.lock();
        (state.key_id, state.gone) = ("2".to_owned(), vec!["1".to_owned()]);
    }
    let why = refused(store.clone(), rules(&plugin, "2s")).await;
    let words = "/registry/secrets/default/s is sealed with a key that its KMS plugin does not decrypt: failed to \
                 decrypt DEK, error: rpc error: code = NotFound desc = no key 1. Nothing was changed";
    assert!(why.contains(words), "{why}");
    let same = store.get("/registry/secrets/default/s").await.unwrap().value.unwrap().value;
    assert_eq!(same, value);

    // One that is about to be well is waited for.
    {
        let mut state = plugin.state.lock();
        (state.gone, state.ill) = (Vec::new(), 3);
    }
    let world = World::start_on(store, options(&plugin)).await;
    assert_eq!(world.get(&format!("{SECRETS}/s")).await.code, 200);
    end(world).await;
}

#[tokio::test]
async fn a_plugin_that_hangs_holds_up_what_asks_it_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = KmsPlugin::start(folder.path());
    let world = World::start_with(Options { sealing: rules(&plugin, "300ms"), ..Options::default() }).await;
    plugin.state.lock().hangs = true;
    skip(Duration::from_secs(21)).await;
    let asked = plugin.count("Status");
    let began = world.clock.monotonic();
    let (ready, ping) = tokio::join!(world.get("/readyz/kms-providers"), world.get("/readyz/ping"));
    assert_eq!((ready.code, ping.code), (500, 200));
    assert!(ready.text().contains("code = DeadlineExceeded desc = context deadline exceeded"), "{}", ready.text());
    assert!(world.clock.monotonic() - began < Duration::from_secs(3), "bounded by the provider's timeout");
    assert_eq!(create(&world, "s").await.0, 201);
    assert_eq!(world.get(&format!("{SECRETS}/s")).await.code, 200);
    assert_eq!(world.get("/readyz/kms-providers").await.code, 500);
    assert_eq!(plugin.count("Status"), asked + 1, "its answer holds for a moment");
    end(world).await;
}

/// What upstream wrote before v1.29: one AES-GCM key instead of a seed.
#[tokio::test]
async fn values_of_a_single_key_are_read_and_sealed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = KmsPlugin::start(folder.path());
    let store = Store::memory();
    let key = "/registry/secrets/default/s";
    let mut text = br#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"default","uid":"u",
        "creationTimestamp":"2024-01-01T00:00:00Z"},"data":{"a":"aHVzaA=="},"type":"Opaque"}"#
        .to_vec();
    let (dek, nonce) = ([5; 32], [6; 12]);
    let own = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &dek).unwrap());
    own.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(key.as_bytes()), &mut text).unwrap();
    let object = EncryptedObject {
        data: [&nonce[..], &text].concat(),
        key_id: "1".to_owned(),
        source: plugin.state.lock().wrap(&dek),
        annotations: BTreeMap::new(),
        kind: 0,
    };
    store.create(key, [PREFIX, &object.encode_to_vec()].concat().into(), None).await.unwrap();
    let world = World::start_on(store, options(&plugin)).await;
    assert_eq!(world.get(&format!("{SECRETS}/s")).await.json()["data"]["a"], "aHVzaA==");
    let done = world.create("/pintle/secrets/rotate", "").await;
    assert_eq!(done.json()["resealed"], serde_json::json!({"secrets": 1}), "{}", done.text());
    assert_eq!((stored(&world, "s").await.kind, stored(&world, "s").await.key_id), (1, "1".to_owned()));
    assert_eq!(world.get(&format!("{SECRETS}/s")).await.json()["data"]["a"], "aHVzaA==");
    end(world).await;
}

#[tokio::test]
async fn a_configuration_with_a_plugin_is_taken_while_serving_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut plugin = KmsPlugin::start(folder.path());
    let world = World::start().await;
    assert_eq!(create(&world, "s").await.0, 201);
    assert!(!world.get("/readyz?verbose").await.text().contains("kms"));
    plugin.stop().await;
    let why = world.server.seal_by(rules(&plugin, "200ms")).await.unwrap_err();
    assert!(why.message().contains("does not serve") && why.message().ends_with("nothing was changed"), "{why:?}");
    let key = "/registry/secrets/default/s";
    let before = world.server.store().get(key).await.unwrap().value.unwrap().value;
    assert!(before.starts_with(b"{"));
    plugin.resume();
    let done = world.server.seal_by(rules(&plugin, "2s")).await.unwrap();
    assert_eq!((done.resealed.get("secrets"), stored(&world, "s").await.key_id), (Some(&1), "1".to_owned()));
    assert_eq!(world.get(&format!("{SECRETS}/s")).await.json()["data"]["a"], "aHVzaC1z");
    assert!(world.get("/readyz?verbose").await.text().contains("[+]kms-providers ok"));
    end(world).await;
}
