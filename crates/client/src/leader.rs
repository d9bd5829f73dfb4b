//! Leader election over a Lease: of several servers one runs the controllers. Timing as client-go: a lease of 15 s,
//! renewed every 2 s, given up after 10 s without a renewal.

use std::future::Future;
use std::time::Duration;

use api::coordination::v1::{Lease, LeaseSpec};
use api::meta::v1::{MicroTime, ObjectMeta};
use base::{Clock, TaskGroup};

use crate::{Client, Error};

/// Where the lease is and who wants it.
#[derive(Debug, Clone)]
pub struct Options {
    pub namespace: String,
    pub name: String,
    /// Unique among candidates, for example the server's name and a random id.
    pub identity: String,
}

const LEASE_SECONDS: i32 = 15;
const RENEW_EVERY: Duration = Duration::from_secs(2);
const RENEW_WITHIN_SECONDS: i64 = 10;

/// Runs `work` while this candidate holds the lease, over and over. `work` is given a group that ends when the
/// lease is lost.
pub async fn lead<F>(
    client: Client,
    options: Options,
    clock: Clock,
    tasks: TaskGroup,
    mut work: impl FnMut(TaskGroup) -> F,
) where
    F: Future<Output = ()> + Send,
{
    let mut observed = Observed::default();
    loop {
        match acquire(&client, &options, &clock, &mut observed).await {
            Ok(true) => {
                tracing::info!(lease = options.name, identity = options.identity, "leading");
                let group = tasks.child();
                work(group.clone()).await;
                hold(&client, &options, &clock, &mut observed).await;
                group.cancel();
                tracing::warn!(lease = options.name, "the lease was lost");
            }
            Ok(false) => clock.sleep(RENEW_EVERY).await,
            Err(error) => {
                tracing::debug!(lease = options.name, %error, "the lease was not acquired");
                clock.sleep(RENEW_EVERY).await;
            }
        }
    }
}

/// When this candidate last saw the lease change: expiry is judged by our clock, not by the holder's.
#[derive(Default)]
struct Observed {
    version: String,
    at: Option<api::Timestamp>,
}

/// Renews until that fails for too long.
async fn hold(client: &Client, options: &Options, clock: &Clock, observed: &mut Observed) {
    let mut renewed = clock.now();
    loop {
        clock.sleep(RENEW_EVERY).await;
        match acquire(client, options, clock, observed).await {
            Ok(true) => renewed = clock.now(),
            Ok(false) => return,
            Err(error) => tracing::debug!(lease = options.name, %error, "the lease was not renewed"),
        }
        if clock.now().duration_since(renewed).as_secs() > RENEW_WITHIN_SECONDS {
            return;
        }
    }
}

/// Takes or renews the lease; `false` if another holds it.
async fn acquire(client: &Client, options: &Options, clock: &Clock, observed: &mut Observed) -> Result<bool, Error> {
    let now = clock.now();
    let Some(lease) = client.find::<Lease>(&options.namespace, &options.name).await? else {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(options.name.clone()),
                namespace: Some(options.namespace.clone()),
                ..Default::default()
            },
            spec: Some(held_by(options, None, now)),
        };
        return match client.create(lease).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        };
    };
    let metadata_version = lease.metadata.resource_version.clone().unwrap_or_default();
    if observed.version != metadata_version {
        *observed = Observed { version: metadata_version, at: Some(now) };
    }
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let seconds = i64::from(spec.lease_duration_seconds.unwrap_or(LEASE_SECONDS));
    let expired = observed.at.is_none_or(|at| now.duration_since(at).as_secs() >= seconds);
    if !holder.is_empty() && holder != options.identity && !expired {
        return Ok(false);
    }
    let mut lease = Lease::clone(&lease);
    lease.spec = Some(held_by(options, Some(&spec), now));
    match client.update(lease).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

fn held_by(options: &Options, before: Option<&LeaseSpec>, now: api::Timestamp) -> LeaseSpec {
    let same = before.filter(|spec| spec.holder_identity.as_deref() == Some(&options.identity));
    LeaseSpec {
        holder_identity: Some(options.identity.clone()),
        lease_duration_seconds: Some(LEASE_SECONDS),
        acquire_time: same.and_then(|spec| spec.acquire_time.clone()).or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(match (before, same) {
            (None, _) => 0,
            (Some(spec), Some(_)) => spec.lease_transitions.unwrap_or(0),
            (Some(spec), None) => spec.lease_transitions.unwrap_or(0) + 1,
        }),
        ..Default::default()
    }
}
