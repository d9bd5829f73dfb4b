//! What a claim asks for: the same in ResourceClaims and in their templates.

use std::collections::{BTreeMap, BTreeSet};

use api::field::{FieldErrors, Path};
use api::resource::v1::{
    DeviceClaim, DeviceConstraint, DeviceRequest, DeviceSubRequest, DeviceToleration, ExactDeviceRequest,
    ResourceClaimSpec,
};

use super::device::{self, ITEMS_MAX};
use crate::checks;

const ALTERNATIVES_MAX: usize = 8;
const UNKNOWN: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated \
                       by '/'";

/// The names of a claim's requests, each with those of its alternatives.
pub struct RequestNames<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> RequestNames<'a> {
    /// Of this claim.
    pub fn of(claim: Option<&'a DeviceClaim>) -> Self {
        let requests = claim.into_iter().flat_map(|claim| claim.requests.iter().flatten());
        let alternatives = |request: &'a DeviceRequest| {
            request.first_available.iter().flatten().map(|one| one.name.as_str()).collect()
        };
        Self(requests.map(|request| (request.name.as_str(), alternatives(request))).collect())
    }

    fn has(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => self.0.contains_key(name),
            Some((request, one)) => self.0.get(request).is_some_and(|names| names.contains(one)),
        }
    }

    /// A reference to a request.
    pub fn check(&self, errors: &mut FieldErrors, path: &Path, name: &str) {
        if name.split('/').count() > 2 {
            return errors.invalid(path, name, UNKNOWN);
        }
        for part in name.split('/') {
            checks::dns_label(errors, path, part);
        }
        if !self.has(name) {
            errors.invalid(path, name, UNKNOWN);
        }
    }

    /// References to requests, none twice.
    pub fn check_all(&self, errors: &mut FieldErrors, path: &Path, names: &[String]) {
        for (index, name) in names.iter().enumerate() {
            self.check(errors, &path.index(index), name);
        }
        device::at_most(errors, path, names.len(), ITEMS_MAX);
        let mut seen = BTreeSet::new();
        for (index, name) in names.iter().enumerate() {
            checks::unique(errors, &path.index(index), &mut seen, name);
        }
    }
}

/// Fills what requests leave out.
pub fn default(spec: Option<&mut ResourceClaimSpec>) {
    let claim = spec.and_then(|spec| spec.devices.as_mut());
    for request in claim.into_iter().flat_map(|claim| claim.requests.iter_mut().flatten()) {
        if let Some(exactly) = &mut request.exactly {
            default_count(&mut exactly.allocation_mode, &mut exactly.count);
            default_tolerations(&mut exactly.tolerations);
        }
        for one in request.first_available.iter_mut().flatten() {
            default_count(&mut one.allocation_mode, &mut one.count);
            default_tolerations(&mut one.tolerations);
        }
    }
}

fn default_count(mode: &mut Option<String>, count: &mut Option<i64>) {
    if mode.as_deref().is_none_or(str::is_empty) {
        *mode = Some("ExactCount".to_owned());
    }
    if mode.as_deref() == Some("ExactCount") && count.unwrap_or_default() == 0 {
        *count = Some(1);
    }
}

fn default_tolerations(tolerations: &mut Option<Vec<DeviceToleration>>) {
    for toleration in tolerations.iter_mut().flatten() {
        if toleration.operator.as_deref().is_none_or(str::is_empty) {
            toleration.operator = Some("Equal".to_owned());
        }
    }
}

/// All problems of what a claim asks for.
pub fn validate(errors: &mut FieldErrors, path: &Path, spec: Option<&ResourceClaimSpec>) {
    let Some(claim) = spec.and_then(|spec| spec.devices.as_ref()) else { return };
    let path = path.child("devices");
    let names = RequestNames::of(Some(claim));
    let requests = claim.requests.as_deref().unwrap_or_default();
    let requests_path = path.child("requests");
    for (index, request) in requests.iter().enumerate() {
        validate_request(errors, &requests_path.index(index), request);
    }
    device::at_most(errors, &requests_path, requests.len(), ITEMS_MAX);
    unique_names(errors, &requests_path, requests.iter().map(|request| request.name.as_str()));
    let constraints = claim.constraints.as_deref().unwrap_or_default();
    for (index, constraint) in constraints.iter().enumerate() {
        validate_constraint(errors, &path.child("constraints").index(index), constraint, &names);
    }
    device::at_most(errors, &path.child("constraints"), constraints.len(), ITEMS_MAX);
    let config = claim.config.as_deref().unwrap_or_default();
    for (index, one) in config.iter().enumerate() {
        let path = path.child("config").index(index);
        names.check_all(errors, &path.child("requests"), one.requests.as_deref().unwrap_or_default());
        device::opaque(errors, &path, one.opaque.as_ref());
    }
    device::at_most(errors, &path.child("config"), config.len(), ITEMS_MAX);
}

fn unique_names<'a>(errors: &mut FieldErrors, path: &Path, names: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeSet::new();
    for (index, name) in names.enumerate() {
        checks::unique(errors, &path.index(index).child("name"), &mut seen, name);
    }
}

fn validate_constraint(errors: &mut FieldErrors, path: &Path, constraint: &DeviceConstraint, names: &RequestNames<'_>) {
    names.check_all(errors, &path.child("requests"), constraint.requests.as_deref().unwrap_or_default());
    match (&constraint.match_attribute, &constraint.distinct_attribute) {
        (Some(_), Some(_)) => {
            errors.invalid(path, "", "exactly one of `matchAttribute` or `distinctAttribute` is required");
        }
        (Some(name), None) => device::fully_qualified(errors, &path.child("matchAttribute"), name),
        (None, Some(name)) => device::fully_qualified(errors, &path.child("distinctAttribute"), name),
        (None, None) => errors.required(&path.child("matchAttribute"), ""),
    }
}

fn validate_request(errors: &mut FieldErrors, path: &Path, request: &DeviceRequest) {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    checks::dns_label(errors, &path.child("name"), &request.name);
    let alternatives = request.first_available.as_deref().unwrap_or_default();
    let alternatives_path = path.child("firstAvailable");
    for (index, one) in alternatives.iter().enumerate() {
        validate_alternative(errors, &alternatives_path.index(index), one);
    }
    device::at_most(errors, &alternatives_path, alternatives.len(), ALTERNATIVES_MAX);
    unique_names(errors, &alternatives_path, alternatives.iter().map(|one| one.name.as_str()));
    if let Some(exactly) = &request.exactly {
        validate_exactly(errors, &path.child("exactly"), exactly);
    }
    match (request.exactly.is_some(), !alternatives.is_empty()) {
        (false, false) => errors.required(path, ONE),
        (true, true) => {
            errors.invalid(path, serde_json::Value::Null, format!("{ONE}, but multiple fields are set"));
        }
        _ => {}
    }
}

fn validate_alternative(errors: &mut FieldErrors, path: &Path, one: &DeviceSubRequest) {
    checks::dns_label(errors, &path.child("name"), &one.name);
    validate_class(errors, &path.child("deviceClassName"), &one.device_class_name);
    device::selectors(errors, &path.child("selectors"), one.selectors.as_deref().unwrap_or_default());
    validate_count(errors, path, one.allocation_mode.as_deref(), one.count);
    validate_tolerations(errors, path, one.tolerations.as_deref());
}

fn validate_exactly(errors: &mut FieldErrors, path: &Path, one: &ExactDeviceRequest) {
    validate_class(errors, &path.child("deviceClassName"), &one.device_class_name);
    device::selectors(errors, &path.child("selectors"), one.selectors.as_deref().unwrap_or_default());
    validate_count(errors, path, one.allocation_mode.as_deref(), one.count);
    validate_tolerations(errors, path, one.tolerations.as_deref());
}

fn validate_class(errors: &mut FieldErrors, path: &Path, name: &str) {
    if name.is_empty() {
        errors.required(path, "");
    } else {
        checks::dns_subdomain(errors, path, name);
    }
}

fn validate_count(errors: &mut FieldErrors, path: &Path, mode: Option<&str>, count: Option<i64>) {
    let (count, count_path) = (count.unwrap_or_default(), path.child("count"));
    match mode.unwrap_or_default() {
        "All" if count != 0 => {
            errors.invalid(&count_path, count, "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" if count <= 0 => errors.invalid(&count_path, count, "must be greater than zero"),
        "All" | "ExactCount" => {}
        other => errors.not_supported(&path.child("allocationMode"), other, &["All", "ExactCount"]),
    }
}

fn validate_tolerations(errors: &mut FieldErrors, path: &Path, tolerations: Option<&[DeviceToleration]>) {
    for (index, toleration) in tolerations.unwrap_or_default().iter().enumerate() {
        device::toleration(errors, &path.child("tolerations").index(index), toleration);
    }
}
