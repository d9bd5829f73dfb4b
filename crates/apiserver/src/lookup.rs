//! The server's view of its own state, for authorizers and admission: typed objects out of the watch caches.

use std::sync::Arc;

use api::{Object, Status, Typed, downcast_arc};
use tokio::sync::watch;

use crate::cache::{Cache, Caches};
use crate::catalog::{Catalog, Resource};

/// Reads objects. Cheap to clone.
#[derive(Clone)]
pub struct Lookup {
    pub(crate) caches: Arc<Caches>,
    pub(crate) catalog: Arc<Catalog>,
}

impl Lookup {
    fn resource<T: Typed>(&self) -> Option<(&Arc<Resource>, &Arc<Cache>)> {
        let resource = self.catalog.of_kind(T::KIND)?;
        Some((resource, resource.cache.as_ref()?))
    }

    /// An object as the cache has it: microseconds behind the store at most. `""` for cluster-scoped objects.
    pub fn get<T: Typed>(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let (resource, cache) = self.resource::<T>()?;
        let entry = cache.get(&cache.key(namespace, name))?;
        downcast_arc(resource.object(&entry).ok()?)
    }

    /// An object as the store has it now. For plugins that would refuse because [`Lookup::get`] found nothing.
    ///
    /// # Errors
    /// 500 or 503 if the store cannot be read.
    pub async fn get_live<T: Typed>(&self, namespace: &str, name: &str) -> Result<Option<Arc<T>>, Status> {
        let Some((resource, cache)) = self.resource::<T>() else { return Ok(None) };
        let found = self.caches.store.get(&cache.key(namespace, name)).await.map_err(crate::status::of_store)?;
        let Some(stored) = found.value else { return Ok(None) };
        Ok(downcast_arc(resource.object(&*cache.entry_of(&stored).await?)?))
    }

    /// All objects of a kind, or those of one namespace, in key order.
    pub fn list<T: Typed>(&self, namespace: Option<&str>) -> Vec<Arc<T>> {
        let Some((resource, cache)) = self.resource::<T>() else { return Vec::new() };
        let state = cache.state();
        let prefix = namespace.map_or_else(|| cache.prefix.clone(), |ns| format!("{}{ns}/", cache.prefix));
        let range = store::Range::prefix(&prefix);
        let entries = crate::cache::in_range(&state, &range);
        entries.filter_map(|entry| downcast_arc(resource.object(entry).ok()?)).collect()
    }

    /// The revision of the latest change to any object of a kind: what was compiled from them is good while this stays.
    pub fn revision<T: Typed>(&self) -> u64 {
        self.resource::<T>().map_or(0, |(_, cache)| cache.state().revision)
    }

    /// Counts the changes of a kind's objects; `None` if none are kept.
    pub(crate) fn signal<T: Typed>(&self) -> Option<watch::Receiver<u64>> {
        self.resource::<T>().map(|(_, cache)| cache.signal())
    }

    /// Any object by group, plural and key; the version is the server's choice.
    pub fn get_any(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<dyn Object>> {
        let resource = self.catalog.any_version(group, plural)?;
        let cache = resource.cache.as_ref()?;
        resource.object(&*cache.get(&cache.key(namespace, name))?).ok()
    }

    /// Returns when the caches hold everything written before the call.
    ///
    /// # Errors
    /// 504 if that takes longer than 3 s.
    pub async fn wait_fresh(&self) -> Result<(), Status> {
        self.caches.wait_fresh().await
    }

    /// What is served.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }
}

/// Returns at the next change; never without a signal, or once it is over.
pub(crate) async fn changed(signal: &mut Option<watch::Receiver<u64>>) {
    match signal {
        Some(receiver) => {
            if receiver.changed().await.is_err() {
                *signal = None;
            }
        }
        None => std::future::pending().await,
    }
}
