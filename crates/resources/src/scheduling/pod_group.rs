//! PodGroup: Pods that are scheduled together. There is no stable version.
//!
//! Upstream: pkg/registry/scheduling/podgroup, staging/src/k8s.io/api/scheduling/v1beta1.

use api::scheduling::v1beta1::{DisruptionMode, PodGroup, PodGroupStatus, SingleDisruptionMode};

use super::group::{self, Parts};
use crate::prelude::*;
use crate::{checks, metadata};

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = PodGroup;

    const NAMES: Names = Names::new("podgroups", "podgroup");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "podgroups" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column<PodGroup>] = &[Column::name(), Column::age()];

    fn default(group: &mut PodGroup) {
        let spec = &mut group.spec;
        spec.disruption_mode.get_or_insert_with(|| DisruptionMode {
            single: Some(SingleDisruptionMode(Value::Object(Default::default()))),
            ..Default::default()
        });
    }

    fn prepare_create(group: &mut PodGroup) {
        group.status = Some(PodGroupStatus::default());
        group.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut PodGroup, old: &PodGroup) {
        new.status.clone_from(&old.status);
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn prepare_status_update(new: &mut PodGroup, old: &PodGroup) {
        new.spec.clone_from(&old.spec);
        metadata::keep_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(group: &PodGroup) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec");
        if group.spec.parent_composite_pod_group_name.is_some() {
            // Upstream's gate CompositePodGroup is off by default, and those groups are not built.
            errors.forbidden(&path.child("parentCompositePodGroupName"), "");
        }
        if let Some(workload) = &group.spec.workload_ref {
            let path = path.child("workloadRef");
            let name = &workload.workload_name;
            group::required_name(&mut errors, &path.child("workloadName"), name, checks::dns_subdomain);
            let template = &workload.template_name;
            group::required_name(&mut errors, &path.child("templateName"), template, checks::dns_label);
        }
        group::validate(&mut errors, &path, &parts(group));
        errors
    }

    fn validate_update(new: &PodGroup, old: &PodGroup) -> FieldErrors {
        let mut errors = Self::validate(new);
        let path = Path::new("spec");
        let workload = path.child("workloadRef");
        checks::immutable(&mut errors, &workload, &new.spec.workload_ref, &old.spec.workload_ref);
        group::validate_update(&mut errors, &path, &parts(new), &parts(old));
        errors
    }

    fn validate_status_update(new: &PodGroup, _old: &PodGroup) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let conditions = new.status.as_ref().and_then(|status| status.conditions.as_deref());
        checks::conditions(&mut errors, &Path::new("status").child("conditions"), conditions);
        errors
    }
}

fn parts(group: &PodGroup) -> Parts<'_> {
    let spec = &group.spec;
    Parts {
        policy: &spec.scheduling_policy,
        constraints: spec.scheduling_constraints.as_ref(),
        claims: spec.resource_claims.as_deref().unwrap_or_default(),
        disruption: spec.disruption_mode.as_ref(),
        class: spec.priority_class_name.as_ref(),
        priority: spec.priority,
        preemption: spec.preemption_policy.as_ref(),
    }
}
