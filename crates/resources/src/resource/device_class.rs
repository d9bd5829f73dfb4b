//! DeviceClass: A kind of device that claims name.

use api::resource::v1::{DeviceClass, DeviceClassSpec};

use super::device::{self, ITEMS_MAX};
use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = DeviceClass;

    const NAMES: Names = Names::new("deviceclasses", "deviceclass");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "deviceclasses" };
    const COLUMNS: &'static [Column<DeviceClass>] = &[Column::name(), Column::age()];

    fn prepare_create(class: &mut DeviceClass) {
        class.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut DeviceClass, old: &DeviceClass) {
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn validate(class: &DeviceClass) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec");
        let empty = DeviceClassSpec::default();
        let spec = class.spec.as_ref().unwrap_or(&empty);
        let selectors = spec.selectors.as_deref().unwrap_or_default();
        device::selectors(&mut errors, &path.child("selectors"), selectors);
        let config = spec.config.as_deref().unwrap_or_default();
        for (index, one) in config.iter().enumerate() {
            device::opaque(&mut errors, &path.child("config").index(index), one.opaque.as_ref());
        }
        device::at_most(&mut errors, &path.child("config"), config.len(), ITEMS_MAX);
        if let Some(name) = &spec.extended_resource_name {
            checks::qualified(&mut errors, &path.child("extendedResourceName"), name);
        }
        errors
    }
}
