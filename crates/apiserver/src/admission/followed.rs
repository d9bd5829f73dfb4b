//! What was compiled from configuration objects, kept for as long as they do not change.

use std::sync::Arc;

use api::Typed;
use arc_swap::ArcSwap;

use crate::Lookup;

/// One object's share.
struct Item<C> {
    name: String,
    version: String,
    compiled: Arc<C>,
}

struct Seen<C> {
    revision: Option<u64>,
    items: Vec<Item<C>>,
    /// The same in order, for readers.
    all: Arc<Vec<Arc<C>>>,
}

/// The compiled form of every object of a kind, in the order of their names.
pub struct Followed<C>(ArcSwap<Seen<C>>);

impl<C> Default for Followed<C> {
    fn default() -> Self {
        Self(ArcSwap::from_pointee(Seen { revision: None, items: Vec::new(), all: Arc::default() }))
    }
}

impl<C> Followed<C> {
    /// All of them as of now. Only what changed since the last call is compiled.
    pub fn get<K: Typed>(&self, lookup: &Lookup, compile: impl Fn(&K) -> C) -> Arc<Vec<Arc<C>>> {
        let seen = self.0.load();
        let revision = Some(lookup.revision::<K>());
        if seen.revision == revision {
            return seen.all.clone();
        }
        let objects = lookup.list::<K>(None);
        let item = |object: Arc<K>| {
            let (name, version) = (object.name(), object.resource_version());
            let known = seen.items.iter().find(|item| item.name == name && item.version == version);
            let compiled = known.map_or_else(|| Arc::new(compile(&object)), |item| item.compiled.clone());
            Item { name: name.to_owned(), version: version.to_owned(), compiled }
        };
        let items: Vec<Item<C>> = objects.into_iter().map(item).collect();
        let all = Arc::new(items.iter().map(|item| item.compiled.clone()).collect::<Vec<_>>());
        self.0.store(Arc::new(Seen { revision, items, all: all.clone() }));
        all
    }
}
