//! DeviceTaintRule: A taint on all devices that it selects.

use api::resource::v1::{DeviceTaintRule, DeviceTaintRuleStatus};

use super::device;
use crate::prelude::*;
use crate::{checks, metadata};

const CONDITIONS_MAX: usize = 8;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = DeviceTaintRule;

    const NAMES: Names = Names::new("devicetaintrules", "devicetaintrule");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "devicetaintrules" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column<DeviceTaintRule>] = &[Column::name(), Column::age()];

    fn prepare_create(rule: &mut DeviceTaintRule) {
        rule.status = Some(DeviceTaintRuleStatus::default());
        rule.metadata.generation = Some(1);
        let created = rule.metadata.creation_timestamp.clone();
        rule.spec.taint.time_added = rule.spec.taint.time_added.take().or(created);
    }

    fn prepare_update(new: &mut DeviceTaintRule, old: &DeviceTaintRule) {
        new.status.clone_from(&old.status);
        let taint = &mut new.spec.taint;
        taint.time_added = taint.time_added.take().or_else(|| old.spec.taint.time_added.clone());
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn prepare_status_update(new: &mut DeviceTaintRule, old: &DeviceTaintRule) {
        new.spec.clone_from(&old.spec);
        metadata::keep_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(rule: &DeviceTaintRule) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec");
        if let Some(selector) = &rule.spec.device_selector {
            let path = path.child("deviceSelector");
            if let Some(driver) = &selector.driver {
                device::driver(&mut errors, &path.child("driver"), driver);
            }
            if let Some(pool) = &selector.pool {
                device::pool(&mut errors, &path.child("pool"), pool);
            }
            if let Some(name) = &selector.device {
                checks::dns_label(&mut errors, &path.child("device"), name);
            }
        }
        device::taint(&mut errors, &path.child("taint"), &rule.spec.taint);
        errors
    }

    fn validate_status_update(new: &DeviceTaintRule, _old: &DeviceTaintRule) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("status").child("conditions");
        let conditions = new.status.as_ref().and_then(|status| status.conditions.as_deref());
        device::at_most(&mut errors, &path, conditions.map_or(0, <[_]>::len), CONDITIONS_MAX);
        checks::conditions(&mut errors, &path, conditions);
        errors
    }
}
