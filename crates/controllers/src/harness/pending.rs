//! What this process wrote and may not see yet, per key: revisions its view must reach, and objects it deleted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use api::Kind;
use client::Reflectors;
use parking_lot::Mutex;

#[derive(Debug, Default, Clone)]
pub(super) struct Written {
    /// Per kind written, the newest revision.
    pub reach: Vec<(&'static Kind, u64)>,
    /// Objects deleted, by uid: left out of views as long as those still show them as live.
    pub gone: BTreeMap<String, (&'static Kind, String)>,
    /// Why the last plan was not carried out to its end.
    pub failure: Option<String>,
}

impl Written {
    pub fn wrote(&mut self, kind: &'static Kind, resource_version: &str) {
        let Ok(revision) = resource_version.parse::<u64>() else { return };
        match self.reach.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, newest)) => *newest = revision.max(*newest),
            None => self.reach.push((kind, revision)),
        }
    }

    /// Forgets deletions that the views have seen; answers the uids of the others.
    pub fn unseen(&mut self, reflectors: &Reflectors) -> BTreeSet<String> {
        self.gone.retain(|uid, (kind, key)| reflectors.is_live(kind, key, uid));
        self.gone.keys().cloned().collect()
    }

    fn is_empty(&self) -> bool {
        self.reach.is_empty() && self.gone.is_empty() && self.failure.is_none()
    }
}

/// Bounded by the keys that were written to and not reconciled since.
#[derive(Default)]
pub(super) struct Pending(Mutex<HashMap<String, Written>>);

impl Pending {
    pub fn take(&self, key: &str) -> Written {
        self.0.lock().remove(key).unwrap_or_default()
    }

    pub fn put(&self, key: &str, written: Written) {
        if !written.is_empty() {
            self.0.lock().insert(key.to_owned(), written);
        }
    }
}
