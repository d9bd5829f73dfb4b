//! Encryption at rest: which resources are sealed, and how. What lies in the store has upstream's forms
//! (`k8s:enc:aesgcm:v1:NAME:` and so on), so that a configuration with the same keys reads what is written here and
//! the other way round.
//!
//! The first key of the first provider that holds for a resource seals; all of them open. What was never sealed is
//! read as it is where the `identity` provider is in the list, and sealed when it is next written. With a `kms`
//! provider sealing is local too; opening may have to ask its plugin, and is the one thing here that waits.

mod config;
mod keys;
mod kms;
mod provider;
mod reseal;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use tokio::sync::{RwLock, RwLockReadGuard};

pub use keys::KeyFile;
use kms::Kms;
pub(crate) use kms::follow;
pub use kms::{Figures, Surroundings};
use provider::Provider;
pub use reseal::{Resealed, Rotation};

/// What every sealed value begins with.
pub(crate) const PREFIX: &[u8] = b"k8s:enc:";

/// Why a value is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// The keys do not open it, or it was changed. Trying again is of no use.
    #[error("{0}")]
    Sealed(String),
    /// A KMS plugin did not decrypt the key that it was sealed with. It may later.
    #[error("{0}")]
    Plugin(String),
}

/// Several errors in one, as upstream writes them; none of none.
fn aggregate(mut all: Vec<String>) -> Option<String> {
    all.dedup();
    if all.len() > 1 { Some(format!("[{}]", all.join(", "))) } else { all.pop() }
}

/// A resource and what it is stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// `""`: the core group.
    pub group: &'a str,
    pub resource: &'a str,
}

/// `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group) and `*.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    group: String,
    resource: String,
}

impl Pattern {
    fn parse(text: &str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self { group: group.to_owned(), resource: resource.to_owned() }
    }

    fn covers(&self, other: &Self) -> bool {
        self.matches(Sealed { group: &other.group, resource: &other.resource })
    }

    fn matches(&self, of: Sealed<'_>) -> bool {
        let any = self.group == "*" && self.resource == "*";
        any || (self.group == of.group && (self.resource == "*" || self.resource == of.resource))
    }
}

/// Which providers hold for which resources; the first that matches.
pub struct Rules(Vec<(Vec<Pattern>, Vec<Provider>)>);

impl Rules {
    /// Nothing is sealed.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// These rules, which also read what `other` sealed where they say nothing of a resource that `other` seals, and
    /// where they do.
    pub fn also_reading(mut self, other: Self) -> Self {
        for (patterns, providers) in other.0 {
            let named = |own: &Vec<Pattern>| patterns.iter().any(|pattern| own.iter().any(|own| own.covers(pattern)));
            match self.0.iter_mut().find(|(own, _)| named(own)) {
                Some((_, own)) => own.extend(providers),
                None => {
                    let plain = std::iter::once(Provider::Identity);
                    let sealed = providers.into_iter().filter(|one| !matches!(one, Provider::Identity));
                    self.0.push((patterns, plain.chain(sealed).collect()));
                }
            }
        }
        self
    }

    /// These rules with their plugins reached.
    ///
    /// # Errors
    /// When one of them does not serve.
    async fn begin(self, around: &Surroundings) -> Result<Self, String> {
        let rules = self.0.into_iter().map(|(patterns, providers)| async move {
            let begun = providers.into_iter().map(|provider| async move {
                match provider {
                    Provider::Planned(settings) => Box::pin(Kms::begin(&settings, around)).await.map(Provider::Kms),
                    other => Ok(other),
                }
            });
            Ok((patterns, try_join_all(begun).await?))
        });
        try_join_all(rules).await.map(Self)
    }

    /// In the order of the configuration.
    fn plugins(&self) -> impl Iterator<Item = &Arc<Kms>> {
        self.0.iter().flat_map(|(_, providers)| providers).filter_map(|provider| match provider {
            Provider::Kms(kms) => Some(kms),
            _ => None,
        })
    }

    fn providers(&self, of: Sealed<'_>) -> &[Provider] {
        let found = self.0.iter().find(|(patterns, _)| patterns.iter().any(|pattern| pattern.matches(of)));
        found.map_or(&[Provider::Identity], |(_, providers)| providers)
    }

    /// The providers of a resource, by the names that configurations give them; the first seals.
    pub fn provider_names(&self, of: Sealed<'_>) -> Vec<&'static str> {
        self.providers(of).iter().map(Provider::word).collect()
    }

    /// Whether anything of that resource is sealed or may have been.
    pub fn concerns(&self, of: Sealed<'_>) -> bool {
        !matches!(self.providers(of), [Provider::Identity])
    }

    /// JSON to what is stored. `key` is authenticated with it where the provider can.
    ///
    /// # Errors
    /// When it cannot be encrypted.
    pub fn seal(&self, of: Sealed<'_>, key: &str, json: &Bytes) -> Result<Bytes, String> {
        let first = self.providers(of).first().ok_or("there is no encryption provider")?;
        first.seal(key, json)
    }

    /// What is stored to JSON, and whether it is to be sealed anew: it was not by the first key of the first provider.
    ///
    /// # Errors
    /// When the bytes were changed, or sealed with a key that is not known, or a plugin does not help.
    pub async fn open(&self, of: Sealed<'_>, key: &str, stored: &Bytes) -> Result<(Bytes, bool), Unopened> {
        let mut why = None;
        for (at, provider) in self.providers(of).iter().enumerate() {
            match provider.open(key, stored).await {
                Some(Ok((json, newest))) => return Ok((json, at > 0 || !newest)),
                // Who knows the value's form knows best why; identity takes any.
                Some(Err(error)) if why.is_none() || !matches!(provider, Provider::Identity) => why = Some(error),
                Some(Err(_)) => {}
                None => {}
            }
        }
        Err(why.unwrap_or_else(|| Unopened::Sealed("no matching prefix found".to_owned())))
    }
}

/// The rules that hold, and what changes them.
pub struct Sealing {
    rules: ArcSwap<Rules>,
    /// Held by writes between sealing and their commit: new rules wait for those under the old ones.
    writing: RwLock<()>,
    /// Held by whoever changes the rules and seals anew.
    changing: tokio::sync::Mutex<()>,
    around: Surroundings,
}

impl Default for Sealing {
    fn default() -> Self {
        Self::new(Rules::none())
    }
}

impl Sealing {
    /// Of rules without plugins.
    pub fn new(rules: Rules) -> Self {
        Self::with(rules, Surroundings::default())
    }

    fn with(rules: Rules, around: Surroundings) -> Self {
        let rules = ArcSwap::from_pointee(rules);
        Self { rules, writing: RwLock::default(), changing: Default::default(), around }
    }

    /// Of any rules: their plugins are reached first.
    ///
    /// # Errors
    /// When one of them does not serve.
    pub async fn begin(rules: Rules, around: Surroundings) -> Result<Self, String> {
        Ok(Self::with(rules.begin(&around).await?, around))
    }

    /// What is told of the plugins.
    pub(crate) fn figures(&self) -> &Figures {
        &self.around.figures
    }

    /// Whether any rule has a plugin.
    pub(crate) fn has_plugins(&self) -> bool {
        self.rules().plugins().next().is_some()
    }

    /// What is wrong with the plugins, if anything; they are asked unless they answered a moment ago.
    pub(crate) async fn check_plugins(&self) -> Option<String> {
        let rules = self.rules();
        let all = join_all(rules.plugins().map(|plugin| plugin.check())).await;
        let ill = all.into_iter().enumerate().filter_map(|(at, outcome)| {
            let why = outcome.err()?;
            tracing::error!(why, "a KMS plugin is not healthy");
            Some(format!("kms-provider-{at}: {why}"))
        });
        aggregate(ill.collect())
    }

    /// The rules as they are now.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// To be held from sealing a value until it is in the store.
    pub(crate) async fn writing(&self) -> RwLockReadGuard<'_, ()> {
        self.writing.read().await
    }

    /// Other rules hold from now on; whatever was sealed under the old ones is in the store.
    async fn replace(&self, rules: Rules) {
        let _none_under_way = self.writing.write().await;
        self.rules.store(Arc::new(rules));
    }
}

#[cfg(test)]
mod tests;
