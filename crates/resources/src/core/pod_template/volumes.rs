//! Validation of volumes and their sources.

mod certificate;
pub mod network;

use std::collections::{BTreeMap, BTreeSet};

use api::core::v1::{
    DownwardAPIVolumeFile, EphemeralVolumeSource, HostPathVolumeSource, KeyToPath, PersistentVolumeClaimSpec,
    ProjectedVolumeSource, Volume, VolumeProjection,
};
use api::field::{FieldErrors, Path};
use api::quantity::{Amount, amount};

use super::{containers, env, resources};
use crate::checks;

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
/// What two files of a projected volume cannot have.
const CONFLICT: &str = "conflicting duplicate paths";
const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// The names of the sources a volume sets, in upstream's order; one is right.
pub fn source_names(volume: &Volume) -> Vec<&'static str> {
    let set = [
        ("emptyDir", volume.empty_dir.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", volume.aws_elastic_block_store.is_some()),
        ("secret", volume.secret.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("cephFS", volume.cephfs.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("downwarAPI", volume.downward_api.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("configMap", volume.config_map.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
        ("photonPersistentDisk", volume.photon_persistent_disk.is_some()),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("storageos", volume.storageos.is_some()),
        ("projected", volume.projected.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("image", volume.image.is_some()),
    ];
    set.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect()
}

/// How many sources a volume sets.
pub fn sources(volume: &Volume) -> usize {
    source_names(volume).len()
}

/// All volumes; the valid ones by name. `pod_name` is `None` in a template.
pub fn validate_volumes<'a>(
    errors: &mut FieldErrors,
    path: &Path,
    volumes: &'a [Volume],
    pod_name: Option<&str>,
) -> BTreeMap<&'a str, &'a Volume> {
    let created: BTreeSet<String> = pod_name.map_or_else(BTreeSet::new, |pod| {
        let ephemeral = volumes.iter().filter(|volume| volume.ephemeral.is_some());
        ephemeral.map(|volume| format!("{pod}-{}", volume.name)).collect()
    });
    let mut valid: BTreeMap<&str, &Volume> = BTreeMap::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let mut found = FieldErrors::new();
        validate_source(&mut found, &path, volume, pod_name);
        let name_path = path.child("name");
        if volume.name.is_empty() {
            found.required(&name_path, "");
        } else {
            checks::dns_label(&mut found, &name_path, &volume.name);
        }
        if valid.contains_key(volume.name.as_str()) {
            found.duplicate(&name_path, volume.name.as_str());
        }
        if found.is_empty() {
            valid.insert(&volume.name, volume);
        } else {
            errors.extend(found);
        }
        if let Some(claim) = &volume.persistent_volume_claim
            && created.contains(&claim.claim_name)
        {
            let path = path.child("persistentVolumeClaim").child("claimName");
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&path, claim.claim_name.as_str(), why);
        }
    }
    valid
}

fn validate_source(errors: &mut FieldErrors, path: &Path, volume: &Volume, pod_name: Option<&str>) {
    let names = source_names(volume);
    let Some((first, further)) = names.split_first() else {
        errors.required(path, "must specify a volume type");
        return;
    };
    validate_first_source(errors, path, first, volume, pod_name);
    for name in further {
        errors.forbidden(&path.child(name), "may not specify more than 1 volume type");
    }
}

fn validate_first_source(errors: &mut FieldErrors, path: &Path, name: &str, volume: &Volume, pod_name: Option<&str>) {
    let required = |errors: &mut FieldErrors, path: &Path, value: &str| {
        if value.is_empty() {
            errors.required(path, "");
        }
    };
    if let Some(empty_dir) = &volume.empty_dir {
        if empty_dir.size_limit.as_ref().is_some_and(|limit| amount(limit).is_negative()) {
            let why = "SizeLimit field must be a valid resource quantity";
            errors.forbidden(&path.child("emptyDir").child("sizeLimit"), why);
        }
    } else if let Some(host_path) = &volume.host_path {
        validate_host_path(errors, &path.child("hostPath"), host_path);
    } else if let Some(secret) = &volume.secret {
        let path = path.child("secret");
        required(errors, &path.child("secretName"), secret.secret_name.as_deref().unwrap_or_default());
        checks::file_mode(errors, &path.child("defaultMode"), secret.default_mode);
        validate_items(errors, &path.child("items"), secret.items.as_deref().unwrap_or_default());
    } else if let Some(config_map) = &volume.config_map {
        let path = path.child("configMap");
        required(errors, &path.child("name"), &config_map.name);
        checks::file_mode(errors, &path.child("defaultMode"), config_map.default_mode);
        validate_items(errors, &path.child("items"), config_map.items.as_deref().unwrap_or_default());
    } else if let Some(claim) = &volume.persistent_volume_claim {
        required(errors, &path.child("persistentVolumeClaim").child("claimName"), &claim.claim_name);
    } else if let Some(downward) = &volume.downward_api {
        let path = path.child("downwardAPI");
        checks::file_mode(errors, &path.child("defaultMode"), downward.default_mode);
        for file in downward.items.iter().flatten() {
            validate_downward_file(errors, &path, file);
        }
    } else if let Some(projected) = &volume.projected {
        validate_projected(errors, &path.child("projected"), projected);
    } else if let Some(image) = &volume.image {
        let path = path.child("image");
        if pod_name.is_some() {
            required(errors, &path.child("reference"), image.reference.as_deref().unwrap_or_default());
        }
        containers::validate_pull_policy(errors, &path.child("pullPolicy"), image.pull_policy.as_deref());
    } else if let Some(ephemeral) = &volume.ephemeral {
        validate_ephemeral(errors, &path.child("ephemeral"), ephemeral, &volume.name, pod_name);
    } else {
        network::validate_source(errors, path, name, volume);
    }
}

/// A path of the node.
pub fn validate_host_path(errors: &mut FieldErrors, path: &Path, host_path: &HostPathVolumeSource) {
    if host_path.path.is_empty() {
        errors.required(&path.child("path"), "");
        return;
    }
    checks::no_backsteps(errors, &path.child("path"), &host_path.path);
    checks::optional_one_of(errors, &path.child("type"), host_path.type_.as_deref(), &HOST_PATH_TYPES);
}

fn validate_items(errors: &mut FieldErrors, path: &Path, items: &[KeyToPath]) {
    for (index, item) in items.iter().enumerate() {
        validate_item(errors, &path.index(index), item);
    }
}

fn validate_item(errors: &mut FieldErrors, path: &Path, item: &KeyToPath) {
    if item.key.is_empty() {
        errors.required(&path.child("key"), "");
    }
    if item.path.is_empty() {
        errors.required(&path.child("path"), "");
    }
    checks::relative_unreserved_path(errors, &path.child("path"), &item.path);
    checks::file_mode(errors, &path.child("mode"), item.mode);
}

fn validate_downward_file(errors: &mut FieldErrors, path: &Path, file: &DownwardAPIVolumeFile) {
    if file.path.is_empty() {
        errors.required(&path.child("path"), "");
    }
    checks::relative_unreserved_path(errors, &path.child("path"), &file.path);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            env::validate_field(errors, &path.child("fieldRef"), field, &env::VOLUME_FIELDS);
            if resource.is_some() {
                errors.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
            }
        }
        (None, Some(field)) => env::validate_resource_field(errors, &path.child("resourceFieldRef"), field, true),
        (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    checks::file_mode(errors, &path.child("mode"), file.mode);
}

fn validate_projected(errors: &mut FieldErrors, path: &Path, projected: &ProjectedVolumeSource) {
    checks::file_mode(errors, &path.child("defaultMode"), projected.default_mode);
    let mut paths = BTreeSet::new();
    for (index, source) in projected.sources.iter().flatten().enumerate() {
        validate_projection(errors, path, &path.child("sources").index(index), source, &mut paths);
    }
}

fn validate_projection<'a>(
    errors: &mut FieldErrors,
    volume: &Path,
    path: &Path,
    source: &'a VolumeProjection,
    paths: &mut BTreeSet<&'a str>,
) {
    let references = [
        ("secret", source.secret.as_ref().map(|s| (&s.name, s.items.as_deref().unwrap_or_default()))),
        ("configMap", source.config_map.as_ref().map(|s| (&s.name, s.items.as_deref().unwrap_or_default()))),
    ];
    let mut count = 0;
    for (field, reference) in references {
        let Some((name, items)) = reference else { continue };
        count += 1;
        let path = path.child(field);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        for (index, item) in items.iter().enumerate() {
            validate_item(errors, &path.child("items").index(index), item);
            if !item.path.is_empty() && !paths.insert(&item.path) {
                errors.invalid(volume, name.as_str(), CONFLICT);
            }
        }
    }
    if let Some(downward) = &source.downward_api {
        count += 1;
        for file in downward.items.iter().flatten() {
            validate_downward_file(errors, &path.child("downwardAPI"), file);
            if !file.path.is_empty() && !paths.insert(&file.path) {
                errors.invalid(volume, file.path.as_str(), CONFLICT);
            }
        }
    }
    if let Some(token) = &source.service_account_token {
        count += 1;
        let seconds_path = path.child("serviceAccountToken").child("expirationSeconds");
        let seconds = token.expiration_seconds.unwrap_or_default();
        if seconds < 600 {
            errors.invalid(&seconds_path, seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds > 1 << 32 {
            errors.invalid(&seconds_path, seconds, "may not specify a duration larger than 2^32 seconds");
        }
        if token.path.is_empty() {
            errors.required(&volume.child("path"), "");
        } else {
            checks::relative_unreserved_path(errors, &volume.child("path"), &token.path);
        }
    }
    if let Some(bundle) = &source.cluster_trust_bundle {
        count += 1;
        let path = path.child("clusterTrustBundle");
        match (bundle.name.as_deref(), bundle.signer_name.as_deref()) {
            (Some(_), Some(_)) => {
                errors.invalid(&path, checks::shown(bundle), "only one of name and signerName may be used");
            }
            (Some(""), None) => errors.required(&path.child("name"), "must be a valid object name"),
            (Some(_), None) if bundle.label_selector.is_some() => {
                let value = checks::shown(&bundle.label_selector);
                errors.invalid(&path.child("labelSelector"), value, "labelSelector must be unset if name is specified");
            }
            (Some(_), None) => {}
            (None, Some(signer)) => {
                if signer.is_empty() {
                    errors.required(&path.child("signerName"), "must be a valid signer name");
                }
                checks::label_selector(errors, &path.child("labelSelector"), bundle.label_selector.as_ref());
            }
            (None, None) => errors.required(&path, "either name or signerName must be specified"),
        }
        if bundle.path.is_empty() {
            errors.required(&path.child("path"), "");
        }
        checks::relative_unreserved_path(errors, &path.child("path"), &bundle.path);
        if !paths.insert(&bundle.path) {
            errors.invalid(volume, bundle.path.as_str(), CONFLICT);
        }
    }
    if let Some(certificate) = &source.pod_certificate {
        count += 1;
        certificate::validate(errors, volume, &path.child("podCertificate"), certificate, paths);
    }
    if count > 1 {
        errors.forbidden(path, "may not specify more than 1 volume type per source");
    }
}

fn validate_ephemeral(
    errors: &mut FieldErrors,
    path: &Path,
    ephemeral: &EphemeralVolumeSource,
    volume_name: &str,
    pod_name: Option<&str>,
) {
    let Some(template) = &ephemeral.volume_claim_template else {
        errors.required(&path.child("volumeClaimTemplate"), "");
        return;
    };
    let template_path = path.child("volumeClaimTemplate");
    if let Some(metadata) = &template.metadata {
        let path = template_path.child("metadata");
        checks::annotations(errors, &path.child("annotations"), metadata.annotations.as_ref());
        checks::labels(errors, &path.child("labels"), metadata.labels.as_ref());
    }
    validate_claim(errors, &template_path.child("spec"), &template.spec);
    if let Some(pod) = pod_name
        && !pod.is_empty()
        && !volume_name.is_empty()
    {
        let claim = format!("{pod}-{volume_name}");
        for problem in api::name::dns1123_subdomain(&claim, false) {
            errors.invalid(&path.child("name"), volume_name, format!("PVC name {claim:?}: {problem}"));
        }
    }
}

/// Each known, and the one that allows nobody else alone.
pub fn validate_access_modes(errors: &mut FieldErrors, path: &Path, modes: &[String]) {
    for mode in modes {
        checks::optional_one_of(errors, path, Some(mode), &ACCESS_MODES);
    }
    let alone = modes.iter().any(|mode| mode == "ReadWriteOncePod");
    if alone && modes.iter().any(|mode| mode != "ReadWriteOncePod" && ACCESS_MODES.contains(&mode.as_str())) {
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// The spec of a PersistentVolumeClaim.
pub fn validate_claim(errors: &mut FieldErrors, path: &Path, claim: &PersistentVolumeClaimSpec) {
    let modes = claim.access_modes.as_deref().unwrap_or_default();
    let modes_path = path.child("accessModes");
    if modes.is_empty() {
        errors.required(&modes_path, "at least 1 access mode is required");
    }
    checks::label_selector(errors, &path.child("selector"), claim.selector.as_ref());
    validate_access_modes(errors, &modes_path, modes);
    let storage_path = path.child("resources").key("storage");
    let requests = claim.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    match requests.and_then(|requests| requests.get("storage")) {
        None => errors.required(&storage_path, ""),
        Some(quantity) if amount(quantity) <= Amount::ZERO => {
            errors.invalid(&storage_path, quantity.0.as_str(), "must be greater than zero");
        }
        Some(quantity) => resources::validate_quantity(errors, &storage_path, "storage", quantity),
    }
    if let Some(class) = claim.storage_class_name.as_deref().filter(|class| !class.is_empty()) {
        checks::dns_subdomain(errors, &path.child("storageClassName"), class);
    }
    checks::optional_one_of(errors, &path.child("volumeMode"), claim.volume_mode.as_deref(), &["Block", "Filesystem"]);
    validate_data_sources(errors, path, claim);
    if let Some(class) = claim.volume_attributes_class_name.as_deref().filter(|class| !class.is_empty()) {
        checks::dns_subdomain(errors, &path.child("volumeAttributesClassName"), class);
    }
}

/// What the volume is to be filled with, named in two ways that must agree.
fn validate_data_sources(errors: &mut FieldErrors, path: &Path, claim: &PersistentVolumeClaimSpec) {
    let mut check = |field: &str, group: Option<&str>, kind: &str, name: &str| {
        let path = path.child(field);
        for (field, value) in [("name", name), ("kind", kind)] {
            if value.is_empty() {
                errors.required(&path.child(field), "");
            }
        }
        match group.unwrap_or_default() {
            "" if kind != "PersistentVolumeClaim" => {
                errors.invalid(&path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
            }
            "" => {}
            group => checks::dns_subdomain(errors, &path.child("apiGroup"), group),
        }
    };
    if let Some(source) = &claim.data_source {
        check("dataSource", source.api_group.as_deref(), &source.kind, &source.name);
    }
    if let Some(source) = &claim.data_source_ref {
        check("dataSourceRef", source.api_group.as_deref(), &source.kind, &source.name);
    }
    let Some(reference) = &claim.data_source_ref else { return };
    // Upstream hands the path itself as the bad value, and a path has no public fields.
    let bad = || serde_json::json!({});
    if let Some(namespace) = reference.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        checks::dns_label(errors, &path.child("dataSourceRef").child("namespace"), namespace);
        if claim.data_source.is_some() {
            errors.invalid(path, bad(), "may not be specified when dataSourceRef.namespace is specified");
        }
    } else if let Some(source) = &claim.data_source
        && (&source.api_group, &source.kind, &source.name) != (&reference.api_group, &reference.kind, &reference.name)
    {
        errors.invalid(path, bad(), "must match dataSourceRef");
    }
}
