//! Lease: A claim that expires unless renewed: leader election, node heartbeats.

use api::coordination::v1::Lease;

use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Lease;

    const NAMES: Names = Names::new("leases", "lease");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "leases" };
    const CREATE_ON_UPDATE: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column<Lease>] = &[
        Column::name(),
        Column::new("Holder", "string", |lease: &Lease, _| {
            let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
            Value::from(holder.unwrap_or_default())
        })
        .describe("Who holds the lease."),
        Column::age(),
    ];

    fn validate(lease: &Lease) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let Some(spec) = &lease.spec else { return errors };
        let path = Path::new("spec");
        if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            errors.invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0");
        }
        if let Some(transitions) = spec.lease_transitions {
            checks::not_negative(&mut errors, &path.child("leaseTransitions"), i64::from(transitions));
        }
        let strategy = spec.strategy.as_deref().unwrap_or_default();
        if let Some(strategy) = &spec.strategy {
            let path = path.child("strategy").child("strategy");
            if strategy.contains('/') {
                checks::qualified(&mut errors, &path, strategy);
            } else {
                checks::optional_one_of(&mut errors, &path, Some(strategy), &["OldestEmulationVersion"]);
            }
        }
        if spec.preferred_holder.as_ref().is_some_and(|holder| !holder.is_empty()) && strategy.is_empty() {
            errors.forbidden(&path.child("preferredHolder"), "may only be specified if `strategy` is defined");
        }
        errors
    }
}
