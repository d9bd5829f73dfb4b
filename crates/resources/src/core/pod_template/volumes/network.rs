//! Validation of volume sources that other machines serve: NFS, iSCSI, CSI, cloud disks, and those whose drivers are
//! gone from Kubernetes but not from its API.

use std::collections::BTreeMap;

use api::core::v1::{FCVolumeSource, FlexVolumeSource, ISCSIVolumeSource, QuobyteVolumeSource, Volume};
use api::field::{FieldErrors, Path};

use crate::checks;

/// Fields that may not be empty.
pub(in crate::core) fn required(errors: &mut FieldErrors, path: &Path, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        if value.is_empty() {
            errors.required(&path.child(name), "");
        }
    }
}

pub(in crate::core) fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// The source `name` of the volume, which is set.
pub fn validate_source(errors: &mut FieldErrors, path: &Path, name: &str, volume: &Volume) {
    let here = path.child(name);
    if let Some(nfs) = &volume.nfs {
        required(errors, &here, &[("server", &nfs.server), ("path", &nfs.path)]);
        if !nfs.path.starts_with('/') {
            errors.invalid(&here.child("path"), nfs.path.as_str(), "must be an absolute path");
        }
    } else if let Some(iscsi) = &volume.iscsi {
        validate_iscsi(errors, &here, iscsi);
        if iscsi.initiator_name.is_some() && volume.name.len() + 1 + iscsi.target_portal.len() > 64 {
            let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                       iscsi.initiatorName is specified.";
            errors.invalid(&path.child("name"), volume.name.as_str(), why);
        }
    } else if let Some(csi) = &volume.csi {
        validate_driver(errors, &here.child("driver"), &csi.driver);
        if let Some(secret) = &csi.node_publish_secret_ref {
            if secret.name.is_empty() {
                errors.required(&here.child("nodePublishSecretRef").child("name"), "");
            } else {
                checks::dns_subdomain(errors, &here.child("name"), &secret.name);
            }
        }
    } else if let Some(fc) = &volume.fc {
        validate_fc(errors, &here, fc);
    } else if let Some(flex) = &volume.flex_volume {
        validate_flex(errors, &here, flex);
    } else if let Some(git) = &volume.git_repo {
        required(errors, &here, &[("repository", &git.repository)]);
        checks::relative_path(errors, &here.child("directory"), text(&git.directory));
    } else if let Some(disk) = &volume.gce_persistent_disk {
        let here = path.child("persistentDisk");
        required(errors, &here, &[("pdName", &disk.pd_name)]);
        validate_partition(errors, &here.child("partition"), disk.partition);
    } else if let Some(disk) = &volume.aws_elastic_block_store {
        required(errors, &here, &[("volumeID", &disk.volume_id)]);
        validate_partition(errors, &here.child("partition"), disk.partition);
    } else if let Some(disk) = &volume.azure_disk {
        required(errors, &here, &[("diskName", &disk.disk_name), ("diskURI", &disk.disk_uri)]);
        let modes = ["None", "ReadOnly", "ReadWrite"];
        checks::optional_one_of(errors, &here.child("cachingMode"), disk.caching_mode.as_deref(), &modes);
        let kinds = ["Dedicated", "Managed", "Shared"];
        checks::optional_one_of(errors, &here.child("kind"), disk.kind.as_deref(), &kinds);
    } else if let Some(quobyte) = &volume.quobyte {
        validate_quobyte(errors, &here, quobyte);
    } else {
        validate_simple(errors, path, &here, volume);
    }
}

/// Sources of which only some fields must be there.
fn validate_simple(errors: &mut FieldErrors, path: &Path, here: &Path, volume: &Volume) {
    let count = |list: &[String]| if list.is_empty() { "" } else { "some" };
    if let Some(v) = &volume.glusterfs {
        required(errors, here, &[("endpoints", &v.endpoints), ("path", &v.path)]);
    } else if let Some(v) = &volume.rbd {
        required(errors, here, &[("monitors", count(&v.monitors)), ("image", &v.image)]);
    } else if let Some(v) = &volume.cephfs {
        required(errors, &path.child("cephfs"), &[("monitors", count(&v.monitors))]);
    } else if let Some(v) = &volume.cinder {
        required(errors, here, &[("volumeID", &v.volume_id)]);
        if let Some(secret) = &v.secret_ref {
            required(errors, &here.child("secretRef"), &[("name", &secret.name)]);
        }
    } else if let Some(v) = &volume.azure_file {
        required(errors, here, &[("secretName", &v.secret_name), ("shareName", &v.share_name)]);
    } else if let Some(v) = &volume.vsphere_volume {
        required(errors, here, &[("volumePath", &v.volume_path)]);
    } else if let Some(v) = &volume.photon_persistent_disk {
        required(errors, here, &[("pdID", &v.pd_id)]);
    } else if let Some(v) = &volume.portworx_volume {
        required(errors, here, &[("volumeID", &v.volume_id)]);
    } else if let Some(v) = &volume.scale_io {
        let fields = [("gateway", v.gateway.as_str()), ("system", &v.system), ("volumeName", text(&v.volume_name))];
        required(errors, here, &fields);
    } else if let Some(v) = &volume.storageos {
        required(errors, here, &[("volumeName", text(&v.volume_name))]);
        for (name, value) in [("volumeName", &v.volume_name), ("volumeNamespace", &v.volume_namespace)] {
            if !text(value).is_empty() {
                checks::dns_label(errors, &here.child(name), text(value));
            }
        }
        if let Some(secret) = &v.secret_ref {
            required(errors, &here.child("secretRef"), &[("name", &secret.name)]);
        }
    } else if let Some(v) = &volume.flocker {
        let (name, uuid) = (text(&v.dataset_name), text(&v.dataset_uuid));
        match (name.is_empty(), uuid.is_empty()) {
            (true, true) => errors.required(here, "one of datasetName and datasetUUID is required"),
            (false, false) => {
                errors.invalid(here, "resource", "datasetName and datasetUUID can not be specified simultaneously");
            }
            _ => {}
        }
        if name.contains('/') {
            errors.invalid(&here.child("datasetName"), name, "must not contain '/'");
        }
    }
}

fn validate_partition(errors: &mut FieldErrors, path: &Path, partition: Option<i32>) {
    let partition = partition.unwrap_or_default();
    if !(0..=255).contains(&partition) {
        errors.invalid(path, partition, "must be between 1 and 255, inclusive");
    }
}

/// The name of a CSI driver.
pub fn validate_driver(errors: &mut FieldErrors, path: &Path, driver: &str) {
    if driver.is_empty() {
        errors.required(path, "");
    }
    if driver.len() > 63 {
        errors.too_long(path, 63);
    }
    checks::problems(errors, path, driver, api::name::dns1123_subdomain(&driver.to_ascii_lowercase(), false));
}

pub(in crate::core) fn validate_iscsi(errors: &mut FieldErrors, path: &Path, iscsi: &ISCSIVolumeSource) {
    required(errors, path, &[("targetPortal", &iscsi.target_portal), ("iqn", &iscsi.iqn)]);
    if !iscsi.iqn.is_empty() {
        validate_iscsi_name(errors, &path.child("iqn"), &iscsi.iqn);
    }
    if !(0..=255).contains(&iscsi.lun) {
        errors.invalid(&path.child("lun"), iscsi.lun, "must be between 0 and 255, inclusive");
    }
    let authenticated = iscsi.chap_auth_discovery == Some(true) || iscsi.chap_auth_session == Some(true);
    if authenticated && iscsi.secret_ref.is_none() {
        errors.required(&path.child("secretRef"), "");
    }
    if let Some(name) = &iscsi.initiator_name {
        validate_iscsi_name(errors, &path.child("initiatorname"), name);
    }
}

fn validate_iscsi_name(errors: &mut FieldErrors, path: &Path, name: &str) {
    let alphanumeric =
        |text: &str, length: usize| text.len() == length && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let valid = match name.split_at_checked(3) {
        Some(("iqn", rest)) => is_iqn(rest),
        Some(("eui", rest)) => alphanumeric(rest.get(1..).unwrap_or_default(), 16),
        Some(("naa", rest)) => alphanumeric(rest.get(1..).unwrap_or_default(), 32),
        _ => {
            errors.invalid(path, name, "must be valid format starting with iqn, eui, or naa");
            return;
        }
    };
    if !valid {
        errors.invalid(path, name, "must be valid format");
    }
}

/// `.2001-04.com.example:target`, what follows `iqn`.
fn is_iqn(rest: &str) -> bool {
    let Some((date, rest)) = rest.strip_prefix('.').and_then(|rest| rest.split_at_checked(8)) else { return false };
    let date: Vec<u8> = date.bytes().collect();
    let shape = |index: usize, byte: &u8| match index {
        4 => *byte == b'-',
        7 => *byte == b'.',
        _ => byte.is_ascii_digit(),
    };
    let Some((authority, target)) = rest.split_once(':') else { return false };
    date.iter().enumerate().all(|(index, byte)| shape(index, byte))
        && !authority.is_empty()
        && authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        && !target.is_empty()
        && !target.contains(|c: char| matches!(c, ',' | ';' | '*' | '&' | '$' | '|') || c.is_ascii_whitespace())
}

fn validate_fc(errors: &mut FieldErrors, path: &Path, fc: &FCVolumeSource) {
    let names = fc.target_wwns.as_deref().unwrap_or_default();
    let ids = fc.wwids.as_deref().unwrap_or_default();
    let names_path = path.child("targetWWNs");
    if names.is_empty() && ids.is_empty() {
        errors.required(&names_path, "must specify either targetWWNs or wwids, but not both");
    }
    if !names.is_empty() && !ids.is_empty() {
        let why = "targetWWNs and wwids can not be specified simultaneously";
        errors.invalid(&names_path, checks::shown(&names), why);
    }
    if !names.is_empty() {
        match fc.lun {
            None => errors.required(&path.child("lun"), "lun is required if targetWWNs is specified"),
            Some(lun) if !(0..=255).contains(&lun) => {
                errors.invalid(&path.child("lun"), lun, "must be between 0 and 255, inclusive");
            }
            Some(_) => {}
        }
    }
}

fn validate_flex(errors: &mut FieldErrors, path: &Path, flex: &FlexVolumeSource) {
    required(errors, path, &[("driver", &flex.driver)]);
    validate_flex_options(errors, &path.child("options"), flex.options.as_ref());
}

/// Options for a driver; some names are Kubernetes' own.
pub(in crate::core) fn validate_flex_options(
    errors: &mut FieldErrors,
    path: &Path,
    options: Option<&BTreeMap<String, String>>,
) {
    for key in options.into_iter().flatten().map(|(key, _)| key) {
        let domain = format!(".{}", key.split_once('/').map_or(key.as_str(), |(domain, _)| domain).to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&path.key(key), key.as_str(), why);
        }
    }
}

fn validate_quobyte(errors: &mut FieldErrors, path: &Path, quobyte: &QuobyteVolumeSource) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = path.child("registry");
    if quobyte.registry.is_empty() {
        errors.required(&registry, PAIRS);
    } else if text(&quobyte.tenant).len() >= 65 {
        errors.required(&path.child("tenant"), "must be a UUID and may not exceed a length of 64 characters");
    } else {
        for pair in quobyte.registry.split(',') {
            if pair.matches(':').count() != 1 && !pair.contains("]:") {
                errors.invalid(&registry, quobyte.registry.as_str(), PAIRS);
            }
        }
    }
    required(errors, path, &[("volume", &quobyte.volume)]);
}
