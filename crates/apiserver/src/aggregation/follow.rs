//! Keeps aggregation true to the APIServices and to the definitions of custom resources: one task, driven by their
//! changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::apiextensions::v1::CustomResourceDefinition;
use api::apiregistration::v1::APIService;
use api::{Call, Kind, Options, Target, Typed, Verb, WatchEvent};

use super::available::Verdict;
use super::backend::{self, Backend};
use super::describe::Described;
use super::priority::{self, Priority};
use super::register::{self, Keep, Wanted};
use super::{Aggregation, Remote, check};
use crate::answer::WatchStream;
use crate::{Caller, Server};

/// How long to wait before a watch that failed begins anew, or a write that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Which APIServices the definitions ask for.
#[derive(Default)]
struct Definitions {
    /// The APIServices of each definition.
    by_definition: HashMap<String, BTreeSet<String>>,
    /// Group, version and how many definitions have them, by the APIService's name.
    wanted: BTreeMap<String, (String, String, usize)>,
}

impl Definitions {
    /// Takes in a definition, or that it is gone; the names whose APIService may have to change.
    fn take_in(&mut self, name: &str, definition: Option<&CustomResourceDefinition>) -> BTreeSet<String> {
        let mut now = BTreeMap::new();
        if let Some(crd) = definition {
            for version in crd.spec.versions.iter().filter(|version| version.served) {
                let (group, version) = (crd.spec.group.clone(), version.name.clone());
                now.insert(register::name_of(&group, &version), (group, version));
            }
        }
        let before = self.by_definition.remove(name).unwrap_or_default();
        for (own, (group, version)) in now.iter().filter(|(own, _)| !before.contains(*own)) {
            self.wanted.entry(own.clone()).or_insert_with(|| (group.clone(), version.clone(), 0)).2 += 1;
        }
        for own in before.iter().filter(|own| !now.contains_key(*own)) {
            if let Some(entry) = self.wanted.get_mut(own) {
                entry.2 -= 1;
                if entry.2 == 0 {
                    self.wanted.remove(own);
                }
            }
        }
        let now: BTreeSet<String> = now.into_keys().collect();
        let touched = before.symmetric_difference(&now).cloned().collect();
        if !now.is_empty() {
            self.by_definition.insert(name.to_owned(), now);
        }
        touched
    }

    fn wanted(&self, name: &str) -> Option<Wanted> {
        let (group, version, _) = self.wanted.get(name)?;
        let (group, version) = (group.clone(), version.clone());
        Some(Wanted { group, version, priority: priority::CUSTOM, keep: Keep::Always })
    }
}

struct Following {
    server: Arc<Server>,
    caller: Arc<Caller>,
    definitions: Definitions,
    /// Names whose APIService could not be written.
    failed: BTreeSet<String>,
}

/// Follows both kinds until the server ends.
pub(crate) async fn follow(server: Arc<Server>) {
    let catalog = server.lookup().catalog();
    if catalog.of_kind(APIService::KIND).is_none() {
        return;
    }
    let custom = catalog.of_kind(CustomResourceDefinition::KIND).is_some();
    let caller = Arc::new(Caller::apiserver());
    loop {
        let (definitions, failed) = (Definitions::default(), BTreeSet::new());
        let mut following = Following { server: server.clone(), caller: caller.clone(), definitions, failed };
        following.run(custom).await;
        tokio::select! {
            () = server.tasks().cancelled().cancelled_owned() => return,
            () = server.options().clock.sleep(AGAIN) => {}
        }
    }
}

impl Following {
    async fn watch(&self, kind: &'static Kind) -> Option<WatchStream> {
        let options = Options { send_initial_events: Some(true), allow_watch_bookmarks: true, ..Options::default() };
        let options = Options { resource_version_match: Some("NotOlderThan".to_owned()), ..options };
        let mut call = Call::new(Verb::Watch, Target::kind(kind));
        call.options = options;
        match self.server.watch(&self.caller, call).await {
            Ok(stream) => Some(stream.passing()),
            Err(error) => {
                tracing::debug!(kind = kind.kind, %error, "a watch for aggregation failed");
                None
            }
        }
    }

    /// Until a watch ends.
    async fn run(&mut self, custom: bool) {
        let mut definitions = None;
        if custom {
            let Some(mut stream) = self.watch(CustomResourceDefinition::KIND).await else { return };
            // All of them must be known before it can be said which APIServices nobody asks for.
            let mut touched = BTreeSet::new();
            loop {
                match stream.next().await {
                    Some(WatchEvent::Bookmark { initial_events_end: true, .. }) => break,
                    Some(event) if self.define(&event, &mut touched) => {}
                    _ => return,
                }
            }
            definitions = Some(stream);
            for name in touched {
                self.register(&name).await;
            }
        }
        let Some(mut services) = self.watch(APIService::KIND).await else { return };
        let mut seen = Some(BTreeSet::new());
        loop {
            let definition = async {
                match &mut definitions {
                    Some(stream) => stream.next().await,
                    None => std::future::pending().await,
                }
            };
            let retry = async {
                if self.failed.is_empty() {
                    std::future::pending().await
                } else {
                    self.server.options().clock.sleep(AGAIN).await;
                }
            };
            tokio::select! {
                biased;
                event = services.next() => {
                    let Some(event) = event else { return };
                    if !self.service(event, &mut seen).await {
                        return;
                    }
                }
                event = definition => {
                    let Some(event) = event else { return };
                    let mut touched = BTreeSet::new();
                    if !self.define(&event, &mut touched) {
                        return;
                    }
                    for name in touched {
                        self.register(&name).await;
                    }
                }
                () = retry => {
                    for name in std::mem::take(&mut self.failed) {
                        self.register(&name).await;
                    }
                }
            }
        }
    }

    /// Takes in a change of a definition; false: the watch must begin anew.
    fn define(&mut self, event: &WatchEvent, touched: &mut BTreeSet<String>) -> bool {
        let (object, gone) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
            WatchEvent::Deleted(object) => (object, true),
            WatchEvent::Bookmark { .. } => return true,
            WatchEvent::Error(_) => return false,
        };
        let definition = api::downcast::<CustomResourceDefinition>(&**object).filter(|_| !gone);
        touched.extend(self.definitions.take_in(object.name(), definition));
        true
    }

    /// Takes in a change of an APIService; false: the watch must begin anew. `seen` are the names of the first events,
    /// as long as those come.
    async fn service(&mut self, event: WatchEvent, seen: &mut Option<BTreeSet<String>>) -> bool {
        let (object, gone) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
            WatchEvent::Deleted(object) => (object, true),
            WatchEvent::Bookmark { initial_events_end, .. } => {
                if let Some(seen) = seen.take_if(|_| initial_events_end) {
                    self.server.aggregation().forget_others(&self.server, &seen);
                }
                return true;
            }
            WatchEvent::Error(_) => return false,
        };
        let name = object.name().to_owned();
        if let Some(seen) = seen {
            seen.insert(name.clone());
        }
        let service = api::downcast::<APIService>(&*object).filter(|_| !gone);
        self.server.aggregation().take_in(&self.server, &name, service);
        if let Some(service) = service
            && service.spec.as_ref().is_some_and(|spec| spec.service.is_none())
            && !backend::is_available(service)
            && let Err(error) = check::tell(&self.server, &self.caller, &name, None, &Verdict::local()).await
        {
            tracing::warn!(apiservice = name, %error, "the status of an APIService was not written");
        }
        self.register(&name).await;
        true
    }

    /// Brings one APIService to what the definitions ask for.
    async fn register(&mut self, name: &str) {
        let wanted = self.definitions.wanted(name);
        let existing = self.server.lookup().get::<APIService>("", name);
        let Some(step) = register::plan(existing.as_deref(), wanted.as_ref(), false) else { return };
        if let Err(error) = register::act(&self.server, &self.caller, name, step).await {
            tracing::warn!(apiservice = name, %error, "the APIService of a custom resource was not written");
            self.failed.insert(name.to_owned());
        }
    }
}

impl Aggregation {
    /// Takes in an APIService as it is now; `None`: it is gone.
    fn take_in(&self, server: &Arc<Server>, name: &str, object: Option<&APIService>) {
        let mut known = self.known.lock();
        let before = known.remote.get(name);
        let made = object.and_then(|object| Backend::of(server, object, before.map(|before| &*before.backend)));
        let priority = object.and_then(|object| object.spec.as_ref()).map_or(priority::CUSTOM, |spec| Priority {
            group: spec.group_priority_minimum,
            version: spec.version_priority,
        });
        let mut anew = known.set_priority(object.filter(|_| made.is_none()), name, priority);
        match (made.map(Arc::new), known.remote.remove(name)) {
            (None, None) => {}
            (None, Some(before)) => {
                before.ending.cancel();
                anew = true;
            }
            (Some(backend), Some(before))
                if before.backend.reach == backend.reach && before.backend.uid == backend.uid =>
            {
                anew |= before.priority != priority;
                known.remote.insert(name.to_owned(), Remote { backend, priority, ..before });
            }
            (Some(backend), before) => {
                if let Some(before) = before {
                    before.ending.cancel();
                }
                let ending = server.tasks().cancelled().child_token();
                server.tasks().spawn("API service", check::keep(server.clone(), backend.clone(), ending.clone()));
                let remote = Remote { backend, priority, described: Described::default(), ending };
                known.remote.insert(name.to_owned(), remote);
                anew = true;
            }
        }
        self.route_anew(&known);
        drop(known);
        if anew {
            server.describe_anew();
        } else {
            server.description_changed();
        }
    }

    /// Forgets the APIServices of other names: they went while nobody looked.
    fn forget_others(&self, server: &Arc<Server>, seen: &BTreeSet<String>) {
        let gone: Vec<String> = self.known.lock().remote.keys().filter(|name| !seen.contains(*name)).cloned().collect();
        for name in gone {
            self.take_in(server, &name, None);
        }
    }

    /// Asks the other server what it serves (`reachable`), or notes that nobody knows; true if it was heard.
    pub(super) async fn describe(&self, server: &Server, backend: &Backend, reachable: bool) -> bool {
        let before = {
            let known = self.known.lock();
            let own = known.remote.get(&backend.name).filter(|remote| remote.backend.uid == backend.uid);
            own.map(|remote| remote.described.clone())
        };
        let Some(before) = before else { return false };
        if !reachable {
            self.describe_as(server, backend, &before, before.forget());
            return false;
        }
        let now = before.again(backend).await;
        let heard = now.resources.is_some();
        // Resources first: OpenAPI is long.
        if self.describe_as(server, backend, &before, now.clone()) && heard {
            let with_openapi = now.openapi_again(backend).await;
            self.describe_as(server, backend, &now, with_openapi);
        }
        heard
    }

    /// Notes what is known of a server now; false if it is not its turn any more.
    fn describe_as(&self, server: &Server, backend: &Backend, before: &Described, now: Described) -> bool {
        if now == *before {
            return true;
        }
        {
            let mut known = self.known.lock();
            let Some(remote) = known.remote.get_mut(&backend.name).filter(|own| own.backend.reach == backend.reach)
            else {
                return false;
            };
            remote.described = now;
        }
        server.describe_anew();
        true
    }
}

impl super::Known {
    /// Notes an own version's priority if it is not the usual one; true if that changes anything.
    fn set_priority(&mut self, local: Option<&APIService>, name: &str, priority: Priority) -> bool {
        let Some((version, group)) = name.split_once('.') else { return false };
        let key = (group.to_owned(), version.to_owned());
        if local.is_none() || priority == priority::usual(group, version) {
            return !self.priorities.0.is_empty() && self.priorities.0.remove(&key).is_some();
        }
        self.priorities.0.insert(key, priority) != Some(priority)
    }
}

#[cfg(test)]
mod tests {
    use api::apiextensions::v1::{CustomResourceDefinitionSpec, CustomResourceDefinitionVersion};

    use super::*;

    fn definition(versions: &[(&str, bool)]) -> CustomResourceDefinition {
        let version = |(name, served): &(&str, bool)| CustomResourceDefinitionVersion {
            name: (*name).to_owned(),
            served: *served,
            ..Default::default()
        };
        let spec = CustomResourceDefinitionSpec {
            group: "example.com".to_owned(),
            versions: versions.iter().map(version).collect(),
            ..Default::default()
        };
        CustomResourceDefinition { spec, ..Default::default() }
    }

    #[test]
    fn a_version_is_wanted_as_long_as_a_definition_has_it() {
        let mut all = Definitions::default();
        let names = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
        let both = definition(&[("v1", true), ("v2", false)]);
        assert_eq!(names(all.take_in("a", Some(&both))), ["v1.example.com"]);
        assert_eq!(names(all.take_in("b", Some(&definition(&[("v1", true)])))), ["v1.example.com"]);
        assert!(all.take_in("a", Some(&both)).is_empty());
        assert_eq!(names(all.take_in("a", None)), ["v1.example.com"]);
        assert!(all.wanted("v1.example.com").is_some_and(|wanted| wanted.keep == Keep::Always));
        all.take_in("b", Some(&definition(&[("v2", true)])));
        assert!(all.wanted("v1.example.com").is_none() && all.wanted("v2.example.com").is_some());
    }
}
