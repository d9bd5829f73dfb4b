//! PersistentVolume: A piece of storage of the cluster, and the claim it is bound to.

pub mod source;

use api::core::v1::{
    NodeSelectorRequirement, PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus, VolumeNodeAffinity,
};
use api::quantity::{Amount, amount};

use super::pod::update::difference;
use super::pod_template::warnings::node_selector_term;
use super::pod_template::{defaults, scheduling, volumes};
use crate::prelude::*;
use crate::{checks, metadata};

/// The annotation that named the class before there was a field.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
/// Labels of nodes that got new names, with those.
const RENAMED_LABELS: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = PersistentVolume;

    const NAMES: Names = Names::new("persistentvolumes", "persistentvolume").short(&["pv"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "persistentvolumes" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column<PersistentVolume>] = &[
        Column::name(),
        Column::new("Capacity", "string", |volume: &PersistentVolume, _| {
            Value::from(spec(volume).and_then(|spec| spec.capacity.as_ref()).map_or_else(String::new, storage))
        })
        .describe("How much fits into it."),
        Column::new("Access Modes", "string", |volume: &PersistentVolume, _| {
            Value::from(access_modes(spec(volume).and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()))
        })
        .describe("The ways it can be mounted."),
        Column::new("Reclaim Policy", "string", |volume: &PersistentVolume, _| {
            Value::from(text(spec(volume).and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())))
        })
        .describe("What happens to it once its claim is gone."),
        Column::new("Status", "string", |volume: &PersistentVolume, _| {
            let terminating = volume.metadata.deletion_timestamp.is_some();
            let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
            Value::from(if terminating { "Terminating" } else { text(phase) })
        })
        .describe("Whether it is bound to a claim."),
        Column::new("Claim", "string", |volume: &PersistentVolume, _| {
            let claim = spec(volume).and_then(|spec| spec.claim_ref.as_ref());
            let shown = |claim: &api::core::v1::ObjectReference| {
                format!("{}/{}", text(claim.namespace.as_deref()), text(claim.name.as_deref()))
            };
            Value::from(claim.map_or_else(String::new, shown))
        })
        .describe("The claim it is bound to."),
        Column::new("StorageClass", "string", |volume: &PersistentVolume, _| Value::from(class(volume)))
            .describe("The class of storage it belongs to."),
        Column::new("VolumeAttributesClass", "string", |volume: &PersistentVolume, _| {
            Value::from(or_unset(spec(volume).and_then(|spec| spec.volume_attributes_class_name.as_deref())))
        })
        .describe("The class of its changeable attributes."),
        Column::new("Reason", "string", |volume: &PersistentVolume, _| {
            Value::from(text(volume.status.as_ref().and_then(|status| status.reason.as_deref())))
        })
        .describe("Why it is in this state, in a word."),
        Column::age(),
        Column::new("VolumeMode", "string", |volume: &PersistentVolume, _| {
            Value::from(or_unset(spec(volume).and_then(|spec| spec.volume_mode.as_deref())))
        })
        .describe("Whether it is a file system or a block device.")
        .wide(),
    ];

    fn warnings(volume: &PersistentVolume) -> Vec<String> {
        let mut warnings = Vec::new();
        let annotations = Path::new("metadata").child("annotations");
        let replaced = [
            (CLASS_ANNOTATION, "v1.8", "storageClassName"),
            ("volume.beta.kubernetes.io/mount-options", "v1.31", "mountOptions"),
        ];
        for (name, since, attribute) in replaced {
            if volume.metadata.annotations.iter().flatten().any(|(key, _)| key == name) {
                let path = annotations.key(name);
                warnings.push(format!("{path}: deprecated since {since}; use {attribute:?} attribute instead"));
            }
        }
        let Some(spec) = &volume.spec else { return warnings };
        let path = Path::new("spec");
        if spec.persistent_volume_reclaim_policy.as_deref() == Some("Recycle") {
            warnings.push(format!(
                "{}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic \
                 provisioning.",
                path.child("persistentVolumeReclaimPolicy")
            ));
        }
        let required = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
        let terms = path.child("nodeAffinity").child("required").child("nodeSelectorTerms");
        for (index, term) in required.iter().flat_map(|required| &required.node_selector_terms).enumerate() {
            node_selector_term(&mut warnings, &terms.index(index), term);
        }
        let removed = [
            ("cephfs", spec.cephfs.is_some(), "v1.28, non-functional in v1.31+"),
            ("photonPersistentDisk", spec.photon_persistent_disk.is_some(), "v1.11, non-functional in v1.16+"),
            ("scaleIO", spec.scale_io.is_some(), "v1.16, non-functional in v1.22+"),
            ("storageos", spec.storageos.is_some(), "v1.22, non-functional in v1.25+"),
            ("glusterfs", spec.glusterfs.is_some(), "v1.25, non-functional in v1.26+"),
            ("rbd", spec.rbd.is_some(), "v1.28, non-functional in v1.31+"),
        ];
        for (name, _, since) in removed.iter().filter(|(_, set, _)| *set) {
            warnings.push(format!("{}: deprecated in {since}", path.child(name)));
        }
        warnings
    }

    fn default(volume: &mut PersistentVolume) {
        fill(&mut volume.status.get_or_insert_default().phase, "Pending");
        let Some(spec) = &mut volume.spec else { return };
        fill(&mut spec.persistent_volume_reclaim_policy, "Retain");
        spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
        if let Some(capacity) = &mut spec.capacity {
            defaults::canonical_list(capacity);
        }
        source::default(spec);
    }

    fn prepare_create(volume: &mut PersistentVolume) {
        volume.status =
            Some(PersistentVolumeStatus { phase: Some("Pending".to_owned()), ..PersistentVolumeStatus::default() });
    }

    fn prepare_update(new: &mut PersistentVolume, old: &PersistentVolume) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status_update(new: &mut PersistentVolume, old: &PersistentVolume) {
        new.spec.clone_from(&old.spec);
        metadata::keep_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(volume: &PersistentVolume) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let spec = volume.spec.clone().unwrap_or_default();
        validate_spec(&mut errors, &Path::new("spec"), &spec, volume.name());
        errors
    }

    fn validate_update(new: &PersistentVolume, old: &PersistentVolume) -> FieldErrors {
        let mut errors = Self::validate(new);
        validate_changes(&mut errors, &new.spec.clone().unwrap_or_default(), &old.spec.clone().unwrap_or_default());
        errors
    }
}

fn spec(volume: &PersistentVolume) -> Option<&PersistentVolumeSpec> {
    volume.spec.as_ref()
}

fn text(value: Option<&str>) -> &str {
    value.unwrap_or_default()
}

pub(super) fn fill(field: &mut Option<String>, value: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(value.to_owned());
    }
}

/// As columns show an absent value.
pub(super) fn or_unset(value: Option<&str>) -> &str {
    value.unwrap_or("<unset>")
}

/// The storage of a list of resources; nothing is zero.
pub(super) fn storage(list: &std::collections::BTreeMap<String, api::Quantity>) -> String {
    list.get("storage").map_or_else(|| "0".to_owned(), |quantity| amount(quantity).to_string())
}

/// Access modes as columns abbreviate them: each once, in one order.
pub(super) fn access_modes(modes: &[String]) -> String {
    const SHORT: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let shown = SHORT.iter().filter(|(mode, _)| modes.iter().any(|other| other == mode)).map(|(_, short)| *short);
    shown.collect::<Vec<_>>().join(",")
}

/// The name of the class an object asks for: of the old annotation, else of the field.
pub(super) fn class_of<'a>(metadata: &'a api::meta::v1::ObjectMeta, field: Option<&'a str>) -> &'a str {
    let annotation = metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION));
    annotation.map(String::as_str).or(field).unwrap_or_default()
}

fn class(volume: &PersistentVolume) -> &str {
    class_of(&volume.metadata, spec(volume).and_then(|spec| spec.storage_class_name.as_deref()))
}

fn validate_spec(errors: &mut FieldErrors, path: &Path, spec: &PersistentVolumeSpec, name: &str) {
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    volumes::validate_access_modes(errors, &path.child("accessModes"), modes);
    validate_capacity(errors, &path.child("capacity"), spec);
    let policy_path = path.child("persistentVolumeReclaimPolicy");
    let policy = text(spec.persistent_volume_reclaim_policy.as_deref());
    if !policy.is_empty() {
        checks::one_of_listed(errors, &policy_path, policy, &["Delete", "Recycle", "Retain"]);
    }
    if let Some(affinity) = &spec.node_affinity {
        let path = path.child("nodeAffinity").child("required");
        match &affinity.required {
            Some(selector) => scheduling::validate_node_selector(errors, &path, selector),
            None => errors.required(&path, "must specify required node constraints"),
        }
    }
    source::validate(errors, path, spec, name);
    let host_path = spec.host_path.as_ref().map(|source| source.path.as_str()).unwrap_or_default();
    let is_root = host_path.starts_with('/') && host_path.split('/').all(|part| part.is_empty() || part == ".");
    if is_root && policy == "Recycle" {
        errors.forbidden(&policy_path, "may not be 'recycle' for a hostPath mount of '/'");
    }
    if let Some(class) = spec.storage_class_name.as_deref().filter(|class| !class.is_empty()) {
        checks::dns_subdomain(errors, &path.child("storageClassName"), class);
    }
    checks::optional_one_of(errors, &path.child("volumeMode"), spec.volume_mode.as_deref(), &["Block", "Filesystem"]);
    if let Some(class) = &spec.volume_attributes_class_name {
        let class_path = path.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.required(&class_path, "an empty string is disallowed");
        } else {
            checks::dns_subdomain(errors, &class_path, class);
        }
        if spec.csi.is_none() {
            errors.required(&path.child("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn validate_capacity(errors: &mut FieldErrors, path: &Path, spec: &PersistentVolumeSpec) {
    let empty = std::collections::BTreeMap::new();
    let capacity = spec.capacity.as_ref().unwrap_or(&empty);
    if capacity.is_empty() {
        errors.required(path, "");
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.not_supported(path, checks::shown(capacity), &["storage"]);
    }
    for (name, quantity) in capacity {
        let (path, value) = (path.key(name), amount(quantity));
        if value.is_negative() {
            errors.invalid(&path, value.value(), "must be a valid resource quantity");
        }
        if value <= Amount::ZERO {
            errors.invalid(&path, value.to_string(), "must be greater than zero");
        }
    }
}

/// A spec that stands in a VolumeAttachment instead of in a volume.
pub(crate) fn validate_inline(errors: &mut FieldErrors, path: &Path, spec: &PersistentVolumeSpec) {
    const WHY: &str = "may not be specified in the context of inline volumes";
    if spec.claim_ref.is_some() {
        errors.forbidden(&path.child("claimRef"), WHY);
    }
    if spec.capacity.as_ref().is_some_and(|capacity| !capacity.is_empty()) {
        errors.forbidden(&path.child("capacity"), WHY);
    }
    if spec.csi.is_none() {
        errors.required(&path.child("csi"), "has to be specified in the context of inline volumes");
    }
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    volumes::validate_access_modes(errors, &path.child("accessModes"), modes);
    if !matches!(text(spec.persistent_volume_reclaim_policy.as_deref()), "" | "Retain") {
        let why = "may only be Retain in the context of inline volumes";
        errors.forbidden(&path.child("persistentVolumeReclaimPolicy"), why);
    }
    if spec.node_affinity.is_some() {
        errors.forbidden(&path.child("nodeAffinity"), WHY);
    }
    source::validate(errors, path, spec, "");
    if !text(spec.storage_class_name.as_deref()).is_empty() {
        errors.forbidden(&path.child("storageClassName"), WHY);
    }
    if spec.volume_mode.as_deref().is_some_and(|mode| mode != "Filesystem") {
        let why = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.forbidden(&path.child("volumeMode"), why);
    }
}

/// What a volume keeps: its source, its mode, and where it can be reached.
fn validate_changes(errors: &mut FieldErrors, new: &PersistentVolumeSpec, old: &PersistentVolumeSpec) {
    let (mut new_source, old_source) = (source::only(new), source::only(old));
    if let (Some(new), Some(old)) = (&mut new_source.csi, &old_source.csi)
        && old.controller_expand_secret_ref.is_none()
    {
        new.controller_expand_secret_ref = None;
    }
    if !checks::same(&new_source, &old_source) {
        let difference = difference(&checks::shown(&old_source), &checks::shown(&new_source));
        let why = format!("spec.persistentvolumesource is immutable after creation\n{difference}");
        errors.forbidden(&Path::new("spec").child("persistentvolumesource"), why);
    }
    checks::immutable(errors, &Path::new("volumeMode"), &new.volume_mode, &old.volume_mode);
    if let Some(old) = &old.node_affinity
        && !new.node_affinity.as_ref().is_some_and(|new| is_renamed(new, old))
    {
        checks::immutable(errors, &Path::new("nodeAffinity"), &new.node_affinity.as_ref(), &Some(old));
    }
    if old.volume_attributes_class_name.is_some() && new.volume_attributes_class_name.is_none() {
        let path = Path::new("spec").child("volumeAttributesClassName");
        errors.forbidden(&path, "update from non-nil value to nil is forbidden");
    }
}

/// Whether the two say the same, apart from labels that the new one calls by their newer names.
fn is_renamed(new: &VolumeNodeAffinity, old: &VolumeNodeAffinity) -> bool {
    let mut old = old.clone();
    let rename = |old: &mut NodeSelectorRequirement, new: &NodeSelectorRequirement| {
        let renamed = RENAMED_LABELS.contains(&(old.key.as_str(), new.key.as_str()));
        if renamed {
            old.key.clone_from(&new.key);
        }
    };
    if let (Some(old), Some(new)) = (&mut old.required, &new.required) {
        for (old, new) in old.node_selector_terms.iter_mut().zip(&new.node_selector_terms) {
            let pairs = old.match_expressions.iter_mut().flatten().zip(new.match_expressions.iter().flatten());
            pairs.for_each(|(old, new)| rename(old, new));
        }
    }
    checks::same(new, &old)
}
