//! From the words people use for resources (`deploy`, `Pod`, `events.events.k8s.io`) to the catalogue.

use anyhow::{Result, bail};
use api::Target;
use resources::{AnyStrategy, Scope};

/// Where an object is: its resource, namespace (`None`: cluster-scoped) and name.
#[derive(Clone, Copy)]
pub struct Found(pub &'static dyn AnyStrategy);

impl Found {
    /// Whether objects of it live in namespaces.
    pub fn namespaced(self) -> bool {
        self.0.scope() == Scope::Namespaced
    }

    /// The collection, in `namespace` if the resource has namespaces.
    pub fn target(self, namespace: Option<&str>) -> Target {
        let target = Target::kind(self.0.kind());
        match namespace.filter(|_| self.namespaced()) {
            Some(namespace) => target.namespaced(namespace),
            None => target,
        }
    }

    /// `deployments.apps`, as in messages.
    pub fn qualified(self) -> String {
        api::status::qualified(self.0.names().plural, self.0.kind().group)
    }

    /// `deployment.apps`, as kubectl names objects.
    pub fn singular(self) -> String {
        api::status::qualified(&self.0.kind().kind.to_lowercase(), self.0.kind().group)
    }
}

/// The resource a word names: plural, singular, short name or kind, with or without the group (`deployments.apps`).
///
/// # Errors
/// kubectl's words, if there is none.
pub fn named(word: &str) -> Result<Found> {
    let (name, group) = match word.split_once('.') {
        Some((name, group)) => (name, Some(group)),
        None => (word, None),
    };
    let lower = name.to_lowercase();
    let found = resources::ALL.iter().find(|strategy| {
        let names = strategy.names();
        let kind = strategy.kind();
        let called = names.plural == lower
            || kind.kind.to_lowercase() == lower
            || names.singular.to_lowercase() == lower
            || names.short.contains(&lower.as_str());
        called && group.is_none_or(|group| group == kind.group)
    });
    match found {
        Some(strategy) => Ok(Found(*strategy)),
        None => bail!("error: the server doesn't have a resource type {word:?}"),
    }
}

/// The resource of an object's `apiVersion` (may be `""`) and `kind`.
///
/// # Errors
/// kubectl's words, if there is none.
pub fn of_kind(api_version: &str, kind: &str) -> Result<Found> {
    let found = resources::ALL.iter().find(|strategy| {
        let own = strategy.kind();
        own.kind == kind && (api_version.is_empty() || own.api_version == api_version)
    });
    match found {
        Some(strategy) => Ok(Found(*strategy)),
        None => bail!("no matches for kind {kind:?} in version {api_version:?}"),
    }
}
