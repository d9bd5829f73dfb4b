//! Aggregation: versions of groups that another API server serves. An APIService names the Service; requests for that
//! version are passed on to it, and what it says of itself is merged into discovery and OpenAPI.
//!
//! [`follow`] keeps all of this true to the APIServices; [`check`] looks, for each that names a Service, whether that
//! can be reached. This server's own versions have APIServices too ([`register`]).
//!
//! The core group is always served here, and so is `apiregistration.k8s.io`. Calls in process pass through [`Passage`].
//!
//! Upstream: staging/src/k8s.io/kube-aggregator.

mod available;
pub(crate) mod backend;
pub(crate) mod check;
mod client;
mod describe;
pub(crate) mod follow;
pub(crate) mod identity;
mod passage;
pub(crate) mod priority;
mod probe;
pub(crate) mod register;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::discovery::Elsewhere;
use backend::Backend;
use describe::Described;
use priority::{Priorities, Priority};

pub(crate) use client::Failure;
pub use passage::Passage;

/// Groups that no APIService can take away.
const OWN: &[&str] = &["", "apiregistration.k8s.io"];

/// Where each version that is served elsewhere is: by group, then by version.
type Routes = HashMap<String, HashMap<String, Arc<Backend>>>;

/// An APIService that names a Service.
struct Remote {
    backend: Arc<Backend>,
    priority: Priority,
    /// What the other server says of itself.
    described: Described,
    /// Ends its checks.
    ending: CancellationToken,
}

#[derive(Default)]
struct Known {
    /// By the APIService's name.
    remote: BTreeMap<String, Remote>,
    /// Those of this server's own versions that somebody changed.
    priorities: Priorities,
}

/// What is known of other API servers. Only the tasks of this module write it.
#[derive(Default)]
pub(crate) struct Aggregation {
    routes: ArcSwap<Routes>,
    known: Mutex<Known>,
}

impl Aggregation {
    /// Who serves that version, if it is another server.
    pub fn route(&self, group: &str, version: &str) -> Option<Arc<Backend>> {
        self.routes.load().get(group)?.get(version).cloned()
    }

    /// What discovery and OpenAPI are to say of other servers.
    pub fn elsewhere(&self) -> Vec<Arc<Elsewhere>> {
        let known = self.known.lock();
        let entry = |remote: &Remote| Arc::new(remote.described.elsewhere(&remote.backend, remote.priority));
        let others = known.remote.values().filter(|remote| !OWN.contains(&&*remote.backend.group));
        let mut all: Vec<Arc<Elsewhere>> = others.map(entry).collect();
        // Where names collide, the dearer keeps its own.
        all.sort_by_key(|one| std::cmp::Reverse((one.priority.group, one.priority.version)));
        all
    }

    /// Who has a version's OpenAPI v3 document, if that is another server.
    pub fn openapi_route(&self, group: &str, version: &str) -> Option<Arc<Backend>> {
        let backend = self.route(group, version)?;
        let known = self.known.lock();
        known.remote.get(&backend.name).filter(|remote| remote.described.openapi.link.is_some())?;
        Some(backend)
    }

    /// Priorities of own versions that differ from the usual ones.
    pub fn priorities(&self) -> Priorities {
        self.known.lock().priorities.clone()
    }

    /// Makes the routes anew from what is known.
    fn route_anew(&self, known: &Known) {
        let mut routes = Routes::new();
        for backend in known.remote.values().map(|remote| &remote.backend) {
            if !OWN.contains(&&*backend.group) {
                let versions = routes.entry(backend.group.clone()).or_default();
                versions.insert(backend.version.clone(), backend.clone());
            }
        }
        self.routes.store(Arc::new(routes));
    }
}
