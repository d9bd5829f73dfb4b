//! What may be consumed only where a quota covers it: the administrator's `limitedResources`.
//!
//! Upstream: apiserver/pkg/admission/plugin/resourcequota (`CheckRequest`).

use std::collections::BTreeSet;

use super::{Charge, What, amounts, in_scope, in_scopes};
use crate::core::v1::{ResourceQuota, ScopedResourceSelectorRequirement};
use crate::object::Object;

/// A resource whose consumption is limited by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limited {
    pub group: String,
    pub resource: String,
    /// Names of what is counted that contain one of these are limited.
    pub contains: Vec<String>,
    /// So is what is in one of these scopes.
    pub scopes: Vec<ScopedResourceSelectorRequirement>,
}

/// Why a write is not covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uncovered {
    /// What it consumes.
    Resources(String),
    /// Where it is.
    Scopes(String),
}

impl Limited {
    fn is_of(&self, what: What<'_>) -> bool {
        (self.group.as_str(), self.resource.as_str()) == (what.group, what.plural)
    }
}

/// Whether quotas cover what the write consumes of what is limited.
///
/// # Errors
/// [`Uncovered`], in upstream's words.
pub fn covered(quotas: &[&ResourceQuota], charge: &Charge<'_>, limited: &[Limited]) -> Result<(), Uncovered> {
    let Charge { what, object, old, now, .. } = *charge;
    if limited.is_empty() {
        return Ok(());
    }
    let (lean, lean_old) = (super::leaned(object), old.and_then(super::leaned));
    let object = lean.as_ref().map_or(object, |lean| lean as &dyn Object);
    let old = lean_old.as_ref().map(|lean| lean as &dyn Object).or(old);
    let own: Vec<&Limited> = limited.iter().filter(|one| one.is_of(what)).collect();
    let inside = |one: &&ScopedResourceSelectorRequirement| {
        in_scope(object, &one.scope_name, &one.operator, one.values.as_deref().unwrap_or_default())
    };
    let scopes: Vec<&ScopedResourceSelectorRequirement> =
        limited.iter().flat_map(|one| &one.scopes).filter(inside).collect();
    if own.is_empty() && scopes.is_empty() {
        return Ok(());
    }
    let usage = what.usage(object, now);
    let before = old.map(|old| what.usage(old, now)).unwrap_or_default();
    let grows = usage.iter().any(|(name, amount)| {
        let more = *amount - before.get(name).copied().unwrap_or_default();
        !more.is_zero() && !more.is_negative()
    });
    if !grows {
        return Ok(());
    }
    let consumed = usage.iter().filter(|(_, amount)| !amount.is_zero() && !amount.is_negative());
    let consumed = consumed.map(|(name, _)| name.as_str());
    let is_limited = |name: &&str| own.iter().any(|one| one.contains.iter().any(|part| name.contains(part.as_str())));
    let mut missing: BTreeSet<&str> = consumed.filter(is_limited).collect();
    for quota in quotas.iter().filter(|quota| in_scopes(quota, object)) {
        let hard = amounts(quota.status.as_ref().and_then(|status| status.hard.as_ref()));
        missing.retain(|name| !hard.contains_key(*name));
    }
    if !missing.is_empty() {
        let names: Vec<&str> = missing.into_iter().collect();
        return Err(Uncovered::Resources(format!("insufficient quota to consume: {}", names.join(","))));
    }
    let has = |scope: &str| quotas.iter().any(|quota| takes_in(quota, charge, scope));
    let open: Vec<String> = scopes.into_iter().filter(|one| !has(&one.scope_name)).map(shown).collect();
    if open.is_empty() {
        return Ok(());
    }
    Err(Uncovered::Scopes(format!("insufficient quota to match these scopes: [{}]", open.join(" "))))
}

/// Whether a quota has that scope, and the object is in it.
fn takes_in(quota: &ResourceQuota, charge: &Charge<'_>, scope: &str) -> bool {
    let Some(spec) = &quota.spec else { return false };
    let plain = spec.scopes.iter().flatten().any(|own| own == scope && in_scope(charge.object, scope, "Exists", &[]));
    let selected = spec.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    let mut selected = selected.filter(|own| own.scope_name == scope);
    plain
        || selected.any(|own| in_scope(charge.object, scope, &own.operator, own.values.as_deref().unwrap_or_default()))
}

/// As Go writes the structure.
fn shown(one: &ScopedResourceSelectorRequirement) -> String {
    format!("{{{} {} [{}]}}", one.scope_name, one.operator, one.values.as_deref().unwrap_or_default().join(" "))
}
