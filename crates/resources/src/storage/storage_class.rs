//! StorageClass: A kind of storage, and who makes volumes of it.

use std::collections::{BTreeMap, BTreeSet};

use api::core::v1::TopologySelectorTerm;
use api::storage::v1::StorageClass;

use crate::checks;
use crate::core::pod_template::warnings::label;
use crate::prelude::*;

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
const DEFAULT_ANNOTATIONS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = StorageClass;

    const NAMES: Names = Names::new("storageclasses", "storageclass").short(&["sc"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "storageclasses" };
    const COLUMNS: &'static [Column<StorageClass>] = &[
        Column {
            cell: |class: &StorageClass, _| {
                Value::from(format!("{}{}", class.name(), if is_default(class) { " (default)" } else { "" }))
            },
            ..Column::name()
        },
        Column::new("Provisioner", "string", |class: &StorageClass, _| Value::from(class.provisioner.as_str()))
            .describe("Who makes volumes of the class."),
        Column::new("ReclaimPolicy", "string", |class: &StorageClass, _| {
            Value::from(class.reclaim_policy.as_deref().unwrap_or("Delete"))
        })
        .describe("What happens to its volumes once their claims are gone."),
        Column::new("VolumeBindingMode", "string", |class: &StorageClass, _| {
            Value::from(class.volume_binding_mode.as_deref().unwrap_or("Immediate"))
        })
        .describe("When volumes are made and bound."),
        Column::new("AllowVolumeExpansion", "string", |class: &StorageClass, _| {
            Value::from(class.allow_volume_expansion.unwrap_or_default())
        })
        .describe("Whether its volumes may grow."),
        Column::age(),
    ];

    fn warnings(class: &StorageClass) -> Vec<String> {
        let mut warnings = Vec::new();
        for (index, term) in class.allowed_topologies.iter().flatten().enumerate() {
            let path = Path::new("allowedTopologies").index(index).child("matchLabelExpressions");
            for (index, expression) in term.match_label_expressions.iter().flatten().enumerate() {
                label(&mut warnings, &path.index(index).child("key"), &expression.key);
            }
        }
        warnings
    }

    fn default(class: &mut StorageClass) {
        class.reclaim_policy.get_or_insert_with(|| "Delete".to_owned());
        class.volume_binding_mode.get_or_insert_with(|| "Immediate".to_owned());
    }

    fn validate(class: &StorageClass) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_provisioner(&mut errors, &Path::new("provisioner"), &class.provisioner);
        validate_parameters(&mut errors, &Path::new("parameters"), class.parameters.as_ref());
        if let Some(policy) = class.reclaim_policy.as_deref().filter(|policy| !policy.is_empty()) {
            checks::one_of_listed(&mut errors, &Path::new("reclaimPolicy"), policy, &["Delete", "Retain"]);
        }
        match class.volume_binding_mode.as_deref() {
            None => errors.required(&Path::new("volumeBindingMode"), ""),
            Some(mode) => {
                let modes = ["Immediate", "WaitForFirstConsumer"];
                checks::one_of_listed(&mut errors, &Path::new("volumeBindingMode"), mode, &modes);
            }
        }
        let topologies = class.allowed_topologies.as_deref().unwrap_or_default();
        validate_topologies(&mut errors, &Path::new("allowedTopologies"), topologies);
        errors
    }

    fn validate_update(new: &StorageClass, old: &StorageClass) -> FieldErrors {
        let mut errors = Self::validate(new);
        if !checks::same(&new.parameters, &old.parameters) {
            errors.forbidden(&Path::new("parameters"), "updates to parameters are forbidden.");
        }
        if new.provisioner != old.provisioner {
            errors.forbidden(&Path::new("provisioner"), "updates to provisioner are forbidden.");
        }
        if new.reclaim_policy != old.reclaim_policy {
            errors.forbidden(&Path::new("reclaimPolicy"), "updates to reclaimPolicy are forbidden.");
        }
        let path = Path::new("volumeBindingMode");
        checks::immutable(&mut errors, &path, &new.volume_binding_mode, &old.volume_binding_mode);
        errors
    }
}

fn is_default(class: &StorageClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    let says = |key: &&str| annotations.and_then(|all| all.get(*key)).is_some_and(|value| value == "true");
    DEFAULT_ANNOTATIONS.iter().any(says)
}

/// The name of who makes volumes.
pub(super) fn validate_provisioner(errors: &mut FieldErrors, path: &Path, provisioner: &str) {
    if provisioner.is_empty() {
        errors.required(path, "");
    } else {
        checks::qualified(errors, path, &provisioner.to_ascii_lowercase());
    }
}

/// What the provisioner is to know: neither too many nor too large.
pub(super) fn validate_parameters(errors: &mut FieldErrors, path: &Path, all: Option<&BTreeMap<String, String>>) {
    let Some(all) = all else { return };
    if all.len() > PARAMETERS_MAX {
        errors.too_long(path, PARAMETERS_MAX);
        return;
    }
    if all.contains_key("") {
        errors.invalid(path, "", "field can not be empty.");
    }
    if all.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > PARAMETERS_BYTES_MAX {
        errors.too_long(path, PARAMETERS_BYTES_MAX);
    }
}

fn validate_topologies(errors: &mut FieldErrors, path: &Path, topologies: &[TopologySelectorTerm]) {
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::with_capacity(topologies.len());
    for (index, term) in topologies.iter().enumerate() {
        let path = path.index(index).child("matchLabelExpressions");
        let mut expressions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (index, requirement) in term.match_label_expressions.iter().flatten().enumerate() {
            let path = path.index(index);
            let (values_path, mut values) = (path.child("values"), BTreeSet::new());
            if requirement.values.is_empty() {
                errors.required(&values_path, "");
            }
            for (index, value) in requirement.values.iter().enumerate() {
                checks::unique(errors, &values_path.index(index), &mut values, value);
            }
            checks::label_key(errors, &path.child("key"), &requirement.key);
            if expressions.contains_key(requirement.key.as_str()) {
                errors.duplicate(&path.child("key"), requirement.key.as_str());
            }
            expressions.insert(&requirement.key, values);
        }
        if seen.contains(&expressions) || (expressions.is_empty() && !topologies.is_empty()) {
            // Upstream compares with empty terms as well, so that an empty term always is one too many.
            errors.duplicate(&path, "");
        }
        seen.push(expressions);
    }
}
