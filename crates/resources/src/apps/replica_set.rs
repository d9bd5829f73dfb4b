//! ReplicaSet: A number of pods of one template.

use api::apps::v1::{ReplicaSet, ReplicaSetStatus};

use super::workload;
use crate::checks;
use crate::core::pod_template;
use crate::prelude::*;

pub struct Strategy;

const SCALE: Scale<ReplicaSet> = Scale {
    spec_replicas: |set| set.spec.replicas.unwrap_or_default(),
    status_replicas: |set| status(set).map(|status| status.replicas).unwrap_or_default(),
    selector: |set| workload::scale_selector(Some(&set.spec.selector)),
    set_replicas: |set, replicas| set.spec.replicas = Some(replicas),
};

impl crate::Strategy for Strategy {
    type Object = ReplicaSet;

    const NAMES: Names = Names::new("replicasets", "replicaset").short(&["rs"]).categories(&["all"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "replicasets" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const SCALE: Option<&'static Scale<ReplicaSet>> = Some(&SCALE);
    const SELECTABLE: &'static [Selectable<ReplicaSet>] =
        &[Selectable { path: "status.replicas", value: |set| (SCALE.status_replicas)(set).to_string() }];
    const COLUMNS: &'static [Column<ReplicaSet>] = &[
        Column::name(),
        Column::new("Desired", "integer", |set: &ReplicaSet, _| Value::from((SCALE.spec_replicas)(set)))
            .describe("Number of pods there should be."),
        Column::new("Current", "integer", |set: &ReplicaSet, _| Value::from((SCALE.status_replicas)(set)))
            .describe("Number of pods there are."),
        Column::new("Ready", "integer", |set: &ReplicaSet, _| {
            Value::from(status(set).and_then(|status| status.ready_replicas).unwrap_or_default())
        })
        .describe("Number of pods that are ready."),
        Column::age(),
        Column::new("Containers", "string", |set: &ReplicaSet, _| {
            template(set).map_or(Value::Null, workload::container_names)
        })
        .wide()
        .describe("Names of each container in the template."),
        Column::new("Images", "string", |set: &ReplicaSet, _| template(set).map_or(Value::Null, workload::images))
            .wide()
            .describe("Images referenced by each container in the template."),
        Column::new("Selector", "string", |set: &ReplicaSet, _| {
            Value::from(workload::selector_text(Some(&set.spec.selector)))
        })
        .wide()
        .describe("Which pods belong to the set."),
    ];

    fn default(set: &mut ReplicaSet) {
        let spec = &mut set.spec;
        spec.replicas.get_or_insert(1);
        workload::default_template(spec.template.get_or_insert_default());
    }

    fn prepare_create(set: &mut ReplicaSet) {
        set.status = Some(ReplicaSetStatus::default());
        set.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut ReplicaSet, old: &ReplicaSet) {
        new.status.clone_from(&old.status);
        new.metadata.generation = old.metadata.generation;
        if !checks::same(&new.spec, &old.spec) {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
        }
    }

    fn prepare_status_update(new: &mut ReplicaSet, old: &ReplicaSet) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(set: &ReplicaSet) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec");
        let spec = &set.spec;
        checks::not_negative(&mut errors, &path.child("replicas"), i64::from(spec.replicas.unwrap_or_default()));
        let min_ready_seconds = i64::from(spec.min_ready_seconds.unwrap_or_default());
        checks::not_negative(&mut errors, &path.child("minReadySeconds"), min_ready_seconds);
        // Upstream's message names the kind that most of them belong to.
        let selector = workload::validate_selector(&mut errors, &path.child("selector"), &spec.selector, "deployment");
        let template_path = path.child("template");
        match (&spec.template, selector) {
            (None, _) => errors.required(&template_path, ""),
            (Some(template), Some(selector)) => {
                workload::validate_template(&mut errors, &template_path, template, &selector, "ReplicaSet");
            }
            (Some(_), None) => {}
        }
        errors
    }

    fn validate_update(new: &ReplicaSet, old: &ReplicaSet) -> FieldErrors {
        let mut errors = Self::validate(new);
        let path = Path::new("spec").child("selector");
        checks::immutable(&mut errors, &path, &new.spec.selector, &old.spec.selector);
        errors
    }

    fn validate_status_update(new: &ReplicaSet, _old: &ReplicaSet) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("status");
        let Some(status) = status(new) else { return errors };
        let counts = [
            ("replicas", status.replicas),
            ("fullyLabeledReplicas", status.fully_labeled_replicas.unwrap_or_default()),
            ("readyReplicas", status.ready_replicas.unwrap_or_default()),
            ("availableReplicas", status.available_replicas.unwrap_or_default()),
        ];
        workload::validate_counts(&mut errors, &path, &counts, counts[0].1, counts[2].1);
        if let Some(generation) = status.observed_generation {
            checks::not_negative(&mut errors, &path.child("observedGeneration"), generation);
        }
        errors
    }

    fn warnings(set: &ReplicaSet) -> Vec<String> {
        let path = Path::new("spec").child("template");
        template(set).map(|template| pod_template::warnings::template(&path, template)).unwrap_or_default()
    }
}

fn template(set: &ReplicaSet) -> Option<&api::core::v1::PodTemplateSpec> {
    set.spec.template.as_ref()
}

fn status(set: &ReplicaSet) -> Option<&ReplicaSetStatus> {
    set.status.as_ref()
}

#[cfg(test)]
mod tests {
    use super::Strategy as ReplicaSets;
    use crate::Strategy as _;
    use api::Typed;
    use api::apps::v1::ReplicaSet;
    use serde_json::json;

    #[test]
    fn columns_selectors_and_limits_of_the_status() {
        let mut set = ReplicaSet::from_value(json!({"metadata": {"name": "r"}, "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [
                {"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]}}}}))
        .unwrap();
        ReplicaSets::default(&mut set);
        ReplicaSets::prepare_create(&mut set);
        assert!(ReplicaSets::validate(&set).is_empty());
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let cells: Vec<_> = ReplicaSets::COLUMNS.iter().map(|column| (column.cell)(&set, now)).collect();
        assert_eq!(
            cells,
            [
                json!("r"),
                json!(1),
                json!(0),
                json!(0),
                json!("<unknown>"),
                json!("a,b"),
                json!("a:1,b:1"),
                json!("app=x")
            ]
        );
        set.status.as_mut().unwrap().ready_replicas = Some(2);
        assert_eq!(
            ReplicaSets::validate_status_update(&set, &set).to_string(),
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"
        );
    }
}
