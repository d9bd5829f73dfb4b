//! Encryption at rest: which resources are sealed, and how. What lies in the store has upstream's forms
//! (`k8s:enc:aesgcm:v1:NAME:` and so on), so that a configuration with the same keys reads what is written here and
//! the other way round.
//!
//! The first key of the first provider that holds for a resource seals; all of them open. What was never sealed is
//! read as it is where the `identity` provider is in the list, and sealed when it is next written.

mod config;
mod keys;
mod provider;
mod reseal;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{RwLock, RwLockReadGuard};

pub use keys::KeyFile;
use provider::Provider;
pub use reseal::{Resealed, Rotation};

/// What every sealed value begins with.
pub(crate) const PREFIX: &[u8] = b"k8s:enc:";

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
    /// When the bytes were changed, or sealed with a key that is not known.
    pub fn open(&self, of: Sealed<'_>, key: &str, stored: &Bytes) -> Result<(Bytes, bool), String> {
        let mut why = None;
        for (at, provider) in self.providers(of).iter().enumerate() {
            match provider.open(key, stored) {
                Some(Ok((json, newest))) => return Ok((json, at > 0 || !newest)),
                Some(Err(error)) => why = Some(error),
                None => {}
            }
        }
        Err(why.unwrap_or_else(|| "no matching prefix found".to_owned()))
    }
}

/// The rules that hold, and what changes them.
pub struct Sealing {
    rules: ArcSwap<Rules>,
    /// Held by writes between sealing and their commit: new rules wait for those under the old ones.
    writing: RwLock<()>,
    /// Held by whoever changes the rules and seals anew.
    changing: tokio::sync::Mutex<()>,
}

impl Default for Sealing {
    fn default() -> Self {
        Self::new(Rules::none())
    }
}

impl Sealing {
    pub fn new(rules: Rules) -> Self {
        Self { rules: ArcSwap::from_pointee(rules), writing: RwLock::default(), changing: Default::default() }
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
