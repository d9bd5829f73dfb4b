//! LimitRange: What containers, pods and claims of a namespace may ask for, and what they get who ask for nothing.

use std::collections::{BTreeMap, BTreeSet};

use api::Quantity;
use api::core::v1::{LimitRange, LimitRangeItem};
use api::quantity::{Amount, amount};

use super::pod_template::{defaults, resources};
use crate::checks;
use crate::prelude::*;

type Amounts = BTreeMap<String, Quantity>;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = LimitRange;

    const NAMES: Names = Names::new("limitranges", "limitrange").short(&["limits"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "limitranges" };
    const COLUMNS: &'static [Column<LimitRange>] = &[Column::name(), Column::created_at()];

    fn default(range: &mut LimitRange) {
        for item in range.spec.iter_mut().flat_map(|spec| &mut spec.limits) {
            let lists = [
                &mut item.max,
                &mut item.min,
                &mut item.default,
                &mut item.default_request,
                &mut item.max_limit_request_ratio,
            ];
            lists.into_iter().flatten().for_each(defaults::canonical_list);
            if item.type_ == "Container" {
                default_container(item);
            }
        }
    }

    fn validate(range: &LimitRange) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec").child("limits");
        let mut types = BTreeSet::new();
        for (index, item) in range.spec.iter().flat_map(|spec| &spec.limits).enumerate() {
            validate_item(&mut errors, &path.index(index), item, &mut types);
        }
        errors
    }
}

/// A default limit is the maximum, a default request the default limit or else the minimum.
fn default_container(item: &mut LimitRangeItem) {
    let fill = |list: &mut Amounts, from: &Amounts| {
        for (key, value) in from {
            list.entry(key.clone()).or_insert_with(|| value.clone());
        }
    };
    let mut limits = item.default.take().unwrap_or_default();
    let mut requests = item.default_request.take().unwrap_or_default();
    fill(&mut limits, &item.max.clone().unwrap_or_default());
    fill(&mut requests, &limits);
    fill(&mut requests, &item.min.clone().unwrap_or_default());
    item.default = Some(limits).filter(|list| !list.is_empty());
    item.default_request = Some(requests).filter(|list| !list.is_empty());
}

fn validate_item<'a>(errors: &mut FieldErrors, path: &Path, item: &'a LimitRangeItem, types: &mut BTreeSet<&'a str>) {
    let type_path = path.child("type");
    let kind = item.type_.as_str();
    let problems = api::name::qualified(kind);
    if !problems.is_empty() {
        checks::problems(errors, &type_path, kind, problems);
    } else if !kind.contains('/') && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") {
        errors.invalid(&type_path, kind, "must be a standard limit type or fully qualified");
    }
    checks::unique(errors, &type_path, types, kind);
    let names = |errors: &mut FieldErrors, field: &str, list: Option<&Amounts>| {
        for name in list.into_iter().flatten().map(|(name, _)| name) {
            let path = path.child(field).key(name);
            if matches!(kind, "Pod" | "Container") {
                resources::validate_container_name(errors, &path, name);
            } else {
                resources::validate_name(errors, &path, name);
            }
        }
    };
    names(errors, "max", item.max.as_ref());
    names(errors, "min", item.min.as_ref());
    for (field, list) in [("default", &item.default), ("defaultRequest", &item.default_request)] {
        if kind != "Pod" {
            names(errors, field, list.as_ref());
        } else if list.as_ref().is_some_and(|list| !list.is_empty()) {
            errors.forbidden(&path.child(field), "may not be specified when `type` is 'Pod'");
        }
    }
    let bounds_storage = |list: &Option<Amounts>| list.as_ref().is_some_and(|list| list.contains_key("storage"));
    if kind == "PersistentVolumeClaim" && !bounds_storage(&item.min) && !bounds_storage(&item.max) {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), why);
    }
    names(errors, "maxLimitRequestRatio", item.max_limit_request_ratio.as_ref());
    let lists = [&item.max, &item.min, &item.default, &item.default_request, &item.max_limit_request_ratio];
    let keys: BTreeSet<&String> = lists.iter().copied().flatten().flat_map(BTreeMap::keys).collect();
    for key in keys {
        validate_amounts(errors, path, item, key);
    }
}

/// The bounds and defaults of one resource among each other.
fn validate_amounts(errors: &mut FieldErrors, path: &Path, item: &LimitRangeItem, key: &str) {
    let of = |list: &Option<Amounts>| list.as_ref().and_then(|list| list.get(key)).map(amount);
    let (max, min, limit, request) = (of(&item.max), of(&item.min), of(&item.default), of(&item.default_request));
    // Where it is told; the smaller one, the larger one; whether the larger one is shown.
    let orders = [
        ("min", ("min", min), ("max", max), false),
        ("defaultRequest", ("min", min), ("default request", request), true),
        ("defaultRequest", ("default request", request), ("max", max), false),
        ("defaultRequest", ("default request", request), ("default limit", limit), false),
        ("default", ("min", min), ("default", limit), false),
        ("default", ("default", limit), ("max", max), false),
    ];
    for (field, (small_name, small), (large_name, large), bad_is_large) in orders {
        if let (Some(small), Some(large)) = (small, large)
            && small > large
        {
            let why = format!("{small_name} value {small} is greater than {large_name} value {large}");
            let bad = if bad_is_large { large } else { small };
            errors.invalid(&path.child(field).key(key), bad.to_string(), why);
        }
    }
    let ratio_path = path.child("maxLimitRequestRatio").key(key);
    if let Some(ratio) = of(&item.max_limit_request_ratio) {
        if ratio < Amount::new(1, ratio.format()) {
            errors.invalid(&ratio_path, ratio.to_string(), format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (min, max)
            && ratio.as_f64() > max.as_f64() / min.as_f64()
        {
            let most = max.as_f64() / min.as_f64();
            let why = format!("ratio {ratio} is greater than max/min = {most:.6}");
            errors.invalid(&ratio_path, ratio.to_string(), why);
        }
    }
    if let (Some(limit), Some(request)) = (limit, request)
        && !resources::may_overcommit(key)
        && limit != request
    {
        let why = format!("default value {limit} must equal to defaultRequest value {request} in {key}");
        errors.invalid(&path.child("defaultRequest").key(key), request.to_string(), why);
    }
}
