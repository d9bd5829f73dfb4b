//! ResourceClaim: A wish for devices, and what was found for it.

use api::resource::v1::{ResourceClaim, ResourceClaimStatus};

use super::{claim, resource_claim_status};
use crate::prelude::*;
use crate::{checks, metadata};

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ResourceClaim;

    const NAMES: Names = Names::new("resourceclaims", "resourceclaim");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "resourceclaims" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column<ResourceClaim>] = &[
        Column::name(),
        Column::new("State", "string", |claim: &ResourceClaim, _| Value::from(state(claim)))
            .describe("What became of it."),
        Column::age(),
    ];

    fn default(claim: &mut ResourceClaim) {
        claim::default(claim.spec.as_mut());
    }

    fn prepare_create(claim: &mut ResourceClaim) {
        claim.status = Some(ResourceClaimStatus::default());
    }

    fn prepare_update(new: &mut ResourceClaim, old: &ResourceClaim) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status_update(new: &mut ResourceClaim, old: &ResourceClaim) {
        new.spec.clone_from(&old.spec);
        metadata::keep_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(claim: &ResourceClaim) -> FieldErrors {
        let mut errors = FieldErrors::new();
        claim::validate(&mut errors, &Path::new("spec"), claim.spec.as_ref());
        errors
    }

    fn validate_update(new: &ResourceClaim, old: &ResourceClaim) -> FieldErrors {
        let mut errors = FieldErrors::new();
        checks::immutable(&mut errors, &Path::new("spec"), &new.spec, &old.spec);
        errors.extend(Self::validate(new));
        errors
    }

    fn validate_status_update(new: &ResourceClaim, old: &ResourceClaim) -> FieldErrors {
        resource_claim_status::validate(new, old)
    }
}

fn state(claim: &ResourceClaim) -> String {
    let deleted = claim.metadata.deletion_timestamp.is_some();
    let status = claim.status.as_ref();
    let allocated = status.is_some_and(|status| status.allocation.is_some());
    let reserved = status.and_then(|status| status.reserved_for.as_ref()).is_some_and(|users| !users.is_empty());
    let states = [
        ("deleted", deleted),
        ("pending", !allocated && !deleted),
        ("allocated", allocated),
        ("reserved", allocated && reserved),
    ];
    states.iter().filter(|(_, holds)| *holds).map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}
