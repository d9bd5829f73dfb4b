//! Following any collection by list and watch, for readers that keep what they need and no more.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use api::{Call, Kind, Object, Options, Reply, Target, Verb, WatchEvent};
use base::{Backoff, Random};
use futures_util::StreamExt;
use tokio::sync::watch;

use crate::{Client, Error};

/// Objects asked for per page of a list.
const PAGE_LEN: u64 = 500;
/// After failures: 100 ms, doubling to 30 s.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Takes what is followed. An object may be put many times.
pub trait Sink: Send + Sync {
    /// An object is there, or has changed.
    fn put(&self, object: &dyn Object);
    /// An object is gone; this was its last state.
    fn remove(&self, object: &dyn Object);
    /// A whole list was put, of objects with these uids: there are no others.
    fn listed(&self, uids: &HashSet<String>);
}

/// How a collection is followed.
#[derive(Debug, Clone)]
pub struct Following {
    pub kind: &'static Kind,
    /// Only the metadata of the objects is looked at.
    pub metadata_only: bool,
    /// Once it is true, the following ends when the collection is no longer served.
    pub ending: watch::Receiver<bool>,
}

impl Following {
    fn options(&self) -> Options {
        Options { passing: true, metadata_of: self.metadata_only.then_some(self.kind), ..Options::default() }
    }
}

/// Lists, then watches, over and over; returns only as [`Following::ending`] says.
pub async fn follow(client: Client, following: Following, sink: Arc<dyn Sink>, random: Random) {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    loop {
        match list(&client, &following, &*sink).await {
            Ok(version) => {
                backoff.reset();
                watch_on(&client, &following, &*sink, version, (&mut backoff, &random)).await;
            }
            Err(error) if error.is_not_found() && *following.ending.borrow() => return,
            Err(error) => {
                let kind = following.kind;
                if error.is_not_found() {
                    tracing::debug!(kind = kind.kind, group = kind.group, "a collection is not served");
                } else {
                    tracing::warn!(kind = kind.kind, group = kind.group, %error, "a collection cannot be listed");
                }
                tokio::time::sleep(backoff.next_jittered(&random)).await;
            }
        }
    }
}

/// Watches until the watch fails: then a new list is needed.
async fn watch_on(
    client: &Client,
    following: &Following,
    sink: &dyn Sink,
    mut version: String,
    (backoff, random): (&mut Backoff, &Random),
) {
    while let Ok(reached) = watch_from(client, following, sink, version.clone()).await {
        if reached == version {
            // A server that is ending ends every watch at once: do not ask it again and again.
            tokio::time::sleep(backoff.next_jittered(random)).await;
        } else {
            backoff.reset();
        }
        version = reached;
    }
}

/// Puts a whole list; the revision at which it is exact.
async fn list(client: &Client, following: &Following, sink: &dyn Sink) -> Result<String, Error> {
    let mut continue_token = None;
    let mut seen = HashSet::new();
    loop {
        let mut call = Call::new(Verb::List, Target::kind(following.kind));
        call.options = Options { limit: Some(PAGE_LEN), continue_token: continue_token.take(), ..following.options() };
        let Reply::List(list) = client.call(call).await? else {
            return Err(Error::Malformed("expected a list".into()));
        };
        for object in &list.items {
            seen.insert(object.uid().to_owned());
            sink.put(&**object);
        }
        if list.continue_token.is_empty() {
            sink.listed(&seen);
            return Ok(list.resource_version);
        }
        continue_token = Some(list.continue_token);
    }
}

/// Follows one watch to its end; the revision it reached.
async fn watch_from(client: &Client, following: &Following, sink: &dyn Sink, version: String) -> Result<String, Error> {
    let mut call = Call::new(Verb::Watch, Target::kind(following.kind));
    call.options =
        Options { resource_version: Some(version.clone()), allow_watch_bookmarks: true, ..following.options() };
    let mut events = client.watch_dyn(call).await?;
    let mut reached = version;
    while let Some(event) = events.next().await {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                reached = object.resource_version().to_owned();
                sink.put(&*object);
            }
            WatchEvent::Deleted(object) => {
                reached = object.resource_version().to_owned();
                sink.remove(&*object);
            }
            WatchEvent::Bookmark { resource_version, .. } => reached = resource_version,
            WatchEvent::Error(status) => return Err(Error::Status(*status)),
        }
    }
    Ok(reached)
}
