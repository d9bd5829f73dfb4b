//! The catalogue of beta and alpha versions, which are served only if asked for. A version with the fields of the one
//! that is stored is a line of the table below; kinds that have no stable version have files of their own.
//!
//! Upstream: the lifecycle of each version is in staging/src/k8s.io/api/*/zz_generated.prerelease-lifecycle.go.

use api::Typed;
use serde_json::Value;

use crate::spelling::{Spelling, stored_as};
use crate::strategy::{AnyStrategy, Erased};
use crate::{admissionregistration, certificates, coordination, resource, scheduling, storagemigration};

macro_rules! spelled {
    ($group:ident :: $version:ident :: $kind:ident = $stored:ident of $($strategy:ident)::+
        $(, deprecated $deprecated:literal)? $(, moved $to:path, $from:path)?) => {
        &Spelling {
            kind: <api::$group::$version::$kind as Typed>::KIND,
            base: &Erased($($strategy)::+::Strategy),
            stored_as: stored_as!(api::$group::$version::$kind, api::$group::$stored::$kind $(, $to, $from)?),
            deprecated: spelled!(@ $($deprecated)?),
        }
    };
    (@) => { None };
    (@ $deprecated:literal) => { Some($deprecated) };
}

/// Every beta and alpha version that is built.
pub static ALL: &[&dyn AnyStrategy] = &[
    spelled!(admissionregistration::v1beta1::MutatingAdmissionPolicyBinding = v1
        of admissionregistration::mutating_admission_policy_binding,
        deprecated "admissionregistration.k8s.io/v1beta1 MutatingAdmissionPolicyBinding is deprecated in v1.37+, \
                    unavailable in v1.40+"),
    spelled!(admissionregistration::v1beta1::MutatingAdmissionPolicy = v1
        of admissionregistration::mutating_admission_policy,
        deprecated "admissionregistration.k8s.io/v1beta1 MutatingAdmissionPolicy is deprecated in v1.37+, \
                    unavailable in v1.40+"),
    spelled!(admissionregistration::v1alpha1::MutatingAdmissionPolicyBinding = v1
        of admissionregistration::mutating_admission_policy_binding,
        deprecated "admissionregistration.k8s.io/v1alpha1 MutatingAdmissionPolicyBinding is deprecated in v1.35+"),
    spelled!(admissionregistration::v1alpha1::MutatingAdmissionPolicy = v1
        of admissionregistration::mutating_admission_policy,
        deprecated "admissionregistration.k8s.io/v1alpha1 MutatingAdmissionPolicy is deprecated in v1.35+"),
    spelled!(certificates::v1beta1::ClusterTrustBundle = v1 of certificates::cluster_trust_bundle,
        deprecated "certificates.k8s.io/v1beta1 ClusterTrustBundle is deprecated in v1.36+, unavailable in v1.39+"),
    &Erased(coordination::lease_candidate::Strategy),
    spelled!(coordination::v1alpha2::LeaseCandidate = v1beta1 of coordination::lease_candidate,
        deprecated "coordination.k8s.io/v1alpha2 LeaseCandidate is deprecated in v1.35+"),
    spelled!(resource::v1beta2::DeviceClass = v1 of resource::device_class,
        deprecated "resource.k8s.io/v1beta2 DeviceClass is deprecated in v1.36+, unavailable in v1.39+"),
    spelled!(resource::v1beta2::DeviceTaintRule = v1 of resource::device_taint_rule),
    spelled!(resource::v1beta2::ResourceClaimTemplate = v1 of resource::resource_claim_template,
        deprecated "resource.k8s.io/v1beta2 ResourceClaimTemplate is deprecated in v1.36+, unavailable in v1.39+"),
    spelled!(resource::v1beta2::ResourceClaim = v1 of resource::resource_claim,
        deprecated "resource.k8s.io/v1beta2 ResourceClaim is deprecated in v1.36+, unavailable in v1.39+"),
    spelled!(resource::v1beta2::ResourceSlice = v1 of resource::resource_slice,
        deprecated "resource.k8s.io/v1beta2 ResourceSlice is deprecated in v1.36+, unavailable in v1.39+"),
    spelled!(resource::v1beta1::DeviceClass = v1 of resource::device_class,
        deprecated "resource.k8s.io/v1beta1 DeviceClass is deprecated in v1.35+, unavailable in v1.38+"),
    spelled!(resource::v1beta1::ResourceClaimTemplate = v1 of resource::resource_claim_template,
        deprecated "resource.k8s.io/v1beta1 ResourceClaimTemplate is deprecated in v1.35+, unavailable in v1.38+",
        moved template_to_stored, template_from_stored),
    spelled!(resource::v1beta1::ResourceClaim = v1 of resource::resource_claim,
        deprecated "resource.k8s.io/v1beta1 ResourceClaim is deprecated in v1.35+, unavailable in v1.38+",
        moved claim_to_stored, claim_from_stored),
    spelled!(resource::v1beta1::ResourceSlice = v1 of resource::resource_slice,
        deprecated "resource.k8s.io/v1beta1 ResourceSlice is deprecated in v1.35+, unavailable in v1.38+",
        moved slice_to_stored, slice_from_stored),
    spelled!(resource::v1alpha3::DeviceTaintRule = v1 of resource::device_taint_rule,
        deprecated "resource.k8s.io/v1alpha3 DeviceTaintRule is deprecated in v1.36+"),
    &Erased(scheduling::pod_group::Strategy),
    &Erased(scheduling::workload::Strategy),
    spelled!(scheduling::v1alpha3::PodGroup = v1beta1 of scheduling::pod_group),
    spelled!(scheduling::v1alpha3::Workload = v1beta1 of scheduling::workload),
    spelled!(storagemigration::v1beta1::StorageVersionMigration = v1 of storagemigration::storage_version_migration),
];

/// What the newer versions of a request for devices have within `exactly`, and v1beta1 has beside `firstAvailable`.
const EXACTLY: &[&str] = &[
    "deviceClassName",
    "selectors",
    "allocationMode",
    "count",
    "adminAccess",
    "tolerations",
    "capacity",
    "derivedAttributes",
];

fn items<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut serde_json::Map<String, Value>> {
    let list = value.pointer_mut(pointer).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn requests_to_stored(value: &mut Value, pointer: &str) {
    for request in items(value, pointer) {
        let mut exactly = serde_json::Map::new();
        for name in EXACTLY {
            exactly.extend(request.shift_remove_entry(*name).filter(|(_, value)| value != ""));
        }
        if !exactly.is_empty() {
            // The stored version's type requires it: empty says that there is none.
            exactly.entry("deviceClassName").or_insert_with(|| "".into());
            request.insert("exactly".to_owned(), Value::Object(exactly));
        }
    }
}

fn requests_from_stored(value: &mut Value, pointer: &str) {
    for request in items(value, pointer) {
        if let Some(Value::Object(exactly)) = request.shift_remove("exactly") {
            request.extend(exactly);
        }
    }
}

fn claim_to_stored(claim: &mut Value) {
    requests_to_stored(claim, "/spec/devices/requests");
}

fn claim_from_stored(claim: &mut Value) {
    requests_from_stored(claim, "/spec/devices/requests");
}

fn template_to_stored(template: &mut Value) {
    requests_to_stored(template, "/spec/spec/devices/requests");
}

fn template_from_stored(template: &mut Value) {
    requests_from_stored(template, "/spec/spec/devices/requests");
}

fn slice_to_stored(slice: &mut Value) {
    for device in items(slice, "/spec/devices") {
        if let Some(Value::Object(basic)) = device.shift_remove("basic") {
            device.extend(basic);
        }
    }
}

fn slice_from_stored(slice: &mut Value) {
    for device in items(slice, "/spec/devices") {
        let name = device.shift_remove_entry("name");
        let basic = std::mem::take(device);
        device.extend(name);
        device.insert("basic".to_owned(), Value::Object(basic));
    }
}

#[cfg(test)]
mod tests;
