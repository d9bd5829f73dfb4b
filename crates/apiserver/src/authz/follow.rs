//! Following a watch cache by comparing snapshots: what was compiled from the objects is brought up to date at the
//! price
//! of what changed, not of what there is.

use std::sync::Arc;

use api::Typed;
use imbl::ordmap::DiffItem;

use crate::Lookup;
use crate::cache::{Cache, Entry, State};

/// Entries are versions: the same key and revision is the same object.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision && self.key == other.key
    }
}

/// The cache of a kind, if it is served and kept.
pub fn cache_of<T: Typed>(lookup: &Lookup) -> Option<&Arc<Cache>> {
    lookup.catalog.of_kind(T::KIND)?.cache.as_ref()
}

/// What was last seen of a cache.
#[derive(Default)]
pub struct Follower(Arc<State>);

impl Follower {
    /// Whether nothing changed since.
    pub fn is_current(&self, cache: Option<&Arc<Cache>>) -> bool {
        cache.is_none_or(|cache| Arc::ptr_eq(&self.0, &cache.state()))
    }

    /// Goes to the present state and tells every change on the way, as the old and the new entry.
    pub fn advance(&mut self, cache: Option<&Arc<Cache>>, mut changed: impl FnMut(Option<&Entry>, Option<&Entry>)) {
        let Some(cache) = cache else { return };
        let now = cache.state();
        for item in self.0.items.diff(&now.items) {
            match item {
                DiffItem::Add(_, new) => changed(None, Some(new)),
                DiffItem::Update { old, new } => changed(Some(old.1), Some(new.1)),
                DiffItem::Remove(_, old) => changed(Some(old), None),
            }
        }
        self.0 = now;
    }
}
