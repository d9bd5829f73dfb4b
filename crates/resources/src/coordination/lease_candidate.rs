//! LeaseCandidate: Who would hold a Lease, and how new it is. There is no stable version.
//!
//! Upstream: pkg/registry/coordination/leasecandidate, pkg/apis/coordination/validation.

use api::coordination::v1beta1::LeaseCandidate;

use crate::checks;
use crate::prelude::*;

const OLDEST: &str = "OldestEmulationVersion";

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = LeaseCandidate;

    const NAMES: Names = Names::new("leasecandidates", "leasecandidate");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "leasecandidates" };
    const CREATE_ON_UPDATE: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;
    const DEPRECATED: Option<&'static str> =
        Some("coordination.k8s.io/v1beta1 LeaseCandidate is deprecated in v1.36+, unavailable in v1.39+");
    const COLUMNS: &'static [Column<LeaseCandidate>] = &[Column::name(), Column::created_at()];

    fn validate(candidate: &LeaseCandidate) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (spec, path) = (&candidate.spec, Path::new("spec"));
        if spec.lease_name.is_empty() {
            errors.required(&path.child("leaseName"), "");
        }
        let binary = version(&mut errors, &path, "binaryVersion", &spec.binary_version);
        if spec.binary_version.is_empty() {
            errors.required(&path.child("binaryVersion"), "");
        }
        let emulated = spec.emulation_version.as_deref().unwrap_or_default();
        let emulation = version(&mut errors, &path, "emulationVersion", emulated);
        if let (Some(binary), Some(emulation)) = (binary, emulation)
            && binary < emulation
        {
            let why = "must be greater than or equal to `emulationVersion`";
            errors.invalid(&path.child("binaryVersion"), spec.binary_version.as_str(), why);
        }
        let strategy = path.child("strategy");
        match &*spec.strategy {
            "" => errors.required(&strategy, ""),
            OLDEST if emulated.is_empty() => {
                let why = format!("must be specified when `strategy` is '{OLDEST}'");
                errors.required(&path.child("emulationVersion"), why);
            }
            OLDEST => {}
            other if other.contains('/') => checks::qualified(&mut errors, &strategy, other),
            other => checks::one_of(&mut errors, &strategy, Some(other), &[OLDEST]),
        }
        errors
    }

    fn validate_update(new: &LeaseCandidate, old: &LeaseCandidate) -> FieldErrors {
        let mut errors = Self::validate(new);
        let path = Path::new("spec").child("leaseName");
        checks::immutable(&mut errors, &path, &new.spec.lease_name, &old.spec.lease_name);
        errors
    }
}

/// Major, minor and patch; `None` for no text, and for one that is no version, which is noted.
fn version(errors: &mut FieldErrors, path: &Path, field: &str, text: &str) -> Option<[u32; 3]> {
    if text.is_empty() {
        return None;
    }
    let mut parts = [0; 3];
    let numbers = text.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
    let mut given = numbers.split('.');
    let read = parts.iter_mut().all(|part| given.next().is_none_or(|text| text.parse().map(|n| *part = n).is_ok()));
    if !read || given.next().is_some() {
        errors.invalid(&path.child(field), text, format!("unable to parse version: {text:?}"));
        return None;
    }
    Some(parts)
}
