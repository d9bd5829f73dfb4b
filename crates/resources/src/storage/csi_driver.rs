//! CSIDriver: What a driver of storage can do, and wants of the cluster.

use std::collections::BTreeSet;

use api::storage::v1::{CSIDriver, TokenRequest};

use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = CSIDriver;

    const NAMES: Names = Names::new("csidrivers", "csidriver");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "csidrivers" };
    const COLUMNS: &'static [Column<CSIDriver>] = &[
        Column::name(),
        Column::new("AttachRequired", "boolean", |driver: &CSIDriver, _| {
            Value::from(driver.spec.attach_required.unwrap_or(true))
        })
        .describe("Whether volumes are attached before they are mounted."),
        Column::new("PodInfoOnMount", "boolean", |driver: &CSIDriver, _| {
            Value::from(driver.spec.pod_info_on_mount.unwrap_or_default())
        })
        .describe("Whether the driver is told about the pod."),
        Column::new("StorageCapacity", "boolean", |driver: &CSIDriver, _| {
            Value::from(driver.spec.storage_capacity.unwrap_or_default())
        })
        .describe("Whether the scheduler asks what fits."),
        Column::new("TokenRequests", "string", |driver: &CSIDriver, _| Value::from(audiences(driver)))
            .describe("The audiences of the tokens the driver gets."),
        Column::new("RequiresRepublish", "boolean", |driver: &CSIDriver, _| {
            Value::from(driver.spec.requires_republish.unwrap_or_default())
        })
        .describe("Whether mounted volumes are published again and again."),
        Column::new("Modes", "string", |driver: &CSIDriver, _| {
            let modes = driver.spec.volume_lifecycle_modes.as_deref().unwrap_or_default();
            Value::from(if modes.is_empty() { "<none>".to_owned() } else { modes.join(",") })
        })
        .describe("The lives volumes can have."),
        Column::age(),
    ];

    fn default(driver: &mut CSIDriver) {
        let spec = &mut driver.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.fs_group_policy.get_or_insert_with(|| "ReadWriteOnceWithFSType".to_owned());
        let modes = spec.volume_lifecycle_modes.get_or_insert_default();
        if modes.is_empty() {
            modes.push("Persistent".to_owned());
        }
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
    }

    fn prepare_create(driver: &mut CSIDriver) {
        driver.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut CSIDriver, old: &CSIDriver) {
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn validate(driver: &CSIDriver) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (spec, path) = (&driver.spec, Path::new("spec"));
        let required = [
            ("attachedRequired", spec.attach_required),
            ("podInfoOnMount", spec.pod_info_on_mount),
            ("storageCapacity", spec.storage_capacity),
        ];
        for (field, _) in required.iter().filter(|(_, value)| value.is_none()) {
            errors.required(&path.child(field), "");
        }
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        let policy = spec.fs_group_policy.as_deref();
        checks::optional_one_of(&mut errors, &path.child("fsGroupPolicy"), policy, &policies);
        let requests = spec.token_requests.as_deref().unwrap_or_default();
        validate_tokens(&mut errors, &path.child("tokenRequests"), requests);
        for mode in spec.volume_lifecycle_modes.iter().flatten() {
            if !matches!(mode.as_str(), "Persistent" | "Ephemeral") {
                let supported = ["Persistent", "Ephemeral"];
                errors.not_supported(&path.child("volumeLifecycleModes"), mode.as_str(), &supported);
            }
        }
        if spec.se_linux_mount.is_none() {
            errors.required(&path.child("seLinuxMount"), "");
        }
        if let Some(seconds) = spec.node_allocatable_update_period_seconds.filter(|seconds| *seconds < 10) {
            let path = path.child("nodeAllocatableUpdatePeriodSeconds");
            errors.invalid(&path, seconds, "must be greater than or equal to 10 seconds");
        }
        errors
    }

    fn validate_update(new: &CSIDriver, old: &CSIDriver) -> FieldErrors {
        let mut errors = Self::validate(new);
        let (path, new, old) = (Path::new("spec"), &new.spec, &old.spec);
        checks::immutable(&mut errors, &path.child("attachedRequired"), &new.attach_required, &old.attach_required);
        let modes_path = path.child("volumeLifecycleModes");
        checks::immutable(&mut errors, &modes_path, &new.volume_lifecycle_modes, &old.volume_lifecycle_modes);
        errors
    }
}

fn audiences(driver: &CSIDriver) -> String {
    let Some(requests) = driver.spec.token_requests.as_ref().filter(|requests| !requests.is_empty()) else {
        return "<unset>".to_owned();
    };
    requests.iter().map(|request| request.audience.as_str()).collect::<Vec<_>>().join(",")
}

/// One token for each audience, neither too short-lived nor too long-lived.
fn validate_tokens(errors: &mut FieldErrors, path: &Path, requests: &[TokenRequest]) {
    let mut audiences = BTreeSet::new();
    for (index, request) in requests.iter().enumerate() {
        let path = path.index(index);
        if !audiences.insert(request.audience.as_str()) {
            errors.duplicate(&path.child("audience"), request.audience.as_str());
            continue;
        }
        let (path, seconds) = (path.child("expirationSeconds"), request.expiration_seconds);
        match seconds {
            Some(seconds) if seconds < 600 => {
                errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
            }
            Some(seconds) if seconds > 1 << 32 => {
                errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
            }
            _ => {}
        }
    }
}
