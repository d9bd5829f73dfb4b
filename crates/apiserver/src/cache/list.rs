//! Lists: from the cache where it holds the revision asked for, at an exact revision from a pinned snapshot or the
//! store's history, in pages that belong together.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use api::Status;
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use store::{At, Range, Revision};
use tokio::time::Instant;

use super::{Cache, Caches, Entry, Filter, State, too_large};

/// How many snapshots of one resource are held for paginated lists; the oldest go first.
const PINNED_LEN_MAX: usize = 16;
/// How long a snapshot is held for its next page (upstream compacts every 5 minutes).
const PINNED_FOR: Duration = Duration::from_secs(300);

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    pub filter: Filter,
    pub at: ListAt,
    pub limit: Option<usize>,
    pub paging: Option<Paging>,
}

/// Which state is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListAt {
    /// The latest.
    #[default]
    Latest,
    /// Whatever the cache has.
    Any,
    NotOlderThan(u64),
    Exact(u64),
}

/// Where a page goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paging {
    /// `None`: the token says that consistency was given up.
    pub revision: Option<u64>,
    /// Relative to the collection's prefix.
    pub start: String,
}

/// A list. The items share the cache's entries.
#[derive(Debug, Default)]
pub struct Listed {
    pub revision: u64,
    pub entries: Vec<Arc<Entry>>,
    pub continue_token: String,
    pub remaining: Option<u64>,
}

/// Snapshots held for pages to come, oldest first.
#[derive(Debug, Default)]
pub struct Pinned(VecDeque<(u64, Arc<State>, Instant)>);

impl Pinned {
    fn hold(&mut self, revision: u64, state: &Arc<State>, now: Instant) {
        self.0.retain(|(_, _, until)| *until > now);
        if self.0.iter().all(|(held, ..)| *held != revision) {
            if self.0.len() >= PINNED_LEN_MAX {
                self.0.pop_front();
            }
            self.0.push_back((revision, state.clone(), now + PINNED_FOR));
        }
    }

    fn get(&self, revision: u64, now: Instant) -> Option<Arc<State>> {
        self.0.iter().find(|(held, _, until)| *held == revision && *until > now).map(|(_, state, _)| state.clone())
    }
}

/// The entries of a snapshot in a range of keys.
pub fn in_range<'a>(state: &'a State, range: &'a Range) -> impl Iterator<Item = &'a Arc<Entry>> {
    let empty = range.end.as_deref().is_some_and(|end| end <= range.start.as_str());
    let bounds: (Bound<&str>, Bound<&str>) =
        (Bound::Included(range.start.as_str()), range.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded));
    let items = (!empty).then(|| state.items.range::<_, str>(bounds));
    items.into_iter().flatten().map(|(_, entry)| entry)
}

impl Paging {
    /// From a `continue` parameter.
    ///
    /// # Errors
    /// 400 in upstream's words.
    pub fn parse(token: &str) -> Result<Self, Status> {
        let bad = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
        let decoded =
            URL_SAFE_NO_PAD.decode(token).or_else(|_| URL_SAFE.decode(token)).map_err(|e| bad(&e.to_string()))?;
        let token: serde_json::Value = serde_json::from_slice(&decoded).map_err(|e| bad(&e.to_string()))?;
        if token["v"].as_str() != Some("meta.k8s.io/v1") {
            let version = token["v"].as_str().unwrap_or_default();
            return Err(bad(&format!("server does not recognize this encoded version {version:?}")));
        }
        let revision = token["rv"].as_i64().unwrap_or_default();
        if revision == 0 {
            return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
        }
        let start = token["start"].as_str().unwrap_or_default();
        if start.is_empty() {
            return Err(bad("encoded start key empty (version meta.k8s.io/v1)"));
        }
        if start.split('/').any(|part| part == ".." || part == ".") || start.starts_with('/') || start.contains("//") {
            return Err(bad(start));
        }
        Ok(Self { revision: u64::try_from(revision).ok(), start: start.to_owned() })
    }

    fn token(revision: Option<u64>, start: &str) -> String {
        let revision = revision.map_or(serde_json::Value::from(-1), serde_json::Value::from);
        let token = serde_json::json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start});
        URL_SAFE_NO_PAD.encode(token.to_string())
    }
}

/// What a list is read from.
enum Source {
    Snapshot(Arc<State>),
    Entries(Vec<Arc<Entry>>),
}

impl Caches {
    /// Lists a resource.
    ///
    /// # Errors
    /// 410 with a token for the rest if the page's revision is forgotten, 504 for a revision that does not come, 400
    /// for a bad token.
    pub async fn list(&self, cache: &Cache, options: &ListOptions) -> Result<Listed, Status> {
        let collection = options.filter.collection(cache);
        let mut range = options.filter.range(cache);
        let mut at = options.at;
        if let Some(paging) = &options.paging {
            range.start = range.start.max(format!("{collection}{}", paging.start));
            at = paging.revision.map_or(ListAt::Latest, ListAt::Exact);
        }
        let (revision, source) = self.source(cache, at, &range).await.map_err(|status| {
            let expired = status.is(api::Reason::Expired);
            match &options.paging {
                Some(paging) if expired => inconsistent(status, &paging.start),
                _ => status,
            }
        })?;
        let mut listed = Listed { revision, ..Listed::default() };
        let limit = options.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let (taken, more) = match &source {
            Source::Snapshot(state) => take(in_range(state, &range), &options.filter, limit),
            Source::Entries(entries) => take(entries.iter(), &options.filter, limit),
        };
        listed.entries = taken;
        if let (Some(rest), Some(last)) = (more, listed.entries.last()) {
            let start = format!("{}\0", last.key.strip_prefix(&collection).unwrap_or(last.name()));
            listed.continue_token = Paging::token(Some(revision), &start);
            listed.remaining = (!options.filter.selects()).then_some(rest);
            if let Source::Snapshot(state) = &source {
                cache.pinned.lock().hold(revision, state, self.clock.monotonic());
            }
        }
        Ok(listed)
    }

    async fn source(&self, cache: &Cache, at: ListAt, range: &Range) -> Result<(u64, Source), Status> {
        let revision = match at {
            ListAt::Latest => {
                self.wait_fresh().await?;
                return Ok(self.snapshot(cache));
            }
            ListAt::Any => return Ok(self.snapshot(cache)),
            ListAt::NotOlderThan(revision) => {
                self.wait_for(revision).await?;
                return Ok(self.snapshot(cache));
            }
            ListAt::Exact(revision) => revision,
        };
        if let Some(state) = cache.pinned.lock().get(revision, self.clock.monotonic()) {
            return Ok((revision, Source::Snapshot(state)));
        }
        self.wait_for(revision).await.map_err(|_| too_large(revision, self.progress()))?;
        let progress = self.progress();
        let state = cache.state();
        if state.revision <= revision && revision <= progress {
            return Ok((revision, Source::Snapshot(state)));
        }
        let page = self.store.range(range, At::Revision(Revision(revision)), None).await;
        let page = page.map_err(|error| crate::status::of_store_list(error, revision))?;
        let mut entries = Vec::with_capacity(page.value.entries.len());
        for stored in &page.value.entries {
            entries.push(cache.entry_of(stored).await?);
        }
        Ok((revision, Source::Entries(entries)))
    }

    /// The present state and a revision at which it is exact. The progress is read first: what it says is in the state.
    fn snapshot(&self, cache: &Cache) -> (u64, Source) {
        let progress = self.progress();
        let state = cache.state();
        (progress.max(state.revision), Source::Snapshot(state))
    }
}

/// The first `limit` matching entries; if there are more, how many.
fn take<'a>(
    entries: impl Iterator<Item = &'a Arc<Entry>>,
    filter: &Filter,
    limit: usize,
) -> (Vec<Arc<Entry>>, Option<u64>) {
    let mut matching = entries.filter(|entry| filter.matches(entry));
    let taken: Vec<_> = matching.by_ref().take(limit).cloned().collect();
    if taken.len() < limit {
        return (taken, None);
    }
    let rest = if filter.selects() { u64::from(matching.next().is_some()) } else { matching.count() as u64 };
    (taken, (rest > 0).then_some(rest))
}

/// 410 for a page whose revision is gone, with a token that goes on at the latest one.
fn inconsistent(_expired: Status, start: &str) -> Status {
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.0.metadata.continue_ = Some(Paging::token(None, start));
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_and_a_bad_one_is_refused() {
        let token = Paging::token(Some(17), "default/a\0");
        assert_eq!(Paging::parse(&token), Ok(Paging { revision: Some(17), start: "default/a\0".into() }));
        let given_up = Paging::parse(&Paging::token(None, "a\0")).unwrap();
        assert_eq!(given_up.revision, None);
        let sly = Paging::token(Some(1), "../secrets/a");
        for bad in ["%%", "e30", "eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ", sly.as_str()] {
            let status = Paging::parse(bad).unwrap_err();
            assert_eq!(status.code(), 400, "{bad}");
            assert!(status.message().starts_with("continue key is not valid: "), "{status}");
        }
    }
}
