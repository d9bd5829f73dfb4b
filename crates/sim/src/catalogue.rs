//! From the words people use for resources (`deploy`, `Pod`, `events.events.k8s.io`) to the catalogue.

use anyhow::{Result, bail};
use api::{Kind, Target};
use resources::{AnyStrategy, Scope};

use crate::{Cluster, cluster};

/// A resource: one of the catalogue, or one defined while the cluster runs.
#[derive(Clone, Copy)]
pub struct Found {
    kind: &'static Kind,
    namespaced: bool,
    strategy: Option<&'static dyn AnyStrategy>,
}

impl From<&'static dyn AnyStrategy> for Found {
    fn from(strategy: &'static dyn AnyStrategy) -> Self {
        let namespaced = strategy.scope() == Scope::Namespaced;
        Self { kind: strategy.kind(), namespaced, strategy: Some(strategy) }
    }
}

impl Found {
    /// Whether objects of it live in namespaces.
    pub fn namespaced(self) -> bool {
        self.namespaced
    }

    /// Whether it was defined while the cluster runs.
    pub fn is_custom(self) -> bool {
        self.kind.is_custom()
    }

    /// How it is shown in tables, if it is in the catalogue.
    pub fn strategy(self) -> Option<&'static dyn AnyStrategy> {
        self.strategy
    }

    /// The kind of its objects.
    pub fn kind(self) -> &'static Kind {
        self.kind
    }

    /// The collection, in `namespace` if the resource has namespaces.
    pub fn target(self, namespace: Option<&str>) -> Target {
        let target = Target::kind(self.kind);
        match namespace.filter(|_| self.namespaced()) {
            Some(namespace) => target.namespaced(namespace),
            None => target,
        }
    }

    /// `deployments.apps`, as in messages.
    pub fn qualified(self) -> String {
        api::status::qualified(self.kind.plural, self.kind.group)
    }

    /// `deployment.apps`, as kubectl names objects.
    pub fn singular(self) -> String {
        api::status::qualified(&self.kind.kind.to_lowercase(), self.kind.group)
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
    let found = resources::ALL.iter().chain(resources::unstable::ALL).find(|strategy| {
        let names = strategy.names();
        let kind = strategy.kind();
        let called = names.plural == lower
            || kind.kind.to_lowercase() == lower
            || names.singular.to_lowercase() == lower
            || names.short.contains(&lower.as_str());
        called && group.is_none_or(|group| group == kind.group)
    });
    match found {
        Some(strategy) => Ok(Found::from(*strategy)),
        None => bail!("error: the server doesn't have a resource type {word:?}"),
    }
}

/// The resource of an object's `apiVersion` (may be `""`) and `kind`.
///
/// # Errors
/// kubectl's words, if there is none.
pub fn of_kind(api_version: &str, kind: &str) -> Result<Found> {
    let found = resources::ALL.iter().chain(resources::unstable::ALL).find(|strategy| {
        let own = strategy.kind();
        own.kind == kind && (api_version.is_empty() || own.api_version == api_version)
    });
    match found {
        Some(strategy) => Ok(Found::from(*strategy)),
        None => bail!("no matches for kind {kind:?} in version {api_version:?}"),
    }
}

/// As [`of_kind`], custom resources included.
///
/// # Errors
/// As [`of_kind`].
pub async fn served(cluster: &Cluster, api_version: &str, kind: &str) -> Result<Found> {
    let built_in = of_kind(api_version, kind);
    if built_in.is_ok() {
        return built_in;
    }
    let discovered = cluster.client(&cluster::admin()).discover().await?;
    match discovered.of_kind(api_version, kind) {
        Some(resource) => Ok(Found { kind: resource.kind, namespaced: resource.namespaced, strategy: None }),
        None => built_in,
    }
}

/// As [`named`], custom resources included.
///
/// # Errors
/// As [`named`].
pub async fn served_as(cluster: &Cluster, word: &str) -> Result<Found> {
    let built_in = named(word);
    if built_in.is_ok() {
        return built_in;
    }
    let lower = word.to_lowercase();
    let discovered = cluster.client(&cluster::admin()).discover().await?;
    let mut all = discovered.all().iter();
    match all.find(|resource| resource.kind.plural == lower || resource.kind.kind.to_lowercase() == lower) {
        Some(resource) => Ok(Found { kind: resource.kind, namespaced: resource.namespaced, strategy: None }),
        None => built_in,
    }
}
