//! VolumeAttachment: That a volume is to be, and is, attached to a node.

use api::storage::v1::{VolumeAttachment, VolumeAttachmentStatus, VolumeError};

use crate::core::persistent_volume;
use crate::core::pod_template::volumes::network::validate_driver;
use crate::prelude::*;
use crate::{checks, metadata};

const METADATA_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_BYTES_MAX: usize = 1024;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = VolumeAttachment;

    const NAMES: Names = Names::new("volumeattachments", "volumeattachment");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "volumeattachments" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column<VolumeAttachment>] = &[
        Column::name(),
        Column::new("Attacher", "string", |attachment: &VolumeAttachment, _| {
            Value::from(attachment.spec.attacher.as_str())
        })
        .describe("Who attaches it."),
        Column::new("PV", "string", |attachment: &VolumeAttachment, _| {
            Value::from(attachment.spec.source.persistent_volume_name.as_deref().unwrap_or_default())
        })
        .describe("The volume."),
        Column::new("Node", "string", |attachment: &VolumeAttachment, _| {
            Value::from(attachment.spec.node_name.as_str())
        })
        .describe("The node."),
        Column::new("Attached", "boolean", |attachment: &VolumeAttachment, _| {
            Value::from(attachment.status.as_ref().is_some_and(|status| status.attached))
        })
        .describe("Whether it is attached."),
        Column::age(),
    ];

    fn prepare_create(attachment: &mut VolumeAttachment) {
        attachment.status = Some(VolumeAttachmentStatus::default());
    }

    fn prepare_update(new: &mut VolumeAttachment, old: &VolumeAttachment) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status_update(new: &mut VolumeAttachment, old: &VolumeAttachment) {
        new.spec.clone_from(&old.spec);
        metadata::keep_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(attachment: &VolumeAttachment) -> FieldErrors {
        let mut errors = common(attachment);
        let (spec, path) = (&attachment.spec, Path::new("spec"));
        validate_driver(&mut errors, &path.child("attacher"), &spec.attacher);
        if let Some(name) = &spec.source.persistent_volume_name {
            checks::dns_subdomain(&mut errors, &path.child("source").child("persistentVolumeName"), name);
        }
        errors
    }

    fn validate_update(new: &VolumeAttachment, old: &VolumeAttachment) -> FieldErrors {
        let mut errors = common(new);
        checks::immutable(&mut errors, &Path::new("spec"), &new.spec, &old.spec);
        errors
    }

    fn validate_status_update(new: &VolumeAttachment, old: &VolumeAttachment) -> FieldErrors {
        Self::validate_update(new, old)
    }
}

/// What is checked of every version, on every write.
fn common(attachment: &VolumeAttachment) -> FieldErrors {
    const ONE_OF: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let mut errors = FieldErrors::new();
    let (spec, path) = (&attachment.spec, Path::new("spec"));
    if spec.attacher.is_empty() {
        errors.required(&path.child("attacher"), "");
    }
    let source_path = path.child("source");
    match (&spec.source.inline_volume_spec, spec.source.persistent_volume_name.as_deref()) {
        (None, None) => errors.required(&source_path, ONE_OF),
        (Some(_), Some(_)) => errors.forbidden(&source_path, ONE_OF),
        (None, Some("")) => {
            let why = "must specify non empty persistentVolumeName";
            errors.required(&source_path.child("persistentVolumeName"), why);
        }
        (None, Some(_)) => {}
        (Some(inline), None) => {
            persistent_volume::validate_inline(&mut errors, &source_path.child("inlineVolumeSpec"), inline);
        }
    }
    checks::dns_subdomain(&mut errors, &path.child("nodeName"), &spec.node_name);
    if let Some(status) = &attachment.status {
        validate_status(&mut errors, &Path::new("status"), status);
    }
    errors
}

fn validate_status(errors: &mut FieldErrors, path: &Path, status: &VolumeAttachmentStatus) {
    let metadata = status.attachment_metadata.iter().flatten();
    if metadata.map(|(key, value)| key.len() + value.len()).sum::<usize>() > METADATA_BYTES_MAX {
        errors.too_long(&path.child("attachmentMetadata"), METADATA_BYTES_MAX);
    }
    let mut check = |field: &str, error: &Option<VolumeError>| {
        let Some(error) = error else { return };
        let path = path.child(field);
        if error.message.as_ref().is_some_and(|message| message.len() > MESSAGE_BYTES_MAX) {
            // The bound that upstream names is the one of the metadata.
            errors.too_long(&path.child("message"), METADATA_BYTES_MAX);
        }
        if let Some(code) = error.error_code.filter(|code| *code < 0) {
            let why = format!("must be between 0 and {}, inclusive", i32::MAX);
            errors.invalid(&path.child("errorCode"), code, why);
        }
    };
    check("attachError", &status.attach_error);
    check("detachError", &status.detach_error);
}
