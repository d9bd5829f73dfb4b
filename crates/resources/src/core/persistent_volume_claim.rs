//! PersistentVolumeClaim: A wish for storage, and the volume that was found for it.

use std::collections::BTreeMap;

use api::Quantity;
use api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, TypedLocalObjectReference,
    TypedObjectReference,
};
use api::quantity::{Amount, amount};

use super::persistent_volume::{access_modes, class_of, fill, or_unset, storage};
use super::pod::update::difference;
use super::pod_template;
use super::pod_template::{defaults, resources, volumes};
use crate::prelude::*;
use crate::{checks, metadata};

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const RESIZE_STATUSES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = PersistentVolumeClaim;

    const NAMES: Names = Names::new("persistentvolumeclaims", "persistentvolumeclaim").short(&["pvc"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "persistentvolumeclaims" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column<PersistentVolumeClaim>] = &[
        Column::name(),
        Column::new("Status", "string", |claim: &PersistentVolumeClaim, _| {
            let terminating = claim.metadata.deletion_timestamp.is_some();
            Value::from(if terminating { "Terminating" } else { phase(claim) })
        })
        .describe("Whether a volume was found."),
        Column::new("Volume", "string", |claim: &PersistentVolumeClaim, _| Value::from(volume(claim)))
            .describe("The volume that was found."),
        Column::new("Capacity", "string", |claim: &PersistentVolumeClaim, _| {
            let capacity = bound(claim).map(|status| status.capacity.clone().unwrap_or_default());
            Value::from(capacity.map_or_else(String::new, |capacity| storage(&capacity)))
        })
        .describe("How much fits into the volume."),
        Column::new("Access Modes", "string", |claim: &PersistentVolumeClaim, _| {
            let modes = bound(claim).and_then(|status| status.access_modes.as_deref()).unwrap_or_default();
            Value::from(access_modes(modes))
        })
        .describe("The ways the volume can be mounted."),
        Column::new("StorageClass", "string", |claim: &PersistentVolumeClaim, _| {
            let field = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
            Value::from(class_of(&claim.metadata, field))
        })
        .describe("The class of storage asked for."),
        Column::new("VolumeAttributesClass", "string", |claim: &PersistentVolumeClaim, _| {
            let class = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
            Value::from(or_unset(class))
        })
        .describe("The class of changeable attributes asked for."),
        Column::age(),
        Column::new("VolumeMode", "string", |claim: &PersistentVolumeClaim, _| {
            Value::from(or_unset(claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref())))
        })
        .describe("Whether a file system or a block device is asked for.")
        .wide(),
    ];

    fn warnings(claim: &PersistentVolumeClaim) -> Vec<String> {
        let mut warnings = Vec::new();
        if claim.metadata.annotations.iter().flatten().any(|(key, _)| key == CLASS_ANNOTATION) {
            let path = Path::new("metadata").child("annotations").key(CLASS_ANNOTATION);
            warnings.push(format!("{path}: deprecated since v1.8; use \"storageClassName\" attribute instead"));
        }
        claim.spec.iter().for_each(|spec| pod_template::warnings::claim(&mut warnings, &Path::new("spec"), spec));
        warnings
    }

    fn default(claim: &mut PersistentVolumeClaim) {
        fill(&mut claim.status.get_or_insert_default().phase, "Pending");
        let Some(spec) = &mut claim.spec else { return };
        spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
        if let Some(resources) = &mut spec.resources {
            for list in [&mut resources.limits, &mut resources.requests].into_iter().flatten() {
                defaults::canonical_list(list);
            }
        }
    }

    fn prepare_create(claim: &mut PersistentVolumeClaim) {
        claim.status = Some(PersistentVolumeClaimStatus {
            phase: Some("Pending".to_owned()),
            ..PersistentVolumeClaimStatus::default()
        });
        if let Some(spec) = &mut claim.spec {
            normalize_sources(spec, None);
        }
    }

    fn prepare_update(new: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim) {
        new.status.clone_from(&old.status);
        if let Some(spec) = &mut new.spec {
            normalize_sources(spec, old.spec.as_ref());
        }
    }

    fn prepare_status_update(new: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim) {
        new.spec.clone_from(&old.spec);
        metadata::keep_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(claim: &PersistentVolumeClaim) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let spec = claim.spec.clone().unwrap_or_default();
        volumes::validate_claim(&mut errors, &Path::new("spec"), &spec);
        errors
    }

    fn validate_update(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> FieldErrors {
        let mut errors = Self::validate(new);
        validate_changes(&mut errors, new, old);
        errors
    }

    fn validate_status_update(new: &PersistentVolumeClaim, _old: &PersistentVolumeClaim) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if new.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()).is_none_or(Vec::is_empty) {
            errors.required(&Path::new("Spec").child("accessModes"), "");
        }
        validate_status(&mut errors, &new.status.clone().unwrap_or_default());
        errors
    }
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn volume(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

/// The status of a claim that names a volume.
fn bound(claim: &PersistentVolumeClaim) -> Option<&PersistentVolumeClaimStatus> {
    claim.status.as_ref().filter(|_| !volume(claim).is_empty())
}

fn is_classic(group: Option<&str>, kind: &str) -> bool {
    matches!(
        (group.unwrap_or_default(), kind),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    )
}

/// Makes the two ways to name a source say the same, and drops what is ignored: sources in other namespaces, and
/// unknown sources in the older field.
fn normalize_sources(spec: &mut PersistentVolumeClaimSpec, old: Option<&PersistentVolumeClaimSpec>) {
    let elsewhere = |spec: &PersistentVolumeClaimSpec| {
        let namespace = spec.data_source_ref.as_ref().and_then(|reference| reference.namespace.as_deref());
        namespace.is_some_and(|namespace| !namespace.is_empty())
    };
    if elsewhere(spec) && !old.is_some_and(elsewhere) {
        spec.data_source_ref = None;
    }
    let used = old.is_some_and(|old| old.data_source.is_some() || old.data_source_ref.is_some());
    if !used
        && spec.data_source_ref.is_none()
        && let Some(source) = &spec.data_source
        && !is_classic(source.api_group.as_deref(), &source.kind)
    {
        spec.data_source = None;
    }
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(source), None) => {
            let TypedLocalObjectReference { api_group, kind, name } = source.clone();
            spec.data_source_ref = Some(TypedObjectReference { api_group, kind, name, namespace: None });
        }
        (None, Some(reference))
            if reference.namespace.is_none() && is_classic(reference.api_group.as_deref(), &reference.kind) =>
        {
            let TypedObjectReference { api_group, kind, name, .. } = reference.clone();
            spec.data_source = Some(TypedLocalObjectReference { api_group, kind, name });
        }
        _ => {}
    }
}

fn requested(spec: &PersistentVolumeClaimSpec) -> Option<&Quantity> {
    spec.resources.as_ref()?.requests.as_ref()?.get("storage")
}

/// What may change: the volume's name once, a class that was not named; of a bound claim the size and the class of
/// attributes.
fn validate_changes(errors: &mut FieldErrors, new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) {
    let (mut munged, mut before) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    if before.volume_name.as_deref().is_none_or(str::is_empty) {
        before.volume_name.clone_from(&munged.volume_name);
    }
    munge_class(errors, &mut munged, new, old);
    let is_bound = phase(new) == "Bound";
    if is_bound && let Some(requests) = munged.resources.as_mut().and_then(|resources| resources.requests.as_mut()) {
        let kept = requested(&before).cloned().unwrap_or_else(|| Quantity("0".to_owned()));
        requests.insert("storage".to_owned(), kept);
    }
    if is_bound && munged.volume_attributes_class_name.is_some() {
        munged.volume_attributes_class_name.clone_from(&before.volume_attributes_class_name);
    }
    if !checks::same(&munged, &before) {
        let difference = difference(&checks::shown(&before), &checks::shown(&munged));
        let why = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
             claims\n{difference}"
        );
        errors.forbidden(&Path::new("spec"), why);
    }
    let empty = PersistentVolumeClaimSpec::default();
    let (wanted, had) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
    let size = |quantity: Option<&Quantity>| quantity.map(amount).unwrap_or(Amount::ZERO);
    let capacity = old.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
    let wanted_size = size(requested(wanted));
    if wanted_size < size(requested(had)) && wanted_size <= size(capacity) {
        let path = Path::new("spec").child("resources").child("requests").child("storage");
        errors.forbidden(&path, "field can not be less than status.capacity");
    }
    checks::immutable(errors, &Path::new("volumeMode"), &wanted.volume_mode, &had.volume_mode);
    if had.volume_attributes_class_name.is_some() {
        let path = Path::new("spec").child("volumeAttributesClassName");
        match wanted.volume_attributes_class_name.as_deref() {
            None => errors.forbidden(&path, "update from non-nil value to nil is forbidden"),
            Some("") if had.volume_attributes_class_name.as_deref() != Some("") => {
                errors.forbidden(&path, "update from non-nil value to an empty string is forbidden");
            }
            Some(_) => {}
        }
    }
}

/// Puts the class back where it may change: from the old annotation to the field, or from nothing to something.
fn munge_class(
    errors: &mut FieldErrors,
    munged: &mut PersistentVolumeClaimSpec,
    new: &PersistentVolumeClaim,
    old: &PersistentVolumeClaim,
) {
    let annotation = |claim: &PersistentVolumeClaim| -> Option<String> {
        claim.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION)).cloned()
    };
    let (annotated, was_annotated) = (annotation(new), annotation(old));
    let had_none = old.spec.as_ref().is_none_or(|spec| spec.storage_class_name.is_none());
    let wanted = munged.storage_class_name.clone();
    let takes_annotation = was_annotated.is_some()
        && had_none
        && wanted == was_annotated
        && (annotated.is_none() || annotated == was_annotated);
    if takes_annotation {
        munged.storage_class_name = None;
        return;
    }
    if annotated.clone().unwrap_or_default() != was_annotated.clone().unwrap_or_default() {
        let path = Path::new("metadata").child("annotations").key(CLASS_ANNOTATION);
        errors.invalid(&path, annotated.unwrap_or_default(), checks::IMMUTABLE);
    }
    if wanted.is_some() && had_none && (was_annotated.is_none() || wanted == was_annotated) {
        munged.storage_class_name = None;
    }
}

fn validate_status(errors: &mut FieldErrors, status: &PersistentVolumeClaimStatus) {
    let path = Path::new("status");
    let basic = |errors: &mut FieldErrors, path: &Path, quantity: &Quantity| {
        let value = amount(quantity).value();
        if value < 0 {
            errors.invalid(path, value, "must be a valid resource quantity");
        }
        value >= 0
    };
    for (name, quantity) in status.capacity.iter().flatten() {
        basic(errors, &path.child("capacity").key(name), quantity);
    }
    let statuses_path = path.child("allocatedResourceStatus");
    for (name, value) in status.allocated_resource_statuses.iter().flatten() {
        validate_key(errors, &statuses_path, name);
        if !RESIZE_STATUSES.contains(&value.as_str()) {
            errors.not_supported(&statuses_path, name.as_str(), &RESIZE_STATUSES);
        }
    }
    let allocated_path = path.child("allocatedResources");
    let allocated: &BTreeMap<String, Quantity> = &status.allocated_resources.clone().unwrap_or_default();
    for (name, quantity) in allocated {
        let path = allocated_path.key(name);
        if validate_key(errors, &allocated_path, name) && basic(errors, &path, quantity) {
            resources::validate_quantity(errors, &path, "storage", quantity);
        }
    }
}

/// A resource of a claim: storage, or one with a domain.
fn validate_key(errors: &mut FieldErrors, path: &Path, name: &str) -> bool {
    let problems = api::name::qualified(name);
    let good = problems.is_empty();
    checks::problems(errors, path, name, problems);
    if good && resources::is_native(name) && name != "storage" {
        errors.not_supported(path, name, &["storage"]);
        return false;
    }
    good
}
