//! Encryption at rest with a store on disk: no secret can be found in any file, keys change under load, and a server
//! without the right keys does not begin.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use apiserver::seal::{KeyFile, Rotation, Rules};
use apiserver::{Options, Server};
use base::{Clock, Random, TaskGroup};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use store::Store;

use crate::world::World;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const MERGE: &str = "application/merge-patch+json";

async fn store(path: &Path, tasks: &TaskGroup) -> Store {
    Store::open(store::Options::new(path), Clock::system(), tasks.clone()).await.unwrap()
}

/// Keys in memory, changed as the binary changes its file.
struct Keys(Mutex<KeyFile>);

impl Rotation for Keys {
    fn begin(&self) -> Result<Rules, String> {
        let mut keys = self.0.lock();
        *keys = keys.clone().with_new_key().map_err(|error| error.to_string())?;
        Ok(keys.rules())
    }

    fn end(&self) -> Result<(Option<Rules>, String), String> {
        let mut keys = self.0.lock();
        (*keys, _) = keys.clone().split_newest();
        Ok((Some(keys.rules()), format!("{} seals", keys.newest())))
    }
}

/// Every file below a folder, in one string of bytes.
fn files(folder: &Path, into: &mut Vec<u8>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.extend(std::fs::read(&path).unwrap());
        }
    }
}

fn holds(bytes: &str, text: &str) -> bool {
    bytes.contains(text)
}

/// Values of all lengths and shapes: short ones would be found by chance.
fn value(random: &Random) -> String {
    format!("{}{}", random.suffix(12), random.suffix(usize::try_from(random.below(300)).unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_any_file_while_keys_change_under_load() {
    let directory = tempfile::tempdir().unwrap();
    let storing = TaskGroup::new();
    let keys = KeyFile::generate().unwrap();
    let (sealing, rotation) = (keys.rules(), Arc::new(Keys(Mutex::new(keys))));
    let options = Options { sealing, rotation: Some(rotation.clone()), ..Options::default() };
    let world = Arc::new(World::start_on(store(directory.path(), &storing).await, options).await);
    let random = Random::system();
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (world, random, over) = (world.clone(), random.clone(), over.clone());
            async move {
                let mut written = Vec::new();
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    let (first, second) = (value(&random), value(&random));
                    let (name, body) =
                        (format!("s{writer}-{number}"), format!(r#"{{"stringData":{{"a":"{second}"}}}}"#));
                    let created = world
                        .create(
                            SECRETS,
                            &format!(r#"{{"metadata":{{"name":"{name}"}},"stringData":{{"a":"{first}"}}}}"#),
                        )
                        .await;
                    let patched = world.patch(&format!("{SECRETS}/{name}"), MERGE, &body).await;
                    assert_eq!((created.code, patched.code), (201, 200), "{} {}", created.text(), patched.text());
                    if number % 5 == 4 {
                        assert_eq!(world.delete(&format!("{SECRETS}/{name}"), "").await.code, 200);
                    } else {
                        written.push((name, second.clone()));
                    }
                    number += 1;
                }
                written
            }
        })
        .collect();
    let control = value(&random);
    let body = format!(r#"{{"metadata":{{"name":"plain"}},"data":{{"a":"{control}"}}}}"#);
    world.create("/api/v1/namespaces/default/configmaps", &body).await;
    let rotations = async {
        for round in 1..=4 {
            let done = world.create("/pintle/secrets/rotate", "").await;
            assert_eq!(done.code, 200, "{}", done.text());
            assert_eq!(done.json()["keys"], format!("key{} seals", round + 1));
        }
        over.store(true, Ordering::Relaxed);
    };
    let (written, ()) = tokio::join!(futures_util::future::join_all(writers), rotations);
    let all: Vec<(String, String)> = written.into_iter().flatten().collect();
    assert!(all.len() > 4, "there was a load");
    for (name, value) in &all {
        let found = world.get(&format!("{SECRETS}/{name}")).await;
        assert_eq!(found.json()["data"]["a"], STANDARD.encode(value), "{name}");
        let stored = world.server.store().get(&format!("/registry/secrets/default/{name}")).await.unwrap();
        assert!(stored.value.unwrap().value.starts_with(b"k8s:enc:aesgcm:v1:key5:"), "{name}: no old key is needed");
    }
    let live = |bytes: &mut Vec<u8>| files(directory.path(), bytes);
    for moment in ["live", "ended"] {
        if moment == "ended" {
            world.tasks.shutdown(Duration::from_secs(5)).await;
            assert!(storing.shutdown(Duration::from_secs(10)).await);
        }
        let mut bytes = Vec::new();
        live(&mut bytes);
        let bytes = String::from_utf8_lossy(&bytes);
        assert!(holds(&bytes, &control), "{moment}: what is not sealed is found, else this sees nothing");
        for (name, value) in all.iter().take(40) {
            assert!(!holds(&bytes, value), "{moment}: {name}");
            let encoded = STANDARD.encode(value);
            assert!(!holds(&bytes, &encoded[..encoded.len() - 4]), "{moment}: {name} in base64");
        }
    }
}

async fn begin(path: &Path, sealing: Rules) -> Result<(Arc<Server>, TaskGroup), String> {
    let tasks = TaskGroup::new();
    let options = Options { sealing, ..Options::default() };
    let server = Server::start(store(path, &tasks).await, options, tasks.clone()).await;
    match server {
        Ok(server) => Ok((server, tasks)),
        Err(status) => {
            assert!(tasks.shutdown(Duration::from_secs(10)).await);
            Err(status.message().to_owned())
        }
    }
}

#[tokio::test]
async fn without_the_right_key_nothing_begins_and_nothing_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let keys = KeyFile::generate().unwrap();
    {
        let tasks = TaskGroup::new();
        let options = Options { sealing: keys.rules(), ..Options::default() };
        let world = World::start_on(store(directory.path(), &tasks).await, options).await;
        for name in ["a", "b"] {
            world.create(SECRETS, &format!(r#"{{"metadata":{{"name":"{name}"}},"stringData":{{"a":"x"}}}}"#)).await;
        }
        world.tasks.shutdown(Duration::from_secs(5)).await;
        drop(world);
        assert!(tasks.shutdown(Duration::from_secs(10)).await);
    }
    let other = KeyFile::generate().unwrap();
    for wrong in [other.rules(), Rules::none()] {
        let why = begin(directory.path(), wrong).await.map(drop).unwrap_err();
        let words = "2 sealed objects are not opened by the encryption keys that are given, among them \
                     /registry/secrets/default/a: ";
        assert!(why.contains(words) && why.contains("Nothing was changed"), "{why}");
    }
    let (server, tasks) = begin(directory.path(), keys.rules()).await.unwrap();
    let stored = server.store().get("/registry/secrets/default/a").await.unwrap().value.unwrap();
    assert!(stored.value.starts_with(b"k8s:enc:aesgcm:v1:key1:"));
    let refused = server.seal_by(other.rules()).await.unwrap_err();
    assert!(refused.message().contains("the encryption keys do not open /registry/secrets/default/a"), "{refused:?}");
    let same = server.store().get("/registry/secrets/default/a").await.unwrap().value.unwrap();
    assert_eq!(same.value, stored.value, "rules that would lose something are not taken");
    let newer = keys.with_new_key().unwrap();
    let done = server.seal_by(newer.rules()).await.unwrap();
    assert_eq!((done.resealed.get("secrets"), done.resealed.len()), (Some(&2), 1));
    assert!(tasks.shutdown(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_configuration_seals_what_it_names_custom_resources_too() {
    let config = |key: u8, first: &str| {
        let key = STANDARD.encode([key; 32]);
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
             - {{resources: [configmaps], providers: [{{{first}: {{keys: [{{name: k, secret: '{key}'}}]}}}}, {{identity: {{}}}}]}}\n\
             - {{resources: ['*.example.com'], providers: [{{aescbc: {{keys: [{{name: c, secret: '{key}'}}]}}}}]}}\n"
        );
        Rules::parse(&text).unwrap()
    };
    let world = World::start_with(Options { sealing: config(1, "secretbox"), ..Options::default() }).await;
    let definition = r#"{"metadata":{"name":"widgets.example.com"},"spec":{"group":"example.com","scope":"Namespaced",
        "names":{"plural":"widgets","singular":"widget","kind":"Widget"},"versions":[{"name":"v1","served":true,
        "storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}"#;
    assert_eq!(world.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await.code, 201);
    let mut watch = world.watch("/apis/apiextensions.k8s.io/v1/customresourcedefinitions?watch=true").await;
    loop {
        let event = watch.next().await.unwrap();
        let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True") {
            break;
        }
    }
    let widgets = "/apis/example.com/v1/namespaces/default/widgets";
    let widget = r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"},"hush":"hush"}"#;
    assert_eq!(world.create(widgets, widget).await.code, 201);
    let maps = "/api/v1/namespaces/default/configmaps";
    let made = world.create(maps, r#"{"metadata":{"name":"m"},"data":{"a":"b"}}"#).await;
    let stored = async |key: &str| world.server.store().get(key).await.unwrap().value.unwrap().value;
    assert!(stored("/registry/configmaps/default/m").await.starts_with(b"k8s:enc:secretbox:v1:k:"));
    assert!(stored("/registry/example.com/widgets/default/w").await.starts_with(b"k8s:enc:aescbc:v1:c:"));
    assert!(stored("/registry/serviceaccounts/default/default").await.starts_with(b"{"));
    assert_eq!(world.get(&format!("{widgets}/w")).await.json()["hush"], "hush");
    // A write that changes nothing stays none, until another key is to seal.
    let path = format!("{maps}/m");
    let same = world.update(&path, &made.text()).await;
    assert_eq!(same.json()["metadata"]["resourceVersion"], made.json()["metadata"]["resourceVersion"]);
}
