//! ResourceQuota: How much of everything a namespace may have in all, and how much it has.

use std::collections::{BTreeMap, BTreeSet};

use api::Quantity;
use api::core::v1::{ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus};
use api::quantity::amount;

use super::pod_template::{defaults, resources};
use crate::prelude::*;
use crate::{checks, metadata};

const COMPUTE: [&str; 6] = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
/// Names that need no domain, beside [`COMPUTE`].
const OTHERS: [&str; 13] = [
    "ephemeral-storage",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
const OPPOSITES: [(&str, &str); 2] = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ResourceQuota;

    const NAMES: Names = Names::new("resourcequotas", "resourcequota").short(&["quota"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "resourcequotas" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column<ResourceQuota>] = &[
        Column::name(),
        Column::new("Request", "string", |quota: &ResourceQuota, _| Value::from(usage(quota, false)))
            .describe("What is used of what may be requested, and of everything counted."),
        Column::new("Limit", "string", |quota: &ResourceQuota, _| Value::from(usage(quota, true)))
            .describe("What is used of what limits may add up to."),
        Column::age(),
    ];

    fn default(quota: &mut ResourceQuota) {
        let of_spec = quota.spec.iter_mut().filter_map(|spec| spec.hard.as_mut());
        of_spec.for_each(defaults::canonical_list);
        let of_status = quota.status.iter_mut().flat_map(|status| [&mut status.hard, &mut status.used]).flatten();
        of_status.for_each(defaults::canonical_list);
    }

    fn prepare_create(quota: &mut ResourceQuota) {
        quota.status = Some(ResourceQuotaStatus::default());
    }

    fn prepare_update(new: &mut ResourceQuota, old: &ResourceQuota) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status_update(new: &mut ResourceQuota, old: &ResourceQuota) {
        new.spec.clone_from(&old.spec);
        metadata::keep_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(quota: &ResourceQuota) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec");
        let spec = quota.spec.clone().unwrap_or_default();
        validate_amounts(&mut errors, &path.child("hard"), spec.hard.as_ref());
        validate_scopes(&mut errors, &path.child("scopes"), &spec);
        validate_selector(&mut errors, &path.child("scopeSelector").child("matchExpressions"), &spec);
        errors.extend(validate_status(quota));
        errors
    }

    fn validate_update(new: &ResourceQuota, old: &ResourceQuota) -> FieldErrors {
        let mut errors = Self::validate(new);
        let scopes = |quota: &ResourceQuota| -> BTreeSet<String> {
            quota.spec.iter().filter_map(|spec| spec.scopes.clone()).flatten().collect()
        };
        if scopes(new) != scopes(old) {
            let bad = checks::shown(&new.spec.as_ref().and_then(|spec| spec.scopes.as_ref()));
            errors.invalid(&Path::new("spec").child("scopes"), bad, checks::IMMUTABLE);
        }
        errors
    }

    fn validate_status_update(new: &ResourceQuota, _old: &ResourceQuota) -> FieldErrors {
        validate_status(new)
    }
}

/// Used of allowed, of limits or of everything else.
fn usage(quota: &ResourceQuota, limits: bool) -> String {
    let status = quota.status.clone().unwrap_or_default();
    let used = status.used.unwrap_or_default();
    let shown = |quantity: Option<&Quantity>| quantity.map_or("0".to_owned(), |quantity| amount(quantity).to_string());
    let hard = status.hard.unwrap_or_default();
    let chosen = hard.iter().filter(|(name, _)| name.starts_with("limits.") == limits);
    let lines = chosen.map(|(name, most)| format!("{name}: {}/{}", shown(used.get(name)), shown(Some(most))));
    lines.collect::<Vec<_>>().join(", ")
}

fn is_standard(name: &str) -> bool {
    let huge = resources::is_huge_page(name) || name.strip_prefix("requests.").is_some_and(resources::is_huge_page);
    COMPUTE.contains(&name) || OTHERS.contains(&name) || huge
}

fn validate_amounts(errors: &mut FieldErrors, path: &Path, list: Option<&BTreeMap<String, Quantity>>) {
    for (name, quantity) in list.into_iter().flatten() {
        let path = path.key(name);
        resources::validate_name(errors, &path, name);
        if !name.contains('/') && !is_standard(name) {
            errors.invalid(&path, name.as_str(), "must be a standard resource for quota");
        }
        resources::validate_quantity(errors, &path, name, quantity);
    }
}

fn validate_status(quota: &ResourceQuota) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("status");
    let status = quota.status.as_ref();
    validate_amounts(&mut errors, &path.child("hard"), status.and_then(|status| status.hard.as_ref()));
    validate_amounts(&mut errors, &path.child("used"), status.and_then(|status| status.used.as_ref()));
    errors
}

/// Whether the scope says anything about that resource.
fn fits(scope: &str, name: &str) -> bool {
    match scope {
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        scope if SCOPES.contains(&scope) => name == "pods" || COMPUTE.contains(&name),
        _ => true,
    }
}

/// The standard resources that the scope does not fit.
fn misfits(spec: &ResourceQuotaSpec, scope: &str) -> usize {
    spec.hard.iter().flatten().filter(|(name, _)| is_standard(name) && !fits(scope, name)).count()
}

fn conflicts(scopes: &BTreeSet<&str>) -> usize {
    OPPOSITES.iter().filter(|(a, b)| scopes.contains(a) && scopes.contains(b)).count()
}

fn validate_scopes(errors: &mut FieldErrors, path: &Path, spec: &ResourceQuotaSpec) {
    let scopes: BTreeSet<&str> = spec.scopes.iter().flatten().map(String::as_str).collect();
    let bad = || checks::shown(&spec.scopes);
    for scope in spec.scopes.iter().flatten() {
        if !SCOPES.contains(&scope.as_str()) {
            errors.invalid(path, bad(), "unsupported scope");
        }
        for _ in 0..misfits(spec, scope) {
            errors.invalid(path, bad(), "unsupported scope applied to resource");
        }
    }
    for _ in 0..conflicts(&scopes) {
        errors.invalid(path, bad(), "conflicting scopes");
    }
}

fn validate_selector(errors: &mut FieldErrors, path: &Path, spec: &ResourceQuotaSpec) {
    const WHY_EXISTS: &str = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, \
        ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
        ResourceQuotaScopeCrossNamespacePodAffinity";
    let Some(selector) = &spec.scope_selector else { return };
    let mut scopes = BTreeSet::new();
    for requirement in selector.match_expressions.iter().flatten() {
        let scope = requirement.scope_name.as_str();
        if !SCOPES.contains(&scope) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        for _ in 0..misfits(spec, scope) {
            errors.invalid(path, checks::shown(selector), "unsupported scope applied to resource");
        }
        let bare = SCOPES.contains(&scope) && !matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        let operator = requirement.operator.as_str();
        if bare && operator != "Exists" {
            errors.invalid(&path.child("operator"), operator, WHY_EXISTS);
        }
        let values = requirement.values.as_deref().unwrap_or_default();
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&path.child("values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector";
                errors.invalid(&path.child("values"), checks::shown(&values), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        scopes.insert(scope);
    }
    for _ in 0..conflicts(&scopes) {
        errors.invalid(path, checks::shown(&spec.scopes), "conflicting scopes");
    }
}
