//! Workload: What of an application is scheduled together, as templates of groups. There is no stable version.
//!
//! Upstream: pkg/registry/scheduling/workload, staging/src/k8s.io/api/scheduling/v1beta1.

use std::collections::BTreeSet;

use api::scheduling::v1beta1::{PodGroupTemplate, Workload};

use super::group::{self, Parts};
use crate::checks;
use crate::prelude::*;

const TEMPLATES_LEN_MAX: usize = 8;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Workload;

    const NAMES: Names = Names::new("workloads", "workload");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "workloads" };
    const COLUMNS: &'static [Column<Workload>] = &[Column::name(), Column::age()];

    fn prepare_create(workload: &mut Workload) {
        workload.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut Workload, old: &Workload) {
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn validate(workload: &Workload) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (spec, path) = (&workload.spec, Path::new("spec"));
        if let Some(controller) = &spec.controller_ref {
            let path = path.child("controllerRef");
            if let Some(group) = controller.api_group.as_deref().filter(|group| !group.is_empty()) {
                checks::dns_subdomain(&mut errors, &path.child("apiGroup"), group);
            }
            for (name, value) in [("kind", &controller.kind), ("name", &controller.name)] {
                group::required_name(&mut errors, &path.child(name), value, segment);
            }
        }
        if spec.composite_pod_group_templates.is_some() {
            // Upstream's gate CompositePodGroup is off by default, and those groups are not built.
            errors.forbidden(&path.child("compositePodGroupTemplates"), "");
        } else {
            let members = [
                ("podGroupTemplates", spec.pod_group_templates.as_ref().is_some_and(|all| !all.is_empty())),
                ("compositePodGroupTemplates", false),
            ];
            group::one_member(&mut errors, &path, &members);
        }
        let (templates, path) = (templates(workload), path.child("podGroupTemplates"));
        if templates.len() > TEMPLATES_LEN_MAX {
            errors.too_many(&path, templates.len(), TEMPLATES_LEN_MAX);
        }
        let mut seen = BTreeSet::new();
        for (index, template) in templates.iter().enumerate() {
            let path = path.index(index);
            group::required_name(&mut errors, &path.child("name"), &template.name, checks::dns_label);
            if !seen.insert(&*template.name) {
                errors.duplicate(&path, template.name.as_str());
            }
            group::validate(&mut errors, &path, &parts(template));
        }
        errors
    }

    fn validate_update(new: &Workload, old: &Workload) -> FieldErrors {
        let mut errors = Self::validate(new);
        let path = Path::new("spec");
        let controller = path.child("controllerRef");
        checks::immutable(&mut errors, &controller, &new.spec.controller_ref, &old.spec.controller_ref);
        let path = path.child("podGroupTemplates");
        let (now, before) = (templates(new), templates(old));
        for (index, template) in now.iter().enumerate() {
            let path = path.index(index);
            match before.iter().find(|own| own.name == template.name) {
                Some(own) => group::validate_update(&mut errors, &path, &parts(template), &parts(own)),
                None => errors.forbidden(&path, "may not be added"),
            }
        }
        for template in before.iter().filter(|own| now.iter().all(|new| new.name != own.name)) {
            errors.forbidden(&path, format!("{:?} may not be removed", template.name));
        }
        errors
    }
}

fn segment(errors: &mut FieldErrors, path: &Path, value: &str) {
    checks::problems(errors, path, value, api::name::path_segment(value, false));
}

fn templates(workload: &Workload) -> &[PodGroupTemplate] {
    workload.spec.pod_group_templates.as_deref().unwrap_or_default()
}

fn parts(template: &PodGroupTemplate) -> Parts<'_> {
    Parts {
        policy: &template.scheduling_policy,
        constraints: template.scheduling_constraints.as_ref(),
        claims: template.resource_claims.as_deref().unwrap_or_default(),
        disruption: template.disruption_mode.as_ref(),
        class: template.priority_class_name.as_ref(),
        priority: template.priority,
        preemption: template.preemption_policy.as_ref(),
    }
}
