//! Validation of what was found for a claim, and who uses it.

use std::collections::BTreeSet;

use api::field::{FieldErrors, Path};
use api::resource::v1::{AllocatedDeviceStatus, AllocationResult, ResourceClaim, ResourceClaimStatus};

use super::claim::RequestNames;
use super::device::{self, ITEMS_MAX};
use crate::checks;
use crate::core::pod_template::scheduling;

const USERS_MAX: usize = 256;
const CONDITIONS_MAX: usize = 8;
const INTERFACE_BYTES_MAX: usize = 256;
const HARDWARE_BYTES_MAX: usize = 128;
const ADDRESSES_MAX: usize = 16;

/// All problems of an update of a claim's status.
pub fn validate(new: &ResourceClaim, old: &ResourceClaim) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("status");
    let empty = ResourceClaimStatus::default();
    let (status, before) = (new.status.as_ref().unwrap_or(&empty), old.status.as_ref().unwrap_or(&empty));
    validate_users(&mut errors, &path.child("reservedFor"), status);
    validate_devices(&mut errors, &path.child("devices"), status);
    let users = status.reserved_for.as_deref().unwrap_or_default();
    let users_before = before.reserved_for.as_deref().unwrap_or_default();
    if !users.is_empty() && status.allocation.is_none() {
        errors.forbidden(&path.child("reservedFor"), "may not be specified when `allocated` is not set");
    } else if new.metadata.deletion_timestamp.is_some() && users.iter().any(|user| !users_before.contains(user)) {
        let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.forbidden(&path.child("reservedFor"), why);
    }
    let path = path.child("allocation");
    match (&status.allocation, &before.allocation) {
        (Some(_), Some(_)) => checks::immutable(&mut errors, &path, &status.allocation, &before.allocation),
        (Some(allocation), None) => {
            let names = RequestNames::of(new.spec.as_ref().and_then(|spec| spec.devices.as_ref()));
            validate_allocation(&mut errors, &path, allocation, &names);
        }
        (None, _) => {}
    }
    errors
}

fn validate_users(errors: &mut FieldErrors, path: &Path, status: &ResourceClaimStatus) {
    let users = status.reserved_for.as_deref().unwrap_or_default();
    for (index, user) in users.iter().enumerate() {
        let path = path.index(index);
        for (name, value) in [("resource", &user.resource), ("name", &user.name), ("uid", &user.uid)] {
            if value.is_empty() {
                errors.required(&path.child(name), "");
            }
        }
    }
    device::at_most(errors, path, users.len(), USERS_MAX);
    let mut seen = BTreeSet::new();
    for (index, user) in users.iter().enumerate() {
        checks::unique(errors, &path.index(index).child("uid"), &mut seen, &user.uid);
    }
}

fn validate_devices(errors: &mut FieldErrors, path: &Path, status: &ResourceClaimStatus) {
    let results = status.allocation.iter().flat_map(|allocation| allocation.devices.iter());
    let results = results.flat_map(|devices| devices.results.iter().flatten());
    let allocated: BTreeSet<String> =
        results.map(|result| format!("{}/{}/{}", result.driver, result.pool, result.device)).collect();
    let mut seen = BTreeSet::new();
    for (index, one) in status.devices.iter().flatten().enumerate() {
        let path = path.index(index);
        let id = format!("{}/{}/{}", one.driver, one.pool, one.device);
        validate_device(errors, &path, one);
        if !allocated.contains(&id) {
            errors.invalid(&path, id.as_str(), "must be an allocated device in the claim");
        }
        if !seen.insert((id.clone(), one.share_id.clone())) {
            errors.duplicate(&path.child("deviceID"), id);
        }
    }
}

fn validate_device(errors: &mut FieldErrors, path: &Path, one: &AllocatedDeviceStatus) {
    device::driver(errors, &path.child("driver"), &one.driver);
    device::pool(errors, &path.child("pool"), &one.pool);
    checks::dns_label(errors, &path.child("device"), &one.device);
    let conditions = one.conditions.as_deref();
    let count = conditions.map_or(0, <[_]>::len);
    device::at_most(errors, &path.child("conditions"), count, CONDITIONS_MAX);
    checks::conditions(errors, &path.child("conditions"), conditions);
    if let Some(data) = &one.data {
        device::raw(errors, &path.child("data"), &data.0);
    }
    let Some(network) = &one.network_data else { return };
    let path = path.child("networkData");
    for (name, value, max) in [
        ("interfaceName", &network.interface_name, INTERFACE_BYTES_MAX),
        ("hardwareAddress", &network.hardware_address, HARDWARE_BYTES_MAX),
    ] {
        if value.as_ref().is_some_and(|value| value.len() > max) {
            errors.too_long(&path.child(name), max);
        }
    }
    let addresses = network.ips.as_deref().unwrap_or_default();
    let path = path.child("ips");
    for (index, address) in addresses.iter().enumerate() {
        if checks::parse_cidr(address).is_none() {
            let why = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
            errors.invalid(&path.index(index), address.as_str(), why);
        }
    }
    device::at_most(errors, &path, addresses.len(), ADDRESSES_MAX);
}

fn validate_allocation(errors: &mut FieldErrors, path: &Path, allocation: &AllocationResult, names: &RequestNames<'_>) {
    let devices_path = path.child("devices");
    let devices = allocation.devices.clone().unwrap_or_default();
    let results = devices.results.unwrap_or_default();
    for (index, result) in results.iter().enumerate() {
        let path = devices_path.child("results").index(index);
        names.check(errors, &path.child("request"), &result.request);
        device::driver(errors, &path.child("driver"), &result.driver);
        device::pool(errors, &path.child("pool"), &result.pool);
        checks::dns_label(errors, &path.child("device"), &result.device);
    }
    device::at_most(errors, &devices_path.child("results"), results.len(), ITEMS_MAX);
    let config = devices.config.unwrap_or_default();
    for (index, one) in config.iter().enumerate() {
        let path = devices_path.child("config").index(index);
        match one.source.as_str() {
            "" => errors.required(&path.child("source"), ""),
            "FromClaim" | "FromClass" => {}
            other => errors.not_supported(&path.child("source"), other, &["FromClaim", "FromClass"]),
        }
        names.check_all(errors, &path.child("requests"), one.requests.as_deref().unwrap_or_default());
        device::opaque(errors, &path, one.opaque.as_ref());
    }
    device::at_most(errors, &devices_path.child("config"), config.len(), 2 * ITEMS_MAX);
    if let Some(selector) = &allocation.node_selector {
        scheduling::validate_node_selector(errors, &path.child("nodeSelector"), selector);
    }
}
