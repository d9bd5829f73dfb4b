//! ResourceClaimTemplate: What claims are made of, one for each pod.

use api::meta::v1::ObjectMeta;
use api::resource::v1::ResourceClaimTemplate;

use super::claim;
use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ResourceClaimTemplate;

    const NAMES: Names = Names::new("resourceclaimtemplates", "resourceclaimtemplate");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "resourceclaimtemplates" };
    const COLUMNS: &'static [Column<ResourceClaimTemplate>] = &[Column::name(), Column::age()];

    fn default(template: &mut ResourceClaimTemplate) {
        claim::default(template.spec.as_mut().and_then(|spec| spec.spec.as_mut()));
    }

    fn validate(template: &ResourceClaimTemplate) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let Some(spec) = &template.spec else { return errors };
        let path = Path::new("spec");
        let empty = ObjectMeta::default();
        let (metadata, metadata_path) = (spec.metadata.as_ref().unwrap_or(&empty), path.child("metadata"));
        checks::annotations(&mut errors, &metadata_path.child("annotations"), metadata.annotations.as_ref());
        checks::labels(&mut errors, &metadata_path.child("labels"), metadata.labels.as_ref());
        claim::validate(&mut errors, &path.child("spec"), spec.spec.as_ref());
        errors
    }

    fn validate_update(new: &ResourceClaimTemplate, old: &ResourceClaimTemplate) -> FieldErrors {
        let mut errors = FieldErrors::new();
        checks::immutable(&mut errors, &Path::new("spec"), &new.spec, &old.spec);
        errors.extend(Self::validate(new));
        errors
    }
}
