//! What groups of pods that are scheduled together have in common, in a group and in the template of one.

use api::scheduling::v1beta1::{
    DisruptionMode, PodGroupResourceClaim, PodGroupSchedulingConstraints, PodGroupSchedulingPolicy,
};
use std::collections::BTreeSet;

use crate::checks;
use crate::prelude::*;

const PRIORITY_MAX: i32 = 1_000_000_000;
const CLAIMS_LEN_MAX: usize = 4;
const TOPOLOGY_LEN_MAX: usize = 1;

/// The fields of a group, or of a template.
pub struct Parts<'a> {
    pub policy: &'a PodGroupSchedulingPolicy,
    pub constraints: Option<&'a PodGroupSchedulingConstraints>,
    pub claims: &'a [PodGroupResourceClaim],
    pub disruption: Option<&'a DisruptionMode>,
    pub class: Option<&'a String>,
    pub priority: Option<i32>,
    pub preemption: Option<&'a String>,
}

/// Of the members of a union exactly one may be set.
pub fn one_member(errors: &mut FieldErrors, path: &Path, members: &[(&str, bool)]) {
    let set: Vec<&str> = members.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    let all: Vec<String> = members.iter().map(|(name, _)| format!("`{name}`")).collect();
    match set.len() {
        1 => {}
        0 => errors.invalid(path, "", format!("must specify one of: {}", all.join(", "))),
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            errors.invalid(path, shown, format!("must specify exactly one of: {}", all.join(", ")));
        }
    }
}

/// A name that may not be empty.
pub fn required_name(errors: &mut FieldErrors, path: &Path, name: &str, rule: fn(&mut FieldErrors, &Path, &str)) {
    if name.is_empty() {
        errors.required(path, "");
    } else {
        rule(errors, path, name);
    }
}

pub fn validate(errors: &mut FieldErrors, path: &Path, parts: &Parts<'_>) {
    let policy_path = path.child("schedulingPolicy");
    let policy = parts.policy;
    one_member(errors, &policy_path, &[("basic", policy.basic.is_some()), ("gang", policy.gang.is_some())]);
    if let Some(gang) = policy.gang.as_ref().filter(|gang| gang.min_count < 1) {
        let why = "must be greater than or equal to 1";
        errors.invalid(&policy_path.child("gang").child("minCount"), gang.min_count, why);
    }
    let topology = parts.constraints.and_then(|own| own.topology.as_deref()).unwrap_or_default();
    let topology_path = path.child("schedulingConstraints").child("topology");
    if topology.len() > TOPOLOGY_LEN_MAX {
        errors.too_many(&topology_path, topology.len(), TOPOLOGY_LEN_MAX);
    }
    for (index, constraint) in topology.iter().enumerate() {
        required_name(errors, &topology_path.index(index).child("key"), &constraint.key, checks::label_key);
    }
    claims(errors, &path.child("resourceClaims"), parts.claims);
    if let Some(mode) = parts.disruption {
        let members = [("single", mode.single.is_some()), ("all", mode.all.is_some())];
        one_member(errors, &path.child("disruptionMode"), &members);
    }
    if let Some(class) = parts.class {
        checks::dns_subdomain(errors, &path.child("priorityClassName"), class);
    }
    if let Some(priority) = parts.priority.filter(|priority| *priority > PRIORITY_MAX) {
        errors.invalid(&path.child("priority"), priority, format!("must be less than or equal to {PRIORITY_MAX}"));
    }
    if let Some(policy) = parts.preemption {
        let path = path.child("preemptionPolicy");
        checks::one_of(errors, &path, Some(policy), &["PreemptLowerPriority", "Never"]);
    }
}

fn claims(errors: &mut FieldErrors, path: &Path, claims: &[PodGroupResourceClaim]) {
    if claims.len() > CLAIMS_LEN_MAX {
        errors.too_many(path, claims.len(), CLAIMS_LEN_MAX);
    }
    let mut seen = BTreeSet::new();
    for (index, claim) in claims.iter().enumerate() {
        let path = path.index(index);
        required_name(errors, &path.child("name"), &claim.name, checks::dns_label);
        if !seen.insert(&*claim.name) {
            errors.duplicate(&path, claim.name.as_str());
        }
        let (own, template) = (claim.resource_claim_name.as_ref(), claim.resource_claim_template_name.as_ref());
        let members = [("resourceClaimName", own.is_some()), ("resourceClaimTemplateName", template.is_some())];
        one_member(errors, &path, &members);
        for ((name, _), value) in members.iter().zip([own, template]) {
            if let Some(value) = value {
                checks::dns_subdomain(errors, &path.child(name), value);
            }
        }
    }
}

/// Of a group nothing may change but how many pods a gang needs.
pub fn validate_update(errors: &mut FieldErrors, path: &Path, new: &Parts<'_>, old: &Parts<'_>) {
    let policy = path.child("schedulingPolicy");
    checks::immutable(errors, &policy.child("basic"), &new.policy.basic, &old.policy.basic);
    match (&new.policy.gang, &old.policy.gang) {
        (Some(gang), None) => {
            errors.invalid(&policy.child("gang"), checks::shown(gang), "field cannot be set once created");
        }
        (None, Some(_)) => errors.invalid(&policy.child("gang"), Value::Null, "field cannot be cleared once set"),
        _ => {}
    }
    checks::immutable(errors, &path.child("schedulingConstraints"), &new.constraints, &old.constraints);
    checks::immutable(errors, &path.child("resourceClaims"), &new.claims, &old.claims);
    checks::immutable(errors, &path.child("disruptionMode"), &new.disruption, &old.disruption);
    checks::immutable(errors, &path.child("priorityClassName"), &new.class, &old.class);
    checks::immutable(errors, &path.child("priority"), &new.priority, &old.priority);
    checks::immutable(errors, &path.child("preemptionPolicy"), &new.preemption, &old.preemption);
}
