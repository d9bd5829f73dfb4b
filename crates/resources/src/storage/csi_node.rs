//! CSINode: The drivers of storage that run on a node.

use std::collections::BTreeSet;

use api::storage::v1::{CSINode, CSINodeDriver};

use crate::checks;
use crate::core::pod_template::volumes::network::validate_driver;
use crate::prelude::*;

const NODE_ID_BYTES_MAX: usize = 256;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = CSINode;

    const NAMES: Names = Names::new("csinodes", "csinode");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "csinodes" };
    const COLUMNS: &'static [Column<CSINode>] = &[
        Column::name(),
        Column::new("Drivers", "integer", |node: &CSINode, _| Value::from(node.spec.drivers.len()))
            .describe("The number of drivers on the node."),
        Column::age(),
    ];

    /// The status belongs to a feature that is not on.
    fn prepare_create(node: &mut CSINode) {
        node.status = None;
    }

    fn prepare_update(new: &mut CSINode, old: &CSINode) {
        new.status.clone_from(&old.status);
    }

    fn validate(node: &CSINode) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec").child("drivers");
        let mut names = BTreeSet::new();
        for (index, driver) in node.spec.drivers.iter().enumerate() {
            validate_entry(&mut errors, &path.index(index), driver, &mut names);
        }
        errors
    }

    fn validate_update(new: &CSINode, old: &CSINode) -> FieldErrors {
        let mut errors = Self::validate(new);
        let path = Path::new("spec").child("drivers");
        let fixed = |driver: &CSINodeDriver| CSINodeDriver { allocatable: None, ..driver.clone() };
        for before in &old.spec.drivers {
            for driver in new.spec.drivers.iter().filter(|driver| driver.name == before.name) {
                checks::immutable(&mut errors, &path, &fixed(driver), &fixed(before));
            }
        }
        errors
    }
}

fn validate_entry<'a>(errors: &mut FieldErrors, path: &Path, driver: &'a CSINodeDriver, names: &mut BTreeSet<&'a str>) {
    validate_driver(errors, &path.child("name"), &driver.name);
    let id_path = path.child("nodeID");
    if driver.node_id.is_empty() {
        errors.required(&id_path, "");
    }
    if driver.node_id.len() > NODE_ID_BYTES_MAX {
        let why = format!("must be {NODE_ID_BYTES_MAX} characters or less");
        errors.invalid(&id_path, driver.node_id.as_str(), why);
    }
    if let Some(count) = driver.allocatable.as_ref().and_then(|allocatable| allocatable.count) {
        checks::not_negative(errors, &path.child("allocatable").child("count"), i64::from(count));
    }
    checks::unique(errors, &path.child("name"), names, &driver.name);
    let mut keys = BTreeSet::new();
    for key in driver.topology_keys.iter().flatten() {
        if key.is_empty() {
            errors.required(path, "");
        }
        checks::unique(errors, path, &mut keys, key);
        checks::qualified(errors, path, key);
    }
}
