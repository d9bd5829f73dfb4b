//! Whether a write fits into the quotas that concern it, and what they hold afterwards.

use std::collections::BTreeSet;

use super::{Amounts, What, amounts, in_scopes, pod};
use crate::Timestamp;
use crate::core::v1::ResourceQuota;
use crate::object::Object;

/// A write that is to be charged.
#[derive(Clone, Copy)]
pub struct Charge<'a> {
    pub what: What<'a>,
    pub object: &'a dyn Object,
    /// Of an update: the object as it is.
    pub old: Option<&'a dyn Object>,
    /// A status is written: it is counted, and never refused.
    pub status: bool,
    pub now: Timestamp,
}

/// The quotas that the write changes, each by its place with what is used afterwards.
///
/// # Errors
/// Why it does not fit, in upstream's words.
pub fn charge(quotas: &[&ResourceQuota], charge: &Charge<'_>) -> Result<Vec<(usize, Amounts)>, String> {
    let Charge { what, object, old, status, now } = *charge;
    let (lean, lean_old) = (super::leaned(object), old.and_then(super::leaned));
    let object = lean.as_ref().map_or(object, |lean| lean as &dyn Object);
    let old = lean_old.as_ref().map(|lean| lean as &dyn Object).or(old);
    let mut concerned = Vec::new();
    for (at, quota) in quotas.iter().enumerate() {
        let hard = amounts(quota.status.as_ref().and_then(|status| status.hard.as_ref()));
        let used = amounts(quota.status.as_ref().and_then(|status| status.used.as_ref()));
        let names: BTreeSet<&str> = hard.keys().map(String::as_str).filter(|name| what.counts_for(name)).collect();
        if names.is_empty() || !in_scopes(quota, object) {
            continue;
        }
        let name = quota.metadata.name.as_deref().unwrap_or_default();
        if let Some(missing) = super::pod_of(object).and_then(|pod| pod::missing(&pod, &names)) {
            return Err(format!("failed quota: {name}: {missing}"));
        }
        if names.iter().any(|name| !used.contains_key(*name)) {
            let names: Vec<&str> = names.into_iter().collect();
            return Err(format!("status unknown for quota: {name}, resources: {}", names.join(",")));
        }
        concerned.push((at, *quota, hard, used));
    }
    let usage = what.usage(object, now);
    let negative: Vec<&str> =
        usage.iter().filter(|(_, amount)| amount.is_negative()).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    let before = old.map(|old| what.usage(old, now));
    let mut changed = Vec::new();
    for (at, quota, hard, used) in concerned {
        // What an object counted for already where it was counted is not charged again.
        let counted = before.as_ref().filter(|_| old.is_some_and(|old| in_scopes(quota, old)));
        let more = usage.iter().filter(|(name, _)| hard.contains_key(*name)).filter_map(|(name, amount)| {
            let before = counted.and_then(|before| before.get(name)).copied().unwrap_or_default();
            let more = *amount - before;
            (!more.is_zero() && !more.is_negative()).then(|| (name.clone(), more))
        });
        let more: Amounts = more.collect();
        if more.is_empty() {
            continue;
        }
        let mut after = used.clone();
        for (name, amount) in &more {
            *after.entry(name.clone()).or_default() += *amount;
        }
        let exceeded: Vec<&String> = more.keys().filter(|name| after[*name] > hard[*name]).collect();
        if !exceeded.is_empty() && !status {
            let shown = |of: &Amounts| {
                let each = exceeded.iter().map(|name| format!("{name}={}", of.get(*name).copied().unwrap_or_default()));
                each.collect::<Vec<_>>().join(",")
            };
            let name = quota.metadata.name.as_deref().unwrap_or_default();
            let (requested, used, limited) = (shown(&more), shown(&used), shown(&hard));
            return Err(format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}"));
        }
        changed.push((at, after));
    }
    Ok(changed)
}
