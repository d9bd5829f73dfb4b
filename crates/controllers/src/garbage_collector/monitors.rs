//! Which resources are followed: all that are served and can be listed, watched and deleted. One task each, begun and
//! ended as discovery changes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::apiextensions::v1::CustomResourceDefinition;
use api::{Kind, Object, Typed};
use base::{Random, TaskGroup};
use client::discovery::Discovered;
use client::follow::{Following, follow};
use client::{Served, Sink};
use tokio::sync::watch;

use super::Shared;
use crate::harness::Context;

/// Group and plural: a resource in whichever version.
pub(super) type Name = (&'static str, &'static str);

/// Objects that own nothing, are owned by nothing and come in great numbers.
const IGNORED: &[Name] = &[("", "events"), ("events.k8s.io", "events")];
/// What a resource must allow to be followed.
const VERBS: &[&str] = &["delete", "list", "watch"];
/// How long collecting waits for a resource's first list.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long what was sent of a resource that is no longer served may take to arrive.
const LINGER: Duration = Duration::from_secs(10);

/// A resource that is followed.
struct Monitor {
    kind: &'static Kind,
    tasks: TaskGroup,
    ending: watch::Sender<bool>,
}

/// Begins to follow everything.
pub(super) fn start(shared: &Arc<Shared>, context: &Context) {
    let (shared, random, tasks) = (shared.clone(), context.random.clone(), context.tasks.clone());
    let group = tasks.clone();
    tasks.supervise("garbage collector: monitors", move || {
        // A supervised task that starts anew begins with none.
        keep(shared.clone(), random.clone(), group.child())
    });
}

/// Ends its group of tasks with the one that holds it.
struct Ended(TaskGroup);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

async fn keep(shared: Arc<Shared>, random: Random, tasks: TaskGroup) {
    let ended = Ended(tasks);
    let mut served: Served = shared.served.clone();
    let mut monitors: BTreeMap<Name, Monitor> = BTreeMap::new();
    loop {
        let discovered = served.now().await;
        let wanted = wanted(&discovered);
        let gone: Vec<Name> = monitors
            .iter()
            .filter(|(name, monitor)| match wanted.get(*name) {
                Some(kind) => *kind != monitor.kind,
                // Its server may only be out of reach.
                None => !discovered.is_stale(name.0),
            })
            .map(|(name, _)| *name)
            .collect();
        for name in gone {
            if let Some(monitor) = monitors.remove(&name) {
                end(&shared, name, monitor, wanted.contains_key(&name));
            }
        }
        let new: Vec<_> = wanted.into_iter().filter(|(name, _)| !monitors.contains_key(name)).collect();
        shared.waiting.send_modify(|waiting| {
            waiting.get_or_insert_default().extend(new.iter().map(|(name, _)| *name));
        });
        for (name, kind) in new {
            monitors.insert(name, begin(&shared, name, kind, &random, &ended.0));
        }
        let unresolved = std::mem::take(&mut *shared.unresolved.lock());
        for uid in unresolved {
            shared.queue.add(&uid);
        }
        served.changed().await;
    }
}

/// What is to be followed, each resource in its preferred version.
fn wanted(discovered: &Discovered) -> BTreeMap<Name, &'static Kind> {
    let resources = discovered.preferred().into_iter().filter(|one| one.can(VERBS)).map(|one| one.kind);
    let named = resources.map(|kind| ((kind.group, kind.plural), kind));
    named.filter(|(name, _)| !IGNORED.contains(name)).collect()
}

fn begin(shared: &Arc<Shared>, name: Name, kind: &'static Kind, random: &Random, tasks: &TaskGroup) -> Monitor {
    let (ending, ends) = watch::channel(false);
    let tasks = tasks.child();
    let following = Following { kind, metadata_only: true, ending: ends.clone() };
    let (client, random) = (shared.client.clone(), random.clone());
    let sink = Arc::new(Feed { shared: shared.clone(), name, kind });
    let own = shared.clone();
    tasks.spawn("garbage collector: follow", async move {
        let was_defined = is_defined(&own, name).await;
        tokio::select! {
            () = follow(client, following, sink, random) => {}
            () = lingered(ends) => {}
        }
        // A definition goes after its last instance. Otherwise, what cannot be seen any more is neither there nor gone.
        let gone = was_defined && !is_defined(&own, name).await;
        let look = {
            let mut graph = own.graph.lock();
            if gone { graph.retain(kind, &HashSet::new()) } else { graph.forget(kind) }
        };
        own.follow_up(look);
        listed(&own, name);
    });
    let patient = shared.clone();
    tasks.spawn("garbage collector: patience", async move {
        tokio::time::sleep(PATIENCE).await;
        if listed(&patient, name) {
            tracing::warn!(group = name.0, resource = name.1, "not listed yet; garbage is collected without it");
        }
    });
    Monitor { kind, tasks, ending }
}

/// Whether a CustomResourceDefinition defines the resource, or may do so.
async fn is_defined(shared: &Shared, (group, plural): Name) -> bool {
    let found = shared.client.find_metadata(CustomResourceDefinition::KIND, "", &format!("{plural}.{group}")).await;
    !matches!(found, Ok(None))
}

/// Lets a monitor end: what was sent already is still taken in, unless the resource goes on in another version.
fn end(shared: &Arc<Shared>, name: Name, monitor: Monitor, goes_on: bool) {
    if goes_on {
        monitor.tasks.cancel();
        listed(shared, name);
    }
    monitor.ending.send_replace(true);
}

/// Returns some time after the resource's end was known.
async fn lingered(mut ending: watch::Receiver<bool>) {
    if ending.wait_for(|ending| *ending).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(LINGER).await;
}

/// Collecting need not wait for it any more; whether it did.
fn listed(shared: &Shared, name: Name) -> bool {
    shared.waiting.send_if_modified(|waiting| waiting.as_mut().is_some_and(|waiting| waiting.remove(&name)))
}

/// Feeds the graph with one resource.
struct Feed {
    shared: Arc<Shared>,
    name: Name,
    kind: &'static Kind,
}

impl Sink for Feed {
    fn put(&self, object: &dyn Object) {
        let look = self.shared.graph.lock().put(object);
        self.shared.follow_up(look);
    }

    fn remove(&self, object: &dyn Object) {
        let look = self.shared.graph.lock().remove(object.uid());
        self.shared.follow_up(look);
    }

    fn listed(&self, uids: &HashSet<String>) {
        let look = self.shared.graph.lock().retain(self.kind, uids);
        self.shared.follow_up(look);
        listed(&self.shared, self.name);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_not_followed() {
        let of = |group: &str, plural: &str| {
            json!({"metadata": {"name": group}, "versions": [{"version": "v1", "resources": [{
                "resource": plural, "responseKind": {"kind": "Any"}, "verbs": ["delete", "list", "watch"]}]}]})
        };
        let reviews = json!({"metadata": {"name": "b.io"}, "versions": [{"version": "v1", "resources": [{
            "resource": "reviews", "responseKind": {"kind": "Review"}, "verbs": ["create"]}]}]});
        let items = [of("", "events"), of("events.k8s.io", "events"), of("a.io", "events"), reviews];
        let document = json!({"kind": "APIGroupDiscoveryList", "items": items});
        let discovered = Discovered::parse(document.to_string().as_bytes()).unwrap();
        let names: Vec<Name> = wanted(&discovered).into_keys().collect();
        assert_eq!(names, [("a.io", "events")]);
    }
}
