//! Keeps what is served true to the definitions: one task, driven by their changes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::apiextensions::v1::{CustomResourceDefinition, CustomResourceDefinitionStatus};
use api::{Body, Call, Options, Status, Target, Typed, Verb, WatchEvent};
use parking_lot::Mutex;
use resources::Shared;
use sha2::{Digest, Sha256};

use super::define::{Defined, definition_of};
use super::names;
use crate::cache::{Cache, Caches};
use crate::catalog::{Catalog, Resource};
use crate::{Caller, Server};

/// How long to wait before the definitions are watched anew after a watch that failed.
const WATCH_AGAIN: Duration = Duration::from_millis(200);

/// What is served of one definition.
struct Serving {
    fingerprint: [u8; 32],
    defined: Defined,
}

/// What is served of each definition, by its name. Only the one task writes it.
#[derive(Default)]
pub(crate) struct Customs {
    serving: Mutex<HashMap<String, Serving>>,
    /// The names that definitions have been given.
    book: Mutex<names::Book>,
    /// Definitions whose instances are being deleted.
    pub(super) cleaning: Mutex<HashSet<String>>,
}

/// What of a definition makes a difference to what is served.
fn fingerprint(crd: &CustomResourceDefinition) -> [u8; 32] {
    let accepted = crd.status.as_ref().and_then(|status| status.accepted_names.as_ref());
    let text = serde_json::to_vec(&(&crd.metadata.uid, &crd.spec, accepted, crd.metadata.deletion_timestamp.is_some()));
    Sha256::digest(text.unwrap_or_default()).into()
}

fn resources(defined: &Defined, cache: &Arc<crate::cache::Cache>) -> Vec<Arc<Resource>> {
    let resource = |version: &Arc<super::Version>| {
        Arc::new(Resource {
            strategy: Shared::Made(version.clone()),
            cache: Some(cache.clone()),
            convert: None,
            custom: Some(version.clone()),
        })
    };
    defined.served.iter().map(resource).collect()
}

impl Customs {
    /// Adds caches for what the established definitions define, before the feed begins; the definitions' own cache is
    /// full.
    pub fn load(&self, catalog: &Catalog, caches: &Caches) {
        let Some(cache) = catalog.of_kind(CustomResourceDefinition::KIND).and_then(|found| found.cache.as_ref()) else {
            return;
        };
        *self.book.lock() = book_of(cache);
        for entry in cache.state().items.values() {
            let Some(crd) = definition_of(entry).filter(|crd| names::is_true(crd, "Established")) else { continue };
            match Defined::compile(&crd) {
                Err(why) => tracing::error!(definition = entry.name(), why, "a stored definition cannot be served"),
                Ok(defined) => {
                    let cache = caches.add(&defined.segment(), Shared::Made(defined.stored.clone()));
                    catalog.serve_custom(&defined.group, &defined.plural, resources(&defined, &cache));
                    let serving = Serving { fingerprint: fingerprint(&crd), defined };
                    self.serving.lock().insert(entry.name().to_owned(), serving);
                }
            }
        }
    }

    fn serves(&self, name: &str, fingerprint: &[u8; 32]) -> bool {
        self.serving.lock().get(name).is_some_and(|serving| serving.fingerprint == *fingerprint)
    }

    async fn serve(&self, server: &Server, name: &str, crd: &CustomResourceDefinition) -> Result<(), Status> {
        let fingerprint = fingerprint(crd);
        if self.serves(name, &fingerprint) {
            return Ok(());
        }
        let defined = Defined::compile(crd).map_err(Status::internal)?;
        let cache = server.caches().open(defined.segment(), Shared::Made(defined.stored.clone())).await?;
        server.lookup().catalog().serve_custom(&defined.group, &defined.plural, resources(&defined, &cache));
        self.serving.lock().insert(name.to_owned(), Serving { fingerprint, defined });
        server.describe_anew();
        Ok(())
    }

    async fn unserve(&self, server: &Server, name: &str) -> Result<(), Status> {
        let Some(serving) = self.serving.lock().remove(name) else { return Ok(()) };
        let Defined { group, plural, .. } = &serving.defined;
        server.lookup().catalog().serve_custom(group, plural, Vec::new());
        server.describe_anew();
        server.caches().close(serving.defined.segment()).await
    }

    /// The strategy and cache of what a definition's instances are kept as.
    pub(super) fn stored(&self, name: &str, catalog: &Catalog) -> Option<Arc<Resource>> {
        let serving = self.serving.lock();
        let defined = &serving.get(name)?.defined;
        let cache = catalog.any_version(&defined.group, &defined.plural)?.cache.clone();
        let version = defined.stored.clone();
        Some(Arc::new(Resource {
            strategy: Shared::Made(version.clone()),
            cache,
            convert: None,
            custom: Some(version),
        }))
    }
}

/// Who has which names, as a cache of definitions has it.
fn book_of(cache: &Cache) -> names::Book {
    #[derive(serde::Deserialize)]
    struct Definition {
        spec: Spec,
        #[serde(default)]
        status: Option<CustomResourceDefinitionStatus>,
    }
    #[derive(serde::Deserialize)]
    struct Spec {
        group: String,
    }
    let mut book = names::Book::default();
    for entry in cache.state().items.values() {
        // The definition whole would be a hundred times as much.
        if let Ok(Definition { spec, status }) = serde_json::from_slice(entry.stored()) {
            book.set(&spec.group, entry.name(), status.as_ref().map(names::Given::from).unwrap_or_default());
        }
    }
    book
}

fn definitions(server: &Server) -> Option<Arc<Cache>> {
    server.lookup().catalog().of_kind(CustomResourceDefinition::KIND)?.cache.clone()
}

pub(super) fn target() -> Target {
    Target::kind(CustomResourceDefinition::KIND)
}

/// Follows the definitions until the server ends.
pub(crate) async fn follow(server: Arc<Server>) {
    let caller = Arc::new(Caller::apiserver());
    loop {
        let options = Options { allow_watch_bookmarks: true, ..Options::default() };
        let call = Call { verb: Verb::Watch, target: target(), options, body: Body::None };
        match server.watch(&caller, call).await {
            Ok(stream) => {
                let mut stream = stream.passing();
                // As it is now or later than the watch begins: what changes from here on is told.
                if let Some(cache) = definitions(&server) {
                    *server.customs().book.lock() = book_of(&cache);
                }
                while let Some(event) = stream.next().await {
                    if !seen(&server, &caller, event).await {
                        break;
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "definitions of custom resources cannot be watched"),
        }
        tokio::select! {
            () = server.tasks().cancelled().cancelled_owned() => return,
            () = server.options().clock.sleep(WATCH_AGAIN) => {}
        }
    }
}

/// Takes in one event; false: the watch must begin anew.
async fn seen(server: &Arc<Server>, caller: &Arc<Caller>, event: WatchEvent) -> bool {
    let (object, gone) = match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
        WatchEvent::Deleted(object) => (object, true),
        WatchEvent::Bookmark { .. } => return true,
        WatchEvent::Error(error) => {
            tracing::debug!(%error, "the watch of custom resources' definitions ended");
            return false;
        }
    };
    let name = object.name().to_owned();
    let crd = api::downcast_arc::<CustomResourceDefinition>(object);
    let done = if gone {
        let done = server.customs().unserve(server, &name).await;
        // A name may have become free.
        match done {
            Ok(()) => others_anew(server, caller, &name, crd.as_deref()).await,
            Err(error) => Err(error),
        }
    } else {
        match crd {
            Some(crd) => reconcile(server, caller, &crd).await,
            None => Ok(()),
        }
    };
    if let Err(error) = done {
        tracing::warn!(definition = name, %error, "a definition of a custom resource could not be taken in");
    }
    true
}

async fn others_anew(
    server: &Arc<Server>,
    caller: &Arc<Caller>,
    name: &str,
    gone: Option<&CustomResourceDefinition>,
) -> Result<(), Status> {
    let Some((crd, cache)) = gone.zip(definitions(server)) else { return Ok(()) };
    let group = &crd.spec.group;
    let waiting = {
        let mut book = server.customs().book.lock();
        book.remove(group, name);
        book.waiting(group)
    };
    for name in waiting {
        // What is not there any more is told later.
        let crd = cache.get(&cache.key("", &name)).and_then(|entry| definition_of(&entry));
        if let Some(crd) = crd {
            reconcile(server, caller, &crd).await?;
        }
    }
    Ok(())
}

/// Brings one definition's names, status and service up to date.
async fn reconcile(server: &Arc<Server>, caller: &Arc<Caller>, crd: &CustomResourceDefinition) -> Result<(), Status> {
    let name = crd.metadata.name.as_deref().unwrap_or_default();
    let group = &crd.spec.group;
    let given = crd.status.as_ref().map(names::Given::from).unwrap_or_default();
    server.customs().book.lock().set(group, name, given);
    if crd.metadata.deletion_timestamp.is_some() {
        if names::is_true(crd, "Established") {
            server.customs().serve(server, name, crd).await?;
        }
        super::terminate::begin(server, name);
        return Ok(());
    }
    let status = names::plan(crd, server.customs().book.lock().others(group, name), server.now());
    let changed = crd.status.as_ref() != Some(&status);
    let given = names::Given::from(&status);
    let mut next = crd.clone();
    next.status = Some(status);
    // Served before it says so: who reads the condition may go on at once.
    if names::is_true(&next, "Established") {
        server.customs().serve(server, name, &next).await?;
    }
    if !changed {
        return Ok(());
    }
    let mut to = target();
    to.name = Some(name.to_owned());
    to.subresource = Some("status".into());
    let call = Call { verb: Verb::Update, target: to, options: Options::default(), body: Body::Object(Arc::new(next)) };
    match server.call(caller, call).await {
        Ok(_) => {
            server.customs().book.lock().set(group, name, given);
            Ok(())
        }
        // Another version is on its way, or it is gone: the event comes.
        Err(status) if matches!(status.code(), 404 | 409) => Ok(()),
        Err(status) => Err(status),
    }
}
