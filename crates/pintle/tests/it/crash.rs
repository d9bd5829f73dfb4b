//! kill -9 under load: nothing that was acknowledged is lost, nothing that runs is touched, watchers miss nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::core::v1::ConfigMap;
use api::meta::v1::ObjectMeta;
use api::{Object, WatchEvent};
use base::TaskGroup;
use client::{Client, Error, ListOptions};
use futures_util::StreamExt;
use parking_lot::Mutex;

use crate::cluster::Cluster;
use crate::restart::{look, steady_pods};

const KILLS: usize = 20;
const WRITERS: usize = 4;
/// Acknowledged writes between two kills, at least.
const ACKS_PER_KILL: usize = 40;
const NAMESPACE: &str = "default";

/// What the server has said yes to.
#[derive(Default)]
struct Acknowledged {
    /// ConfigMaps created, by name: the value within.
    created: BTreeMap<String, String>,
    /// The highest count written to each writer's own ConfigMap.
    counts: BTreeMap<String, u64>,
    total: usize,
}

type Acks = Arc<Mutex<Acknowledged>>;

#[test]
fn kill_9_loses_nothing() {
    let mut cluster = Cluster::start(&["frontend"]);
    let before = steady_pods(&cluster);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let tasks = TaskGroup::new();
    let acks = Acks::default();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(Mutex::new(Seen::default()));
    for writer in 0..WRITERS {
        let (client, acks, stop) = (cluster.client(), acks.clone(), stop.clone());
        tasks.spawn("writer", async move { write(&client, writer, &acks, &stop).await });
    }
    let (client, watched) = (cluster.client(), seen.clone());
    tasks.spawn("watcher", async move { watch(&client, &watched).await });

    for kill in 0..KILLS {
        let enough = acks.lock().total + ACKS_PER_KILL;
        runtime.block_on(until("writes", || acks.lock().total >= enough));
        cluster.kill_server();
        // All that was acknowledged before the kill is in `held`; what follows is more.
        let held = {
            let acks = acks.lock();
            (acks.created.clone(), acks.counts.clone())
        };
        cluster.launch();
        cluster.wait_api();
        runtime.block_on(verify(&cluster.client(), &held.0, &held.1, kill));
    }
    stop.store(true, Ordering::Relaxed);
    let (created, last) = runtime.block_on(async {
        let everything = acks.lock().created.keys().cloned().collect::<BTreeSet<_>>();
        until("the watcher to see all", || everything.is_subset(&seen.lock().names)).await;
        (everything.len(), seen.lock().relists)
    });
    println!("{created} acknowledged creations over {KILLS} kills; the watcher listed anew {last} times");
    tasks.cancel();
    runtime.block_on(tasks.shutdown(Duration::from_secs(10)));

    cluster.wait_ready();
    assert_eq!(look(&cluster), before, "containers were touched");
    assert_eq!(base::task::panics(), 0, "a writer or the watcher met what must not be");
    cluster.finish();
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waiting).await.is_ok(), "no {what} within 60 s");
}

fn config_map(name: &str, key: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), namespace: Some(NAMESPACE.into()), ..Default::default() },
        data: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
        ..Default::default()
    }
}

/// Creates ConfigMaps and counts up in one of its own, until told to stop. What fails is tried again; what was
/// possibly done is not counted as acknowledged.
async fn write(client: &Client, writer: usize, acks: &Acks, stop: &AtomicBool) {
    let own = format!("count-{writer}");
    let mut count = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        let name = format!("w{writer}-{count}");
        let value = format!("{writer}/{count}");
        if again(|| client.create(config_map(&name, "value", &value))).await {
            let mut acks = acks.lock();
            acks.created.insert(name, value);
            acks.total += 1;
        }
        let counted = config_map(&own, "count", &count.to_string());
        let written = match client.find::<ConfigMap>(NAMESPACE, &own).await {
            Ok(None) => again(|| client.create(counted.clone())).await,
            Ok(Some(_)) => again(|| client.update(counted.clone())).await,
            Err(error) => {
                expected(&error);
                false
            }
        };
        if written {
            let mut acks = acks.lock();
            acks.counts.insert(own.clone(), count);
            acks.total += 1;
        }
    }
}

/// Tries until the server has answered; whether this try is the one that did it.
async fn again<T, F: Future<Output = Result<T, Error>>>(mut call: impl FnMut() -> F) -> bool {
    loop {
        match call().await {
            Ok(_) => return true,
            // A try before it was done, and its answer lost.
            Err(error) if error.is_already_exists() => return false,
            Err(error) => expected(&error),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Only a server that is not there, or is just coming, may be the reason.
fn expected(error: &Error) {
    assert!(error.is_retryable(), "{error:?}");
}

async fn verify(client: &Client, created: &BTreeMap<String, String>, counts: &BTreeMap<String, u64>, kill: usize) {
    let options = ListOptions { namespace: Some(NAMESPACE.into()), ..ListOptions::default() };
    let listed = client.list::<ConfigMap>(&options).await.unwrap();
    let there: BTreeMap<&str, &ConfigMap> = listed.items.iter().map(|item| (item.name(), &**item)).collect();
    let value = |name: &str, key: &str| there.get(name).and_then(|map| map.data.as_ref()?.get(key));
    for (name, wanted) in created {
        assert_eq!(value(name, "value"), Some(wanted), "after kill {kill}: {name} was acknowledged");
    }
    for (name, count) in counts {
        let found: u64 = value(name, "count").map_or(0, |text| text.parse().unwrap());
        assert!(found >= *count, "after kill {kill}: {name} was acknowledged at {count}, is {found}");
    }
}

#[derive(Default)]
struct Seen {
    names: BTreeSet<String>,
    relists: usize,
}

/// Follows the ConfigMaps over all ends of the server, from the revision last seen.
async fn watch(client: &Client, seen: &Mutex<Seen>) {
    let options = ListOptions { namespace: Some(NAMESPACE.into()), ..ListOptions::default() };
    let mut revision: Option<u64> = None;
    loop {
        let from = match revision {
            Some(revision) => revision,
            None => match client.list::<ConfigMap>(&options).await {
                Ok(listed) => {
                    let mut seen = seen.lock();
                    seen.relists += 1;
                    seen.names.extend(listed.items.iter().map(|item| item.name().to_owned()));
                    *revision.insert(listed.resource_version.parse().unwrap())
                }
                Err(error) => {
                    expected(&error);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        match client.watch::<ConfigMap>(&options, &from.to_string()).await {
            Ok(events) => revision = follow(events, from, seen).await,
            Err(error) if error.is_expired() => revision = None,
            Err(error) => {
                expected(&error);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Reads to the end of a watch: the revision to go on from, `None` when a new list is needed.
async fn follow(mut events: client::BoxStream<WatchEvent>, from: u64, seen: &Mutex<Seen>) -> Option<u64> {
    let mut revision = from;
    while let Some(event) = events.next().await {
        let object = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => object,
            WatchEvent::Bookmark { resource_version, .. } => {
                revision = resource_version.parse().unwrap();
                continue;
            }
            WatchEvent::Error(status) => {
                let error = Error::Status(*status);
                if error.is_expired() {
                    return None;
                }
                expected(&error);
                break;
            }
        };
        let new: u64 = object.resource_version().parse().unwrap();
        assert!(new > revision, "the watch went back from {revision} to {new}");
        revision = new;
        seen.lock().names.insert(object.name().to_owned());
    }
    Some(revision)
}
