//! DaemonSet: One pod of a template on every node, or on those that are chosen.

use api::IntOrString;
use api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use serde_json::json;

use super::workload;
use crate::checks;
use crate::core::pod_template;
use crate::prelude::*;

pub struct Strategy;

/// Counts the template's changes, as a field of old versions did.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

impl crate::Strategy for Strategy {
    type Object = DaemonSet;

    const NAMES: Names = Names::new("daemonsets", "daemonset").short(&["ds"]).categories(&["all"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "daemonsets" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column<DaemonSet>] = &[
        Column::name(),
        Column::new("Desired", "integer", |set: &DaemonSet, _| count(set, |status| status.desired_number_scheduled))
            .describe("Number of nodes that should run the pod."),
        Column::new("Current", "integer", |set: &DaemonSet, _| count(set, |status| status.current_number_scheduled))
            .describe("Number of nodes that should run the pod and have it."),
        Column::new("Ready", "integer", |set: &DaemonSet, _| count(set, |status| status.number_ready))
            .describe("Number of nodes whose pod is ready."),
        Column::new("Up-to-date", "integer", |set: &DaemonSet, _| {
            count(set, |status| status.updated_number_scheduled.unwrap_or_default())
        })
        .describe("Number of nodes that have a pod of the newest template."),
        Column::new("Available", "integer", |set: &DaemonSet, _| {
            count(set, |status| status.number_available.unwrap_or_default())
        })
        .describe("Number of nodes whose pod has been ready for at least minReadySeconds."),
        Column::new("Node Selector", "string", |set: &DaemonSet, _| {
            let template = set.spec.template.spec.as_ref();
            Value::from(workload::labels_text(template.and_then(|template| template.node_selector.as_ref())))
        })
        .describe("Which nodes run the pod, by their labels."),
        Column::age(),
        Column::new("Containers", "string", |set: &DaemonSet, _| workload::container_names(&set.spec.template))
            .wide()
            .describe("Names of each container in the template."),
        Column::new("Images", "string", |set: &DaemonSet, _| workload::images(&set.spec.template))
            .wide()
            .describe("Images referenced by each container in the template."),
        Column::new("Selector", "string", |set: &DaemonSet, _| {
            Value::from(workload::selector_text(Some(&set.spec.selector)))
        })
        .wide()
        .describe("Which pods belong to the set."),
    ];

    fn default(set: &mut DaemonSet) {
        let spec = &mut set.spec;
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.as_deref().is_none_or(str::is_empty) {
            strategy.type_ = Some("RollingUpdate".to_owned());
        }
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let update = strategy.rolling_update.get_or_insert_default();
            update.max_unavailable.get_or_insert(IntOrString::Int(1));
            update.max_surge.get_or_insert(IntOrString::Int(0));
        }
        spec.revision_history_limit.get_or_insert(10);
        workload::default_template(&mut spec.template);
    }

    fn prepare_create(set: &mut DaemonSet) {
        set.status = Some(DaemonSetStatus::default());
        set.metadata.generation = Some(1);
        let generation = template_generation(set).max(1);
        set_template_generation(set, generation);
    }

    fn prepare_update(new: &mut DaemonSet, old: &DaemonSet) {
        new.status.clone_from(&old.status);
        let template_changed = !checks::same(&new.spec.template, &old.spec.template);
        let generation = template_generation(old) + i64::from(template_changed);
        set_template_generation(new, generation);
        let changed = template_changed || !checks::same(&new.spec, &old.spec);
        checks::count_generation(&mut new.metadata, &old.metadata, changed);
    }

    fn prepare_status_update(new: &mut DaemonSet, old: &DaemonSet) {
        new.spec.clone_from(&old.spec);
        set_template_generation(new, template_generation(old));
    }

    fn validate(set: &DaemonSet) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_spec(&mut errors, &set.spec);
        errors
    }

    fn validate_update(new: &DaemonSet, old: &DaemonSet) -> FieldErrors {
        let mut errors = Self::validate(new);
        let path = Path::new("spec").child("selector");
        checks::immutable(&mut errors, &path, &new.spec.selector, &old.spec.selector);
        errors
    }

    fn validate_status_update(new: &DaemonSet, old: &DaemonSet) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("status");
        let empty = DaemonSetStatus::default();
        let (status, before) = (new.status.as_ref().unwrap_or(&empty), old.status.as_ref().unwrap_or(&empty));
        let counts = [
            ("currentNumberScheduled", i64::from(status.current_number_scheduled)),
            ("numberMisscheduled", i64::from(status.number_misscheduled)),
            ("desiredNumberScheduled", i64::from(status.desired_number_scheduled)),
            ("numberReady", i64::from(status.number_ready)),
            ("observedGeneration", status.observed_generation.unwrap_or_default()),
            ("updatedNumberScheduled", i64::from(status.updated_number_scheduled.unwrap_or_default())),
            ("numberAvailable", i64::from(status.number_available.unwrap_or_default())),
            ("numberUnavailable", i64::from(status.number_unavailable.unwrap_or_default())),
        ];
        for (name, count) in counts {
            checks::not_negative(&mut errors, &path.child(name), count);
        }
        workload::validate_collisions(&mut errors, &path, status.collision_count, before.collision_count);
        errors
    }

    fn warnings(set: &DaemonSet) -> Vec<String> {
        pod_template::warnings::template(&Path::new("spec").child("template"), &set.spec.template)
    }
}

fn count(set: &DaemonSet, of: fn(&DaemonSetStatus) -> i32) -> Value {
    Value::from(set.status.as_ref().map(of).unwrap_or_default())
}

fn template_generation(set: &DaemonSet) -> i64 {
    set.annotation(TEMPLATE_GENERATION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn set_template_generation(set: &mut DaemonSet, generation: i64) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(TEMPLATE_GENERATION.to_owned(), generation.to_string());
}

fn validate_spec(errors: &mut FieldErrors, spec: &DaemonSetSpec) {
    let path = Path::new("spec");
    let (selector_path, template_path) = (path.child("selector"), path.child("template"));
    checks::label_selector(errors, &selector_path, Some(&spec.selector));
    if let Ok(selector) = api::LabelSelector::from_api(Some(&spec.selector)) {
        workload::validate_match(errors, &template_path, &spec.template, &selector);
    }
    if checks::is_empty_selector(&spec.selector) {
        errors.invalid(&selector_path, checks::shown(&spec.selector), "empty selector is invalid for daemonset");
    }
    pod_template::validate_template(errors, &template_path, &spec.template);
    workload::validate_endless(errors, &template_path, &spec.template, "DaemonSet");
    checks::not_negative(errors, &path.child("minReadySeconds"), i64::from(spec.min_ready_seconds.unwrap_or_default()));
    validate_strategy(errors, &path.child("updateStrategy"), &spec.update_strategy.clone().unwrap_or_default());
    let limit = i64::from(spec.revision_history_limit.unwrap_or_default());
    checks::not_negative(errors, &path.child("revisionHistoryLimit"), limit);
}

fn validate_strategy(errors: &mut FieldErrors, path: &Path, strategy: &DaemonSetUpdateStrategy) {
    let update_path = path.child("rollingUpdate");
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.required(&update_path, ""),
        ("RollingUpdate", Some(update)) => validate_rolling_update(errors, &update_path, update),
        (other, update) => {
            // Upstream shows the internal form, which has no field names of the wire.
            let update = update
                .as_ref()
                .map(|update| json!({"MaxUnavailable": update.max_unavailable, "MaxSurge": update.max_surge}));
            let value = json!({"Type": other, "RollingUpdate": update});
            errors.not_supported(path, value, &["RollingUpdate", "OnDelete"]);
        }
    }
}

fn validate_rolling_update(errors: &mut FieldErrors, path: &Path, update: &RollingUpdateDaemonSet) {
    let zero = IntOrString::Int(0);
    let unavailable = update.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = update.max_surge.as_ref().unwrap_or(&zero);
    let (unavailable_path, surge_path) = (path.child("maxUnavailable"), path.child("maxSurge"));
    checks::count_or_percent(errors, &unavailable_path, unavailable);
    checks::count_or_percent(errors, &surge_path, surge);
    checks::at_most_all(errors, &unavailable_path, unavailable);
    checks::at_most_all(errors, &surge_path, surge);
    match (workload::number(unavailable) != 0, workload::number(surge) != 0) {
        (true, true) => {
            let why = "may not be set when maxUnavailable is non-zero";
            errors.invalid(&surge_path, checks::shown(surge), why);
        }
        (false, false) => errors.required(&unavailable_path, "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}
