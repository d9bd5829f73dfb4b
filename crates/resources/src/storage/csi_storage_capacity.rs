//! CSIStorageCapacity: How much storage of a class is left for some nodes.

use api::quantity::amount;
use api::storage::v1::CSIStorageCapacity;

use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = CSIStorageCapacity;

    const NAMES: Names = Names::new("csistoragecapacities", "csistoragecapacity");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "csistoragecapacities" };
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column<CSIStorageCapacity>] = &[
        Column::name(),
        Column::new("StorageClassName", "string", |capacity: &CSIStorageCapacity, _| {
            Value::from(capacity.storage_class_name.as_str())
        })
        .describe("The class of storage that is left."),
        Column::new("Capacity", "string", |capacity: &CSIStorageCapacity, _| {
            let shown = capacity.capacity.as_ref().map(|quantity| amount(quantity).to_string());
            Value::from(shown.unwrap_or_else(|| "<unset>".to_owned()))
        })
        .describe("How much is left."),
    ];

    fn validate(capacity: &CSIStorageCapacity) -> FieldErrors {
        let mut errors = FieldErrors::new();
        checks::label_selector(&mut errors, &Path::new("nodeTopology"), capacity.node_topology.as_ref());
        checks::dns_subdomain(&mut errors, &Path::new("storageClassName"), &capacity.storage_class_name);
        let sizes = [("capacity", &capacity.capacity), ("maximumVolumeSize", &capacity.maximum_volume_size)];
        for (field, quantity) in sizes {
            if let Some(value) = quantity.as_ref().map(amount).filter(|value| value.is_negative()) {
                errors.invalid(&Path::new(field), value.to_string(), checks::NEGATIVE);
            }
        }
        errors
    }

    fn validate_update(new: &CSIStorageCapacity, old: &CSIStorageCapacity) -> FieldErrors {
        let mut errors = Self::validate(new);
        checks::immutable(&mut errors, &Path::new("nodeTopology"), &new.node_topology, &old.node_topology);
        let path = Path::new("storageClassName");
        checks::immutable(&mut errors, &path, &new.storage_class_name, &old.storage_class_name);
        errors
    }
}
