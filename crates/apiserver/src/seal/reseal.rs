//! Changing keys while serving: other rules hold, then every value that the newest key has not sealed is sealed anew.
//! Nothing is changed that cannot be read, and no rules are taken with which something could not be read.

use std::collections::BTreeMap;

use api::Status;
use store::{At, Range, Revision};

use super::{Rules, Sealed};
use crate::Server;
use crate::cache::Cache;

/// How many values are read at once.
const PAGE_LEN: usize = 256;
/// How often one value is tried that others write meanwhile.
const TRIES_MAX: usize = 20;

/// Where the keys lie: what `POST /pintle/secrets/rotate` asks.
pub trait Rotation: Send + Sync + 'static {
    /// The rules that are to hold: a new key first, the old ones still there. They are kept already.
    ///
    /// # Errors
    /// Why there are none; nothing is changed then.
    fn begin(&self) -> Result<Rules, String>;
    /// Everything is sealed with the newest key. The rules that hold from now on, if others, and what was done, for
    /// people.
    ///
    /// # Errors
    /// What could not be tidied up; the old keys are still there then.
    fn end(&self) -> Result<(Option<Rules>, String), String>;
}

/// What sealing anew came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resealed {
    /// Values sealed anew, by resource.
    pub resealed: BTreeMap<String, usize>,
    /// Values looked at.
    pub checked: usize,
    /// What became of the keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
}

impl Server {
    /// One whole change of keys.
    ///
    /// # Errors
    /// 503 without a [`Rotation`], 500 if keys or values cannot be read or written.
    pub async fn rotate_secrets(&self) -> Result<Resealed, Status> {
        let rotation = self.options().rotation.clone();
        let rotation = rotation.ok_or_else(|| Status::unavailable("this server has no encryption keys of its own"))?;
        let _alone = self.caches().sealing.changing.lock().await;
        let rules = rotation.begin().map_err(Status::internal)?;
        let mut done = self.change_rules(rules).await?;
        let (rules, words) = rotation.end().map_err(Status::internal)?;
        if let Some(rules) = rules {
            let rules = self.begin_rules(rules).await?;
            self.check_rules(&rules).await?;
            self.caches().sealing.replace(rules).await;
        }
        done.keys = Some(words);
        Ok(done)
    }

    /// Other rules hold from now on; what is stored is sealed anew.
    ///
    /// # Errors
    /// 500 if something stored cannot be read with them (then the old ones still hold), or cannot be written.
    pub async fn seal_by(&self, rules: Rules) -> Result<Resealed, Status> {
        let _alone = self.caches().sealing.changing.lock().await;
        self.change_rules(rules).await
    }

    async fn change_rules(&self, rules: Rules) -> Result<Resealed, Status> {
        let rules = self.begin_rules(rules).await?;
        self.check_rules(&rules).await?;
        self.caches().sealing.replace(rules).await;
        self.reseal().await
    }

    async fn begin_rules(&self, rules: Rules) -> Result<Rules, Status> {
        let begun = rules.begin(&self.caches().sealing.around).await;
        begun.map_err(|why| Status::internal(format!("{why}; nothing was changed")))
    }

    /// Whether everything stored can be read by these rules.
    async fn check_rules(&self, rules: &Rules) -> Result<(), Status> {
        for cache in self.caches().all() {
            let mut from = None;
            while let Some(page) = self.page(&cache, &mut from).await? {
                for stored in &page {
                    rules.open(cache.sealed(), &stored.key, &stored.value).await.map_err(|why| {
                        let key = &stored.key;
                        Status::internal(format!("the encryption keys do not open {key}: {why}; nothing was changed"))
                    })?;
                }
            }
        }
        Ok(())
    }

    async fn reseal(&self) -> Result<Resealed, Status> {
        let mut done = Resealed::default();
        for cache in self.caches().all() {
            let Sealed { group, resource } = cache.sealed();
            let mut from = None;
            while let Some(page) = self.page(&cache, &mut from).await? {
                for stored in &page {
                    done.checked += 1;
                    if self.reseal_one(&cache, stored.clone()).await? {
                        *done.resealed.entry(api::status::qualified(resource, group)).or_default() += 1;
                    }
                }
            }
        }
        Ok(done)
    }

    /// The next values of a cache; `None`: there are no more.
    async fn page(&self, cache: &Cache, from: &mut Option<String>) -> Result<Option<Vec<store::Entry>>, Status> {
        let range = Range::prefix(cache.prefix());
        let range = from.as_ref().map_or(range.clone(), |from| range.after(from));
        let page = self.store().range(&range, At::Latest, Some(PAGE_LEN)).await.map_err(crate::status::of_store)?;
        let entries = page.value.entries;
        let Some(last) = entries.last() else { return Ok(None) };
        *from = Some(last.key.to_string());
        Ok(Some(entries))
    }

    async fn reseal_one(&self, cache: &Cache, mut stored: store::Entry) -> Result<bool, Status> {
        let sealing = &self.caches().sealing;
        for _ in 0..TRIES_MAX {
            let rules = sealing.rules();
            let opened = rules.open(cache.sealed(), &stored.key, &stored.value).await;
            let (json, stale) = opened.map_err(Status::internal)?;
            if !stale {
                return Ok(false);
            }
            let value = rules.seal(cache.sealed(), &stored.key, &json).map_err(Status::internal)?;
            let expect: Revision = stored.modified;
            match self.store().update(&stored.key, value, expect, cache.ttl()).await {
                Ok(_) => return Ok(true),
                Err(store::Error::Conflict { .. } | store::Error::NotFound) => {}
                Err(error) => return Err(crate::status::of_store(error)),
            }
            let now = self.store().get(&stored.key).await.map_err(crate::status::of_store)?;
            match now.value {
                Some(entry) => stored = entry,
                None => return Ok(false),
            }
        }
        Err(Status::internal(format!("{} is written by others all the time", stored.key)))
    }
}
