//! The sources of a PersistentVolume: exactly one, which never changes.

use api::core::v1::{
    CSIPersistentVolumeSource, ISCSIPersistentVolumeSource, ISCSIVolumeSource, PersistentVolumeSpec, SecretReference,
    StorageOSPersistentVolumeSource, Volume,
};

use super::fill;
use crate::checks;
use crate::core::pod_template::volumes::{self, network};
use crate::prelude::*;

type Check = fn(&mut FieldErrors, &Path, &PersistentVolumeSpec, &str);

/// One kind of source: its name in errors, whether the spec sets it, and what is checked of it.
struct Source {
    name: &'static str,
    is_set: fn(&PersistentVolumeSpec) -> bool,
    check: Check,
}

/// A source that a pod's volume can have as well, and that is checked as there.
macro_rules! shared {
    ($name:literal, $field:ident) => {
        Source {
            name: $name,
            is_set: |spec| spec.$field.is_some(),
            check: |errors, path, spec, _| {
                let volume = Volume { $field: spec.$field.clone(), ..Volume::default() };
                network::validate_source(errors, path, $name, &volume);
            },
        }
    };
}

/// A source that only a PersistentVolume has.
macro_rules! own {
    ($name:literal, $field:ident, $check:expr) => {
        Source { name: $name, is_set: |spec| spec.$field.is_some(), check: $check }
    };
}

/// All of them, in upstream's order.
const SOURCES: [Source; 22] = [
    own!("hostPath", host_path, |errors, path, spec, _| {
        spec.host_path.iter().for_each(|source| volumes::validate_host_path(errors, &path.child("hostPath"), source));
    }),
    shared!("gcePersistentDisk", gce_persistent_disk),
    shared!("awsElasticBlockStore", aws_elastic_block_store),
    own!("glusterfs", glusterfs, check_glusterfs),
    shared!("flocker", flocker),
    shared!("nfs", nfs),
    own!("rbd", rbd, |errors, path, spec, _| {
        let Some(source) = &spec.rbd else { return };
        let monitors = source.monitors.first().map_or("", |_| "some");
        network::required(errors, &path.child("rbd"), &[("monitors", monitors), ("image", &source.image)]);
    }),
    shared!("quobyte", quobyte),
    own!("cephFS", cephfs, |errors, path, spec, _| {
        let monitors = spec.cephfs.as_ref().and_then(|source| source.monitors.first()).map_or("", |_| "some");
        network::required(errors, &path.child("cephfs"), &[("monitors", monitors)]);
    }),
    own!("iscsi", iscsi, |errors, path, spec, name| {
        spec.iscsi.iter().for_each(|source| check_iscsi(errors, &path.child("iscsi"), source, name));
    }),
    own!("cinder", cinder, |errors, path, spec, _| {
        let (Some(source), path) = (&spec.cinder, path.child("cinder")) else { return };
        network::required(errors, &path, &[("volumeID", &source.volume_id)]);
        if let Some(secret) = &source.secret_ref {
            let fields = [("name", network::text(&secret.name)), ("namespace", network::text(&secret.namespace))];
            network::required(errors, &path.child("secretRef"), &fields);
        }
    }),
    shared!("fc", fc),
    own!("flexVolume", flex_volume, |errors, path, spec, _| {
        let Some(source) = &spec.flex_volume else { return };
        let path = path.child("flexVolume");
        network::required(errors, &path, &[("driver", &source.driver)]);
        network::validate_flex_options(errors, &path.child("options"), source.options.as_ref());
    }),
    own!("azureFile", azure_file, |errors, path, spec, _| {
        let Some(source) = &spec.azure_file else { return };
        let path = path.child("azureFile");
        let fields = [("secretName", source.secret_name.as_str()), ("shareName", &source.share_name)];
        network::required(errors, &path, &fields);
        if let Some(namespace) = &source.secret_namespace {
            network::required(errors, &path, &[("secretNamespace", namespace)]);
        }
    }),
    shared!("vsphereVolume", vsphere_volume),
    shared!("photonPersistentDisk", photon_persistent_disk),
    shared!("portworxVolume", portworx_volume),
    shared!("azureDisk", azure_disk),
    own!("scaleIO", scale_io, |errors, path, spec, _| {
        let Some(source) = &spec.scale_io else { return };
        let volume = network::text(&source.volume_name);
        let fields = [("gateway", source.gateway.as_str()), ("system", &source.system), ("volumeName", volume)];
        network::required(errors, &path.child("scaleIO"), &fields);
    }),
    own!("local", local, |errors, path, spec, _| {
        let Some(source) = &spec.local else { return };
        let local = path.child("local");
        network::required(errors, &local, &[("path", &source.path)]);
        checks::no_backsteps(errors, &local.child("path"), &source.path);
        if spec.node_affinity.is_none() {
            errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
        }
    }),
    own!("storageos", storageos, |errors, path, spec, _| {
        spec.storageos.iter().for_each(|source| check_storageos(errors, &path.child("storageos"), source));
    }),
    own!("csi", csi, |errors, path, spec, _| {
        spec.csi.iter().for_each(|source| check_csi(errors, &path.child("csi"), source));
    }),
];

/// Exactly one source, and a good one. `name` is the volume's.
pub fn validate(errors: &mut FieldErrors, path: &Path, spec: &PersistentVolumeSpec, name: &str) {
    let mut any = false;
    for source in SOURCES.iter().filter(|source| (source.is_set)(spec)) {
        // Upstream forgets to count a flexVolume's predecessors.
        if any && source.name != "flexVolume" {
            errors.forbidden(&path.child(source.name), "may not specify more than 1 volume type");
        } else {
            (source.check)(errors, path, spec, name);
        }
        any = true;
    }
    if !any {
        errors.required(path, "must specify a volume type");
    }
}

/// The spec without anything but its source.
pub fn only(spec: &PersistentVolumeSpec) -> PersistentVolumeSpec {
    PersistentVolumeSpec {
        access_modes: None,
        capacity: None,
        claim_ref: None,
        mount_options: None,
        node_affinity: None,
        persistent_volume_reclaim_policy: None,
        storage_class_name: None,
        volume_attributes_class_name: None,
        volume_mode: None,
        ..spec.clone()
    }
}

/// Defaults of whichever source is set.
pub fn default(spec: &mut PersistentVolumeSpec) {
    if let Some(source) = &mut spec.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut spec.iscsi {
        fill(&mut source.iscsi_interface, "default");
    }
    if let Some(source) = &mut spec.azure_disk {
        fill(&mut source.caching_mode, "ReadWrite");
        fill(&mut source.kind, "Shared");
        fill(&mut source.fs_type, "ext4");
        source.read_only.get_or_insert(false);
    }
    if let Some(source) = &mut spec.rbd {
        fill(&mut source.pool, "rbd");
        fill(&mut source.user, "admin");
        fill(&mut source.keyring, "/etc/ceph/keyring");
    }
    if let Some(source) = &mut spec.scale_io {
        fill(&mut source.storage_mode, "ThinProvisioned");
        fill(&mut source.fs_type, "xfs");
    }
}

fn check_glusterfs(errors: &mut FieldErrors, path: &Path, spec: &PersistentVolumeSpec, _name: &str) {
    let (Some(source), path) = (&spec.glusterfs, path.child("glusterfs")) else { return };
    network::required(errors, &path, &[("endpoints", &source.endpoints), ("path", &source.path)]);
    let namespace_path = path.child("endpointsNamespace");
    match source.endpoints_namespace.as_deref() {
        Some("") => {
            let why = "if the endpointnamespace is set, it must be a valid namespace name";
            errors.invalid(&namespace_path, "", why);
        }
        Some(namespace) => checks::dns_label(errors, &namespace_path, namespace),
        None => {}
    }
}

fn check_iscsi(errors: &mut FieldErrors, path: &Path, source: &ISCSIPersistentVolumeSource, name: &str) {
    let secret = source.secret_ref.as_ref();
    let as_in_pods = ISCSIVolumeSource {
        chap_auth_discovery: source.chap_auth_discovery,
        chap_auth_session: source.chap_auth_session,
        initiator_name: source.initiator_name.clone(),
        iqn: source.iqn.clone(),
        lun: source.lun,
        secret_ref: secret.map(|_| Default::default()),
        target_portal: source.target_portal.clone(),
        ..ISCSIVolumeSource::default()
    };
    network::validate_iscsi(errors, path, &as_in_pods);
    if let Some(secret) = secret {
        network::required(errors, &path.child("secretRef"), &[("name", network::text(&secret.name))]);
    }
    if source.initiator_name.is_some() && name.len() + 1 + source.target_portal.len() > 64 {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                   iscsi.initiatorName is specified.";
        errors.invalid(&path.child("targetportal"), source.target_portal.as_str(), why);
    }
}

fn check_storageos(errors: &mut FieldErrors, path: &Path, source: &StorageOSPersistentVolumeSource) {
    network::required(errors, path, &[("volumeName", network::text(&source.volume_name))]);
    for (field, value) in [("volumeName", &source.volume_name), ("volumeNamespace", &source.volume_namespace)] {
        if !network::text(value).is_empty() {
            checks::dns_label(errors, &path.child(field), network::text(value));
        }
    }
    if let Some(secret) = &source.secret_ref {
        let fields = [("name", network::text(&secret.name)), ("namespace", network::text(&secret.namespace))];
        network::required(errors, &path.child("secretRef"), &fields);
    }
}

fn check_csi(errors: &mut FieldErrors, path: &Path, source: &CSIPersistentVolumeSource) {
    network::validate_driver(errors, &path.child("driver"), &source.driver);
    network::required(errors, path, &[("volumeHandle", &source.volume_handle)]);
    let secrets = [
        ("controllerPublishSecretRef", &source.controller_publish_secret_ref),
        ("controllerExpandSecretRef", &source.controller_expand_secret_ref),
        ("nodePublishSecretRef", &source.node_publish_secret_ref),
        ("nodeExpandSecretRef", &source.node_expand_secret_ref),
    ];
    for (field, secret) in secrets {
        secret.iter().for_each(|secret| check_secret(errors, &path.child(field), secret));
    }
}

fn check_secret(errors: &mut FieldErrors, path: &Path, secret: &SecretReference) {
    match network::text(&secret.name) {
        "" => errors.required(&path.child("name"), ""),
        name => checks::dns_subdomain(errors, &path.child("name"), name),
    }
    match network::text(&secret.namespace) {
        "" => errors.required(&path.child("namespace"), ""),
        namespace => checks::dns_label(errors, &path.child("namespace"), namespace),
    }
}
