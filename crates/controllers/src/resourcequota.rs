//! Counts what ResourceQuotas limit: copies the limits into their status and keeps what is used true.
//!
//! Upstream: pkg/controller/resourcequota. Admission has charged what is being created before it can be seen here; so a
//! number that went down is written only when the quota was not charged for a while, which makes the two not contradict
//! each other. Changes of pods, services and claims tell when to count anew; other kinds are counted every half minute,
//! without their objects being read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{PersistentVolumeClaim, ResourceQuota, ResourceQuotaStatus, Service};
use api::lean::Pod;
use api::quantity::{Amount, Format, amount};
use api::quota::{self, Amounts, What};
use api::{Call, Object, Quantity, Reply, Target, Timestamp, Typed, Verb};
use client::discovery::Discovered;
use client::{Change, Client, Error, Reflectors};
use parking_lot::Mutex;

use crate::harness::{Acting, Actor, Context, Read, Write};

/// How long a quota was not charged before a number of it goes down.
const QUIET: Duration = Duration::from_secs(1);
/// How often kinds are counted whose changes are not followed.
const COUNT_EVERY: Duration = Duration::from_secs(30);
/// How often everything is counted anew (upstream's `--resource-quota-sync-period`).
const RESYNC: Duration = Duration::from_secs(300);

/// Since when a quota has the version it has, by uid.
type Quiet = BTreeMap<String, (String, Timestamp)>;

pub struct Controller {
    quiet: Mutex<Quiet>,
}

/// The one there is: it remembers.
pub static CONTROLLER: Acting<Controller> = Acting(Controller { quiet: Mutex::new(Quiet::new()) });

fn quotas_of<T: Typed>(change: &Change<T>, reflectors: &Reflectors, keys: &mut BTreeSet<String>) {
    let Some(object) = change.new.as_ref().or(change.old.as_ref()) else { return };
    for quota in reflectors.of::<ResourceQuota>().in_namespace(object.namespace()) {
        keys.insert(quota.key());
    }
}

impl Actor for Controller {
    const NAME: &'static str = "resourcequota-controller";
    type Primary = ResourceQuota;

    fn reads() -> Vec<Read> {
        vec![
            Read::mapped::<Pod>(quotas_of),
            Read::mapped::<Service>(quotas_of),
            Read::mapped::<PersistentVolumeClaim>(quotas_of),
        ]
    }

    fn writes() -> Vec<Write> {
        vec![Write { group: "*", resource: "*".into(), verbs: &["get", "list"] }, Write::status::<ResourceQuota>()]
    }

    async fn act(
        &self,
        quota: Arc<ResourceQuota>,
        context: &Context,
        client: &Client,
    ) -> Result<Option<Duration>, Error> {
        let now = context.clock.now();
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
        let names: BTreeSet<&str> = hard.keys().map(String::as_str).collect();
        let mut used = followed(&quota, &names, context, now);
        let mut again = RESYNC;
        let Some(served) = context.served.known() else { return Ok(Some(QUIET)) };
        for name in names.iter().filter(|name| !used.contains_key(**name)).copied().collect::<Vec<_>>() {
            again = COUNT_EVERY;
            let count = match target_of(name, &quota, &served) {
                Some(target) if in_no_scope(&quota) => count(target, client).await?,
                // A scope takes in nothing of kinds that know none; nor is there anything of a kind that is not.
                _ => 0,
            };
            let count = Amount::new(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi);
            used.insert(name.to_owned(), count);
        }
        let status = quota.status.clone().unwrap_or_default();
        let same = |own: &BTreeMap<String, Quantity>, other: &Amounts| {
            own.len() == other.len() && own.iter().all(|(name, own)| other.get(name) == Some(&amount(own)))
        };
        let hard_amounts: Amounts = hard.iter().map(|(name, most)| (name.clone(), amount(most))).collect();
        let before = status.used.clone().unwrap_or_default();
        let same_hard = same(&status.hard.clone().unwrap_or_default(), &hard_amounts);
        if same_hard && same(&before, &used) {
            self.quiet.lock().remove(quota.uid());
            return Ok(Some(again));
        }
        let less = before.iter().any(|(name, own)| used.get(name).is_some_and(|now| *now < amount(own)));
        if less && let Some(wait) = self.wait(&quota, now) {
            return Ok(Some(wait));
        }
        self.quiet.lock().remove(quota.uid());
        let mut new = ResourceQuota::clone(&quota);
        new.status = Some(ResourceQuotaStatus { hard: Some(hard), used: Some(quota::quantities(&used)) });
        client.update_status(new).await?;
        Ok(Some(again))
    }
}

impl Controller {
    /// How long the quota must yet be left alone before a number of it goes down.
    fn wait(&self, quota: &ResourceQuota, now: Timestamp) -> Option<Duration> {
        let mut quiet = self.quiet.lock();
        let version = quota.resource_version();
        let since = match quiet.get(quota.uid()) {
            Some((own, since)) if own == version => *since,
            _ => {
                quiet.insert(quota.uid().to_owned(), (version.to_owned(), now));
                now
            }
        };
        let left = QUIET.saturating_sub(now.duration_since(since).unsigned_abs());
        (!left.is_zero()).then_some(left)
    }
}

/// What is counted of the kinds whose changes are followed.
fn followed(quota: &ResourceQuota, names: &BTreeSet<&str>, context: &Context, now: Timestamp) -> Amounts {
    fn of<T: Typed>(
        quota: &ResourceQuota,
        names: &BTreeSet<&str>,
        context: &Context,
        now: Timestamp,
        used: &mut Amounts,
    ) {
        let what = What { group: T::KIND.group, plural: T::KIND.plural };
        let own: BTreeSet<&str> = names.iter().copied().filter(|name| what.counts_for(name)).collect();
        if own.is_empty() {
            return;
        }
        let objects = context.reflectors.of::<T>().in_namespace(quota.namespace());
        let objects = objects.iter().map(|object| &**object as &dyn Object);
        used.extend(quota::total(what, quota, objects, &own, now));
    }
    let mut used = Amounts::new();
    of::<Pod>(quota, names, context, now, &mut used);
    of::<Service>(quota, names, context, now, &mut used);
    of::<PersistentVolumeClaim>(quota, names, context, now, &mut used);
    used
}

fn in_no_scope(quota: &ResourceQuota) -> bool {
    quota.spec.as_ref().is_none_or(|spec| {
        let selected = spec.scope_selector.as_ref().and_then(|selector| selector.match_expressions.as_ref());
        spec.scopes.as_ref().is_none_or(Vec::is_empty) && selected.is_none_or(Vec::is_empty)
    })
}

/// The collection that a name counts: `secrets`, `count/deployments.apps`, `count/widgets.example.com`.
fn target_of(name: &str, quota: &ResourceQuota, served: &Discovered) -> Option<Target> {
    let counted = name.strip_prefix("count/").unwrap_or(name);
    let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
    let all = served.preferred();
    let found = all.into_iter().find(|one| one.namespaced && one.kind.plural == plural && one.kind.group == group)?;
    let counts = found.can(&["list"]) && What { group, plural }.counts_for(name);
    counts.then(|| Target::kind(found.kind).namespaced(quota.namespace()))
}

/// How many objects there are, without reading more than one.
async fn count(target: Target, client: &Client) -> Result<u64, Error> {
    let mut call = Call::new(Verb::List, target);
    call.options.limit = Some(1);
    match client.call(call).await {
        Ok(Reply::List(list)) => {
            let remaining = list.remaining_item_count.unwrap_or_default();
            Ok(u64::try_from(list.items.len()).unwrap_or(u64::MAX).saturating_add(remaining))
        }
        Ok(_) => Ok(0),
        // A kind that is not served any more has no objects.
        Err(error) if error.is_not_found() => Ok(0),
        Err(error) => Err(error),
    }
}
