//! StorageVersionMigration: A wish to have all objects of a resource written anew.

use api::storagemigration::v1::{StorageVersionMigration, StorageVersionMigrationStatus};

use crate::prelude::*;
use crate::{checks, metadata};

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = StorageVersionMigration;

    const NAMES: Names = Names::new("storageversionmigrations", "storageversionmigration");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "storageversionmigrations" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column<StorageVersionMigration>] = &[Column::name(), Column::created_at()];

    fn prepare_create(migration: &mut StorageVersionMigration) {
        migration.status = Some(StorageVersionMigrationStatus::default());
    }

    fn prepare_update(new: &mut StorageVersionMigration, old: &StorageVersionMigration) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status_update(new: &mut StorageVersionMigration, old: &StorageVersionMigration) {
        new.spec.clone_from(&old.spec);
        metadata::keep_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(migration: &StorageVersionMigration) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if migration.spec.as_ref().is_none_or(|spec| spec.resource.resource.is_empty()) {
            let path = Path::new("spec").child("resource").child("resource");
            errors.required(&path, "resource is required");
        }
        errors
    }

    fn validate_update(new: &StorageVersionMigration, old: &StorageVersionMigration) -> FieldErrors {
        let mut errors = Self::validate(new);
        checks::immutable(&mut errors, &Path::new("spec"), &new.spec, &old.spec);
        errors
    }

    fn validate_status_update(new: &StorageVersionMigration, old: &StorageVersionMigration) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("status");
        let (now, before) = (revision(new), revision(old));
        let revision_path = path.child("resourceVersion");
        if !now.is_empty() && now.parse::<u64>().is_err() {
            errors.invalid(&revision_path, now, "resource version is not a valid integer");
        }
        if !before.is_empty() {
            checks::immutable(&mut errors, &revision_path, &now, &before);
        }
        let conditions = new.status.as_ref().and_then(|status| status.conditions.as_deref());
        let path = path.child("conditions");
        checks::conditions(&mut errors, &path, conditions);
        let (succeeded, failed) = (is_true(new, "Succeeded"), is_true(new, "Failed"));
        for (contradicts, why) in [
            (succeeded && failed, "Both success and failed conditions cannot be true at the same time"),
            (succeeded && is_true(new, "Running"), "Running condition cannot be true when success condition is true"),
            (failed && is_true(new, "Running"), "Running condition cannot be true when failed condition is true"),
            (is_true(old, "Succeeded") && !succeeded, "Success condition cannot be set to false once it is true"),
            (is_true(old, "Failed") && !failed, "Failed condition cannot be set to false once it is true"),
        ] {
            if contradicts {
                errors.invalid(&path, checks::shown(&conditions), why);
            }
        }
        errors
    }
}

fn revision(migration: &StorageVersionMigration) -> &str {
    migration.status.as_ref().and_then(|status| status.resource_version.as_deref()).unwrap_or_default()
}

fn is_true(migration: &StorageVersionMigration, type_: &str) -> bool {
    let mut conditions = migration.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == type_ && condition.status == "True")
}
