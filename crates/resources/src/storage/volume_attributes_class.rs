//! VolumeAttributesClass: Attributes of volumes that can be changed while these are in use.

use api::storage::v1::VolumeAttributesClass;

use super::storage_class::{validate_parameters, validate_provisioner};
use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = VolumeAttributesClass;

    const NAMES: Names = Names::new("volumeattributesclasses", "volumeattributesclass").short(&["vac"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "volumeattributesclasses" };
    const COLUMNS: &'static [Column<VolumeAttributesClass>] = &[
        Column::name(),
        Column::new("DriverName", "string", |class: &VolumeAttributesClass, _| Value::from(class.driver_name.as_str()))
            .describe("The driver that knows the attributes."),
        Column::age(),
    ];

    fn validate(class: &VolumeAttributesClass) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_provisioner(&mut errors, &Path::new("driverName"), &class.driver_name);
        let path = Path::new("parameters");
        validate_parameters(&mut errors, &path, class.parameters.as_ref());
        if class.parameters.as_ref().is_none_or(|all| all.is_empty()) {
            errors.required(&path, "must contain at least one key/value pair");
        }
        errors
    }

    fn validate_update(new: &VolumeAttributesClass, old: &VolumeAttributesClass) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if new.driver_name != old.driver_name {
            errors.forbidden(&Path::new("driverName"), "updates to driverName are forbidden.");
        }
        if !checks::same(&new.parameters, &old.parameters) {
            errors.forbidden(&Path::new("parameters"), "updates to parameters are forbidden.");
        }
        errors.extend(Self::validate(new));
        errors
    }
}
